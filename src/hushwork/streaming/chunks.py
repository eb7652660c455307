"""Recordings in chunks, with any model: as a stream, in long windows that overlap, and in two passes.

Shapes: C channels, n samples of a chunk, m samples of output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from hushwork.audio.stft import StreamingStft
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.output import OutputStage
from hushwork.streaming.stream import DenoiserStream
from hushwork.streaming.strength import Strength


class ChunkDenoiser(Protocol):
    """Takes chunks (C, n) and returns finished samples (C, m); in the end as many samples came out as went in."""

    def process(self, chunk: np.ndarray) -> np.ndarray: ...

    def flush(self) -> np.ndarray: ...


def denoise_in_chunks(
    model: PretrainedDenoiser,
    num_channels: int,
    strength: Strength | None = None,
    *,
    quality: str = "standard",
    **options: Any,
) -> ChunkDenoiser:
    """A denoiser for recordings in chunks, where latency does not matter.

    Args:
        model: causal (its state is carried on; the result equals that of the whole recording at once) or not (long
            windows that overlap; recordings up to one window are denoised at once).
        num_channels: C, of all recordings together.
        strength: default full.
        quality: "standard" or "best", see :func:`hushwork.denoise`.
        options: channels, groups and with_gains of :class:`OutputStage`.
    """
    if quality == "best":
        return AveragedPasses(model, num_channels, strength, **options)
    if model.is_causal:
        return DenoiserStream(model, num_channels, strength, low_latency=False, **options)
    return DenoiserWindows(model, num_channels, strength, **options)


class DenoiserWindows:
    """Any denoiser on long windows that overlap and are cross-faded; exact for recordings within one window.

    Args:
        model: causal or not.
        num_channels: C.
        strength: default full.
        window_s: seconds of a window.
        overlap_s: seconds shared by two windows, below ``window_s / 2``.
        options: channels, groups and with_gains of :class:`OutputStage`.

    Raises:
        ValueError: an overlap out of range.
    """

    def __init__(
        self,
        model: PretrainedDenoiser,
        num_channels: int,
        strength: Strength | None = None,
        *,
        window_s: float = 60.0,
        overlap_s: float = 4.0,
        **options: Any,
    ) -> None:
        if not 0 < overlap_s < window_s / 2:
            raise ValueError(f"overlap_s is {overlap_s}; it must lie between 0 and half of window_s ({window_s})")
        self.model = model
        self.strength = strength or Strength()
        self._window = round(window_s * model.sample_rate)
        self._overlap = round(overlap_s * model.sample_rate)
        self._options = options
        self._audio = np.zeros((num_channels, 0), np.float32)
        self._fading: np.ndarray | None = None  # the end of the window before, which the next one overlaps

    def process(self, chunk: np.ndarray) -> np.ndarray:
        """Chunks (C, n) → the samples (C, m) of the windows that are complete; m may be 0."""
        self._audio = np.concatenate([self._audio, chunk], axis=1)
        finished = [self._nothing()]
        # One sample more than a window must be there, so that what is left for flush is more than the overlap.
        while self._audio.shape[1] > self._window:
            audio = self._denoise(self._audio[:, : self._window])
            finished.append(audio[:, : -self._overlap])
            self._fading = audio[:, -self._overlap :]
            self._audio = self._audio[:, self._window - self._overlap :]
        return np.concatenate(finished, axis=1)

    def flush(self) -> np.ndarray:
        """The end of the recording: the remaining samples (C, m)."""
        return self._denoise(self._audio) if self._audio.shape[1] else self._nothing()

    def _nothing(self) -> np.ndarray:
        return np.zeros((self._output_stage().num_rows, 0), np.float32)

    def _output_stage(self) -> OutputStage:
        return OutputStage(self.model.stft, self.model.sample_rate, len(self._audio), **self._options)

    def _denoise(self, audio: np.ndarray) -> np.ndarray:
        output = self._output_stage()
        stft, spectrum = StreamingStft.of_whole(self.model.stft, audio)
        inputs = output.link.network_input(spectrum)
        clean = output.run(stft, spectrum, inputs, self.model.run_whole(inputs), self.strength)[:, : audio.shape[1]]
        if self._fading is not None:
            rise = np.linspace(0, 1, self._overlap, dtype=np.float32)
            clean[:, : self._overlap] = self._fading * (1 - rise) + clean[:, : self._overlap] * rise
        return clean


class AveragedPasses:
    """The mean of two passes, the frames of one half a hop later: as if frames were spaced by half a hop.

    This smooths gains that fluctuate from frame to frame. The arguments are those of :func:`denoise_in_chunks`.
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
        """The end of the recording: the remaining samples (C, m)."""
        return self._mean([each.flush() for each in self._passes])

    def _mean(self, more: Sequence[np.ndarray]) -> np.ndarray:
        first, second = (np.concatenate(pair, axis=1) for pair in zip(self._finished, more, strict=True))
        if not self._dropped and second.shape[1] >= self._shift:
            second, self._dropped = second[:, self._shift :], True
        count = min(first.shape[1], second.shape[1]) if self._dropped else 0
        self._finished = [first[:, count:], second[:, count:]]
        return (first[:, :count] + second[:, :count]) / 2
