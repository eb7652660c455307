"""The manifest of a corpus: one JSON line for each recording. Preparers write it, training reads it.

Manifests of millions of lines are Arrow files with the same content; see ``arrow.py``.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from hushwork.atomic import write_atomically
from hushwork.audio.io import AudioError, audio_info
from hushwork.audio.remote import is_remote, is_url, locate
from hushwork.data.cache import Cache
from hushwork.data.recordings import KINDS, LARGEST, Concatenation, ManifestError, Recording, Recordings
from hushwork.strict_json import parse_object, shown

PROBLEMS_SHOWN = 20
CHECKED, CHECKED_REMOTE = 100, 4  # files of a validated manifest whose headers are read again
# JSON has one type of number: a whole number is a valid float.
TYPES: dict[str, Any] = {
    key: kind | int if float in (kind, *get_args(kind)) else kind for key, kind in get_type_hints(Recording).items()
}


@dataclass(frozen=True)
class Manifest:
    """A validated manifest.

    Attributes:
        root: the folder from which its paths start.
        recordings: in the order of the file.
        sha256: of the file, in hexadecimal.
        cache: where copies of remote files are kept.
    """

    root: Path
    recordings: Recordings
    sha256: str
    cache: Cache | None = None

    def split(self, name: str) -> Recordings:
        return self.recordings.take(self.recordings.rows("split", name))

    def select(self, kind: str, split: str) -> Recordings:
        recordings = self.split(split)
        return recordings.take(recordings.rows("kind", kind))

    def require(self, kind: str, split: str) -> Recordings:
        """:meth:`select`; raises :class:`ManifestError` if there are none."""
        if recordings := self.select(kind, split):
            return recordings
        missing = f"{self.root}: the manifest has no {kind} in the split {split!r}, which is needed"
        raise ManifestError(f"{missing}; add recordings to it, or prepare the corpus again")

    def file(self, path: str) -> Path:
        """The file to read for a path of the manifest; for a remote shard, its local copy if there is one.

        Raises :class:`AudioError` if it cannot be fetched.
        """
        place = locate(path) if is_url(path) else self.root / path
        return self.cache.member(place) if self.cache else place

    def contents(self, split: str) -> dict[str, Any]:
        """Summary of a split for JSON: hours by kind, number of speakers, languages, sources with their licences."""
        recordings = self.split(split)
        durations = recordings.numbers("duration_s")
        hours = {kind: float(durations[recordings.rows("kind", kind)].sum()) / 3600 for kind in KINDS}
        return {
            "hours": {kind: round(value, 3) for kind, value in hours.items() if value},
            "speakers": sum(1 for (speaker,) in recordings.distinct("speaker") if speaker),
            "languages": sorted(language for (language,) in recordings.distinct("language") if language),
            "sources": [
                {"source": source, "licence": licence}
                for source, licence in sorted(recordings.distinct("source", "licence"))
            ],
        }


def load_manifest(
    path: str | Path,
    sample_rate: int,
    train_also: Sequence[str | Path] = (),
    cache: Cache | None = None,
    *,
    measure_also: bool = False,
) -> Manifest:
    """Read and validate the manifest at ``path``.

    Its paths may point anywhere, also by ``..``, as files are opened only as audio. The files of an Arrow manifest were
    checked when it was written; only a few of them are opened again, so that millions of lines take seconds.

    Args:
        path: a JSONL file, one :class:`Recording` a line, or an Arrow file, which may be a URL.
        sample_rate: Hz, of all recordings.
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
            part = part if measure_also else part.take(part.rows("split", "train"))
            part = part.relocated(place.resolve().parent)
            found = [f"{place}: {problem}" for problem in found]
        parts.append(part)
        hashes.append(sha256)
        problems += found
    recordings = parts[0] if len(parts) == 1 else Concatenation(parts)
    if len(parts) > 1:
        sha256 = hashlib.sha256("".join(f"{each}\n" for each in hashes).encode()).hexdigest()
    manifest = Manifest(root, recordings, sha256, cache)
    problems += check_splits(recordings)
    problems += _check_paths(line for part in parts if not part.validated for line in part)
    for part in parts:
        if part.validated:
            count = CHECKED_REMOTE if is_remote(root) else CHECKED
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
    """Write recordings as JSONL, sorted by path so that equal corpora give equal bytes; atomically."""
    path = Path(path)
    in_order = sorted(recordings, key=lambda recording: (recording.path, recording.noisy_path or ""))
    content = b"".join(recording.line() for recording in in_order)
    with write_atomically(path) as part:
        part.write_bytes(content)


def printable(name: str) -> str:
    """A file name as valid Unicode: bytes that are not UTF-8 become ``\\x80`` to ``\\xff``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read(path: Path, sample_rate: int, cache: Cache | None) -> tuple[Recordings, list[str], str]:
    """The recordings of a file, faults of its lines, and its SHA-256."""
    if path.suffix == ".arrow":
        try:
            from hushwork.data.arrow import open_arrow
        except ModuleNotFoundError as error:
            raise ManifestError(f"{path}: {error.name} is needed to read it: pip install 'hushwork[shards]'") from error
        return open_arrow(path, sample_rate, cache)
    if is_remote(path):
        raise ManifestError(f"{path}: only Arrow manifests may be URLs; copy it, or run hushwork prepare shards")
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; write it first (hushwork prepare {_corpus(path)})")
    content = path.read_bytes()
    lines, problems = _parse(content)
    return Recordings(lines), problems, hashlib.sha256(content).hexdigest()


def _corpus(path: Path) -> str:
    """What to prepare for a manifest to appear: the named corpora lie in folders of their names."""
    return path.parent.name.replace("_", "-") if path.parent.parent.name == "data" else "CORPUS"


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
            # JSON can hold lone surrogates, which UTF-8 cannot; in paths they stand for bytes that are not UTF-8.
            value.encode("utf-8", "surrogateescape" if key in ("path", "noisy_path") else "strict")


def check_splits(recordings: Recordings) -> list[str]:
    """Speakers and noise sources that are in several splits, a sentence each."""
    splits: dict[str, set[str]] = defaultdict(set)
    for speaker, split in recordings.distinct("speaker", "split"):
        if speaker:
            splits[f"speaker {speaker!r}"].add(split)
    for source, split in recordings.take(recordings.rows("kind", "noise")).distinct("source", "split"):
        splits[f"noise source {source!r}"].add(split)
    return [
        f"{name} is in the splits {' and '.join(sorted(found))}; move it into one of them"
        for name, found in splits.items()
        if len(found) > 1
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
            problems.append(f"{path}: the manifest states {recording.sample_rate} Hz, its header {info.sample_rate} Hz")
        elif abs(recording.duration_s - info.duration_s) > 0.1:
            problems.append(f"{path}: the manifest states {recording.duration_s} s, its header {info.duration_s:.2f} s")
    if len(set(lengths)) > 1:
        problems.append(f"{recording.noisy_path}: has {lengths[1]} samples, its clean file {lengths[0]}")
    return problems
