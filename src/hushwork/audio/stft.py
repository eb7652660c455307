"""The short-time Fourier transform: what it is, and how it runs over arrays and over streams.

Training uses the same transform on tensors, :mod:`hushwork.models.stft`.

Shapes: C channels, N samples, T frames, F bins (``n_fft // 2 + 1``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hushwork.settings import Settings, setting

if TYPE_CHECKING:
    from torch import Tensor

Count = TypeVar("Count", int, "Tensor")
WINDOWS = ("sqrt_hann", "hann", "vorbis")
TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, kw_only=True)
class StftConfig(Settings):
    """A window and its spacing, all lengths in samples.

    Args:
        n_fft: transform length; even.
        hop_length: samples from one frame to the next; divides ``n_fft`` and is at most half of it.
        window: "sqrt_hann" (analysis and synthesis multiply to a Hann window), "hann", or "vorbis" (its squares sum to
            a constant too; section 4.3.1 of the Vorbis I specification).

    Raises:
        ValueError: the lengths do not fit, so that overlap-add would not be constant (COLA).
    """

    target = "hushwork.audio.stft.StftConfig"
    n_fft: int = setting(512, between=(4, 2**14), doc="transform and window length in samples; even")
    hop_length: int = setting(256, between=(1, 2**13), doc="samples from one frame to the next; divides n_fft")
    window: str = setting("sqrt_hann", choices=WINDOWS, doc="for analysis and synthesis")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_fft % 2:
            raise ValueError(f"n_fft is {self.n_fft}; it must be even")
        if self.hop_length > self.n_fft // 2 or self.n_fft % self.hop_length:
            raise ValueError(
                f"hop_length is {self.hop_length}; it must divide n_fft ({self.n_fft}) and be at most half of it, "
                "else the overlapped windows do not sum to a constant"
            )

    @property
    def num_bins(self) -> int:
        return self.n_fft // 2 + 1

    def window_values(self) -> np.ndarray:
        """The window (n_fft,), periodic, for analysis and synthesis alike."""
        if self.window == "vorbis":
            sine = np.sin(np.pi * (np.arange(self.n_fft) + 0.5) / self.n_fft)
            return np.sin(np.pi / 2 * np.square(sine)).astype(np.float32)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.n_fft) / self.n_fft)
        return (np.sqrt(hann) if self.window == "sqrt_hann" else hann).astype(np.float32)

    def num_frames(self, num_samples: Count) -> Count:
        """Frames of a signal of ``num_samples``, a number or a tensor of them.

        Frame ``t`` is centred on sample ``t * hop_length``; outside the signal lie zeros. There are as many frames as
        touch the signal.
        """
        return -(-(num_samples + self.n_fft // 2) // self.hop_length)


class StreamingStft:
    """Analysis and synthesis of one stream: frames once their samples are there, samples once they are done.

    Args:
        config: of the transform.
        num_channels: C.
    """

    def __init__(self, config: StftConfig, num_channels: int) -> None:
        self.config = config
        self._window = config.window_values()
        self._half = config.n_fft // 2
        self._overlap = config.n_fft // config.hop_length  # windows over each sample
        self._received = self._analysed = self._synthesised = 0
        # From the first sample of the next frame on; before the signal lie zeros.
        self._audio = np.zeros((num_channels, self._half), np.float32)
        # What earlier frames have given to samples that later frames overlap.
        self._tail = np.zeros((num_channels, config.n_fft - config.hop_length), np.float32)
        # The sum of squared windows over a block of a hop, by how many windows reach it.
        self._weights = np.square(self._window).reshape(self._overlap, -1).cumsum(axis=0)

    @classmethod
    def of_whole(cls, config: StftConfig, audio: np.ndarray) -> tuple[StreamingStft, np.ndarray]:
        """The transform of a recording (C, N), ready for synthesis, and all of its frames (C, T, F)."""
        stft = cls(config, len(audio))
        stft.push(audio)
        return stft, stft.analyse(stft.finish())

    @property
    def waiting_frames(self) -> int:
        """Frames whose samples are complete and that :meth:`analyse` has not given yet."""
        return max(0, (self._received - self._half) // self.config.hop_length + 1) - self._analysed

    def push(self, audio: np.ndarray) -> None:
        """Take in the next samples (C, n)."""
        self._audio = np.concatenate((self._audio, audio), axis=1)
        self._received += audio.shape[1]

    def finish(self, num_more: int = 0) -> int:
        """The signal is over: zeros follow. Returns how many frames are still to be analysed, ``num_more`` of zeros."""
        num_frames = self.config.num_frames(self._received) + num_more
        missing = (num_frames - 1) * self.config.hop_length + self._half - self._received
        self._audio = np.pad(self._audio, ((0, 0), (0, max(0, missing))))
        return num_frames - self._analysed

    def analyse(self, num_frames: int) -> np.ndarray:
        """The next frames, complex64 (C, T, F)."""
        hop, n_fft = self.config.hop_length, self.config.n_fft
        if num_frames == 1:
            frames = self._audio[:, None, :n_fft] * self._window
        else:
            num_blocks = num_frames + self._overlap - 1
            blocks = self._audio[:, : num_blocks * hop].reshape(len(self._audio), num_blocks, hop)
            frames = np.concatenate([blocks[:, shift : shift + num_frames] for shift in range(self._overlap)], axis=2)
            frames *= self._window
        self._audio = self._audio[:, num_frames * hop :]
        self._analysed += num_frames
        return np.fft.rfft(frames).astype(np.complex64, copy=False)

    def synthesise(self, spectrum: np.ndarray) -> np.ndarray:
        """Frames (C, T, F) → the samples (C, m) that no later frame touches.

        Source: Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984, eq. 6.
        """
        hop, n_fft = self.config.hop_length, self.config.n_fft
        num_channels, num_frames = spectrum.shape[:2]
        frames = np.fft.irfft(spectrum, n_fft).astype(np.float32, copy=False)
        frames *= self._window
        if num_frames == 1 and self._synthesised >= n_fft:  # the same with fewer steps, for streams
            self._synthesised += hop
            frame = frames[:, 0]
            frame[:, : n_fft - hop] += self._tail
            self._tail = frame[:, hop:]
            return frame[:, :hop] / self._weights[-1]
        parts = frames.reshape(num_channels, num_frames, self._overlap, hop)
        audio = np.zeros((num_channels, num_frames + self._overlap - 1, hop), np.float32)
        audio[:, : self._overlap - 1] = self._tail.reshape(num_channels, -1, hop)
        for shift in range(self._overlap):
            audio[:, shift : shift + num_frames] += parts[:, :, shift]
        self._tail = audio[:, num_frames:].reshape(num_channels, -1)
        audio = audio[:, :num_frames]
        if self._synthesised < n_fft:
            reached = np.arange(num_frames) + self._synthesised // hop
            audio = audio / np.maximum(self._weights[np.minimum(reached, self._overlap - 1)], TINY)
        else:
            audio = audio / self._weights[-1]
        before_signal = max(0, self._half - self._synthesised)
        self._synthesised += num_frames * hop
        return audio.reshape(num_channels, -1)[:, before_signal:]
