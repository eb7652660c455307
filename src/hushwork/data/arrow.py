"""The manifest as an Arrow file: the same content by column, mapped into memory and shared by all processes.

Needs pyarrow: the extra ``shards``.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
from hushwork.data.recordings import KINDS, LARGEST, SPLITS, ManifestError, Recording, Recordings

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
METADATA_KEY = b"hushwork"
UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, StopIteration)
BATCH_ROWS = 2**16  # converted to columns at a time


class ArrowRecordings(Recordings):
    """Recordings of an Arrow file, built on access; unpickled in another process, it maps the file again.

    Args:
        path: a file that :func:`write_arrow` wrote.
        root: folder to prepend to its paths; None leaves them as they are.

    Raises:
        ManifestError: the file is damaged, or no manifest.
    """

    validated = True

    def __init__(self, path: Path, root: Path | None = None) -> None:
        self._path, self._root = path, root
        try:
            source = pa.memory_map(str(path))
            file = pa.ipc.open_file(source)
            if not file.schema.equals(SCHEMA) or file.num_record_batches != 1:
                raise ManifestError(f"{path}: is no manifest; write it again with hushwork prepare shards")
            metadata = json.loads(file.schema.metadata[METADATA_KEY])
            self.sha256, self.shards = str(metadata["sha256"]), {str(k): int(v) for k, v in metadata["shards"].items()}
            self._batch = file.get_batch(0)
            if not _is_mapped(self._batch, source):
                raise ManifestError(f"{path}: is compressed; write it again with hushwork prepare shards")
        except FileNotFoundError as error:
            raise ManifestError(f"{path}: no such manifest; write it with hushwork prepare shards") from error
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

    def numbers(self, column: str) -> np.ndarray:
        found: np.ndarray = self._batch.column(column).to_numpy(zero_copy_only=True)
        return found

    def labels(self, column: str) -> tuple[np.ndarray, list[str]]:
        found = self._batch.column(column)
        return found.indices.to_numpy(zero_copy_only=True), found.dictionary.to_pylist()

    def relocated(self, root: Path) -> ArrowRecordings:
        return ArrowRecordings(self._path, root)

    def check(self, sample_rate: int) -> None:
        """Raises :class:`ManifestError` if the file is damaged, holds invalid values, or has another sample rate."""
        try:
            self._batch.validate(full=True)
        except pa.ArrowException as error:
            raise ManifestError(f"{self._path}: is damaged ({error}); write it again") from error
        dictionaries = [self._batch.column(name).dictionary for name in LABELS]
        if any(column.null_count for column in (*self._batch.columns, *dictionaries)):
            raise ManifestError(f"{self._path}: lacks values; write it again with hushwork prepare shards")
        among, matches, numbers = self._among, self._matches, self.numbers
        checks = [
            (among("kind", *KINDS), f"kind is not one of {', '.join(KINDS)}"),
            (among("split", *SPLITS), f"split is not one of {', '.join(SPLITS)}"),
            (~among("kind", "speech", "pair") | ~among("speaker", ""), "a speaker is needed"),
            (~among("kind", "noise") | ~among("noise_class", ""), "a noise_class is needed"),
            (~among("kind", "pair") | matches("noisy_path", "."), "a pair needs a noisy_path"),
            (~(matches("path", URL.pattern) | matches("noisy_path", URL.pattern)), "path is a URL"),
            ((numbers("duration_s") > 0) & (numbers("duration_s") <= LARGEST), "duration_s is wrong"),
            ((numbers("weight") >= 0) & (numbers("weight") <= LARGEST), "weight is wrong"),
            (numbers("sample_rate") == sample_rate, f"is not at {sample_rate} Hz; set sample_rate to its own"),
        ]
        found = []
        for valid, problem in checks:
            if len(wrong := np.flatnonzero(~valid)):
                found.append(f"row {wrong[0]} ({self[int(wrong[0])].path}), and {len(wrong) - 1} more: {problem}")
        if found:
            raise ManifestError("\n  ".join([f"{self._path}: {len(found)} problem(s)", *found]))

    def _among(self, column: str, *texts: str) -> np.ndarray:
        codes, names = self.labels(column)
        return np.isin(codes, [code for code, name in enumerate(names) if name in texts])

    def _matches(self, column: str, pattern: str) -> np.ndarray:
        found: np.ndarray = pc.match_substring_regex(self._batch.column(column), f"^(?:{pattern})").to_numpy(
            zero_copy_only=False
        )
        return found


def _is_mapped(batch: Any, source: Any) -> bool:
    """Whether a batch is a view of the mapped file; a compressed one is a copy."""
    source.seek(0)
    file = source.read_buffer()
    columns = [*batch.columns, *(batch.column(name).dictionary for name in LABELS)]
    buffers = [buffer for column in columns for buffer in column.buffers() if buffer]
    return all(0 <= buffer.address - file.address <= file.size - buffer.size for buffer in buffers)


def open_arrow(path: Path, sample_rate: int, cache: Cache | None) -> tuple[ArrowRecordings, list[str], str]:
    """The recordings of a file, faults of its shards, and its SHA-256.

    Raises:
        ManifestError: the file cannot be fetched from its URL into ``cache``, or is no valid manifest.
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
            problems.append(f"{shard}: no such file; copy it there, or make it again with hushwork prepare shards")
        elif found[shard][0] != size:
            problems.append(f"{shard}: has {found[shard][0]} bytes, expected {size}; copy it again")
    return recordings, problems, recordings.sha256


def write_arrow(path: Path, recordings: Iterable[Recording], shards: Mapping[str, int] | None = None) -> None:
    """Write valid recordings as one Arrow file, which appears whole.

    Args:
        path: a file or URL.
        recordings: in the order of the file.
        shards: the tar files that contain them, relative to the file's folder, with their sizes in bytes.

    Raises:
        ManifestError: a name is not UTF-8.
    """
    digest = hashlib.sha256()
    iterator = iter(recordings)
    batches = []
    while rows := list(islice(iterator, BATCH_ROWS)):
        for row in rows:
            digest.update(row.line())
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
    """:func:`write_arrow` for a table of columns."""
    # One batch, so that each column is contiguous in the file and need not be copied in memory.
    table = table.unify_dictionaries().combine_chunks()
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps({"sha256": sha256, "shards": dict(shards or {})})})
    with write_or_publish(path) as part, part.open("wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, len(table)))


@contextmanager
def write_or_publish(path: Path) -> Iterator[Path]:
    """A local file to write; it then appears whole at ``path``, which may be a URL. Raises :class:`AudioError`."""
    if not is_remote(path):
        with write_atomically(path) as part:
            yield part
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / path.name
        publish(Path(folder) / path.name, path)
