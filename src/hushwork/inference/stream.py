"""Denoising in chunks of any size, so that a recording may be longer than memory, or not over yet.

Shapes: C channels, n samples of a chunk, T frames, F bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from hushwork.audio.stft import StreamingStft
from hushwork.inference.pretrained import MAX_FRAMES, PretrainedDenoiser

CHANNEL_MODES = ("linked", "independent", "mid")
GATE_HOLD_S = 0.2
GATE_RELEASE = 0.5  # of the gain, from a frame to the next
TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How much is taken away.

    Args:
        mix: share of the denoised signal in the output, in [0, 1]; the rest is the input, 0 gives the input unchanged.
        max_attenuation_db: no frequency is turned down by more than this many dB; None sets no limit.
        gate_db: what is still left is faded out where it stays below this level, in dB relative to full scale (of a
            sine), for 0.2 s; None leaves it.
        noise_only: give what is taken away instead of what stays.

    Raises:
        ValueError: a value outside its range.
    """

    mix: float = 1.0
    max_attenuation_db: float | None = None
    gate_db: float | None = None
    noise_only: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.mix <= 1:
            raise ValueError(f"mix is {self.mix}; it must lie between 0 (the input) and 1 (fully denoised)")
        if self.max_attenuation_db is not None and not self.max_attenuation_db >= 0:
            raise ValueError(f"max_attenuation_db is {self.max_attenuation_db}; it must be 0 or more")
        if self.gate_db is not None and not self.gate_db < 0:
            raise ValueError(f"gate_db is {self.gate_db}; it must be below 0, which is full scale")

    def apply(self, noisy: np.ndarray, cleaned: np.ndarray) -> np.ndarray:
        """Two spectra of the same phase, complex and of one shape → the cleaned one, as far as is wanted."""
        if self.max_attenuation_db is not None:
            least = noisy * np.float32(10 ** (-self.max_attenuation_db / 20))
            cleaned = np.where(np.abs(cleaned) < np.abs(least), least, cleaned)
        return self.mixed(noisy, cleaned)

    def mixed(self, noisy: np.ndarray, cleaned: np.ndarray) -> np.ndarray:
        """Two signals or spectra of one shape → their mix, or what the mix lacks of the noisy one."""
        if self.mix != 1:
            share = noisy.dtype.type(self.mix) if noisy.dtype.kind == "f" else np.float32(self.mix)
            cleaned = noisy * (1 - share) + cleaned * share
        return noisy - cleaned if self.noise_only else cleaned


class Link:
    """What the channels of a recording have to do with each other.

    Args:
        groups: numbers of channels that belong together, C in all.
        channels: "independent" hears and treats each channel alone; "linked" hears each alone and turns all of a group
            down alike, by the share of their power that is clean, so that voices keep their places; "mid" hears the
            mean of a group and turns its channels down alike.

    Attributes:
        num_heard: channels that the network hears.

    Raises:
        ValueError: another word.
    """

    def __init__(self, groups: Sequence[int], channels: str) -> None:
        if channels not in CHANNEL_MODES:
            raise ValueError(f"channels is {channels!r}; choose one of {', '.join(CHANNEL_MODES)}")
        edges = np.concatenate([[0], np.cumsum(groups)]).tolist()
        self._groups = [slice(*edge) for edge in pairwise(edges)]
        self._alone = channels == "independent" or all(count == 1 for count in groups)
        self._mid = channels == "mid" and not self._alone
        self.num_heard = len(groups) if self._mid else sum(groups)

    def heard(self, spectrum: np.ndarray) -> np.ndarray:
        """Of the channels (C, T, F), what the network hears."""
        if not self._mid:
            return spectrum
        return np.stack([spectrum[group].mean(axis=0) for group in self._groups])

    def spread(self, spectrum: np.ndarray, heard: np.ndarray, cleaned: np.ndarray) -> np.ndarray:
        """What the network made of what it heard → the channels (C, T, F), each turned down."""
        if self._alone:
            return cleaned
        spread = np.empty_like(spectrum)
        for number, group in enumerate(self._groups):
            row = slice(number, number + 1) if self._mid else group
            power = np.square(np.abs(heard[row])).sum(axis=0)
            gain = np.sqrt(np.square(np.abs(cleaned[row])).sum(axis=0) / np.maximum(power, TINY))
            # Where the mean of channels cancels, nothing is known of them: they stay.
            spread[group] = spectrum[group] * np.where(power > TINY, gain, np.float32(1)).astype(np.float32)
        return spread


class Gate:
    """Fades out what stays below a level; see :class:`Strength`. Channels are gated apart.

    Args:
        model: whose frames these are.
        num_channels: C.
    """

    def __init__(self, model: PretrainedDenoiser, num_channels: int) -> None:
        window = model.stft.window_values()
        self._scale = 2 / (model.stft.n_fft * float(np.square(window).sum()))  # of power, to mean square
        self._hold = round(GATE_HOLD_S * model.sample_rate / model.stft.hop_length)
        self._quiet = np.full(num_channels, self._hold + 1)  # frames since it was last loud
        self._gain = np.zeros(num_channels, np.float32)

    def apply(self, cleaned: np.ndarray, gate_db: float) -> np.ndarray:
        """The next frames (C, T, F), gated."""
        least = 0.5 * 10 ** (gate_db / 10)  # the mean square of a sine
        loud = np.square(np.abs(cleaned)).sum(axis=-1) * self._scale >= least
        gains = np.empty(loud.shape, np.float32)
        for frame in range(loud.shape[1]):
            self._quiet = np.where(loud[:, frame], 0, self._quiet + 1)
            self._gain = np.where(self._quiet <= self._hold, np.float32(1), self._gain * np.float32(GATE_RELEASE))
            gains[:, frame] = self._gain
        return cleaned * gains[..., None]


class Treatment:
    """What happens to frames after the network: channels are spread, gated, limited, mixed and synthesised.

    Args:
        model: which cleans.
        num_channels: C.
        channels: see :class:`Link`.
        groups: see :class:`Link`; None takes all channels for one recording's.
        with_gains: give C channels more, after the others: by how much the upper half of the band was turned down.

    Attributes:
        num_rows: of what is given, C or 2 C.
    """

    def __init__(
        self,
        model: PretrainedDenoiser,
        num_channels: int,
        channels: str = "independent",
        groups: Sequence[int] | None = None,
        with_gains: bool = False,
    ) -> None:
        self.link = Link(groups or [num_channels], channels)
        self.num_rows = num_channels * (1 + with_gains)
        self._gate = Gate(model, num_channels)
        self._gains = StreamingStft(model.stft, num_channels) if with_gains else None
        self._high = slice(model.stft.num_bins // 2, None)
        self._window = np.fft.rfft(model.stft.window_values()).astype(np.complex64)

    def finish(
        self, stft: StreamingStft, noisy: np.ndarray, heard: np.ndarray, cleaned: np.ndarray, strength: Strength
    ) -> np.ndarray:
        """What the network made of what it ``heard`` → the samples (C or 2 C, m) that are ready."""
        cleaned = self.link.spread(noisy, heard, cleaned)
        if strength.gate_db is not None:
            cleaned = self._gate.apply(cleaned, strength.gate_db)
        cleaned = strength.apply(noisy, cleaned)
        audio = stft.synthesise(cleaned)
        if self._gains is None:
            return audio
        before, after = (np.square(np.abs(x[..., self._high])).sum(axis=-1) for x in (noisy, cleaned))
        gain = np.where(before > TINY, np.sqrt(after / np.maximum(before, TINY)).clip(0, 1), 1).astype(np.float32)
        # A frame that is the window, times the window, overlaps to 1.
        return np.concatenate((audio, self._gains.synthesise(gain[..., None] * self._window)))


PURPOSES = {"listening": Strength(), "asr": Strength(mix=1.0)}
"""What is best for whom; for recognisers as measured by ``scripts/benchmark_asr.py``: so far full strength too."""


class ChunkDenoiser(Protocol):
    """Takes chunks (C, n) and gives back what is finished (C, m); in the end as many samples came out as went in."""

    def process(self, chunk: np.ndarray) -> np.ndarray: ...

    def flush(self) -> np.ndarray: ...


def denoise_in_chunks(
    model: PretrainedDenoiser, num_channels: int, strength: Strength | None = None, **options: Any
) -> ChunkDenoiser:
    """The way to denoise recordings chunk by chunk where nobody waits for the result of each.

    Args:
        model: causal (its state is carried, results equal the whole recording at once) or not (long windows that
            overlap; recordings up to one window are denoised at once).
        num_channels: C, of all recordings together.
        strength: default full.
        options: channels, groups and with_gains of :class:`Treatment`.
    """
    if model.is_causal:
        return DenoiserStream(model, num_channels, strength, low_latency=False, **options)
    return DenoiserWindows(model, num_channels, strength, **options)


class DenoiserStream:
    """A causal denoiser over a stream: the same samples as all at once, to rounding, whatever the chunks.

    After n samples went in, n - ``latency_samples`` have come out (none before that); :meth:`flush` gives the rest.

    Args:
        model: causal.
        num_channels: C; with 1, chunks may also be (n,).
        strength: default full; the attribute may be set to another at any time, and is heard without a click.
        low_latency: give every sample as soon as it can be. False waits until many frames can be computed at once,
            which costs a fraction of the time; then what comes out may lag by any amount.
        options: channels, groups and with_gains of :class:`Treatment`.

    Raises:
        ValueError: the model looks ahead, or an option is wrong.
    """

    def __init__(
        self,
        model: PretrainedDenoiser,
        num_channels: int = 1,
        strength: Strength | None = None,
        *,
        low_latency: bool = True,
        **options: Any,
    ) -> None:
        if not model.is_causal:
            raise ValueError("this denoiser looks ahead and cannot stream; use denoise_in_chunks")
        self.model = model
        self.num_channels = num_channels
        self.strength = strength or Strength()
        self._options = options
        self._low_latency = low_latency
        self.reset()

    @property
    def latency_samples(self) -> int:
        """By how many samples the output lags behind the input."""
        return self.model.latency_samples

    def reset(self) -> None:
        """Forget everything heard so far: what comes next is the start of a recording."""
        self._stft = StreamingStft(self.model.stft, self.num_channels)
        self._treatment = Treatment(self.model, self.num_channels, **self._options)
        self._state = self.model.initial_state(self._treatment.link.num_heard)
        self._finished = np.zeros((self._treatment.num_rows, 0), np.float32)
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
        if not self._low_latency and self.model.network.cycle <= MAX_FRAMES:
            waiting -= waiting % self.model.network.cycle
        self._advance(waiting)
        return self._emit(max(0, self._received - self.latency_samples) if self._low_latency else self._received)

    def flush(self) -> np.ndarray:
        """The end of the recording: whatever is still to come (C, m) or (m,). The stream is then as new."""
        self._advance(self._stft.finish())
        rest = self._emit(self._received)
        self.reset()
        return rest

    def _advance(self, num_frames: int) -> None:
        for start in range(0, num_frames, MAX_FRAMES):
            self._denoise(min(MAX_FRAMES, num_frames - start))

    def _denoise(self, num_frames: int) -> None:
        spectrum = self._stft.analyse(num_frames)
        heard = self._treatment.link.heard(spectrum)
        cleaned, self._state = self.model.run(heard, self._state)
        audio = self._treatment.finish(self._stft, spectrum, heard, cleaned, self.strength)
        self._finished = np.concatenate((self._finished, audio), axis=1)

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
        options: channels, groups and with_gains of :class:`Treatment`.

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
        """The end of the recording: whatever is still to come (C, m)."""
        return self._denoise(self._audio) if self._audio.shape[1] else self._nothing()

    def _nothing(self) -> np.ndarray:
        return np.zeros((self._treatment().num_rows, 0), np.float32)

    def _treatment(self) -> Treatment:
        return Treatment(self.model, len(self._audio), **self._options)

    def _denoise(self, audio: np.ndarray) -> np.ndarray:
        treatment = self._treatment()
        stft, spectrum = StreamingStft.of_whole(self.model.stft, audio)
        heard = treatment.link.heard(spectrum)
        cleaned, _ = self.model.run(heard, self.model.initial_state(len(heard)))
        clean = treatment.finish(stft, spectrum, heard, cleaned, self.strength)[:, : audio.shape[1]]
        if self._fading is not None:
            rise = np.linspace(0, 1, self._overlap, dtype=np.float32)
            clean[:, : self._overlap] = self._fading * (1 - rise) + clean[:, : self._overlap] * rise
        return clean
