"""The noises of the starter corpus, computed.

Every maker takes a generator, the number of samples N and the sample rate in Hz, and returns noise (N,) at any level.
Ranges are (low, high) of a uniform draw; they differ between the sources of different splits.

Shapes: N samples, F frequencies. Audio is mono (N,), full scale 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import signal
from scipy.interpolate import CubicSpline

from hushwork.prepare.utterances import LEVEL_DBFS, SAMPLE_RATE, seed_of

Range = tuple[float, float]
NoiseMaker = Callable[..., np.ndarray]


def level(audio: np.ndarray, dbfs: float = LEVEL_DBFS) -> np.ndarray:
    """``audio`` at ``dbfs`` rms. Peaks that would clip are bent softly, as by a microphone preamplifier."""
    target = 10 ** (dbfs / 20)
    audio = audio.astype(np.float64) - np.mean(audio)
    for _ in range(8):
        audio *= target / np.sqrt(np.mean(audio**2))
        if np.abs(audio).max() <= 0.9:
            break
        audio = 0.85 * np.tanh(audio / 0.85)
    return audio.astype(np.float32)


def shape_spectrum(audio: np.ndarray, sample_rate: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``audio`` with every frequency multiplied by ``gain`` of the frequencies in Hz, (F,) to (F,)."""
    frequencies = np.fft.rfftfreq(len(audio), 1 / sample_rate)
    return np.fft.irfft(np.fft.rfft(audio) * gain(frequencies), len(audio))


def moving_filter(
    rng: np.random.Generator, num_samples: int, sample_rate: int, gain: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Gaussian noise through a filter that changes over time: ``gain`` maps s (T, 1) and Hz (1, F) to (T, F)."""
    size, hop = 1024, 256
    noise = rng.standard_normal(num_samples + 2 * size)
    transform = signal.ShortTimeFFT(signal.get_window("hann", size), hop, sample_rate)
    spectrum = transform.stft(noise)
    times = transform.t(len(noise))[:, None] - size / sample_rate
    filtered = transform.istft(spectrum * gain(times, transform.f[None]).T, k1=len(noise))
    return filtered[size : size + num_samples]


def slow_curve(rng: np.random.Generator, num_samples: int, sample_rate: int, rate_hz: float) -> np.ndarray:
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
    """How many multiples of ``frequency`` stay below 0.45 of the sample rate, at most ``most``."""
    return max(1, min(most, int(0.45 * sample_rate / frequency)))


def reverberate(rng: np.random.Generator, audio: np.ndarray, sample_rate: int, t60: float, wet: float) -> np.ndarray:
    """``audio`` with a diffuse tail that decays by 60 dB in ``t60`` seconds; ``wet`` is the tail's amplitude."""
    times = np.arange(int(t60 * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / t60)
    tail = signal.sosfilt(signal.butter(1, 5000, fs=sample_rate, output="sos"), tail)
    tail *= wet / np.sqrt(np.sum(tail**2))
    tail[0] += 1
    return signal.fftconvolve(audio, tail)[: len(audio)]


def ring(
    rng: np.random.Generator, sample_rate: int, pitches: Range, modes: int, decay_s: Range, seconds: float
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


def coloured(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, tilt: Range = (-6, 0), resonances: int = 0
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


def speech_shaped(rng: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    """Steady noise with the long-term spectrum of speech: a plateau up to 500 Hz, then about 9 dB an octave down."""
    corner, slope = rng.uniform(400, 600), rng.uniform(1.3, 1.7)

    def gain(frequencies: np.ndarray) -> np.ndarray:
        rise = 1 / (1 + (90 / np.maximum(frequencies, 1)) ** 2)
        return rise / (1 + (frequencies / corner) ** 2) ** (slope / 2)

    return shape_spectrum(rng.standard_normal(num_samples), sample_rate, gain)


def fan(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, rpm: Range = (900, 1500), blades: int = 5
) -> np.ndarray:
    """Airflow that pulses with the rotor, and the blades' tone with its multiples on a slightly unsteady motor."""
    times = np.arange(num_samples) / sample_rate
    turns_hz = rng.uniform(*rpm) / 60
    wander = 1 + 0.004 * slow_curve(rng, num_samples, sample_rate, 0.5)
    rotor = 2 * np.pi * np.cumsum(turns_hz * wander) / sample_rate
    count = tone_limit(turns_hz * blades, sample_rate, 14)
    blade_tone = harmonics(rotor * blades, np.arange(1, count + 1) ** -rng.uniform(0.8, 1.6), random_phases(rng, count))
    whine_hz = rng.uniform(600, 2200)
    whine = np.cos(2 * np.pi * whine_hz * times + 2 * slow_curve(rng, num_samples, sample_rate, 1.0))
    air = coloured(rng, num_samples, sample_rate, tilt=(-5.5, -3), resonances=3)
    air *= (1 + rng.uniform(0.1, 0.3) * np.cos(rotor)) / np.std(air)
    return air + rng.uniform(0.15, 0.5) * blade_tone + rng.uniform(0.01, 0.06) * whine


def hum(rng: np.random.Generator, num_samples: int, sample_rate: int, *, mains_hz: float = 50.0) -> np.ndarray:
    """Mains hum of a transformer: multiples of the mains, the even ones stronger, over some hiss."""
    times = np.arange(num_samples) / sample_rate
    phase = 2 * np.pi * mains_hz * (1 + rng.normal(0, 5e-4)) * times
    count = tone_limit(mains_hz, sample_rate, 40)
    orders = np.arange(1, count + 1)
    amplitudes = orders ** -rng.uniform(0.9, 1.5) * np.where(orders % 2, 0.35, 1) * rng.lognormal(0, 0.5, count)
    hiss = coloured(rng, num_samples, sample_rate, tilt=(-2, 0))
    buzz = harmonics(phase, amplitudes, random_phases(rng, count))
    return buzz / np.std(buzz) + rng.uniform(0.08, 0.25) * hiss / np.std(hiss)


def compressor(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, period_s: Range = (6, 9), on: Range = (0.5, 0.7)
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
    rattle = coloured(rng, num_samples, sample_rate, tilt=(-2, 0), resonances=4)
    knock = np.maximum(0, np.cos(phase)) ** 8
    since_stop = np.maximum(0, position - share * period)
    hiss = np.where(position > share * period, np.exp(-since_stop / 0.35), 0)
    air = coloured(rng, num_samples, sample_rate, tilt=(0, 3))
    floor = coloured(rng, num_samples, sample_rate, tilt=(-5, -3))
    return (
        running * (motor / np.std(motor) + 0.8 * knock * rattle / np.std(rattle))
        + 0.5 * hiss * air / np.std(air)
        + 0.05 * floor / np.std(floor)
    )


def drill(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, rpm: Range = (9000, 16000), gears: int = 9
) -> np.ndarray:
    """A power tool pressed down in bursts: it speeds up when it runs free, slows and roughens under load."""
    load = signal.sosfilt(
        signal.butter(1, 1.2, fs=sample_rate, output="sos"),
        (slow_curve(rng, num_samples, sample_rate, 0.35) > rng.uniform(-0.5, 0.1)).astype(float),
    )
    shaft = np.cumsum(rng.uniform(*rpm) / 60 * (1.05 - 0.3 * load) * (1 - 0.02 * rng.uniform()))
    phase = 2 * np.pi * shaft / sample_rate
    whine = harmonics(phase, np.arange(1, 13) ** -0.7 * rng.lognormal(0, 0.4, 12), random_phases(rng, 12))
    mesh = harmonics(phase * gears, np.array([0.5, 0.2]), random_phases(rng, 2))
    grind = coloured(rng, num_samples, sample_rate, tilt=(-2, 1), resonances=4)
    grind *= (0.2 + load * (1 + 0.6 * np.cos(phase / gears))) / np.std(grind)
    return whine * (0.5 + 0.5 * load) + mesh + rng.uniform(0.8, 1.6) * grind


def vacuum(rng: np.random.Generator, num_samples: int, sample_rate: int, *, motor_hz: Range = (320, 480)) -> np.ndarray:
    """A vacuum cleaner or hair dryer: strong rushing air with tube resonances, and the whine of a fast motor."""
    wander = 1 + 0.01 * slow_curve(rng, num_samples, sample_rate, 0.4)
    phase = 2 * np.pi * np.cumsum(rng.uniform(*motor_hz) * wander) / sample_rate
    count = tone_limit(motor_hz[1] * 1.05, sample_rate, 12)
    whine = harmonics(phase, np.arange(1, count + 1) ** -0.9 * rng.lognormal(0, 0.5, count), random_phases(rng, count))
    air = coloured(rng, num_samples, sample_rate, tilt=(-3, -1), resonances=5)
    strokes = 1 + 0.15 * slow_curve(rng, num_samples, sample_rate, 0.8)
    return strokes * air / np.std(air) + rng.uniform(0.2, 0.5) * whine / np.std(whine)


def rain(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
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
        drop = ring(rng, sample_rate, pitches, 2, (0.0006, 0.004), 0.02)
        audio += signal.fftconvolve(hits * rng.lognormal(-0.5, 0.8, num_samples), drop)[:num_samples]
    hiss = coloured(rng, num_samples, sample_rate, tilt=(-1.5, 1.5), resonances=2)
    hiss = signal.sosfilt(signal.butter(2, 400, "high", fs=sample_rate, output="sos"), hiss)
    starts = np.sort(rng.uniform(0, num_samples, rng.poisson(drips_per_s * num_samples / sample_rate)))
    drips = [rng.lognormal(0, 0.5) * ring(rng, sample_rate, (400, 1800), 2, (0.005, 0.03), 0.12) for _ in starts]
    swell = 1 + 0.12 * slow_curve(rng, num_samples, sample_rate, 0.3)
    body = audio / np.std(audio) + rng.uniform(0.4, 1.0) * hiss / np.std(hiss)
    return swell * body + 3 * place(num_samples, starts, drips)


def wind(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, corner_hz: Range = (120, 350), whistle: float = 0.0
) -> np.ndarray:
    """Gusts: the harder it blows, the louder and brighter. ``whistle`` is the share of a gap that sings along."""
    seconds = num_samples / sample_rate
    grid = np.arange(int(seconds * 100) + 200)
    gusts = slow_curve(rng, len(grid), 100, 0.35) + 0.5 * slow_curve(rng, len(grid), 100, 1.8)
    gusts = np.exp(0.8 * np.tanh(gusts / 1.5))
    corner, slope = rng.uniform(*corner_hz), rng.uniform(2.2, 3.0)
    pitch = rng.uniform(450, 900)

    def gain(times: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        blow = np.interp(times, grid / 100 - 0.5, gusts)
        rumble = blow**1.5 / (1 + (frequencies / (corner * blow)) ** slope)
        centre = pitch * blow**0.4
        song = whistle * blow**2 * np.exp(-(((frequencies - centre) / (0.06 * centre)) ** 2))
        return (rumble + song + 0.004 * blow) * (frequencies > 25)

    return moving_filter(rng, num_samples, sample_rate, gain)


def waves(rng: np.random.Generator, num_samples: int, sample_rate: int, *, period_s: Range = (5, 8)) -> np.ndarray:
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

    return moving_filter(rng, num_samples, sample_rate, gain)


def typing(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
    *,
    keys_per_s: Range = (5, 8),
    click_hz: Range = (1800, 5500),
    thud_hz: Range = (180, 600),
) -> np.ndarray:
    """A keyboard: bursts of keys, each a click, a thud when it lands and a weaker click on release, in a small room."""
    rate = rng.uniform(*keys_per_s)
    gaps = rng.lognormal(-np.log(rate), 0.45, int(2 * rate * num_samples / sample_rate) + 8)
    gaps += np.where(rng.random(len(gaps)) < 0.06, rng.uniform(0.4, 1.2, len(gaps)), 0)
    presses = np.cumsum(gaps) * sample_rate
    presses = presses[presses < num_samples]
    bank = []
    for _ in range(12):
        click = ring(rng, sample_rate, click_hz, 5, (0.0008, 0.005), 0.05)
        burst = np.exp(-np.arange(len(click)) / (0.0015 * sample_rate)) * rng.standard_normal(len(click))
        thud = ring(rng, sample_rate, thud_hz, 4, (0.004, 0.014), 0.05)
        delay = int(rng.uniform(0.004, 0.012) * sample_rate)
        bank.append(np.pad(click + 0.3 * burst, (0, delay)) + np.pad(1.5 * thud, (delay, 0)))
    keys = rng.integers(len(bank), size=len(presses))
    down = [rng.lognormal(0, 0.3) * bank[key] for key in keys]
    up = [0.35 * rng.lognormal(0, 0.3) * bank[key][: len(bank[key]) // 2] for key in keys]
    releases = presses + rng.uniform(0.06, 0.12, len(presses)) * sample_rate
    audio = place(num_samples, presses, down) + place(num_samples, np.minimum(releases, num_samples), up)
    audio = reverberate(rng, audio, sample_rate, rng.uniform(0.15, 0.35), 0.5)
    floor = coloured(rng, num_samples, sample_rate, tilt=(-5, -3))
    return audio + rng.uniform(0.04, 0.08) * np.std(audio) * floor / np.std(floor)


def clatter(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
    *,
    hits_per_s: Range = (2.5, 4.5),
    pitches: Range = (900, 6500),
    decay_s: Range = (0.01, 0.09),
) -> np.ndarray:
    """Dishes and tools: objects of metal, glass or wood that strike each other in small clusters."""
    objects = [ring(rng, sample_rate, pitches, 8, decay_s, 6 * decay_s[1]) for _ in range(8)]
    rate = rng.uniform(*hits_per_s) * num_samples / sample_rate
    clusters = np.sort(rng.uniform(0, num_samples, max(3, rng.poisson(rate / 2.5))))
    members = rng.integers(1, 5, len(clusters))
    starts = np.repeat(clusters, members) + rng.exponential(0.06 * sample_rate, members.sum())
    starts = np.minimum(starts, num_samples)
    hits = [rng.lognormal(0, 0.6) * objects[index] for index in rng.integers(len(objects), size=len(starts))]
    audio = reverberate(rng, place(num_samples, starts, hits), sample_rate, rng.uniform(0.3, 0.6), 0.7)
    floor = coloured(rng, num_samples, sample_rate, tilt=(-5, -2))
    return audio + rng.uniform(0.05, 0.1) * np.std(audio) * floor / np.std(floor)


def footsteps(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
    *,
    steps_per_s: Range = (1.6, 2.1),
    heel_hz: Range = (90, 400),
    grit: float = 0.4,
) -> np.ndarray:
    """Somebody walks through a hallway: heel, then sole, with ``grit`` under the shoe, approaching or leaving."""
    rate = rng.uniform(*steps_per_s)
    count = int(rate * num_samples / sample_rate)
    starts = (np.arange(count) + rng.uniform(0.1, 0.4) + rng.normal(0, 0.03, count)) / rate * sample_rate
    steps = []
    for index in range(count):
        heel = ring(rng, sample_rate, heel_hz, 6, (0.006, 0.025), 0.3)
        click = ring(rng, sample_rate, (1200, 4500), 4, (0.001, 0.004), 0.3)
        times = np.arange(len(heel)) / sample_rate
        sole = rng.standard_normal(len(heel)) * np.exp(-(((times - 0.09) / 0.035) ** 2)) * grit * 0.2
        steps.append((1.0 if index % 2 else 0.85) * rng.lognormal(0, 0.15) * (heel + 0.4 * click + sole))
    first, last = rng.permutation([0.5, 1.3])
    nearness = np.linspace(first, last, num_samples)
    audio = place(num_samples, np.clip(starts, 0, num_samples), steps) * nearness
    audio = reverberate(rng, audio, sample_rate, rng.uniform(0.5, 0.9), 0.8)
    floor = coloured(rng, num_samples, sample_rate, tilt=(-6, -4))
    return audio + rng.uniform(0.05, 0.1) * np.std(audio) * floor / np.std(floor)


def engine(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, rpm: Range = (900, 2200), cylinders: int = 4
) -> np.ndarray:
    """A combustion engine heard from inside: half orders of the shaft through a muffler, drifting with the throttle."""
    drift = np.exp(0.12 * slow_curve(rng, num_samples, sample_rate, 0.15))
    jitter = 1 + 0.006 * slow_curve(rng, num_samples, sample_rate, 8.0)
    half_order_hz = rng.uniform(*rpm) / 120 * drift * jitter
    phase = 2 * np.pi * np.cumsum(half_order_hz) / sample_rate
    orders = np.arange(1, 61)
    mean_hz = orders * float(np.mean(half_order_hz))
    muffler = 1 / (1 + (mean_hz / rng.uniform(150, 300)) ** 1.6)
    for centre in rng.uniform(60, 900, 3):
        muffler *= 1 + 2 * np.exp(-(((mean_hz - centre) / (0.2 * centre)) ** 2))
    firing = np.where(orders % cylinders == 0, 1.0, 0.2) * rng.lognormal(0, 0.4, len(orders))
    tone = harmonics(phase, firing * muffler, random_phases(rng, len(orders)))
    roar = coloured(rng, num_samples, sample_rate, tilt=(-6.5, -4.5), resonances=3)
    roar *= (1 + 0.5 * np.cos(phase * cylinders)) / np.std(roar)
    road = coloured(rng, num_samples, sample_rate, tilt=(-8, -6), resonances=1)
    return drift**2 * (tone / np.std(tone) + 0.4 * roar) + rng.uniform(0.3, 0.8) * road / np.std(road)


def passing_cars(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
    *,
    cars_per_s: Range = (0.18, 0.3),
    speed: Range = (9, 16),
) -> np.ndarray:
    """A street heard from the pavement: tyres of cars that pass at ``speed`` m/s over the rumble of the town."""
    seconds = num_samples / sample_rate
    count = max(2, int(rng.uniform(*cars_per_s) * seconds + 0.5))
    moments = (np.arange(count) + rng.uniform(0.25, 0.75, count)) / count * seconds
    speeds, gaps = rng.uniform(*speed, count), rng.uniform(3, 7, count)
    centres, loudness = rng.uniform(700, 1300, count), rng.lognormal(0, 0.3, count)

    def gain(times: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        total = 0.05 / (1 + (frequencies / 120) ** 1.3)
        for moment, metres_per_s, gap, centre, loud in zip(moments, speeds, gaps, centres, loudness, strict=True):
            along = metres_per_s * (times - moment)
            distance = np.hypot(along, gap)
            doppler = 1 - metres_per_s / 343 * along / distance
            tyres = 1 / (1 + np.log2(np.maximum(frequencies, 20) / (centre * doppler)) ** 2)
            air = np.exp(-frequencies * distance / 4e5)
            total = total + loud * (gap / distance) * tyres * air / (1 + frequencies / 4000)
        return total * (frequencies > 25)

    audio = moving_filter(rng, num_samples, sample_rate, gain)
    times = np.arange(num_samples) / sample_rate
    for moment, metres_per_s, gap in zip(moments, speeds, gaps, strict=True):
        along = metres_per_s * (times - moment)
        distance = np.hypot(along, gap)
        pitch = rng.uniform(45, 90) * (1 - metres_per_s / 343 * along / distance)
        phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
        motor = harmonics(phase, np.arange(1, 13) ** -0.9 * rng.lognormal(0, 0.4, 12), random_phases(rng, 12))
        audio += rng.uniform(0.1, 0.25) * np.std(audio) * (gap / distance) * motor
    return audio


def railway(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, speed: Range = (14, 22), rail_m: float = 15.0
) -> np.ndarray:
    """Inside a train: rumble, rolling noise, and the double knock of the bogies at each rail joint."""
    metres_per_s = rng.uniform(*speed)
    joints = np.arange(0, num_samples, rail_m / metres_per_s * sample_rate)
    knock = ring(rng, sample_rate, (70, 900), 10, (0.01, 0.05), 0.25)
    starts = np.concatenate([joints, joints + 2.5 / metres_per_s * sample_rate])
    knocks = [rng.lognormal(0, 0.2) * knock for _ in starts]
    rolling = coloured(rng, num_samples, sample_rate, tilt=(-6, -4.5), resonances=2)
    sway = 1 + 0.15 * slow_curve(rng, num_samples, sample_rate, 0.6)
    beats = reverberate(rng, place(num_samples, np.minimum(starts, num_samples), knocks), sample_rate, 0.3, 0.5)
    return sway * rolling / np.std(rolling) + rng.uniform(0.5, 0.9) * beats / np.std(beats)


def babble(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, voices: Sequence[np.ndarray], talkers: int = 7
) -> np.ndarray:
    """``talkers`` of ``voices`` (each all speech of one speaker, (n,)) at once, at different distances in one room."""
    chosen = rng.permutation(len(voices))[:talkers]
    audio = np.zeros(num_samples)
    for index in chosen:
        voice = np.roll(voices[index], -rng.integers(len(voices[index])))
        heard = reverberate(rng, np.resize(voice, num_samples), sample_rate, 0.5, rng.uniform(0.4, 1.5))
        audio += 10 ** (rng.uniform(-4, 4) / 20) * heard
    floor = coloured(rng, num_samples, sample_rate, tilt=(-5, -3))
    return audio + 0.06 * np.std(audio) * floor / np.std(floor)


@dataclass(frozen=True)
class NoiseSource:
    """One source of noise: ``count`` files of ``seconds`` each, by ``make``. A source is in one split only."""

    name: str
    noise_class: str
    split: str
    make: NoiseMaker
    count: int
    seconds: float


# The letter tells the variant: a in train, b in valid, c in test. Variants of a recipe differ in their parameters, so
# the classes of test are known from training while its sources are not.
NOISES = (
    NoiseSource("tilt-a", "stationary", "train", partial(coloured, tilt=(-6, 0)), 3, 10),
    NoiseSource("resonant-a", "stationary", "train", partial(coloured, tilt=(-5, -1), resonances=5), 2, 10),
    NoiseSource("fan-a", "machine", "train", partial(fan, rpm=(900, 1500), blades=5), 2, 12),
    NoiseSource("hum-a", "machine", "train", partial(hum, mains_hz=50), 2, 10),
    NoiseSource("compressor-a", "machine", "train", compressor, 1, 20),
    NoiseSource("drill-a", "machine", "train", drill, 2, 10),
    NoiseSource("vacuum-a", "machine", "train", partial(vacuum, motor_hz=(320, 480)), 1, 12),
    NoiseSource("rain-a", "weather", "train", rain, 2, 12),
    NoiseSource("wind-a", "weather", "train", wind, 2, 14),
    NoiseSource("waves-a", "weather", "train", waves, 1, 16),
    NoiseSource("babble-a", "babble", "train", babble, 4, 12),
    NoiseSource("typing-a", "impacts", "train", typing, 2, 14),
    NoiseSource("clatter-a", "impacts", "train", clatter, 2, 12),
    NoiseSource("footsteps-a", "impacts", "train", footsteps, 1, 14),
    NoiseSource("engine-a", "vehicle", "train", engine, 2, 12),
    NoiseSource("cars-a", "vehicle", "train", passing_cars, 2, 14),
    NoiseSource("railway-a", "vehicle", "train", railway, 1, 12),
    NoiseSource("speech-shaped-b", "stationary", "valid", speech_shaped, 1, 8),
    NoiseSource("fan-b", "machine", "valid", partial(fan, rpm=(1700, 2300), blades=7), 1, 10),
    NoiseSource("rain-b", "weather", "valid", partial(rain, drops_per_s=(1200, 1600), drips_per_s=0.5), 1, 10),
    NoiseSource("wind-b", "weather", "valid", partial(wind, corner_hz=(380, 480)), 1, 10),
    NoiseSource("babble-b", "babble", "valid", partial(babble, talkers=6), 1, 12),
    NoiseSource("typing-b", "impacts", "valid", partial(typing, keys_per_s=(3, 4.5), thud_hz=(120, 300)), 1, 12),
    NoiseSource("engine-b", "vehicle", "valid", partial(engine, rpm=(2400, 3000), cylinders=3), 1, 10),
    NoiseSource("resonant-c", "stationary", "test", partial(coloured, tilt=(-8, -6.2), resonances=8), 1, 10),
    NoiseSource("fan-c", "machine", "test", partial(fan, rpm=(2500, 3300), blades=9), 1, 12),
    NoiseSource("hum-c", "machine", "test", partial(hum, mains_hz=60), 1, 8),
    NoiseSource("vacuum-c", "machine", "test", partial(vacuum, motor_hz=(520, 640)), 1, 10),
    NoiseSource(
        "rain-c", "weather", "test", partial(rain, drops_per_s=(80, 200), pitches=(700, 4000), drips_per_s=5), 1, 12
    ),
    NoiseSource("wind-c", "weather", "test", partial(wind, corner_hz=(90, 115), whistle=0.5), 1, 12),
    NoiseSource("babble-c", "babble", "test", partial(babble, talkers=6), 2, 12),
    NoiseSource("typing-c", "impacts", "test", partial(typing, keys_per_s=(8.5, 11), click_hz=(900, 2800)), 1, 14),
    NoiseSource("clatter-c", "impacts", "test", partial(clatter, pitches=(250, 2500), decay_s=(0.03, 0.16)), 1, 12),
    NoiseSource("footsteps-c", "impacts", "test", partial(footsteps, steps_per_s=(2.4, 2.9), grit=1.0), 1, 10),
    NoiseSource("engine-c", "vehicle", "test", partial(engine, rpm=(600, 800), cylinders=6), 1, 12),
    NoiseSource("cars-c", "vehicle", "test", partial(passing_cars, speed=(18, 26)), 1, 12),
)


def with_voices(source: NoiseSource, voices: Sequence[np.ndarray]) -> NoiseSource:
    """A babble source that knows its talkers; the others need nothing but a generator."""
    return replace(source, make=partial(source.make, voices=voices))


def make_noise(source: NoiseSource, number: int) -> np.ndarray:
    """File ``number`` of ``source``, (N,) at ``LEVEL_DBFS``."""
    rng = np.random.default_rng(seed_of("noise", source.name, number))
    return level(source.make(rng, round(source.seconds * SAMPLE_RATE), SAMPLE_RATE))
