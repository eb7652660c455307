"""The manifest: one JSON line for each recording of a corpus. Preparers write it, training reads it.

Millions of lines are kept in an Arrow file instead, which says the same; see ``arrow.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from hushwork.atomic import write_atomically
from hushwork.audio.io import AudioError, audio_info, split_shard
from hushwork.audio.remote import is_remote, is_url, locate
from hushwork.data.cache import Cache
from hushwork.strict_json import parse_object, shown

KINDS = ("speech", "noise", "pair")
SPLITS = ("train", "valid", "test")
PROBLEMS_SHOWN = 20
LARGEST = 1e9  # of numbers that mean anything
FEW, FEW_REMOTE = 100, 4  # recordings whose headers are read again when they were before, spread over the corpus


class ManifestError(ValueError):
    """A manifest that must not be trained on. The message lists what is wrong, line by line."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One line of a manifest.

    Args:
        path: the audio file, relative to the manifest's folder (with ``/``) or absolute. Of a pair, the clean file.
            In a tar file it is ``FILE.tar#OFFSET+SIZE``, both in bytes; see :func:`hushwork.audio.io.split_shard`.
        kind: "speech" (clean), "noise", or "pair" (clean speech with its noisy version in ``noisy_path``).
        split: "train", "valid" or "test".
        sample_rate: Hz, as in the file's header.
        duration_s: seconds, as in the file's header.
        source: where it comes from: package, data set, recording session. A noise source stays in one split.
        licence: of the audio, an SPDX name where there is one.
        speaker: who speaks; needed for speech and pairs. A speaker stays in one split.
        noise_class: what is heard ("rain", "keyboard", …); needed for noise, optional for pairs.
        noisy_path: the noisy file of a pair.
        snr_db: of a pair, where its corpus states it.
        language: BCP 47 tag, where known.
        text: what is said, where known.
        weight: how often it is drawn in training, relative to a recording of the same length with weight 1.
    """

    path: str
    kind: str
    split: str
    sample_rate: int
    duration_s: float
    source: str
    licence: str
    speaker: str | None = None
    noise_class: str | None = None
    noisy_path: str | None = None
    snr_db: float | None = None
    language: str | None = None
    text: str | None = None
    weight: float = 1.0

    @property
    def shard(self) -> str | None:
        """The tar file that it is in, if it is in one."""
        return (split_shard(self.path) or (None,))[0]

    def problems(self) -> list[str]:
        """What is wrong with this line by itself, without opening the file."""
        found = []
        if self.kind not in KINDS:
            found.append(f"kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.split not in SPLITS:
            found.append(f"split {self.split!r} is not one of {', '.join(SPLITS)}")
        if not self.duration_s > 0:
            found.append(f"duration_s is {self.duration_s}, expected more than 0")
        if not self.weight >= 0:
            found.append(f"weight is {self.weight}, expected 0 or more")
        if self.kind in ("speech", "pair") and not self.speaker:
            found.append(f"a {self.kind} recording needs a speaker")
        if self.kind == "noise" and not self.noise_class:
            found.append("a noise recording needs a noise_class")
        if self.kind == "pair" and not self.noisy_path:
            found.append("a pair needs a noisy_path")
        return found


# A whole number is a number too.
TYPES: dict[str, Any] = {
    key: kind | int if float in (kind, *get_args(kind)) else kind for key, kind in get_type_hints(Recording).items()
}


class Recordings(Sequence[Recording]):
    """Recordings in order of their lines, one by one and by column; these hold them in memory.

    ``validated`` are those whose files were looked at when the manifest was written.
    """

    validated = False

    def __init__(self, lines: Iterable[Recording] = ()) -> None:
        self._lines = tuple(lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, row: int) -> Recording:  # type: ignore[override]
        return self._lines[row]

    def numbers(self, name: str) -> np.ndarray:
        """A column of numbers (R,), for each recording one."""
        return np.array([getattr(line, name) for line in self._lines], np.float64)

    def labels(self, name: str) -> tuple[np.ndarray, list[str]]:
        """A column of texts: for each recording a number (R,), and what each number stands for, "" for nothing."""
        known: dict[str, int] = {}
        numbers = [known.setdefault(getattr(line, name) or "", len(known)) for line in self._lines]
        return np.array(numbers, np.int32), list(known)

    def take(self, rows: np.ndarray) -> Recordings:
        """Those with these numbers, in this order."""
        return _Taken(self, rows)

    def moved(self, root: Path) -> Recordings:
        """The same with paths that start from ``root`` made absolute."""
        return Recordings(_moved(line, root) for line in self._lines)

    def select(self, name: str, value: str) -> np.ndarray:
        """Numbers of the recordings whose label ``name`` is ``value``."""
        numbers, names = self.labels(name)
        return np.flatnonzero(numbers == names.index(value)) if value in names else np.zeros(0, np.int64)


class _Taken(Recordings):
    def __init__(self, source: Recordings, rows: np.ndarray) -> None:
        self._source = source
        self.validated = source.validated
        self._rows = rows.astype(np.int32 if len(source) < 2**31 else np.int64, copy=False)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Recording:  # type: ignore[override]
        return self._source[int(self._rows[row])]

    def numbers(self, name: str) -> np.ndarray:
        return self._source.numbers(name)[self._rows]

    def labels(self, name: str) -> tuple[np.ndarray, list[str]]:
        numbers, names = self._source.labels(name)
        return numbers[self._rows], names

    def take(self, rows: np.ndarray) -> Recordings:
        return _Taken(self._source, self._rows[rows])

    def moved(self, root: Path) -> Recordings:
        return _Taken(self._source.moved(root), self._rows)


class _Joined(Recordings):
    def __init__(self, parts: Sequence[Recordings]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> Recording:  # type: ignore[override]
        row = range(len(self))[row]
        part = int(np.searchsorted(self._ends, row, side="right"))
        return self._parts[part][row - int(self._ends[part]) + len(self._parts[part])]

    def numbers(self, name: str) -> np.ndarray:
        return np.concatenate([part.numbers(name) for part in self._parts])

    def labels(self, name: str) -> tuple[np.ndarray, list[str]]:
        known: dict[str, int] = {}
        numbers = []
        for part in self._parts:
            mine, names = part.labels(name)
            numbers.append(np.array([known.setdefault(each, len(known)) for each in names], np.int32)[mine])
        return np.concatenate(numbers), list(known)


@dataclass(frozen=True)
class Manifest:
    """A validated manifest: its recordings in file order, the folder their paths start from, its SHA-256, and where
    copies of remote files are kept."""

    root: Path
    recordings: Recordings
    sha256: str
    cache: Cache | None = None

    def select(self, kind: str, split: str) -> Recordings:
        mine = self.recordings.take(self.recordings.select("split", split))
        return mine.take(mine.select("kind", kind))

    def file(self, path: str) -> Path:
        """Where to read a path, a shard perhaps in a copy. Raises :class:`AudioError` if it cannot be fetched."""
        place = locate(path) if is_url(path) else self.root / path
        return self.cache.stretch(place) if self.cache else place

    def contents(self, split: str) -> dict[str, Any]:
        """What a split holds, JSON-able: hours by kind, number of speakers, languages, sources with their licences."""
        mine = self.recordings.take(self.recordings.select("split", split))
        durations = mine.numbers("duration_s")
        hours = {kind: float(durations[mine.select("kind", kind)].sum()) / 3600 for kind in KINDS}
        return {
            "hours": {kind: round(value, 3) for kind, value in hours.items() if value},
            "speakers": sum(1 for (speaker,) in distinct(mine, "speaker") if speaker),
            "languages": sorted(language for (language,) in distinct(mine, "language") if language),
            "sources": [
                {"source": source, "licence": licence}
                for source, licence in sorted(distinct(mine, "source", "licence"))
            ],
        }


def distinct(recordings: Recordings, *columns: str) -> list[tuple[str, ...]]:
    """The different combinations of labels that there are."""
    labels = [recordings.labels(column) for column in columns]
    sizes = tuple(max(1, len(names)) for _, names in labels)
    found = np.unique(np.ravel_multi_index([numbers for numbers, _ in labels], sizes))
    places = np.unravel_index(found, sizes)
    return [tuple(names[k] for k, (_, names) in zip(row, labels, strict=True)) for row in zip(*places, strict=True)]


def load_manifest(
    path: str | Path,
    sample_rate: int,
    train_also: Sequence[str | Path] = (),
    cache: Cache | None = None,
    *,
    measure_also: bool = False,
) -> Manifest:
    """Read and validate the manifest at ``path``.

    Its paths may lead anywhere, also by ``..``: a corpus may lie where it likes. What they name is opened as audio, and
    as nothing else. The files of an Arrow manifest were looked at when it was written; of these only a few are opened
    again, so that millions of lines take seconds.

    Args:
        path: a JSONL file, one :class:`Recording` a line, or an Arrow file, which may be a URL.
        sample_rate: in Hz, what every recording must have.
        train_also: further manifests, whose recordings of the split "train" are added. The hash is then that of the
            hashes of all files, in hexadecimal and one a line.
        cache: for copies of Arrow files at URLs, and of their shards.
        measure_also: add the recordings of all splits of ``train_also``.

    Raises:
        ManifestError: the file is missing, or lines are malformed, files are missing, empty, unreadable or at another
            rate or length than stated, a file is listed twice, or a speaker or noise source is in two splits.
    """
    root = locate(path).parent
    parts: list[Recordings] = []
    hashes, problems = [], []
    for place in map(locate, (path, *train_also)):
        part, found, sha256 = _read(place, sample_rate, cache)
        if parts:
            part = part if measure_also else part.take(part.select("split", "train"))
            part = part.moved(place.resolve().parent)
            found = [f"{place}: {problem}" for problem in found]
        parts.append(part)
        hashes.append(sha256)
        problems += found
    recordings = parts[0] if len(parts) == 1 else _Joined(parts)
    if len(parts) > 1:
        sha256 = hashlib.sha256("".join(f"{each}\n" for each in hashes).encode()).hexdigest()
    manifest = Manifest(root, recordings, sha256, cache)
    problems += _check_splits(recordings)
    problems += _check_paths(line for part in parts if not part.validated for line in part)
    for part in parts:
        if part.validated:
            count = FEW_REMOTE if is_remote(root) else FEW
            part = part.take(np.linspace(0, len(part) - 1, min(len(part), count)).astype(int))
        for recording in part:
            problems += _check_files(manifest, recording, sample_rate)
    if not recordings and not problems:
        problems = ["it lists no recording"]
    if problems:
        shown = problems[:PROBLEMS_SHOWN]
        if len(problems) > len(shown):
            shown.append(f"… and {len(problems) - len(shown)} more")
        raise ManifestError("\n  ".join([f"{path}: {len(problems)} problem(s)", *shown]))
    return manifest


def write_manifest(path: str | Path, recordings: Iterable[Recording]) -> None:
    """Write recordings as JSONL, sorted by path so that equal corpora give equal bytes; the file appears whole."""
    path = Path(path)
    in_order = sorted(recordings, key=lambda recording: (recording.path, recording.noisy_path or ""))
    lines = [as_line(recording) for recording in in_order]
    with write_atomically(path) as part:
        part.write_bytes(b"".join(lines))


def printable(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are not UTF-8 become ``\\x80`` to ``\\xff``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def as_line(recording: Recording) -> bytes:
    """As it stands in a manifest: JSON in UTF-8. Bytes of a path that are not UTF-8 are written as ``\\udc80`` to
    ``\\udcff``, as Python has them."""
    entry = {key: value for key, value in asdict(recording).items() if value is not None}
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _read(path: Path, sample_rate: int, cache: Cache | None) -> tuple[Recordings, list[str], str]:
    """The recordings of a file, what is wrong with its lines, and its SHA-256."""
    if path.suffix == ".arrow":
        try:
            from hushwork.data.arrow import open_arrow
        except ModuleNotFoundError as error:
            raise ManifestError(f"{path}: {error.name} is needed to read it: pip install 'hushwork[shards]'") from error
        return open_arrow(path, sample_rate, cache)
    if is_remote(path):
        raise ManifestError(f"{path}: only Arrow manifests may be URLs; copy it, or write one with make_shards.py")
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; run the preparer of this corpus first (scripts/prepare_*.py)")
    content = path.read_bytes()
    lines, problems = _parse(content)
    return Recordings(lines), problems, hashlib.sha256(content).hexdigest()


def _moved(recording: Recording, root: Path) -> Recording:
    noisy_path = recording.noisy_path and str(root / recording.noisy_path)
    return replace(recording, path=str(root / recording.path), noisy_path=noisy_path)


def _parse(content: bytes) -> tuple[list[Recording], list[str]]:
    recordings, problems = [], []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            entry = parse_object(line)
            _check_types(entry)
            recording = Recording(**entry)
        except (TypeError, ValueError) as error:
            problems.append(f"line {number}: {error}")
            continue
        problems += [f"line {number} ({recording.path}): {problem}" for problem in recording.problems()]
        recordings.append(recording)
    return recordings, problems


def _check_types(entry: dict[str, Any]) -> None:
    """Raises TypeError or ValueError for a key or a value that a :class:`Recording` does not have."""
    for key, value in entry.items():
        if key not in TYPES:
            raise TypeError(f"unknown key {shown(key)}; known are {', '.join(sorted(TYPES))}")
        if isinstance(value, bool) or not isinstance(value, TYPES[key]):
            raise TypeError(f"{key} is {shown(value)}, expected {getattr(TYPES[key], '__name__', TYPES[key])}")
        if isinstance(value, float | int) and not abs(value) <= LARGEST:
            raise ValueError(f"{key} is {shown(value)}, expected a number up to {LARGEST:g}")
        if key in ("path", "noisy_path") and is_url(value):
            raise ValueError(f"{key} is {shown(value)}, a URL; expected a file")
        if isinstance(value, str):
            # JSON can hold halves of characters, which no file can; in paths they stand for bytes that are not UTF-8.
            value.encode("utf-8", "surrogateescape" if key in ("path", "noisy_path") else "strict")


def _check_splits(recordings: Recordings) -> list[str]:
    splits: dict[str, set[str]] = defaultdict(set)
    for speaker, split in distinct(recordings, "speaker", "split"):
        if speaker:
            splits[f"speaker {speaker!r}"].add(split)
    for source, split in distinct(recordings.take(recordings.select("kind", "noise")), "source", "split"):
        splits[f"noise source {source!r}"].add(split)
    return [
        f"{who} is in the splits {' and '.join(sorted(where))}; move it into one of them"
        for who, where in splits.items()
        if len(where) > 1
    ]


def _check_paths(recordings: Iterable[Recording]) -> list[str]:
    paths = Counter(recording.noisy_path or recording.path for recording in recordings)
    return [f"{path} is listed {count} times" for path, count in paths.items() if count > 1]


def _check_files(manifest: Manifest, recording: Recording, sample_rate: int) -> list[str]:
    problems = []
    lengths = []
    for path in filter(None, (recording.path, recording.noisy_path)):
        try:
            info = audio_info(manifest.file(path))
        except AudioError as error:
            problems.append(str(error))
            continue
        lengths.append(info.num_samples)
        if info.num_samples == 0:
            problems.append(f"{path}: holds no samples")
        if info.sample_rate != sample_rate:
            problems.append(
                f"{path}: is at {info.sample_rate} Hz, training is set to {sample_rate} Hz; "
                f"prepare the corpus at {sample_rate} Hz or set sample_rate={info.sample_rate}"
            )
        elif recording.sample_rate != info.sample_rate:
            problems.append(f"{path}: the manifest says {recording.sample_rate} Hz, its header {info.sample_rate} Hz")
        elif abs(recording.duration_s - info.duration_s) > 0.1:
            problems.append(f"{path}: the manifest says {recording.duration_s} s, its header {info.duration_s:.2f} s")
    if len(set(lengths)) > 1:
        problems.append(f"{recording.noisy_path}: has {lengths[1]} samples, its clean file {lengths[0]}")
    return problems
