"""Stored training mixtures with the output of a teacher, another denoiser: computed once, read in every epoch.

``scripts/benchmarks/teach.py`` writes a folder of them: ``0000000.flac``, …, each with three channels (noisy,
clean, teacher), and ``teacher.json``, their metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from hushwork.audio.io import read_audio
from hushwork.augment.mixing import change_speed, equalize
from hushwork.data.batch import Key, Mixture, within_share
from hushwork.data.datasets import NoisySpeechDataset
from hushwork.data.recordings import ManifestError
from hushwork.strict_json import parse_object

METADATA = "teacher.json"


def file_name(number: int) -> str:
    """The file of a mixture in its folder."""
    return f"{number:07d}.flac"


class TaughtDataset(Dataset[Mixture]):
    """Mixtures of a folder, all of them in each pass, in an order drawn by the seed.

    Args:
        folder: as written by ``scripts/benchmarks/teach.py``; it may still grow, and the files present now are used.
        num_mixtures: in an epoch.
        sample_rate: Hz, of the mixtures.
        seed: of the order and of the draws.
        speed: range of a factor by which all three signals are played faster.
        eq_db: largest gain or cut of a random equaliser on all three.

    Raises:
        ManifestError: the folder does not exist, holds no mixture, or has another sample rate.
        ValueError: the range of ``speed`` is empty or not above 0.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        num_mixtures: int,
        sample_rate: int,
        seed: int,
        speed: Sequence[float] = (1.0, 1.0),
        eq_db: float = 0.0,
    ) -> None:
        if not 0 < speed[0] <= speed[1]:
            raise ValueError(f"data.taught_speed is {list(speed)}; it must be a range above 0")
        self._folder = Path(folder)
        self.metadata = read_metadata(self._folder)
        self._files = sorted(self._folder.glob("*.flac"))
        self._num_mixtures, self._seed, self._sample_rate = num_mixtures, seed, sample_rate
        self._speed, self._eq_db = speed, eq_db
        if not self._files:
            raise ManifestError(f"{folder}: holds no mixtures yet; write some with scripts/benchmarks/teach.py")
        if self.metadata.get("sample_rate") != sample_rate:
            raise ManifestError(
                f"{folder}: is at {self.metadata.get('sample_rate')} Hz, training is set to {sample_rate} Hz; "
                "set sample_rate to the first, or write another folder"
            )

    def __len__(self) -> int:
        return self._num_mixtures

    def __getitem__(self, key: Key) -> Mixture:
        epoch, index = key
        lap, place = divmod(epoch * self._num_mixtures + index, len(self._files))
        path = self._files[_order(self._seed, lap, len(self._files))[place]]
        noisy, clean, teacher = self._varied(read_audio(path)[0], np.random.default_rng([self._seed, lap, place]))
        return Mixture(
            noisy=noisy,
            clean=clean,
            teacher=teacher,
            name=path.stem,
            speaker="",
            noise_class="unknown",
            snr_db=float("nan"),
        )

    def _varied(self, signals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """All rows (C, N) with the same speed and equaliser, so that the teacher's output still fits."""
        factor = float(rng.uniform(self._speed[0], self._speed[1]))
        gains_db = rng.uniform(-self._eq_db, self._eq_db, size=8)
        faster = [change_speed(signal, factor, self._sample_rate) for signal in signals]
        return np.stack([equalize(signal, gains_db) for signal in faster])


class PartlyTaughtDataset(Dataset[Mixture]):
    """Mixtures of a teacher's folder alternating with drawn ones, whose teacher is the clean speech.

    Args:
        taught: mixtures of the folder.
        drawn: equally many mixtures without a teacher.
        share: share of mixtures from the folder, in (0, 1].

    Raises:
        ValueError: a share outside that range.
    """

    def __init__(self, taught: TaughtDataset, drawn: NoisySpeechDataset, share: float) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"data.taught_share is {share}; it must lie in (0, 1]")
        self._taught, self._drawn, self._share = taught, drawn, share

    def __len__(self) -> int:
        return len(self._taught)

    def __getitem__(self, key: Key) -> Mixture:
        epoch, index = key
        number = epoch * len(self) + index
        is_taught, before = within_share(number, self._share)
        if is_taught:
            return self._taught[0, before]
        mixture = self._drawn[key]
        return replace(mixture, teacher=mixture.clean)


def read_metadata(folder: Path) -> dict[str, Any]:
    """The metadata of a folder of mixtures.

    Raises:
        ManifestError: it cannot be read.
    """
    path = folder / METADATA
    try:
        return parse_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{path}: cannot be read ({error}); write the folder with scripts/benchmarks/teach.py"
        ) from error


@lru_cache(maxsize=2)
def _order(seed: int, lap: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, lap]).permutation(count)
