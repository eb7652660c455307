"""Training mixtures together with what a teacher, another denoiser, made of them: drawn and computed once, read often.

A folder of them is written by ``scripts/benchmarks/teach.py``: ``0000000.flac``, …, each with three channels (noisy,
clean, teacher), and ``teacher.json``, which says how they were made.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from hushwork.audio.io import read_audio
from hushwork.data.batch import Key, Mixture
from hushwork.data.recordings import ManifestError
from hushwork.strict_json import parse_object

ABOUT = "teacher.json"


def file_name(number: int) -> str:
    """Of a mixture in its folder."""
    return f"{number:07d}.flac"


class TaughtDataset(Dataset[Mixture]):
    """Mixtures of a folder, each once before any comes again, in an order that follows from the seed.

    Args:
        folder: as written by ``scripts/benchmarks/teach.py``; it may still grow, and what is there now is taken.
        num_mixtures: in an epoch.
        sample_rate: Hz, which the mixtures must have.
        seed: of the order.

    Raises:
        ManifestError: there is no such folder, it holds no mixture, or they have another rate.
    """

    def __init__(self, folder: str | Path, *, num_mixtures: int, sample_rate: int, seed: int) -> None:
        self._folder = Path(folder)
        self.about = read_about(self._folder)
        self._files = sorted(self._folder.glob("*.flac"))
        self._num_mixtures, self._seed = num_mixtures, seed
        if not self._files:
            raise ManifestError(f"{folder}: holds no mixtures yet; write some with scripts/benchmarks/teach.py")
        if self.about.get("sample_rate") != sample_rate:
            raise ManifestError(
                f"{folder}: is at {self.about.get('sample_rate')} Hz, training is set to {sample_rate} Hz"
            )

    def __len__(self) -> int:
        return self._num_mixtures

    def __getitem__(self, key: Key) -> Mixture:
        epoch, index = key
        lap, place = divmod(epoch * self._num_mixtures + index, len(self._files))
        path = self._files[_order(self._seed, lap, len(self._files))[place]]
        (noisy, clean, teacher), _ = read_audio(path)
        return Mixture(
            noisy=noisy,
            clean=clean,
            teacher=teacher,
            name=path.stem,
            speaker="",
            noise_class="unknown",
            snr_db=float("nan"),
        )


def read_about(folder: Path) -> dict[str, Any]:
    """How the mixtures of a folder were made.

    Raises:
        ManifestError: it does not say so.
    """
    path = folder / ABOUT
    try:
        return parse_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{path}: cannot be read ({error}); write the folder with scripts/benchmarks/teach.py"
        ) from error


@lru_cache(maxsize=2)
def _order(seed: int, lap: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, lap]).permutation(count)
