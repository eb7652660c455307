"""Magnitudes of noisy and clean speech as two arrays, in the layout of the Keras tutorial.

``noisy.npy`` and ``clean.npy`` have shape (S samples, T frames, F bins): noisy ones are standardised (mean 0, deviation
1), clean ones lie in [0, 1]. ``scaling.json`` beside them holds what the conversion to audio needs; ``phase.npy`` is
the noisy phase.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hushwork.audio.stft import StftConfig
from hushwork.models.stft import Stft

BLOCK = 256
FLOOR = 1e-5


class ArrayError(ValueError):
    """Arrays that cannot be trained on. The message names the file and the problem."""


@dataclass(frozen=True)
class Scaling:
    """Conversion of magnitudes to the input and target of a network, and back.

    Attributes:
        sample_rate: Hz.
        n_fft, hop_length, window: of the transform.
        mean, deviation: of the noisy log magnitudes, for each bin.
        peak: largest clean magnitude; 1 in the array.
        exponent: clean magnitudes, relative to the peak, are raised to it.
    """

    sample_rate: int
    n_fft: int
    hop_length: int
    window: str
    mean: list[float]
    deviation: list[float]
    peak: float
    exponent: float

    @property
    def stft(self) -> Stft:
        return Stft(StftConfig(n_fft=self.n_fft, hop_length=self.hop_length, window=self.window))

    def noisy(self, magnitude: np.ndarray) -> np.ndarray:
        """Magnitudes (…, F) → standardised log magnitudes."""
        scaled = (log_magnitude(magnitude) - np.array(self.mean)) / np.array(self.deviation)
        return scaled.astype(np.float32)

    def clean(self, magnitude: np.ndarray) -> np.ndarray:
        """Magnitudes (…, F) → [0, 1]."""
        return ((magnitude / self.peak).clip(0, 1) ** self.exponent).astype(np.float32)

    def audio(self, clean: np.ndarray, phase: np.ndarray) -> np.ndarray:
        """Output of a network (S, T, F) in [0, 1] and noisy phase → audio (S, N)."""
        magnitude = self.peak * np.asarray(clean, np.float32).clip(0, 1) ** (1 / self.exponent)
        spectrum = torch.from_numpy(magnitude) * torch.exp(1j * torch.from_numpy(np.array(phase, np.float32)))
        return self.stft.synthesis(spectrum, spectrum.shape[1] * self.hop_length - self.n_fft // 2).numpy()

    def save(self, folder: Path) -> None:
        (folder / "scaling.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Scaling | None:
        """The scaling that :meth:`save` wrote; None if there is no file."""
        path = folder / "scaling.json"
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def log_magnitude(magnitude: np.ndarray) -> np.ndarray:
    """Natural logarithm, cut off far below the quietest speech."""
    return np.log(np.maximum(magnitude, FLOOR))


class ArrayPairs(Dataset[tuple[Tensor, Tensor]]):
    """Sample i is the noisy and the clean magnitudes (T, F) of one recording, read from disk on access.

    Args:
        noisy, clean: files of two arrays (S, T, F), mapped into memory and not loaded.

    Raises:
        ArrayError: a file is missing or not an array, shapes differ or are not (S, T, F), numbers are not
            floating-point, not finite, or, for clean, outside [0, 1].
    """

    def __init__(self, noisy: Path, clean: Path) -> None:
        self.noisy, self.clean = _load(noisy), _load(clean)
        if self.noisy.shape != self.clean.shape:
            raise ArrayError(f"{noisy} has shape {self.noisy.shape}, {clean} {self.clean.shape}; they must agree")
        _check_values(noisy, self.noisy)
        _check_values(clean, self.clean, 0.0, 1.0)

    def __len__(self) -> int:
        return len(self.noisy)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noisy, clean = (torch.from_numpy(np.array(array[index], np.float32)) for array in (self.noisy, self.clean))
        return noisy, clean


def _load(path: Path) -> np.ndarray:
    if not path.is_file():
        raise ArrayError(f"{path}: no such file; make arrays with hushwork prepare stft-arrays, or name your own")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ArrayError(f"{path} is not an .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 3 or 0 in array.shape:
        raise ArrayError(f"{path} has shape {getattr(array, 'shape', None)}; expected (samples, frames, bins)")
    if not np.issubdtype(array.dtype, np.floating):
        raise ArrayError(f"{path} holds {array.dtype}; expected floating-point numbers, such as float32")
    return array


def _check_values(path: Path, array: np.ndarray, low: float = -np.inf, high: float = np.inf) -> None:
    for start in range(0, len(array), BLOCK):
        block = array[start : start + BLOCK]
        bad = ~np.isfinite(block)
        if bad.any():
            raise ArrayError(f"{path}: sample {start + int(np.argwhere(bad)[0, 0])} holds NaN or infinity; remove it")
        if block.min() < low or block.max() > high:
            raise ArrayError(
                f"{path}: values from {block.min():.3g} to {block.max():.3g} in samples {start} and on; "
                f"scale them to [{low:g}, {high:g}]"
            )
