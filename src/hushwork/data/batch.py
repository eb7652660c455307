"""What a training step receives.

Shapes: B batch, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

Key = tuple[int, int]
"""Epoch and index: what a mixture is asked for by."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One noisy recording with its clean speech, both float32 (N,), and how it came to be.

    ``snr_db`` is NaN, ``noise_class`` "unknown" and ``language`` (a BCP 47 tag) "" where a corpus does not tell.
    """

    noisy: np.ndarray
    clean: np.ndarray
    name: str
    speaker: str
    noise_class: str
    snr_db: float
    language: str = ""


@dataclass(frozen=True, kw_only=True)
class NoisySpeechBatch:
    """Mixtures padded with zeros to the longest: ``noisy``, ``clean`` (B, N), ``lengths`` (B,) in samples."""

    noisy: Tensor
    clean: Tensor
    lengths: Tensor
    names: list[str]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> NoisySpeechBatch:
        return replace(
            self,
            noisy=self.noisy.to(device, non_blocking=non_blocking),
            clean=self.clean.to(device, non_blocking=non_blocking),
            lengths=self.lengths.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> NoisySpeechBatch:
        return replace(
            self, noisy=self.noisy.pin_memory(), clean=self.clean.pin_memory(), lengths=self.lengths.pin_memory()
        )


def collate(mixtures: list[Mixture]) -> NoisySpeechBatch:
    """Mixtures of any lengths → one batch."""
    lengths = [len(mixture.noisy) for mixture in mixtures]
    noisy, clean = (torch.zeros(len(mixtures), max(lengths)) for _ in range(2))
    for row, mixture in enumerate(mixtures):
        noisy[row, : lengths[row]] = torch.from_numpy(mixture.noisy)
        clean[row, : lengths[row]] = torch.from_numpy(mixture.clean)
    return NoisySpeechBatch(
        noisy=noisy, clean=clean, lengths=torch.tensor(lengths), names=[mixture.name for mixture in mixtures]
    )
