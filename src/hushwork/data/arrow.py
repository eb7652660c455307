"""The manifest as an Arrow file: the same lines by column, mapped into memory and shared by all processes.

Needs pyarrow: the extra ``shards``.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hushwork.atomic import write_atomically
from hushwork.audio.io import AudioError
from hushwork.audio.remote import URL, is_remote, publish, stamps
from hushwork.data.cache import Cache
from hushwork.data.manifest import KINDS, LARGEST, SPLITS, ManifestError, Recording, Recordings, as_line

TEXTS = ("path", "noisy_path", "text")
LABELS = ("kind", "split", "source", "licence", "speaker", "noise_class", "language", "shard")
NUMBERS = ("sample_rate", "duration_s", "snr_db", "weight")
SCHEMA = pa.schema(
    [
        *((name, pa.large_string()) for name in TEXTS),
        *((name, pa.dictionary(pa.int32(), pa.string())) for name in LABELS),
        *((name, pa.int64() if name == "sample_rate" else pa.float64()) for name in NUMBERS),
    ]
)
OPTIONAL = ("speaker", "noise_class", "noisy_path", "language", "text")  # "" in the file is None in a recording
ABOUT = b"hushwork"
UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, StopIteration)
ROWS = 2**16  # that are turned into columns at a time


class ArrowRecordings(Recordings):
    """Recordings of an Arrow file, made when asked for; a copy in another process maps the file anew.

    Args:
        path: of the file, as :func:`write_arrow` wrote it.
        root: what its paths are put behind; None leaves them as they are.

    Raises:
        ManifestError: it is damaged, or something else.
    """

    validated = True

    def __init__(self, path: Path, root: Path | None = None) -> None:
        self._path, self._root = path, root
        try:
            source = pa.memory_map(str(path))
            file = pa.ipc.open_file(source)
            if not file.schema.equals(SCHEMA) or file.num_record_batches != 1:
                raise ManifestError(f"{path}: is no manifest; write it again with make_shards.py")
            about = json.loads(file.schema.metadata[ABOUT])
            self.sha256, self.shards = str(about["sha256"]), {str(k): int(v) for k, v in about["shards"].items()}
            self._batch = file.get_batch(0)
            if not _is_mapped(self._batch, source):
                raise ManifestError(f"{path}: is compressed; write it again with make_shards.py")
        except FileNotFoundError as error:
            raise ManifestError(f"{path}: no such manifest; write it with make_shards.py") from error
        except UNREADABLE as error:
            if isinstance(error, ManifestError):
                raise
            raise ManifestError(f"{path}: cannot be read as a manifest ({error}); write it again") from error

    def __reduce__(self) -> tuple[type[ArrowRecordings], tuple[Path, Path | None]]:
        return ArrowRecordings, (self._path, self._root)

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def __getitem__(self, row: int) -> Recording:  # type: ignore[override]
        row = range(len(self))[row]
        entry = {name: self._batch.column(name)[row].as_py() for name in SCHEMA.names if name != "shard"}
        entry |= {name: None for name in OPTIONAL if not entry[name]}
        if np.isnan(entry["snr_db"]):
            entry["snr_db"] = None
        if self._root is not None:
            entry |= {name: str(self._root / entry[name]) for name in ("path", "noisy_path") if entry[name]}
        return Recording(**entry)

    def numbers(self, name: str) -> np.ndarray:
        found: np.ndarray = self._batch.column(name).to_numpy(zero_copy_only=True)
        return found

    def labels(self, name: str) -> tuple[np.ndarray, list[str]]:
        column = self._batch.column(name)
        return column.indices.to_numpy(zero_copy_only=True), column.dictionary.to_pylist()

    def moved(self, root: Path) -> ArrowRecordings:
        return ArrowRecordings(self._path, root)

    def check(self, sample_rate: int) -> None:
        """Raises :class:`ManifestError` if the file is damaged, says what no manifest may, or has another rate."""
        try:
            self._batch.validate(full=True)
        except pa.ArrowException as error:
            raise ManifestError(f"{self._path}: is damaged ({error}); write it again") from error
        dictionaries = [self._batch.column(name).dictionary for name in LABELS]
        if any(column.null_count for column in (*self._batch.columns, *dictionaries)):
            raise ManifestError(f"{self._path}: lacks values; write it again with make_shards.py")
        kind, split = (self.labels(name) for name in ("kind", "split"))
        wrong = [
            (~_among(kind, KINDS), f"kind is not one of {', '.join(KINDS)}"),
            (~_among(split, SPLITS), f"split is not one of {', '.join(SPLITS)}"),
            (_among(kind, ("speech", "pair")) & _among(self.labels("speaker"), ("",)), "a speaker is needed"),
            (_among(kind, ("noise",)) & _among(self.labels("noise_class"), ("",)), "a noise_class is needed"),
            (_among(kind, ("pair",)) & ~self._are("noisy_path", "."), "a pair needs a noisy_path"),
            (self._are("path", URL.pattern) | self._are("noisy_path", URL.pattern), "path is a URL"),
            (~((self.numbers("duration_s") > 0) & (self.numbers("duration_s") <= LARGEST)), "duration_s is wrong"),
            (~((self.numbers("weight") >= 0) & (self.numbers("weight") <= LARGEST)), "weight is wrong"),
            (self.numbers("sample_rate") != sample_rate, f"is not at {sample_rate} Hz; set sample_rate to its own"),
        ]
        found = [
            f"row {int(mask.argmax())} ({self[int(mask.argmax())].path}), and {int(mask.sum()) - 1} more: {what}"
            for mask, what in wrong
            if mask.any()
        ]
        if found:
            raise ManifestError("\n  ".join([f"{self._path}: {len(found)} problem(s)", *found]))

    def _are(self, name: str, pattern: str) -> np.ndarray:
        column = self._batch.column(name)
        found: np.ndarray = pc.match_substring_regex(column, f"^(?:{pattern})").to_numpy(zero_copy_only=False)
        return found


def _is_mapped(batch: Any, source: Any) -> bool:
    """Whether a batch lies in the mapped file as it is; what was compressed does not."""
    source.seek(0)
    file = source.read_buffer()
    columns = [*batch.columns, *(batch.column(name).dictionary for name in LABELS)]
    buffers = [buffer for column in columns for buffer in column.buffers() if buffer]
    return all(0 <= buffer.address - file.address <= file.size - buffer.size for buffer in buffers)


def _among(column: tuple[np.ndarray, list[str]], wanted: Iterable[str]) -> np.ndarray:
    numbers, names = column
    known = np.array([name in wanted for name in names], bool)
    return known[numbers] if len(known) else np.zeros(len(numbers), bool)


def open_arrow(path: Path, sample_rate: int, cache: Cache | None) -> tuple[ArrowRecordings, list[str], str]:
    """The recordings of a file, what is wrong with its shards, and its SHA-256.

    Raises:
        ManifestError: it cannot be fetched into ``cache`` from its URL, or is no valid manifest.
    """
    copy = path
    if is_remote(path):
        if cache is None:
            raise ManifestError(f"{path}: needs a folder for a copy of it; set data.cache")
        try:
            copy = cache.file(path)
        except AudioError as error:
            raise ManifestError(str(error)) from error
    recordings = ArrowRecordings(copy)
    recordings.check(sample_rate)
    problems = []
    shards = {path.parent / name: size for name, size in recordings.shards.items()}
    found = stamps(shards)
    for shard, size in shards.items():
        if shard not in found:
            problems.append(f"{shard}: no such file; copy it there, or make it again with make_shards.py")
        elif found[shard][0] != size:
            problems.append(f"{shard}: has {found[shard][0]} bytes, expected {size}; copy it again")
    return recordings, problems, recordings.sha256


def write_arrow(path: Path, recordings: Iterable[Recording], shards: Mapping[str, int] | None = None) -> None:
    """Write recordings, which must be valid, as one Arrow file, which may be a URL; it appears whole.

    Args:
        path: where to.
        recordings: in the order in which they are to stand.
        shards: the tar files that they are in, from the file's folder, with their sizes in bytes.
    """
    digest = hashlib.sha256()
    iterator = iter(recordings)
    batches = []
    while rows := list(islice(iterator, ROWS)):
        for row in rows:
            digest.update(as_line(row))
        columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
        columns |= {name: [value or "" for value in columns[name]] for name in (*TEXTS, *LABELS)}
        columns["snr_db"] = [float("nan") if value is None else value for value in columns["snr_db"]]
        for name in LABELS:
            columns[name] = pa.array(columns[name], pa.string()).dictionary_encode()
        for name in ("duration_s", "weight", "snr_db"):
            columns[name] = pa.array(map(float, columns[name]), pa.float64())
        try:
            batches.append(pa.record_batch(columns, SCHEMA))
        except UnicodeEncodeError as error:
            names = f"Arrow has no names that are not UTF-8, such as {error.object!r}"
            raise ManifestError(f"{path}: {names}; keep the JSONL manifest, or rename it") from error
    write_table(path, pa.Table.from_batches(batches, SCHEMA), digest.hexdigest(), shards)


def write_table(path: Path, table: Any, sha256: str, shards: Mapping[str, int] | None = None) -> None:
    """:func:`write_arrow` of columns."""
    # One batch, so that each column is one stretch of the file and need not be put together in memory.
    table = table.unify_dictionaries().combine_chunks()
    about = {"sha256": sha256, "shards": dict(shards or {})}
    table = table.replace_schema_metadata({ABOUT: json.dumps(about)})
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder) / path.name, table)
            publish(Path(folder) / path.name, path)
        return
    with write_atomically(path) as part:
        _write(part, table)


def _write(path: Path, table: Any) -> None:
    with path.open("wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, len(table)))
