"""Denoising in chunks of any size, so that a recording may be longer than memory, or not over yet.

Shapes: C channels (treated alike and apart), n samples of a chunk, T frames, F bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hushwork.audio.stft import StreamingStft
from hushwork.inference.pretrained import MAX_FRAMES, PretrainedDenoiser
from hushwork.inference.step import FrameStep

FEW_FRAMES = 4  # fewer are quicker one by one


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How much is taken away.

    Args:
        mix: share of the denoised signal in the output, in [0, 1]; the rest is the input, 0 gives the input unchanged.
        max_attenuation_db: no frequency is turned down by more than this many dB; None sets no limit.

    Raises:
        ValueError: a value outside its range.
    """

    mix: float = 1.0
    max_attenuation_db: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mix <= 1:
            raise ValueError(f"mix is {self.mix}; it must lie between 0 (the input) and 1 (fully denoised)")
        if self.max_attenuation_db is not None and not self.max_attenuation_db >= 0:
            raise ValueError(f"max_attenuation_db is {self.max_attenuation_db}; it must be 0 or more")

    def apply(self, noisy: np.ndarray, cleaned: np.ndarray) -> np.ndarray:
        """Two spectra of the same phase, complex and of one shape → the cleaned one, as far as is wanted."""
        if self.max_attenuation_db is not None:
            least = noisy * np.float32(10 ** (-self.max_attenuation_db / 20))
            cleaned = np.where(np.abs(cleaned) < np.abs(least), least, cleaned)
        return cleaned if self.mix == 1 else noisy * np.float32(1 - self.mix) + cleaned * np.float32(self.mix)


PURPOSES = {"listening": Strength(), "asr": Strength(mix=0.7)}
"""What is best for whom; for recognisers as measured by ``scripts/benchmark_asr.py``."""


class ChunkDenoiser(Protocol):
    """Takes chunks (C, n) and gives back what is finished (C, m); in the end as many samples came out as went in."""

    def process(self, chunk: np.ndarray) -> np.ndarray: ...

    def flush(self) -> np.ndarray: ...


def denoise_in_chunks(model: PretrainedDenoiser, num_channels: int, strength: Strength | None = None) -> ChunkDenoiser:
    """The way to denoise a recording chunk by chunk where nobody waits for the result of each.

    Args:
        model: causal (its state is carried, results equal the whole recording at once) or not (long windows that
            overlap; recordings up to one window are denoised at once).
        num_channels: C.
        strength: default full.
    """
    if model.is_causal:
        return DenoiserStream(model, num_channels, strength, prompt=False)
    return DenoiserWindows(model, num_channels, strength)


class DenoiserStream:
    """A causal denoiser over a stream: the same samples as all at once, to rounding, whatever the chunks.

    After n samples went in, n - ``latency_samples`` have come out (none before that); :meth:`flush` gives the rest.

    Args:
        model: causal.
        num_channels: C; with 1, chunks may also be (n,).
        strength: default full; the attribute may be set to another at any time, and is heard without a click.
        prompt: give every sample as soon as it can be. False waits until many frames can be computed at once, which
            costs a fraction of the time; then what comes out may lag by any amount.

    Raises:
        ValueError: the model looks ahead.

    """

    def __init__(
        self,
        model: PretrainedDenoiser,
        num_channels: int = 1,
        strength: Strength | None = None,
        *,
        prompt: bool = True,
    ) -> None:
        if not model.is_causal:
            raise ValueError("this denoiser looks ahead and cannot stream; use denoise_in_chunks")
        self.model = model
        self.num_channels = num_channels
        self.strength = strength or Strength()
        self._prompt = prompt
        self.reset()

    @property
    def latency_samples(self) -> int:
        """By how many samples the output lags behind the input."""
        return self.model.latency_samples

    def reset(self) -> None:
        """Forget everything heard so far: what comes next is the start of a recording."""
        self._stft = StreamingStft(self.model.stft, self.num_channels)
        self._state = self.model.initial_state(self.num_channels)
        self._steps: list[FrameStep] = []  # one a channel, made when first needed
        self._finished = np.zeros((self.num_channels, 0), np.float32)
        self._received = self._emitted = 0
        self._flat = False

    def process(self, chunk: np.ndarray) -> np.ndarray:
        """The next samples, float (C, n) or (n,), any n ≥ 0 → denoised samples (C, m) or (m,).

        Raises:
            ValueError: another number of channels.
        """
        self._flat = chunk.ndim == 1
        chunk = np.asarray(chunk, np.float32)
        chunk = chunk[None] if self._flat else chunk
        if chunk.shape[0] != self.num_channels or chunk.ndim != 2:
            raise ValueError(f"expected a chunk of {self.num_channels} channels, got one of shape {chunk.shape}")
        self._received += chunk.shape[1]
        self._stft.push(chunk)
        waiting = self._stft.waiting_frames
        if waiting and (self._prompt or waiting >= self.model.network.min_frames):
            self._advance(waiting)
        return self._emit(max(0, self._received - self.latency_samples) if self._prompt else self._received)

    def flush(self) -> np.ndarray:
        """The end of the recording: whatever is still to come (C, m) or (m,). The stream is then as new."""
        self._advance(self._stft.finish())
        rest = self._emit(self._received)
        self.reset()
        return rest

    def _advance(self, num_frames: int) -> None:
        while num_frames > 0:
            # What is left for the next run must be enough for it.
            enough = num_frames <= MAX_FRAMES + self.model.network.min_frames
            count = num_frames if enough else MAX_FRAMES
            self._denoise(count)
            num_frames -= count

    def _denoise(self, num_frames: int) -> None:
        spectrum = self._stft.analyse(num_frames)
        if self._prompt and num_frames < max(FEW_FRAMES, self.model.network.min_frames):
            self._steps = self._steps or [FrameStep(self.model.frame_weights, state) for state in self._state]
            cleaned = np.empty_like(spectrum)
            for step, noisy, clean in zip(self._steps, spectrum, cleaned, strict=True):
                for frame in range(num_frames):
                    step(noisy[frame], clean[frame])
        else:
            cleaned, self._state[:] = self.model.run(spectrum, self._state)
            for step in self._steps:
                step.refresh()
        cleaned = self.strength.apply(spectrum, cleaned)
        self._finished = np.concatenate((self._finished, self._stft.synthesise(cleaned)), axis=1)

    def _emit(self, until: int) -> np.ndarray:
        count = min(max(0, until - self._emitted), self._finished.shape[1])
        audio, self._finished = self._finished[:, :count], self._finished[:, count:]
        self._emitted += count
        return audio[0] if self._flat else audio


class DenoiserWindows:
    """Any denoiser on long windows that overlap and are cross-faded; exact for recordings within one window.

    Args:
        model: whose output is wanted.
        num_channels: C.
        strength: default full.
        window_s: seconds of a window.
        overlap_s: seconds shared by two windows, below ``window_s / 2``.

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
    ) -> None:
        if not 0 < overlap_s < window_s / 2:
            raise ValueError(f"overlap_s is {overlap_s}; it must lie between 0 and half of window_s ({window_s})")
        self.model = model
        self.strength = strength or Strength()
        self._window = round(window_s * model.sample_rate)
        self._overlap = round(overlap_s * model.sample_rate)
        self._audio = np.zeros((num_channels, 0), np.float32)
        self._fading: np.ndarray | None = None  # the end of the window before, which the next one overlaps

    def process(self, chunk: np.ndarray) -> np.ndarray:
        """Chunks (C, n) → the samples (C, m) of the windows that are complete; m may be 0."""
        self._audio = np.concatenate([self._audio, chunk], axis=1)
        finished = [chunk[:, :0]]
        # One sample more than a window must be there, so that what is left for flush is more than the overlap.
        while self._audio.shape[1] > self._window:
            audio = self._denoise(self._audio[:, : self._window])
            finished.append(audio[:, : -self._overlap])
            self._fading = audio[:, -self._overlap :]
            self._audio = self._audio[:, self._window - self._overlap :]
        return np.concatenate(finished, axis=1)

    def flush(self) -> np.ndarray:
        """The end of the recording: whatever is still to come (C, m)."""
        return self._denoise(self._audio) if self._audio.shape[1] else self._audio

    def _denoise(self, audio: np.ndarray) -> np.ndarray:
        stft, spectrum = StreamingStft.of_whole(self.model.stft, audio)
        cleaned, _ = self.model.run(spectrum, self.model.initial_state(len(audio)))
        clean = stft.synthesise(self.strength.apply(spectrum, cleaned))[:, : audio.shape[1]]
        if self._fading is not None:
            rise = np.linspace(0, 1, self._overlap, dtype=np.float32)
            clean[:, : self._overlap] = self._fading * (1 - rise) + clean[:, : self._overlap] * rise
        return clean
