"""Noisy speech from a manifest: mixed afresh for training, fixed for validation and test.

Every random draw is a pure function of (seed, epoch, index), so the number of workers and devices changes nothing.
Signals are float32 arrays (N,) at the corpus's sample rate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset, SequentialSampler

from hushwork.audio.io import read_audio
from hushwork.audio.mixing import (
    active_rms,
    change_speed,
    convolve,
    equalize,
    fit_length,
    limit_band,
    scale_to_snr,
    simulate_room,
)
from hushwork.data.batch import Mixture
from hushwork.data.manifest import Manifest, ManifestError, Recording

Key = tuple[int, int]  # (epoch, index)
FADE_S = 0.005
NUM_ROOMS = 256
ROUNDING_S = 0.001  # of the durations in manifests: a stretch must not begin behind the end


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """What is drawn for each training mixture; pairs are uniform ranges, probabilities lie in [0, 1].

    Args:
        segment_s: seconds of a mixture.
        snr_db: active speech over noise.
        level_db: active level of the clean speech, dB relative to full scale.
        max_noises: 1 to this many noises are added, the further ones up to 10 dB below the first.
        babble_probability, coloured_probability: how often a noise is not a recording but made on the spot: 4 to 8
            training speakers at once, or steady noise of a random colour (up to ±20 dB).
        noise_speed: factor by which recorded noise is played faster.
        speed: factor by which the speech is played faster, pitch with it.
        eq_db: largest gain or cut of the random equaliser, on speech and noise each.
        eq_probability, room_probability, band_probability, clip_probability: how often each happens. In a room the
            target keeps the direct sound and the first 50 ms. A limited band (3.4 to 7 kHz) applies to target and
            mixture, clipping (at 30 to 90 % of the peak) to the mixture alone.

    Raises:
        ValueError: a range upside down or a probability outside [0, 1].
    """

    segment_s: float = 4.0
    snr_db: tuple[float, float] | list[float] = (-5.0, 20.0)
    level_db: tuple[float, float] | list[float] = (-36.0, -16.0)
    max_noises: int = 2
    babble_probability: float = 0.0
    coloured_probability: float = 0.0
    noise_speed: tuple[float, float] | list[float] = (1.0, 1.0)
    speed: tuple[float, float] | list[float] = (0.9, 1.1)
    eq_db: float = 6.0
    eq_probability: float = 0.3
    room_probability: float = 0.0
    band_probability: float = 0.0
    clip_probability: float = 0.0

    def __post_init__(self) -> None:
        for name in ("snr_db", "level_db", "speed", "noise_speed"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} is [{low}, {high}]; the first number must not exceed the second")
        for name in (each.name for each in fields(self) if each.name.endswith("_probability")):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        if self.segment_s <= 0 or min(self.speed[0], self.noise_speed[0]) <= 0 or self.max_noises < 1:
            raise ValueError("segment_s, speed and noise_speed must be above 0 and max_noises at least 1")
        if self.babble_probability + self.coloured_probability > 1:
            raise ValueError("babble_probability and coloured_probability are together more than 1")


class NoisySpeechDataset(Protocol):
    """Mixtures by (epoch, index)."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key) -> Mixture: ...


class Reader:
    """Reads stretches of a corpus's recordings as one channel; samples that are not finite count as 0.

    Args:
        manifest: whose paths are read.
        keep_decoded: decode each recording once, whole, and keep it in memory. Pays for corpora that are small and slow
            to decode. (Ogg is decoded anew after every seek, and not to the same bits.)
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


@dataclass
class _Pool:
    """Recordings in groups: a group is drawn by the root of its minutes, within it a recording by its minutes."""

    recordings: list[Recording]
    group_of: dict[str, list[Recording]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for recording in self.recordings:
            if recording.weight > 0:
                self.group_of[recording.speaker or recording.noise_class or ""].append(recording)
        self.names = sorted(self.group_of)
        shares = {name: np.array([r.duration_s * r.weight for r in self.group_of[name]]) for name in self.names}
        totals = np.array([shares[name].sum() for name in self.names]) ** 0.5
        self._groups = np.cumsum(totals / totals.sum())
        self._within = {name: np.cumsum(share / share.sum()) for name, share in shares.items()}

    def draw_group(self, rng: np.random.Generator) -> str:
        return self.names[min(int(np.searchsorted(self._groups, rng.random())), len(self.names) - 1)]

    def draw(self, group: str, rng: np.random.Generator) -> Recording:
        members = self.group_of[group]
        return members[min(int(np.searchsorted(self._within[group], rng.random())), len(members) - 1)]


class NoisyMixtureDataset(Dataset[Mixture]):
    """Training mixtures without end: item (epoch, index) is speech of one speaker in freshly drawn noise.

    Args:
        manifest: whose speech and noise of the split "train" are mixed.
        mixing: what is drawn.
        num_mixtures: in an epoch.
        sample_rate: Hz, of the corpus.
        seed: of all draws.
        keep_decoded: see :class:`Reader`.

    Raises:
        ManifestError: the split has no speech or no noise.
    """

    def __init__(
        self,
        manifest: Manifest,
        mixing: MixingConfig,
        *,
        num_mixtures: int,
        sample_rate: int,
        seed: int,
        keep_decoded: bool = False,
    ) -> None:
        self._reader = Reader(manifest, keep_decoded)
        self._mixing = mixing
        self._num_mixtures = num_mixtures
        self._sample_rate = sample_rate
        self._seed = seed
        self._speech = _Pool(_needed(manifest, "speech", "train"))
        self._noise = _Pool(_needed(manifest, "noise", "train"))

    def __len__(self) -> int:
        return self._num_mixtures

    def __getitem__(self, key: Key) -> Mixture:
        epoch, index = key
        rng = np.random.default_rng([self._seed, epoch, index])
        mixing = self._mixing
        num_samples = round(mixing.segment_s * self._sample_rate)
        speaker = self._speech.draw_group(rng)
        clean = self._speech_segment(speaker, num_samples, rng)
        reverberant = clean
        if rng.random() < mixing.room_probability:
            response, early = simulate_room(int(rng.integers(NUM_ROOMS)), self._sample_rate)
            reverberant, clean = convolve(clean, response), convolve(clean, early)
        snr_db = float(rng.uniform(*mixing.snr_db))
        noise, noise_class = self._noise_segment(num_samples, rng)
        noise = scale_to_snr(reverberant, noise, snr_db, self._sample_rate)
        noisy = reverberant + noise
        if rng.random() < mixing.band_probability:
            cutoff_hz = min(rng.uniform(3400, 7000), 0.45 * self._sample_rate)
            noisy, clean = (limit_band(audio, cutoff_hz, self._sample_rate) for audio in (noisy, clean))
        level = active_rms(clean, self._sample_rate)
        gain = 10 ** (rng.uniform(*mixing.level_db) / 20) / level if level > 0 else 1.0
        gain = min(gain, 0.99 / max(float(np.abs(noisy).max()), 1e-9))
        noisy, clean = noisy * np.float32(gain), clean * np.float32(gain)
        if rng.random() < mixing.clip_probability:
            limit = np.abs(noisy).max() * rng.uniform(0.3, 0.9)
            noisy = noisy.clip(-limit, limit)
        return Mixture(
            noisy=noisy, clean=clean, name=f"{epoch}/{index}", speaker=speaker, noise_class=noise_class, snr_db=snr_db
        )

    def _speech_segment(self, speaker: str, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        factor = rng.uniform(*self._mixing.speed)
        needed = int(num_samples * factor) + 1
        speech = self._fill(self._speech, speaker, needed, rng)
        speech = fit_length(change_speed(speech, factor, self._sample_rate), num_samples)
        return self._equalized(speech, rng)

    def _noise_segment(self, num_samples: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        total, first_class = self._noise_of_one_kind(num_samples, rng)
        for _ in range(rng.integers(self._mixing.max_noises)):
            noise, _ = self._noise_of_one_kind(num_samples, rng)
            total = total + scale_to_snr(total, noise, rng.uniform(0, 10), self._sample_rate)
        return total, first_class

    def _noise_of_one_kind(self, num_samples: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        kind = rng.random()
        if kind < self._mixing.babble_probability:
            talkers = [self._speech.draw_group(rng) for _ in range(rng.integers(4, 9))]
            voices = [self._fill(self._speech, talker, num_samples, rng) for talker in talkers]
            return np.sum(voices, axis=0), "babble"
        if kind < self._mixing.babble_probability + self._mixing.coloured_probability:
            white = rng.standard_normal(num_samples, dtype=np.float32)
            return equalize(white, rng.uniform(-20, 20, size=8)), "coloured"
        name = self._noise.draw_group(rng)
        factor = rng.uniform(*self._mixing.noise_speed)
        noise = self._fill(self._noise, name, int(num_samples * factor) + 1, rng)
        noise = fit_length(change_speed(noise, factor, self._sample_rate), num_samples)
        return self._equalized(noise, rng), name

    def _fill(self, pool: _Pool, group: str, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        """A random stretch of one recording, followed by further ones of its group until it is long enough."""
        pieces: list[np.ndarray] = []
        missing = num_samples
        while missing > 0:
            recording = pool.draw(group, rng)
            available = max(1, int((recording.duration_s - ROUNDING_S) * self._sample_rate))
            start = int(rng.integers(0, max(1, available - missing + 1)))
            piece = self._reader.read(recording.path, start, min(missing, available - start))
            pieces.append(_faded(piece, self._sample_rate))
            missing -= max(1, len(piece))
        return fit_length(np.concatenate(pieces), num_samples)

    def _equalized(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self._mixing.eq_probability:
            return audio
        return equalize(audio, rng.uniform(-self._mixing.eq_db, self._mixing.eq_db, size=8))


class FixedMixtureDataset(Dataset[Mixture]):
    """Mixtures that never change, for validation and test: speech as recorded, whole, at a grid of SNRs.

    Mixture ``i`` takes the next utterance in a shuffled order, the next SNR of the grid and the next noise class, so
    that utterances, SNRs and classes are spread evenly. The epoch of a key is ignored.

    Args:
        manifest: whose speech and noise of ``split`` are mixed.
        split: "valid" or "test".
        num_mixtures: how many.
        snr_db: the grid.
        max_s: longer utterances are cut, seconds.
        sample_rate: Hz, of the corpus.
        seed: of the choice.

    Raises:
        ManifestError: the split has no speech or no noise.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        *,
        num_mixtures: int,
        snr_db: list[float],
        max_s: float,
        sample_rate: int,
        seed: int,
    ) -> None:
        self._reader = Reader(manifest)
        self._speech = _needed(manifest, "speech", split)
        self._noise = _Pool(_needed(manifest, "noise", split))
        self._num_mixtures = num_mixtures
        self._snr_db = snr_db
        self._max_samples = round(max_s * sample_rate)
        self._sample_rate = sample_rate
        self._seed = seed
        self._order = np.random.default_rng(seed).permutation(len(self._speech))
        self._split = split

    def __len__(self) -> int:
        return self._num_mixtures

    def __getitem__(self, key: Key) -> Mixture:
        index = key[1]
        rng = np.random.default_rng([self._seed, index])
        recording = self._speech[self._order[index % len(self._order)]]
        snr_db = float(self._snr_db[index % len(self._snr_db)])
        noise_class = self._noise.names[index // len(self._snr_db) % len(self._noise.names)]
        clean = self._reader.read(recording.path, 0, self._max_samples)
        noise = self._fill_noise(noise_class, len(clean), rng)
        noisy = clean + scale_to_snr(clean, noise, snr_db, self._sample_rate)
        gain = np.float32(min(1.0, 0.99 / max(float(np.abs(noisy).max()), 1e-9)))
        return Mixture(
            noisy=noisy * gain,
            clean=clean * gain,
            name=f"{self._split}_{index:04d}_{noise_class}_{snr_db:+g}dB",
            speaker=recording.speaker or "",
            noise_class=noise_class,
            snr_db=snr_db,
        )

    def _fill_noise(self, noise_class: str, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        recording = self._noise.draw(noise_class, rng)
        noise = self._reader.read(recording.path)
        start = int(rng.integers(0, max(1, len(noise) - num_samples + 1)))
        return np.resize(noise[start:] if len(noise) >= num_samples else noise, num_samples)


class PairedDataset(Dataset[Mixture]):
    """Noisy recordings that come with their clean versions, as a corpus has them.

    Args:
        manifest: whose pairs of ``split`` are taken.
        split: "train", "valid" or "test".
        sample_rate: Hz, of the corpus.
        seed: of the crops.
        segment_s: crops of this length at random places (training); None gives whole recordings.
        num_mixtures: draws in an epoch (training); None takes each pair once.

    Raises:
        ManifestError: the split has no pair.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        *,
        sample_rate: int,
        seed: int,
        segment_s: float | None = None,
        num_mixtures: int | None = None,
    ) -> None:
        self._reader = Reader(manifest)
        self._pairs = _needed(manifest, "pair", split)
        self._seed = seed
        self._segment = None if segment_s is None else round(segment_s * sample_rate)
        self._num_mixtures = num_mixtures or len(self._pairs)

    def __len__(self) -> int:
        return self._num_mixtures

    def __getitem__(self, key: Key) -> Mixture:
        epoch, index = key
        pair = self._pairs[index % len(self._pairs)]
        start, num_samples = 0, -1
        if self._segment is not None:
            rng = np.random.default_rng([self._seed, epoch, index])
            pair = self._pairs[rng.integers(len(self._pairs))]
            start = int(rng.integers(0, max(1, round(pair.duration_s * pair.sample_rate) - self._segment + 1)))
            num_samples = self._segment
        return Mixture(
            noisy=self._reader.read(pair.noisy_path or "", start, num_samples),
            clean=self._reader.read(pair.path, start, num_samples),
            name=pair.path,
            speaker=pair.speaker or "",
            noise_class=pair.noise_class or "unknown",
            snr_db=float("nan") if pair.snr_db is None else pair.snr_db,
        )


class EpochSampler(SequentialSampler):
    """Keys (epoch, index) of this device's share of an epoch, in order, as Lightning knows a sequential sampler.

    Args:
        dataset: for its length.
        rank, num_devices: indices rank, rank + num_devices, … are ours; each device gets as many.
        epoch: tells the epoch whenever one begins.
    """

    def __init__(
        self, dataset: Sized, rank: int = 0, num_devices: int = 1, epoch: Callable[[], int] = lambda: 0
    ) -> None:
        super().__init__(dataset)
        self._length = len(dataset)
        self._rank, self._num_devices = rank, num_devices
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length // self._num_devices

    def __iter__(self) -> Iterator[Key]:  # type: ignore[override]
        epoch = self._epoch()
        return ((epoch, self._rank + i * self._num_devices) for i in range(len(self)))


def in_order(dataset: NoisySpeechDataset) -> Iterable[Mixture]:
    """All mixtures of a fixed data set."""
    return (dataset[0, index] for index in range(len(dataset)))


def _needed(manifest: Manifest, kind: str, split: str) -> list[Recording]:
    recordings = manifest.select(kind, split)
    if not recordings:
        raise ManifestError(f"{manifest.root}: the manifest has no {kind} in the split {split!r}, which is needed")
    return recordings


def _faded(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    length = min(round(FADE_S * sample_rate), len(audio) // 2)
    if length:
        ramp = np.linspace(0, 1, length, dtype=np.float32)
        audio = audio.copy()
        audio[:length] *= ramp
        audio[-length:] *= ramp[::-1]
    return audio
