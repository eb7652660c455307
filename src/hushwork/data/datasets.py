"""Fixed mixtures for validation and test, recorded pairs, and the samplers that index data sets.

Signals are float32 arrays (N,) at the corpus's sample rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset, SequentialSampler

from hushwork.audio.io import write_audio
from hushwork.augment.mixing import scale_to_snr
from hushwork.data.batch import Key, Mixture
from hushwork.data.manifest import Manifest, printable, write_manifest
from hushwork.data.pool import Pool, Reader
from hushwork.data.recordings import ManifestError, Recording, Recordings
from hushwork.data.shards import ShardOrder


class NoisySpeechDataset(Protocol):
    """A data set of mixtures, indexed by (epoch, index)."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key) -> Mixture: ...


class FixedMixtureDataset(Dataset[Mixture]):
    """Mixtures that never change, for validation and test: speech as recorded, whole, at a grid of SNRs.

    Utterances, in shuffled order, SNRs and noise classes are taken in turn, so that each occurs equally often. The
    epoch of a key is ignored.

    Args:
        manifest: of the corpus; its speech and noise of ``split`` are mixed.
        split: "valid" or "test".
        num_mixtures: size of the data set.
        snr_db: SNRs in dB, taken in turn.
        max_s: longer utterances are cut, seconds.
        sample_rate: Hz, of the corpus.
        seed: of the order of utterances and of the noise.
        language: BCP 47 tag; only speech in this language is mixed, from any region ("en" includes "en-GB"). None
            mixes all.

    Raises:
        ManifestError: the split has no speech (of that language) or no noise.
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
        language: str | None = None,
    ) -> None:
        self._reader = Reader(manifest)
        self._speech = manifest.require("speech", split)
        if language:
            numbers, tags = self._speech.labels("language")
            matching = [k for k, tag in enumerate(tags) if tag == language or tag.startswith(f"{language}-")]
            self._speech = self._speech.take(np.flatnonzero(np.isin(numbers, matching)))
            if not self._speech:
                raise ManifestError(
                    f"{manifest.root}: the split {split!r} has no speech in the language {language!r}; "
                    "change data.eval_language, or set it to null"
                )
        self._noise = Pool(manifest.require("noise", split), self._reader)
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
            language=recording.language or "",
        )

    def _fill_noise(self, noise_class: str, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        recording = self._noise.draw(noise_class, rng)
        noise = self._reader.read(recording.path)
        start = int(rng.integers(0, max(1, len(noise) - num_samples + 1)))
        return np.resize(noise[start:] if len(noise) >= num_samples else noise, num_samples)


class PairedDataset(Dataset[Mixture]):
    """Pairs of noisy and clean recordings, as they are in the corpus.

    Args:
        manifest: of the corpus; its pairs of ``split`` are used.
        split: "train", "valid" or "test".
        sample_rate: Hz, of the corpus.
        seed: of the crops.
        segment_s: length of crops at random positions (training); None gives whole recordings.
        num_mixtures: number of draws in an epoch (training); None takes each pair once.
        order: makes the order that takes each pair once, shard after shard; None draws pairs at random (training).

    Raises:
        ManifestError: the split has no pair, or its pairs cannot be put in that order.
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
        order: Callable[[Recordings, Reader], ShardOrder] | None = None,
    ) -> None:
        self._reader = Reader(manifest)
        self._pairs = manifest.require("pair", split)
        self._seed = seed
        self._segment = None if segment_s is None else round(segment_s * sample_rate)
        self._num_mixtures = num_mixtures or len(self._pairs)
        self._order = order(self._pairs, self._reader) if order else None

    def __len__(self) -> int:
        return self._num_mixtures

    def __getitem__(self, key: Key) -> Mixture:
        epoch, index = key
        pair = self._pairs[index % len(self._pairs)]
        start, num_samples = 0, -1
        if self._segment is not None:
            rng = np.random.default_rng([self._seed, epoch, index])
            if self._order:
                pair, _ = self._order.draw(epoch * self._num_mixtures + index)
            else:
                pair = self._pairs[int(rng.integers(len(self._pairs)))]
            start = int(rng.integers(0, max(1, round(pair.duration_s * pair.sample_rate) - self._segment + 1)))
            num_samples = self._segment
        return Mixture(
            noisy=self._reader.read(pair.noisy_path or "", start, num_samples),
            clean=self._reader.read(pair.path, start, num_samples),
            name=printable(pair.path),
            speaker=pair.speaker or "",
            noise_class=pair.noise_class or "unknown",
            snr_db=float("nan") if pair.snr_db is None else pair.snr_db,
            language=pair.language or "",
        )


class EpochSampler(SequentialSampler):
    """Keys (epoch, index) of one device's share of an epoch, in order; Lightning accepts it as a sequential sampler.

    Args:
        dataset: gives the number of indices.
        rank, num_devices: this device gets the indices rank, rank + num_devices, …, and all get equally many.
        begin: called when an epoch begins or is resumed; returns the epoch and how many of its mixtures all devices
            together have finished.
        complete: omit no index, even if some devices then get one more than others.
    """

    def __init__(
        self,
        dataset: Sized,
        rank: int = 0,
        num_devices: int = 1,
        begin: Callable[[], tuple[int, int]] = lambda: (0, 0),
        complete: bool = False,
    ) -> None:
        super().__init__(dataset)
        self._length = len(range(rank if complete else num_devices - 1, len(dataset), num_devices))
        self._rank, self._num_devices = rank, num_devices
        self._begin = begin

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Key]:  # type: ignore[override]
        epoch, done = self._begin()
        return ((epoch, self._rank + i * self._num_devices) for i in range(done // self._num_devices, len(self)))


class ShuffledSampler(EpochSampler):
    """Plain indices, on one device, shuffled by seed and epoch."""

    def __init__(self, dataset: Sized, seed: int, begin: Callable[[], tuple[int, int]]) -> None:
        super().__init__(dataset, begin=begin)
        self._seed = seed

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]
        epoch, done = self._begin()
        return iter(np.random.default_rng([self._seed, epoch]).permutation(len(self))[done:].tolist())


def in_order(dataset: NoisySpeechDataset) -> Iterable[Mixture]:
    """All mixtures of a fixed data set, by index."""
    return (dataset[0, index] for index in range(len(dataset)))


def write_pairs(dataset: NoisySpeechDataset, folder: str | Path, split: str, sample_rate: int) -> Path:
    """Write fixed mixtures as ``clean/NAME.wav`` and ``noisy/NAME.wav`` (float), and the manifest of these pairs.

    Returns the manifest's path.
    """
    folder = Path(folder)
    pairs = []
    for mixture in in_order(dataset):
        name = f"{mixture.name.replace('/', '_')}.wav"
        for kind, audio in (("clean", mixture.clean), ("noisy", mixture.noisy)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_audio(folder / kind / name, audio, sample_rate, subtype="FLOAT")
        pairs.append(
            Recording(
                path=f"clean/{name}",
                noisy_path=f"noisy/{name}",
                kind="pair",
                split=split,
                sample_rate=sample_rate,
                duration_s=len(mixture.clean) / sample_rate,
                source="mixtures",
                licence="that of the corpus",
                speaker=mixture.speaker,
                noise_class=mixture.noise_class,
                snr_db=mixture.snr_db,
                language=mixture.language or None,
            )
        )
    write_manifest(folder / "manifest.jsonl", pairs)
    return folder / "manifest.jsonl"
