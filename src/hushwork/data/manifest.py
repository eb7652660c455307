"""The manifest: one JSON line for each recording of a corpus. Preparers write it, training reads it."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hushwork.audio.io import AudioError, audio_info
from hushwork.strict_json import parse_object, shown

KINDS = ("speech", "noise", "pair")
SPLITS = ("train", "valid", "test")
PROBLEMS_SHOWN = 20
LARGEST = 1e9  # of numbers that mean anything


class ManifestError(ValueError):
    """A manifest that must not be trained on. The message lists what is wrong, line by line."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One line of a manifest.

    Args:
        path: the audio file, relative to the manifest's folder (with ``/``) or absolute. Of a pair, the clean file.
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


@dataclass(frozen=True)
class Manifest:
    """A validated manifest: its recordings in file order, the folder their paths start from, and its SHA-256."""

    root: Path
    recordings: tuple[Recording, ...]
    sha256: str

    def select(self, kind: str, split: str) -> list[Recording]:
        return [recording for recording in self.recordings if recording.kind == kind and recording.split == split]

    def file(self, path: str) -> Path:
        return self.root / path

    def contents(self, split: str) -> dict[str, Any]:
        """What a split holds, JSON-able: hours by kind, number of speakers, languages, sources with their licences."""
        mine = [recording for recording in self.recordings if recording.split == split]
        hours = {kind: sum(r.duration_s for r in mine if r.kind == kind) / 3600 for kind in KINDS}
        sources = {(r.source, r.licence) for r in mine}
        return {
            "hours": {kind: round(value, 3) for kind, value in hours.items() if value},
            "speakers": len({r.speaker for r in mine if r.speaker}),
            "languages": sorted({r.language for r in mine if r.language}),
            "sources": [{"source": source, "licence": licence} for source, licence in sorted(sources)],
        }


def load_manifest(path: str | Path, sample_rate: int, train_also: Sequence[str | Path] = ()) -> Manifest:
    """Read and validate the manifest at ``path``.

    Its paths may lead anywhere, also by ``..``: a corpus may lie where it likes. What they name is opened as audio, and
    as nothing else.

    Args:
        path: a JSONL file, one :class:`Recording` a line.
        sample_rate: in Hz, what every recording must have.
        train_also: further manifests, whose recordings of the split "train" are added. The hash is then that of the
            hashes of all files, in hexadecimal and one a line.

    Raises:
        ManifestError: the file is missing, or lines are malformed, files are missing, empty, unreadable or at another
            rate or length than stated, a file is listed twice, or a speaker or noise source is in two splits.
    """
    path = Path(path)
    recordings, problems, sha256 = _read(path)
    hashes = [sha256]
    for other in map(Path, train_also):
        added, added_problems, sha256 = _read(other)
        hashes.append(sha256)
        problems += [f"{other}: {problem}" for problem in added_problems]
        recordings += [_moved(each, other.resolve().parent) for each in added if each.split == "train"]
    if len(hashes) > 1:
        sha256 = hashlib.sha256("".join(f"{each}\n" for each in hashes).encode()).hexdigest()
    problems += _check_splits(recordings)
    for recording in recordings:
        problems += _check_files(path.parent, recording, sample_rate)
    if not recordings and not problems:
        problems = ["it lists no recording"]
    if problems:
        shown = problems[:PROBLEMS_SHOWN]
        if len(problems) > len(shown):
            shown.append(f"… and {len(problems) - len(shown)} more")
        raise ManifestError("\n  ".join([f"{path}: {len(problems)} problem(s)", *shown]))
    return Manifest(path.parent, tuple(recordings), sha256)


def write_manifest(path: str | Path, recordings: Iterable[Recording]) -> None:
    """Write recordings as JSONL, sorted by path so that equal corpora give equal bytes; the file appears whole."""
    path = Path(path)
    lines = [
        json.dumps({key: value for key, value in asdict(recording).items() if value is not None}, ensure_ascii=False)
        for recording in sorted(recordings, key=lambda recording: (recording.path, recording.noisy_path or ""))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    part.replace(path)


def _read(path: Path) -> tuple[list[Recording], list[str], str]:
    """The recordings of a file, what is wrong with its lines, and its SHA-256."""
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; run the preparer of this corpus first (scripts/prepare_*.py)")
    content = path.read_bytes()
    return *_parse(content), hashlib.sha256(content).hexdigest()


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
        if isinstance(value, str):
            value.encode()  # JSON can hold halves of characters, which no file can


def _check_splits(recordings: list[Recording]) -> list[str]:
    splits: dict[str, set[str]] = defaultdict(set)
    paths: dict[str, int] = defaultdict(int)
    for recording in recordings:
        if recording.speaker:
            splits[f"speaker {recording.speaker!r}"].add(recording.split)
        if recording.kind == "noise":
            splits[f"noise source {recording.source!r}"].add(recording.split)
        paths[recording.noisy_path or recording.path] += 1
    problems = [
        f"{who} is in the splits {' and '.join(sorted(where))}; move it into one of them"
        for who, where in splits.items()
        if len(where) > 1
    ]
    return problems + [f"{path} is listed {count} times" for path, count in paths.items() if count > 1]


def _check_files(root: Path, recording: Recording, sample_rate: int) -> list[str]:
    problems = []
    lengths = []
    for path in filter(None, (recording.path, recording.noisy_path)):
        try:
            info = audio_info(root / path)
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
