"""Noises made on the spot, for training: pure functions of a length and a random generator.

All are drawn as spectra of the whole stretch, so they cost one Fourier transform. Signals are float32 arrays (N,) of no
particular level; rates are in Hz.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from hushwork.audio.mixing import equalize

COLOUR_DB = 20.0
MAINS_HZ = (50.0, 60.0)


def coloured_noise(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Steady noise whose spectrum runs in straight lines between eight points drawn up to 20 dB up or down."""
    white = rng.standard_normal(num_samples, dtype=np.float32)
    return equalize(white, rng.uniform(-COLOUR_DB, COLOUR_DB, size=8))


def hum(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """The hum of 50 or 60 Hz mains: 5 to 40 harmonics, the higher ones weaker by 3 to 12 dB an octave, some missing."""
    return _tones(num_samples, sample_rate, rng.choice(MAINS_HZ), 0.0, int(rng.integers(5, 41)), rng)


def fan(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A fan or motor: coloured noise, and up to 20 dB above or below it the tones of blades that pass 20 to 400 times a
    second and not quite evenly; all of it swells up to 6 dB, once in a second or more slowly."""
    noise = coloured_noise(num_samples, sample_rate, rng)
    blades_hz = 20 * 20 ** rng.random()
    tones = _tones(num_samples, sample_rate, blades_hz, rng.uniform(0.2, 4), int(rng.integers(2, 20)), rng)
    tones *= noise.std() / max(float(tones.std()), 1e-9) * 10 ** (rng.uniform(-20, 20) / 20)
    seconds = np.arange(num_samples, dtype=np.float32) / sample_rate
    swelling = np.sin(2 * np.pi * (rng.uniform(0.1, 1) * seconds + rng.random()))
    return (noise + tones) * 10 ** (rng.uniform(0, 3) / 20 * swelling.astype(np.float32))


def speech_shaped(speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Steady noise with the long-term spectrum of ``speech``: its spectrum with phases drawn anew."""
    spectrum = np.abs(fft.rfft(speech.astype(np.float32, copy=False)))
    turned = spectrum * np.exp(2j * np.pi * rng.random(len(spectrum), dtype=np.float32))
    return fft.irfft(turned.astype(np.complex64), len(speech)).astype(np.float32, copy=False)


def _tones(
    num_samples: int, sample_rate: int, first_hz: float, width_hz: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Harmonics of ``first_hz``, each a narrow band of noise ``width_hz`` wide (0: a pure tone)."""
    spectrum = np.zeros(num_samples // 2 + 1, np.complex64)
    bins_per_hz = num_samples / sample_rate
    slope_db = rng.uniform(3, 12)
    for number in range(1, count + 1):
        centre = first_hz * number * bins_per_hz
        reach = round(3 * width_hz * number**0.5 * bins_per_hz)
        first, last = round(centre) - reach, round(centre) + reach + 1
        gain = 10 ** ((rng.uniform(-10, 0) - slope_db * np.log2(number)) / 20) * (rng.random() < 0.8 or number == 1)
        if first < 1 or last > len(spectrum):
            continue
        offsets = (np.arange(first, last) - centre) / max(1.0, width_hz * bins_per_hz)
        drawn = rng.standard_normal((2, last - first))
        spectrum[first:last] += gain * np.exp(-(offsets**2) / 2) * (drawn[0] + 1j * drawn[1])
    return fft.irfft(spectrum, num_samples).astype(np.float32, copy=False)
