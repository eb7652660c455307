"""Building blocks of synthetic noise: filters, slow curves, harmonics, struck objects, reverberation.

Shapes: N samples, T frames, F frequencies. Audio is mono (N,). ``Range`` is (low, high) of a uniform distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import signal
from scipy.interpolate import CubicSpline

Range = tuple[float, float]


def shape_spectrum(audio: np.ndarray, sample_rate: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``audio`` with every frequency multiplied by ``gain`` of the frequencies in Hz, (F,) to (F,)."""
    frequencies = np.fft.rfftfreq(len(audio), 1 / sample_rate)
    return np.fft.irfft(np.fft.rfft(audio) * gain(frequencies), len(audio))


def moving_filter(
    num_samples: int, sample_rate: int, rng: np.random.Generator, gain: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Gaussian noise through a filter that changes over time: ``gain`` maps s (T, 1) and Hz (1, F) to (T, F)."""
    size, hop = 1024, 256
    noise = rng.standard_normal(num_samples + 2 * size)
    transform = signal.ShortTimeFFT(signal.get_window("hann", size), hop, sample_rate)
    spectrum = transform.stft(noise)
    times = transform.t(len(noise))[:, None] - size / sample_rate
    filtered = transform.istft(spectrum * gain(times, transform.f[None]).T, k1=len(noise))
    return filtered[size : size + num_samples]


def slow_curve(num_samples: int, sample_rate: int, rng: np.random.Generator, rate_hz: float) -> np.ndarray:
    """A smooth random curve (N,) about 0 with a spread of about 1 that turns ``rate_hz`` times a second."""
    knots = int(np.ceil(num_samples / sample_rate * 2 * rate_hz)) + 4
    positions = np.linspace(0, num_samples - 1, knots)
    return CubicSpline(positions, rng.standard_normal(knots))(np.arange(num_samples))


def harmonics(phase: np.ndarray, amplitudes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """A sum of cosines of the multiples 1, 2, … of ``phase`` (N,) in radians, with ``amplitudes`` and ``offsets``."""
    total = np.zeros_like(phase)
    for order, (amplitude, offset) in enumerate(zip(amplitudes, offsets, strict=True), 1):
        total += amplitude * np.cos(order * phase + offset)
    return total


def random_phases(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.uniform(0, 2 * np.pi, count)


def tone_limit(frequency: float, sample_rate: int, most: int) -> int:
    """The number of multiples of ``frequency`` below 0.45 of the sample rate, at most ``most``."""
    return max(1, min(most, int(0.45 * sample_rate / frequency)))


def reverberate(audio: np.ndarray, sample_rate: int, rng: np.random.Generator, t60: float, wet: float) -> np.ndarray:
    """``audio`` with a diffuse tail that decays by 60 dB in ``t60`` seconds; ``wet`` is the tail's amplitude."""
    times = np.arange(int(t60 * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / t60)
    tail = signal.sosfilt(signal.butter(1, 5000, fs=sample_rate, output="sos"), tail)
    tail *= wet / np.sqrt(np.sum(tail**2))
    tail[0] += 1
    return signal.fftconvolve(audio, tail)[: len(audio)]


def ring(
    sample_rate: int, rng: np.random.Generator, pitches: Range, modes: int, decay_s: Range, seconds: float
) -> np.ndarray:
    """A struck object: ``modes`` damped partials at random pitches (Hz) with random decays (s to 1/e), (n,)."""
    times = np.arange(int(seconds * sample_rate)) / sample_rate
    frequencies = np.exp(rng.uniform(np.log(pitches[0]), np.log(pitches[1]), modes))[:, None]
    decays = rng.uniform(*decay_s, size=modes)[:, None]
    partials = np.exp(-times / decays) * np.sin(2 * np.pi * frequencies * times + random_phases(rng, modes)[:, None])
    return (rng.uniform(0.3, 1, modes)[:, None] * partials).sum(0) / modes


def place(num_samples: int, starts: np.ndarray, sounds: Sequence[np.ndarray]) -> np.ndarray:
    """``sounds`` added at the samples ``starts``, cut at the end, (N,)."""
    audio = np.zeros(num_samples)
    for start, sound in zip(starts.astype(int), sounds, strict=True):
        piece = sound[: max(0, num_samples - start)]
        audio[start : start + len(piece)] += piece
    return audio
