"""Two passes over a recording, averaged: more time for fewer artefacts.

Shapes: C channels, n samples of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.chunks import ChunkDenoiser, denoise_in_chunks
from hushwork.streaming.strength import Strength

QUALITIES = ("standard", "best")
"""One pass, and two."""


class AveragedPasses:
    """The mean of two passes, the frames of one half a hop later: as if frames were spaced by half a hop.

    This smooths gains that flutter from frame to frame.

    Args:
        model: as of :func:`hushwork.streaming.chunks.denoise_in_chunks`, and so are the others.
    """

    def __init__(
        self, model: PretrainedDenoiser, num_channels: int, strength: Strength | None = None, **options: Any
    ) -> None:
        self._passes = [denoise_in_chunks(model, num_channels, strength, **options) for _ in range(2)]
        self._shift = model.stft.hop_length // 2
        # Silence before the recording makes the frames of the second pass later; its output drops it again.
        early = self._passes[1].process(np.zeros((num_channels, self._shift), np.float32))
        self._finished = [early[:, :0], early]
        self._dropped = False

    def process(self, chunk: np.ndarray) -> np.ndarray:
        """The next samples (C, n) → denoised samples (C, m) that both passes have finished."""
        return self._mean([each.process(chunk) for each in self._passes])

    def flush(self) -> np.ndarray:
        """The end of the recording: whatever is still to come (C, m)."""
        return self._mean([each.flush() for each in self._passes])

    def _mean(self, more: Sequence[np.ndarray]) -> np.ndarray:
        first, second = (np.concatenate(pair, axis=1) for pair in zip(self._finished, more, strict=True))
        if not self._dropped and second.shape[1] >= self._shift:
            second, self._dropped = second[:, self._shift :], True
        count = min(first.shape[1], second.shape[1]) if self._dropped else 0
        self._finished = [first[:, count:], second[:, count:]]
        return (first[:, :count] + second[:, :count]) / 2


def open_passes(quality: str, model: PretrainedDenoiser, *arguments: Any, **options: Any) -> ChunkDenoiser:
    """What denoises in this quality: see :func:`hushwork.streaming.chunks.denoise_in_chunks`, once or twice.

    Raises:
        ValueError: another word than "standard" and "best".
    """
    if quality not in QUALITIES:
        raise ValueError(f"quality is {quality!r}; choose one of {', '.join(QUALITIES)}")
    return (AveragedPasses if quality == "best" else denoise_in_chunks)(model, *arguments, **options)
