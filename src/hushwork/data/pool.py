"""Segments of a corpus's recordings, and the random choice of recordings.

Signals are float32 arrays (N,) at the corpus's sample rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from hushwork.audio.io import read_audio
from hushwork.augment.mixing import fit_length
from hushwork.data.manifest import Manifest
from hushwork.data.recordings import Recording, Recordings

FADE_S = 0.005
ROUNDING_S = 0.001  # of the durations in manifests: a segment must not begin beyond the end


class Reader:
    """Reads segments of a corpus's recordings, mixed down to one channel; samples that are not finite become 0.

    Args:
        manifest: the corpus.
        keep_decoded: decode each recording once, whole, and keep it in memory: worthwhile for corpora that are small
            and slow to decode. (Ogg is decoded again after every seek, and not to the same bits.)
    """

    def __init__(self, manifest: Manifest, keep_decoded: bool = False) -> None:
        self._manifest = manifest
        self._keep_decoded = keep_decoded
        self._decoded: dict[str, np.ndarray] = {}

    def read(self, path: str, start: int = 0, num_samples: int = -1) -> np.ndarray:
        """Samples (``num_samples``,) of a file from ``start``; -1 reads to its end."""
        if not self._keep_decoded:
            return self._decode(path, start, num_samples)
        if path not in self._decoded:
            self._decoded[path] = self._decode(path, 0, -1)
        return self._decoded[path][start : None if num_samples < 0 else start + num_samples]

    def _decode(self, path: str, start: int, num_samples: int) -> np.ndarray:
        audio, _ = read_audio(self._manifest.file(path), start, num_samples)
        return np.nan_to_num(audio, posinf=0.0, neginf=0.0).mean(axis=0)


class Pool:
    """Random choice of recordings in groups: a speaker or a noise class each.

    A group is drawn in proportion to the square root of its total duration, a recording within it in proportion to its
    duration, each times the weights of the manifest.

    Args:
        recordings: all of one kind.
        reader: reads them.
        max_shares: largest share of the draws by source; the rest goes to the other sources.

    Raises:
        ValueError: all weights are 0, or a share is outside [0, 1], or there is no other source.
    """

    def __init__(self, recordings: Recordings, reader: Reader, max_shares: Mapping[str, float] | None = None) -> None:
        self._reader = reader
        weights = recordings.numbers("weight")
        drawn = np.flatnonzero(weights > 0)
        if not len(drawn):
            raise ValueError("no recording is left to draw: the weight of all is 0")
        recordings = recordings.take(drawn)
        minutes = recordings.numbers("duration_s") * weights[drawn]
        groups, self.names = _groups(recordings)
        order = np.argsort(groups, kind="stable")
        self._recordings = recordings.take(order)
        self._starts = np.searchsorted(groups[order], np.arange(len(self.names) + 1))
        self._within = minutes[order]
        shares = np.zeros(len(self.names))
        for k, members in enumerate(pairwise(self._starts)):
            group = self._within[slice(*members)]
            shares[k] = total = group.sum()
            group[:] = np.cumsum(group / total)
        shares **= 0.5
        shares /= shares.sum()
        for source, most in (max_shares or {}).items():
            shares = self._limited(shares, source, most)
        self._groups = np.cumsum(shares)
        self._number = {name: k for k, name in enumerate(self.names)}

    def _limited(self, shares: np.ndarray, source: str, most: float) -> np.ndarray:
        numbers, names = self._recordings.labels("source")
        others = numbers != (names.index(source) if source in names else -1)
        limited = np.add.reduceat(others, self._starts[:-1]) == 0
        share = shares[limited].sum()
        if not 0 <= most <= 1:
            raise ValueError(f"max_shares: {source} is {most}; it must lie in [0, 1]")
        if share <= most:
            return shares
        if limited.all():
            raise ValueError(f"max_shares: {source} is {most}, but there is no other source to draw from; set it to 1")
        return np.where(limited, shares * most / share, shares * (1 - most) / (1 - share))

    def draw_group(self, rng: np.random.Generator) -> str:
        return self.names[min(int(np.searchsorted(self._groups, rng.random())), len(self.names) - 1)]

    def draw(self, group: str, rng: np.random.Generator) -> Recording:
        start, end = self._starts[self._number[group] :][:2]
        place = int(np.searchsorted(self._within[start:end], rng.random()))
        return self._recordings[start + min(place, int(end - start) - 1)]

    def fill(
        self, group: str, num_samples: int, sample_rate: int, rng: np.random.Generator, first: Recording | None = None
    ) -> np.ndarray:
        """Random segments of recordings of one group (``num_samples``,), each faded in and out, one after another.

        ``first`` is the first recording; None draws it too.
        """
        pieces: list[np.ndarray] = []
        missing = num_samples
        while missing > 0:
            recording, first = first or self.draw(group, rng), None
            available = max(1, int((recording.duration_s - ROUNDING_S) * sample_rate))
            start = int(rng.integers(0, max(1, available - missing + 1)))
            piece = self._reader.read(recording.path, start, min(missing, available - start))
            pieces.append(_faded(piece, sample_rate))
            missing -= max(1, len(piece))
        return fit_length(np.concatenate(pieces), num_samples)


def _groups(recordings: Recordings) -> tuple[np.ndarray, list[str]]:
    """The group of each recording, its speaker or else its noise class, as an index into the sorted names."""
    speakers, speaker_names = recordings.labels("speaker")
    classes, class_names = recordings.labels("noise_class")
    names = np.array([*speaker_names, *class_names], object)
    is_anonymous = np.array([not name for name in speaker_names], bool)[speakers]
    codes = np.where(is_anonymous, len(speaker_names) + classes, speakers)
    used = np.unique(codes)
    ordered, groups = np.unique(names[used], return_inverse=True)
    group_of = np.zeros(len(names), np.int32)
    group_of[used] = groups
    return group_of[codes], ordered.tolist()


def _faded(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    length = min(round(FADE_S * sample_rate), len(audio) // 2)
    if length:
        ramp = np.linspace(0, 1, length, dtype=np.float32)
        audio = audio.copy()
        audio[:length] *= ramp
        audio[-length:] *= ramp[::-1]
    return audio
