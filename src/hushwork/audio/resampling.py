"""Sound at another sample rate, by soxr, and with another number of channels.

Shapes: C channels, N samples, n samples of a block.
"""

from __future__ import annotations

import numpy as np
import soxr


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """``audio`` (N,) or (C, N) at another sample rate, by soxr (high quality); the same array if the rates agree."""
    if from_rate == to_rate:
        return audio
    return soxr.resample(audio.T, from_rate, to_rate).T.astype(audio.dtype, copy=False)


class StreamingResampler:
    """:func:`resample` over consecutive blocks (C, n), aligned with its input once flushed."""

    def __init__(self, from_rate: int, to_rate: int, num_channels: int) -> None:
        self._empty = np.zeros((num_channels, 0), np.float32)
        self._soxr = None if from_rate == to_rate else soxr.ResampleStream(from_rate, to_rate, num_channels)

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        if self._soxr is None:
            return block
        resampled = self._soxr.resample_chunk(np.ascontiguousarray(block.T), last=last)
        return np.ascontiguousarray(resampled.reshape(-1, len(block)).T)

    def flush(self) -> np.ndarray:
        return self.push(self._empty, last=True)


def with_channels(block: np.ndarray, num_channels: int) -> np.ndarray:
    """A block (C, n) with another number of channels, in the usual order (left, right, centre, bass, …).

    One channel stands in both front speakers; two or fewer hold the mean, or the front with all others beside it.
    """
    given = len(block)
    if given == num_channels:
        return block
    if num_channels == 1:
        return block.mean(axis=0, keepdims=True)
    mapped = np.zeros((num_channels, block.shape[1]), block.dtype)
    if given == 1:
        mapped[:2] = block
    elif num_channels == 2:
        mapped[:] = block[:2]
        mapped += np.sqrt(0.5) * block[2:3]  # the centre
        beside = block[4:] if given > 5 else block[3:]  # the fourth of six and more is for the bass
        for k, channel in enumerate(beside):
            mapped[k % 2] += np.sqrt(0.5) * channel
        mapped /= 1 + np.sqrt(0.5) * (1 + -(-len(beside) // 2))
    else:
        mapped[: min(given, num_channels)] = block[:num_channels]
        for k in range(num_channels, given):  # further speakers at the sides or behind
            mapped[num_channels - 2 + k % 2] += np.sqrt(0.5) * block[k]
    return mapped
