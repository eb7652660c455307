"""Conversion of sample rates, by soxr or FFmpeg's swresample, and of numbers of channels.

Shapes: C channels, N samples, n samples of a block.
"""

from __future__ import annotations

import math

import av
import numpy as np
import soxr

TAPS = 32  # of swresample's filters, at the lower rate


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


class LowLatencyResampler:
    """Consecutive blocks (C, n) at another sample rate, aligned with the input, with a constant lag of ``lag_s``.

    swresample: 32 taps at the lower rate. soxr's filters are longer and work in large blocks, so that a stream of 8 kHz
    lags by up to 0.2 s on its way to 16 kHz and back.
    """

    def __init__(self, from_rate: int, to_rate: int, num_channels: int) -> None:
        self._layout = av.AudioLayout(f"{num_channels} channels")
        self._empty = np.zeros((num_channels, 0), np.float32)
        self._from_rate = from_rate
        self._swr = None if from_rate == to_rate else av.AudioResampler("fltp", self._layout, to_rate)
        self.lag_s = TAPS / 2 / min(from_rate, to_rate) if self._swr else 0.0
        # At first swresample waits for more samples than later. Silence takes that in, for which nothing comes out.
        period_in, period_out = (rate // math.gcd(from_rate, to_rate) for rate in (from_rate, to_rate))
        periods = -(-2 * round(TAPS * max(1, from_rate / to_rate)) // period_in)
        self._surplus = periods * period_out if self._swr else 0
        self.push(np.zeros((num_channels, periods * period_in), np.float32))

    def push(self, block: np.ndarray) -> np.ndarray:
        """The next samples, float32 (C, n), n ≥ 0 → (C, m)."""
        if self._swr is None or not block.size:
            return block
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", self._layout)
        frame.sample_rate = self._from_rate
        resampled = np.concatenate([self._empty, *(out.to_ndarray() for out in self._swr.resample(frame))], axis=1)
        dropped = min(self._surplus, resampled.shape[1])
        self._surplus -= dropped
        return resampled[:, dropped:]


def with_channels(block: np.ndarray, num_channels: int) -> np.ndarray:
    """A block (C, n) with another number of channels, in the usual order (left, right, centre, bass, …).

    One channel is copied to both front speakers; for one or two channels, all channels are mixed.
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
