"""Mixtures, and the batches of them that a training step receives.

Shapes: B batch, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

Key = tuple[int, int]
"""Epoch and index of a mixture."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A noisy recording and its clean speech, both float32 (N,), with metadata; ``replayed``: of a corpus that the
    network knows.

    ``teacher`` (N,) is the output of another denoiser for the noisy recording, or None. Where a corpus does not state
    them, ``snr_db`` is NaN, ``noise_class`` "unknown" and ``language`` (a BCP 47 tag) "".
    """

    noisy: np.ndarray
    clean: np.ndarray
    name: str
    speaker: str
    noise_class: str
    snr_db: float
    language: str = ""
    teacher: np.ndarray | None = None
    replayed: bool = False


@dataclass(frozen=True, kw_only=True)
class NoisySpeechBatch:
    """Mixtures padded with zeros to the longest: ``noisy``, ``clean`` (B, N), ``lengths`` (B,) in samples.

    ``teacher`` (B, N) is None unless all mixtures have one; ``replayed`` (B,) is None if no mixture is.
    """

    noisy: Tensor
    clean: Tensor
    lengths: Tensor
    names: list[str]
    teacher: Tensor | None = None
    replayed: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> NoisySpeechBatch:
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> NoisySpeechBatch:
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> NoisySpeechBatch:
        tensors: dict[str, Any] = {key: change(value) for key, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)


def collate(mixtures: list[Mixture]) -> NoisySpeechBatch:
    """Mixtures of any lengths → one batch."""
    lengths = [len(mixture.noisy) for mixture in mixtures]

    def padded(signals: list[np.ndarray]) -> Tensor:
        rows = torch.zeros(len(signals), max(lengths))
        for row, signal in zip(rows, signals, strict=True):
            row[: len(signal)] = torch.from_numpy(signal)
        return rows

    replayed = [mixture.replayed for mixture in mixtures]
    teachers = [mixture.teacher for mixture in mixtures if mixture.teacher is not None]
    return NoisySpeechBatch(
        noisy=padded([mixture.noisy for mixture in mixtures]),
        clean=padded([mixture.clean for mixture in mixtures]),
        lengths=torch.tensor(lengths),
        names=[mixture.name for mixture in mixtures],
        teacher=padded(teachers) if len(teachers) == len(mixtures) else None,
        replayed=torch.tensor(replayed) if any(replayed) else None,
    )


def within_share(index: int, share: float) -> tuple[bool, int]:
    """Whether an item is of the ``share`` in [0, 1] that is spread evenly over all, and how many of it come before."""
    before, after = (math.floor(count * share + 1e-9) for count in (index, index + 1))
    return after > before, before
