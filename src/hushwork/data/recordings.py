"""The recordings of a manifest, one by one and by column.

Pools and checks of millions of recordings use columns; a :class:`Recording` is built only when it is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from hushwork.audio.io import split_shard

KINDS = ("speech", "noise", "pair")
SPLITS = ("train", "valid", "test")
LARGEST = 1e9  # number that a manifest may state


class ManifestError(ValueError):
    """A manifest or its audio is not valid. The message lists the problems, one a line."""


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
        source: origin: package, data set or recording session. A noise source stays in one split.
        licence: of the audio, an SPDX name where there is one.
        speaker: identifier of the speaker; needed for speech and pairs. A speaker stays in one split.
        noise_class: kind of noise ("rain", "keyboard", …); needed for noise, optional for pairs.
        noisy_path: the noisy file of a pair.
        snr_db: of a pair, where its corpus states it.
        language: BCP 47 tag, where known.
        text: transcript, where known.
        weight: relative frequency in training; a recording with weight 2 is drawn twice as often as one with weight 1
            and the same length.
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
        """The tar file that contains it, if any."""
        return (split_shard(self.path) or (None,))[0]

    def problems(self) -> list[str]:
        """Faults of this line by itself, without opening the file."""
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

    def line(self) -> bytes:
        """The line of a JSONL manifest, in UTF-8. Bytes of a path that are not UTF-8 are written as ``\\udc80`` to
        ``\\udcff``, as Python represents them."""
        entry = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"

    def relocated(self, root: Path) -> Recording:
        """The same recording with paths that start from ``root`` made absolute."""
        noisy_path = self.noisy_path and str(root / self.noisy_path)
        return replace(self, path=str(root / self.path), noisy_path=noisy_path)


class Recordings(Sequence[Recording]):
    """Recordings in the order of the manifest; this class holds them in memory, subclasses elsewhere.

    A *row* is a recording's index. Texts come as codes into a list of their different values, as in Arrow and pandas.

    Attributes:
        validated: whether the audio files were checked when the manifest was written.
    """

    validated = False

    def __init__(self, recordings: Iterable[Recording] = ()) -> None:
        self._recordings = tuple(recordings)

    def __len__(self) -> int:
        return len(self._recordings)

    def __getitem__(self, row: int) -> Recording:  # type: ignore[override]
        return self._recordings[row]

    def numbers(self, column: str) -> np.ndarray:
        """A numeric column (R,)."""
        return np.array([getattr(recording, column) for recording in self._recordings], np.float64)

    def labels(self, column: str) -> tuple[np.ndarray, list[str]]:
        """A text column: codes (R,), and the text of each code, "" for a missing value."""
        known: dict[str, int] = {}
        codes = [known.setdefault(getattr(each, column) or "", len(known)) for each in self._recordings]
        return np.array(codes, np.int32), list(known)

    def relocated(self, root: Path) -> Recordings:
        """The same recordings with paths that start from ``root`` made absolute."""
        return Recordings(recording.relocated(root) for recording in self._recordings)

    def take(self, rows: np.ndarray) -> Recordings:
        """The recordings at ``rows``, in that order."""
        return _Selection(self, rows)

    def rows(self, column: str, *texts: str) -> np.ndarray:
        """The rows whose text in ``column`` is one of ``texts``, in order."""
        codes, names = self.labels(column)
        return np.flatnonzero(np.isin(codes, [code for code, name in enumerate(names) if name in texts]))

    def distinct(self, *columns: str) -> list[tuple[str, ...]]:
        """The different combinations of texts in ``columns``."""
        labels = [self.labels(column) for column in columns]
        sizes = tuple(max(1, len(names)) for _, names in labels)
        found = np.unique(np.ravel_multi_index([codes for codes, _ in labels], sizes))
        combinations = zip(*np.unravel_index(found, sizes), strict=True)
        return [tuple(names[code] for code, (_, names) in zip(each, labels, strict=True)) for each in combinations]


class _Selection(Recordings):
    def __init__(self, source: Recordings, rows: np.ndarray) -> None:
        self._source = source
        self.validated = source.validated
        self._rows = rows.astype(np.int32 if len(source) < 2**31 else np.int64, copy=False)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Recording:  # type: ignore[override]
        return self._source[int(self._rows[row])]

    def numbers(self, column: str) -> np.ndarray:
        return self._source.numbers(column)[self._rows]

    def labels(self, column: str) -> tuple[np.ndarray, list[str]]:
        codes, names = self._source.labels(column)
        return codes[self._rows], names

    def relocated(self, root: Path) -> Recordings:
        return _Selection(self._source.relocated(root), self._rows)

    def take(self, rows: np.ndarray) -> Recordings:
        return _Selection(self._source, self._rows[rows])


class Concatenation(Recordings):
    """Recordings of several manifests, one manifest after another."""

    def __init__(self, parts: Sequence[Recordings]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> Recording:  # type: ignore[override]
        row = range(len(self))[row]
        part = int(np.searchsorted(self._ends, row, side="right"))
        return self._parts[part][row - int(self._ends[part]) + len(self._parts[part])]

    def numbers(self, column: str) -> np.ndarray:
        return np.concatenate([part.numbers(column) for part in self._parts])

    def labels(self, column: str) -> tuple[np.ndarray, list[str]]:
        known: dict[str, int] = {}
        merged = []
        for part in self._parts:
            codes, names = part.labels(column)
            merged.append(np.array([known.setdefault(name, len(known)) for name in names], np.int32)[codes])
        return np.concatenate(merged), list(known)
