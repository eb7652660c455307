"""Synthetic noise for training: pure functions of a length and a random generator.

Steady ones are drawn as spectra of the whole signal, so they cost one Fourier transform; events are drawn a few times
and repeated. Signals are float32 arrays (N,) of no particular level; rates are in Hz.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from hushwork.augment.mixing import equalize

COLOUR_DB = 20.0
EVENT_S = 0.6
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
    """Steady noise with the long-term spectrum of ``speech``: its spectrum with random phases."""
    spectrum = np.abs(fft.rfft(speech.astype(np.float32, copy=False)))
    turned = spectrum * np.exp(2j * np.pi * rng.random(len(spectrum), dtype=np.float32))
    return fft.irfft(turned.astype(np.complex64), len(speech)).astype(np.float32, copy=False)


def knocks(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Struck objects: one to three of them, each with its own resonances between 100 Hz and 7 kHz that die away in
    3 to 300 ms, 0.7 to 14 times a second, evenly or at random."""
    audio = np.zeros(num_samples, np.float32)
    seconds = np.arange(round(EVENT_S * sample_rate), dtype=np.float32) / sample_rate
    for _ in range(rng.integers(1, 4)):
        modes = int(rng.integers(3, 13))
        hz = 100 * 70 ** rng.random((modes, 1), dtype=np.float32)
        decays = 0.003 * 100 ** rng.random((modes, 1), dtype=np.float32) * (100 / hz) ** rng.uniform(0, 0.5)
        gains = 10 ** rng.uniform(-1.5, 0, (modes, 1)).astype(np.float32)
        ringing = gains * np.sin(2 * np.pi * (hz * seconds + rng.random((modes, 1), dtype=np.float32)))
        hit = (ringing * np.exp(-seconds / decays)).sum(0)
        # The impact is not a point: a dull or bright burst of noise is part of it.
        scratch = coloured_noise(len(seconds), sample_rate, rng) * np.exp(-seconds / (0.002 * 30 ** rng.random()))
        hit += scratch * np.float32(rng.uniform(0, 2) * np.abs(hit).max() / max(float(np.abs(scratch).max()), 1e-9))
        _repeat(audio, [hit], 0.7 * 20 ** rng.random(), sample_rate, rng)
    return audio


def calls(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Animals, alarms and games: one to four calls of 20 to 500 ms, whose pitch of 100 Hz to 5 kHz glides and trembles,
    with up to 12 harmonics, smooth or hoarse, 0.7 to 10 times a second."""
    audio = np.zeros(num_samples, np.float32)
    lowest_hz = 100 * 50 ** rng.random()
    drawn = []
    for _ in range(rng.integers(1, 5)):
        size = round(0.02 * 25 ** rng.random() * sample_rate)
        place = np.linspace(0, 1, size, dtype=np.float32)
        octaves = rng.uniform(-0.5, 0.5) + rng.uniform(-1.5, 1.5) * place + rng.uniform(-1, 1) * np.sin(np.pi * place)
        octaves += rng.uniform(0, 0.2) * np.sin(2 * np.pi * rng.uniform(4, 40) * size / sample_rate * place)
        hz = np.clip(lowest_hz * 2**octaves, 60, 0.9 * sample_rate / 2)
        phase = 2 * np.pi * np.cumsum(hz) / sample_rate
        slope = rng.uniform(0.3, 2)
        call = np.zeros(size)
        for number in range(1, int(rng.integers(1, 13)) + 1):
            call += number**-slope * np.sin(number * phase) * (number * hz < sample_rate / 2)
        hoarseness = rng.uniform(0, 1.5) * (rng.random() < 0.5)
        call *= 1 + hoarseness * np.repeat(rng.standard_normal(size // 16 + 1), 16)[:size]
        drawn.append((call * place ** rng.uniform(0.1, 1) * (1 - place) ** rng.uniform(0.3, 2)).astype(np.float32))
    _repeat(audio, drawn, 0.7 * 14 ** rng.random(), sample_rate, rng)
    return audio


def gusts(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Coloured noise that comes and goes, as wind, water, cloth and paper do: up to 10 to 50 dB between loud and soft,
    changing 0.5 to 20 times a second."""
    changes = max(2, round(num_samples / sample_rate * 0.5 * 40 ** rng.random()) + 1)
    levels_db = rng.uniform(-rng.uniform(10, 50), 0, changes)
    envelope = np.interp(np.arange(num_samples), np.linspace(0, max(1, num_samples - 1), changes), levels_db)
    return coloured_noise(num_samples, sample_rate, rng) * 10 ** (envelope.astype(np.float32) / 20)


def _repeat(
    audio: np.ndarray, events: list[np.ndarray], rate_hz: float, sample_rate: int, rng: np.random.Generator
) -> None:
    """Adds events to ``audio``, any of them so often a second: evenly, or at random, each up to 20 dB softer."""
    distances = 1 / rate_hz * (rng.uniform(0.9, 1.1, 1000) if rng.random() < 0.5 else rng.exponential(1, 1000))
    starts = ((np.cumsum(distances) - distances[0] * rng.random()) * sample_rate).astype(int)
    for start in starts[starts < len(audio)]:
        event = events[rng.integers(len(events))][: len(audio) - start]
        audio[start : start + len(event)] += event * np.float32(10 ** rng.uniform(-1, 0))


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
