"""Frames of 16-bit samples, as voice agents exchange them, at any sample rate.

Shapes: C channels, n samples of a frame.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from hushwork.audio.resampling import LowLatencyResampler
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained
from hushwork.streaming.stream import DenoiserStream
from hushwork.streaming.strength import Strength

FULL_SCALE = np.float32(32768)


@functools.cache
def default_denoiser() -> PretrainedDenoiser:
    """The default model, loaded once for all participants: it holds weights and no state."""
    return load_pretrained()


class FrameFilter:
    """Denoises the frames of one participant: as many samples come out as go in, ``latency_samples`` later.

    Above the model's sample rate the denoised sound holds no frequencies above the model's. Memory stays constant.

    Args:
        sample_rate: Hz, of the frames.
        num_channels: C; channels are attenuated alike.
        denoiser: causal; None takes the default model. Participants may share it.
        strength: how much of the noise is removed.

    Attributes:
        enabled: False outputs the input bit for bit with the same latency. Set it at any time: the change is a
            crossfade over the next frame. The denoiser goes on, so that enabling it takes effect at once.
        latency_samples: at ``sample_rate``; constant.

    Raises:
        ValueError: the denoiser is not causal, or a rate or number of channels is below 1.
    """

    def __init__(
        self,
        sample_rate: int,
        num_channels: int = 1,
        denoiser: PretrainedDenoiser | None = None,
        strength: Strength | None = None,
    ) -> None:
        if sample_rate < 1 or num_channels < 1:
            raise ValueError(f"sample rate ({sample_rate}) and channels ({num_channels}) of frames must be at least 1")
        self.sample_rate, self.num_channels = sample_rate, num_channels
        self.enabled = True
        self._stream = DenoiserStream(denoiser or default_denoiser(), num_channels, strength)
        self.reset()
        # The network is built when it first runs, which takes longer than a frame lasts.
        self._stream.process(np.zeros((num_channels, self._stream.model.stft.n_fft), np.float32))
        self._stream.reset()

    @property
    def latency_ms(self) -> float:
        """Delay of the output in milliseconds."""
        return 1000 * self.latency_samples / self.sample_rate

    @property
    def strength(self) -> Strength:
        """How much of the noise is removed; may be set at any time."""
        return self._stream.strength

    @strength.setter
    def strength(self, value: Strength) -> None:
        self._stream.strength = value

    def reset(self) -> None:
        """Forget all samples so far: another participant, or a new call."""
        self._stream.reset()
        rate, model_rate = self.sample_rate, self._stream.model.sample_rate
        self._down = LowLatencyResampler(rate, model_rate, self.num_channels)
        self._up = LowLatencyResampler(model_rate, rate, self.num_channels)
        self.latency_samples = self._stream.latency_samples
        if rate != model_rate:  # each resampler may keep a part of a sample back
            latency_s = (self._stream.latency_samples + 1) / model_rate + self._down.lag_s + self._up.lag_s
            self.latency_samples = math.ceil(rate * latency_s) + 1
        # Zeros for the first frames, so that output and input have equal lengths.
        self._clean = np.zeros((self.num_channels, self.latency_samples), np.float32)
        self._noisy = np.zeros((self.num_channels, self.latency_samples), np.int16)
        self._share = float(self.enabled)  # of the denoised signal at the end of the last frame

    def process(self, frame: bytes | bytearray | memoryview | np.ndarray) -> np.ndarray:
        """The next frame, interleaved int16 → int16 (n * C,), n ≥ 0 as in the frame.

        Raises:
            ValueError: the frame does not hold whole samples of all channels; the stream is as before.
        """
        data = np.frombuffer(frame, np.uint8)
        if data.size % (2 * self.num_channels):
            raise ValueError(
                f"{data.size} bytes are not a whole number of 16-bit samples of {self.num_channels} channels"
            )
        noisy = data.view(np.int16).reshape(-1, self.num_channels).T
        samples = self._down.push(noisy / FULL_SCALE)
        hop = self._stream.model.stft.hop_length  # one frame of the network at a time: none is much slower than others
        pieces = (samples[:, start : start + hop] for start in range(0, samples.shape[1], hop))
        more = [self._up.push(self._stream.process(piece)) for piece in pieces]
        count = noisy.shape[1]
        clean, self._clean = np.split(np.concatenate([self._clean, *more], axis=1), [count], axis=1)
        noisy, self._noisy = np.split(np.concatenate([self._noisy, noisy], axis=1), [count], axis=1)
        target = float(self.enabled)
        if target != self._share:
            share = np.linspace(self._share, target, count + 1, dtype=np.float32)[1:]
            clean = noisy / FULL_SCALE * (1 - share) + clean * share
            self._share = target if count else self._share
        elif not self.enabled:
            return noisy.T.reshape(-1)
        return np.rint(clean * FULL_SCALE).clip(-32768, 32767).astype(np.int16).T.reshape(-1)
