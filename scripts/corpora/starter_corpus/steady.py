"""Steady noise, machines and weather of the starter corpus. All functions return noise (N,) at any level."""

from __future__ import annotations

import numpy as np
from scipy import signal

from starter_corpus.synthesis import (
    Range,
    harmonics,
    moving_filter,
    place,
    random_phases,
    ring,
    shape_spectrum,
    slow_curve,
    tone_limit,
)


def coloured(
    num_samples: int, sample_rate: int, rng: np.random.Generator, *, tilt: Range = (-6, 0), resonances: int = 0
) -> np.ndarray:
    """Steady noise with a spectral tilt in dB an octave (0 white, -3 pink, -6 brown) and some broad resonances."""
    slope = rng.uniform(*tilt) / 6.02
    centres = np.exp(rng.uniform(np.log(120), np.log(6500), resonances))
    widths, heights = rng.uniform(0.1, 0.5, resonances), rng.uniform(0.4, 1.5, resonances)

    def gain(frequencies: np.ndarray) -> np.ndarray:
        octaves = np.log2(np.maximum(frequencies, 40) / 1000)[:, None]
        bumps = heights * np.exp(-((octaves - np.log2(centres / 1000)) ** 2) / (2 * widths**2))
        return np.maximum(frequencies, 40) ** slope * np.exp(bumps.sum(1)) * (frequencies > 20)

    return shape_spectrum(rng.standard_normal(num_samples), sample_rate, gain)


def speech_shaped(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Steady noise with the long-term spectrum of speech: a plateau up to 500 Hz, then about 9 dB an octave down."""
    corner, slope = rng.uniform(400, 600), rng.uniform(1.3, 1.7)

    def gain(frequencies: np.ndarray) -> np.ndarray:
        rise = 1 / (1 + (90 / np.maximum(frequencies, 1)) ** 2)
        return rise / (1 + (frequencies / corner) ** 2) ** (slope / 2)

    return shape_spectrum(rng.standard_normal(num_samples), sample_rate, gain)


def fan(
    num_samples: int, sample_rate: int, rng: np.random.Generator, *, rpm: Range = (900, 1500), blades: int = 5
) -> np.ndarray:
    """Airflow that pulses with the rotor, and the blades' tone with its multiples on a slightly unsteady motor."""
    times = np.arange(num_samples) / sample_rate
    turns_hz = rng.uniform(*rpm) / 60
    wander = 1 + 0.004 * slow_curve(num_samples, sample_rate, rng, 0.5)
    rotor = 2 * np.pi * np.cumsum(turns_hz * wander) / sample_rate
    count = tone_limit(turns_hz * blades, sample_rate, 14)
    blade_tone = harmonics(rotor * blades, np.arange(1, count + 1) ** -rng.uniform(0.8, 1.6), random_phases(rng, count))
    whine_hz = rng.uniform(600, 2200)
    whine = np.cos(2 * np.pi * whine_hz * times + 2 * slow_curve(num_samples, sample_rate, rng, 1.0))
    air = coloured(num_samples, sample_rate, rng, tilt=(-5.5, -3), resonances=3)
    air *= (1 + rng.uniform(0.1, 0.3) * np.cos(rotor)) / np.std(air)
    return air + rng.uniform(0.15, 0.5) * blade_tone + rng.uniform(0.01, 0.06) * whine


def hum(num_samples: int, sample_rate: int, rng: np.random.Generator, *, mains_hz: float = 50.0) -> np.ndarray:
    """Mains hum of a transformer: multiples of the mains, the even ones stronger, over some hiss."""
    times = np.arange(num_samples) / sample_rate
    phase = 2 * np.pi * mains_hz * (1 + rng.normal(0, 5e-4)) * times
    count = tone_limit(mains_hz, sample_rate, 40)
    orders = np.arange(1, count + 1)
    amplitudes = orders ** -rng.uniform(0.9, 1.5) * np.where(orders % 2, 0.35, 1) * rng.lognormal(0, 0.5, count)
    hiss = coloured(num_samples, sample_rate, rng, tilt=(-2, 0))
    buzz = harmonics(phase, amplitudes, random_phases(rng, count))
    return buzz / np.std(buzz) + rng.uniform(0.08, 0.25) * hiss / np.std(hiss)


def compressor(
    num_samples: int, sample_rate: int, rng: np.random.Generator, *, period_s: Range = (6, 9), on: Range = (0.5, 0.7)
) -> np.ndarray:
    """A refrigerator's or workshop's compressor: it starts, knocks with its piston, and stops with a hiss of air."""
    times = np.arange(num_samples) / sample_rate
    period, share = rng.uniform(*period_s), rng.uniform(*on)
    position = ((times / period + rng.uniform()) % 1) * period
    running = np.clip(position / 0.4, 0, 1) * np.clip((share * period - position) / 0.25, 0, 1)
    shaft_hz = rng.uniform(23.5, 29.5)
    phase = 2 * np.pi * np.cumsum(shaft_hz * (0.6 + 0.4 * running)) / sample_rate
    orders = np.arange(1, 41)
    # A small case does not radiate what is far below 120 Hz.
    amplitudes = orders**-0.8 * np.minimum(1, (orders * shaft_hz / 120) ** 2) * rng.lognormal(0, 0.6, len(orders))
    motor = harmonics(phase, amplitudes, random_phases(rng, len(orders)))
    rattle = coloured(num_samples, sample_rate, rng, tilt=(-2, 0), resonances=4)
    knock = np.maximum(0, np.cos(phase)) ** 8
    since_stop = np.maximum(0, position - share * period)
    hiss = np.where(position > share * period, np.exp(-since_stop / 0.35), 0)
    air = coloured(num_samples, sample_rate, rng, tilt=(0, 3))
    floor = coloured(num_samples, sample_rate, rng, tilt=(-5, -3))
    return (
        running * (motor / np.std(motor) + 0.8 * knock * rattle / np.std(rattle))
        + 0.5 * hiss * air / np.std(air)
        + 0.05 * floor / np.std(floor)
    )


def drill(
    num_samples: int, sample_rate: int, rng: np.random.Generator, *, rpm: Range = (9000, 16000), gears: int = 9
) -> np.ndarray:
    """A power tool pressed down in bursts: it speeds up when it runs free, slows and roughens under load."""
    load = signal.sosfilt(
        signal.butter(1, 1.2, fs=sample_rate, output="sos"),
        (slow_curve(num_samples, sample_rate, rng, 0.35) > rng.uniform(-0.5, 0.1)).astype(float),
    )
    shaft = np.cumsum(rng.uniform(*rpm) / 60 * (1.05 - 0.3 * load) * (1 - 0.02 * rng.uniform()))
    phase = 2 * np.pi * shaft / sample_rate
    whine = harmonics(phase, np.arange(1, 13) ** -0.7 * rng.lognormal(0, 0.4, 12), random_phases(rng, 12))
    mesh = harmonics(phase * gears, np.array([0.5, 0.2]), random_phases(rng, 2))
    grind = coloured(num_samples, sample_rate, rng, tilt=(-2, 1), resonances=4)
    grind *= (0.2 + load * (1 + 0.6 * np.cos(phase / gears))) / np.std(grind)
    return whine * (0.5 + 0.5 * load) + mesh + rng.uniform(0.8, 1.6) * grind


def vacuum(num_samples: int, sample_rate: int, rng: np.random.Generator, *, motor_hz: Range = (320, 480)) -> np.ndarray:
    """A vacuum cleaner or hair dryer: strong rushing air with tube resonances, and the whine of a fast motor."""
    wander = 1 + 0.01 * slow_curve(num_samples, sample_rate, rng, 0.4)
    phase = 2 * np.pi * np.cumsum(rng.uniform(*motor_hz) * wander) / sample_rate
    count = tone_limit(motor_hz[1] * 1.05, sample_rate, 12)
    whine = harmonics(phase, np.arange(1, count + 1) ** -0.9 * rng.lognormal(0, 0.5, count), random_phases(rng, count))
    air = coloured(num_samples, sample_rate, rng, tilt=(-3, -1), resonances=5)
    strokes = 1 + 0.15 * slow_curve(num_samples, sample_rate, rng, 0.8)
    return strokes * air / np.std(air) + rng.uniform(0.2, 0.5) * whine / np.std(whine)


def rain(
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
    *,
    drops_per_s: Range = (300, 900),
    pitches: Range = (1500, 7000),
    drips_per_s: float = 2.0,
) -> np.ndarray:
    """Dense drops of many pitches over a hiss, and some heavy drips into water, as from a gutter."""
    audio = np.zeros(num_samples)
    kernels = 24
    density = rng.uniform(*drops_per_s) / kernels
    for _ in range(kernels):
        hits = rng.random(num_samples) < density / sample_rate
        drop = ring(sample_rate, rng, pitches, 2, (0.0006, 0.004), 0.02)
        audio += signal.fftconvolve(hits * rng.lognormal(-0.5, 0.8, num_samples), drop)[:num_samples]
    hiss = coloured(num_samples, sample_rate, rng, tilt=(-1.5, 1.5), resonances=2)
    hiss = signal.sosfilt(signal.butter(2, 400, "high", fs=sample_rate, output="sos"), hiss)
    starts = np.sort(rng.uniform(0, num_samples, rng.poisson(drips_per_s * num_samples / sample_rate)))
    drips = [rng.lognormal(0, 0.5) * ring(sample_rate, rng, (400, 1800), 2, (0.005, 0.03), 0.12) for _ in starts]
    swell = 1 + 0.12 * slow_curve(num_samples, sample_rate, rng, 0.3)
    body = audio / np.std(audio) + rng.uniform(0.4, 1.0) * hiss / np.std(hiss)
    return swell * body + 3 * place(num_samples, starts, drips)


def wind(
    num_samples: int, sample_rate: int, rng: np.random.Generator, *, corner_hz: Range = (120, 350), whistle: float = 0.0
) -> np.ndarray:
    """Gusts: the harder it blows, the louder and brighter. ``whistle`` is the share of a gap that sings along."""
    seconds = num_samples / sample_rate
    grid = np.arange(int(seconds * 100) + 200)
    gusts = slow_curve(len(grid), 100, rng, 0.35) + 0.5 * slow_curve(len(grid), 100, rng, 1.8)
    gusts = np.exp(0.8 * np.tanh(gusts / 1.5))
    corner, slope = rng.uniform(*corner_hz), rng.uniform(2.2, 3.0)
    pitch = rng.uniform(450, 900)

    def gain(times: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        blow = np.interp(times, grid / 100 - 0.5, gusts)
        rumble = blow**1.5 / (1 + (frequencies / (corner * blow)) ** slope)
        centre = pitch * blow**0.4
        song = whistle * blow**2 * np.exp(-(((frequencies - centre) / (0.06 * centre)) ** 2))
        return (rumble + song + 0.004 * blow) * (frequencies > 25)

    return moving_filter(num_samples, sample_rate, rng, gain)


def waves(num_samples: int, sample_rate: int, rng: np.random.Generator, *, period_s: Range = (5, 8)) -> np.ndarray:
    """Surf: swells that rise slowly, break brightly and run out over the shore."""
    starts = np.cumsum(rng.uniform(*period_s, size=2 + int(num_samples / sample_rate / period_s[0]))) - 2 * period_s[1]
    heights = rng.uniform(0.6, 1.3, len(starts))

    def gain(times: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        total = np.full((len(times), frequencies.size), 0.03) / (1 + frequencies / 800)
        for start, height in zip(starts, heights, strict=True):
            age = times - start
            rise = np.where(age < 3, np.exp((np.minimum(age, 3) - 3) / 0.8), np.exp((3 - np.maximum(age, 3)) / 1.6))
            brightness = 300 + 2500 * rise
            total = total + height * rise / (1 + (frequencies / brightness) ** 1.5)
        return total * (frequencies > 30)

    return moving_filter(num_samples, sample_rate, rng, gain)
