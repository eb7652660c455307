"""Impacts, vehicles and babble of the starter corpus. All functions return noise (N,) at any level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from starter_corpus.steady import coloured
from starter_corpus.synthesis import (
    Range,
    harmonics,
    moving_filter,
    place,
    random_phases,
    reverberate,
    ring,
    slow_curve,
)


def typing(
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
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
        click = ring(sample_rate, rng, click_hz, 5, (0.0008, 0.005), 0.05)
        burst = np.exp(-np.arange(len(click)) / (0.0015 * sample_rate)) * rng.standard_normal(len(click))
        thud = ring(sample_rate, rng, thud_hz, 4, (0.004, 0.014), 0.05)
        delay = int(rng.uniform(0.004, 0.012) * sample_rate)
        bank.append(np.pad(click + 0.3 * burst, (0, delay)) + np.pad(1.5 * thud, (delay, 0)))
    keys = rng.integers(len(bank), size=len(presses))
    down = [rng.lognormal(0, 0.3) * bank[key] for key in keys]
    up = [0.35 * rng.lognormal(0, 0.3) * bank[key][: len(bank[key]) // 2] for key in keys]
    releases = presses + rng.uniform(0.06, 0.12, len(presses)) * sample_rate
    audio = place(num_samples, presses, down) + place(num_samples, np.minimum(releases, num_samples), up)
    audio = reverberate(audio, sample_rate, rng, rng.uniform(0.15, 0.35), 0.5)
    floor = coloured(num_samples, sample_rate, rng, tilt=(-5, -3))
    return audio + rng.uniform(0.04, 0.08) * np.std(audio) * floor / np.std(floor)


def clatter(
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
    *,
    hits_per_s: Range = (2.5, 4.5),
    pitches: Range = (900, 6500),
    decay_s: Range = (0.01, 0.09),
) -> np.ndarray:
    """Dishes and tools: objects of metal, glass or wood that strike each other in small clusters."""
    objects = [ring(sample_rate, rng, pitches, 8, decay_s, 6 * decay_s[1]) for _ in range(8)]
    rate = rng.uniform(*hits_per_s) * num_samples / sample_rate
    clusters = np.sort(rng.uniform(0, num_samples, max(3, rng.poisson(rate / 2.5))))
    members = rng.integers(1, 5, len(clusters))
    starts = np.repeat(clusters, members) + rng.exponential(0.06 * sample_rate, members.sum())
    starts = np.minimum(starts, num_samples)
    hits = [rng.lognormal(0, 0.6) * objects[index] for index in rng.integers(len(objects), size=len(starts))]
    audio = reverberate(place(num_samples, starts, hits), sample_rate, rng, rng.uniform(0.3, 0.6), 0.7)
    floor = coloured(num_samples, sample_rate, rng, tilt=(-5, -2))
    return audio + rng.uniform(0.05, 0.1) * np.std(audio) * floor / np.std(floor)


def footsteps(
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
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
        heel = ring(sample_rate, rng, heel_hz, 6, (0.006, 0.025), 0.3)
        click = ring(sample_rate, rng, (1200, 4500), 4, (0.001, 0.004), 0.3)
        times = np.arange(len(heel)) / sample_rate
        sole = rng.standard_normal(len(heel)) * np.exp(-(((times - 0.09) / 0.035) ** 2)) * grit * 0.2
        steps.append((1.0 if index % 2 else 0.85) * rng.lognormal(0, 0.15) * (heel + 0.4 * click + sole))
    first, last = rng.permutation([0.5, 1.3])
    nearness = np.linspace(first, last, num_samples)
    audio = place(num_samples, np.clip(starts, 0, num_samples), steps) * nearness
    audio = reverberate(audio, sample_rate, rng, rng.uniform(0.5, 0.9), 0.8)
    floor = coloured(num_samples, sample_rate, rng, tilt=(-6, -4))
    return audio + rng.uniform(0.05, 0.1) * np.std(audio) * floor / np.std(floor)


def engine(
    num_samples: int, sample_rate: int, rng: np.random.Generator, *, rpm: Range = (900, 2200), cylinders: int = 4
) -> np.ndarray:
    """A combustion engine heard from inside: half orders of the shaft through a muffler, drifting with the throttle."""
    drift = np.exp(0.12 * slow_curve(num_samples, sample_rate, rng, 0.15))
    jitter = 1 + 0.006 * slow_curve(num_samples, sample_rate, rng, 8.0)
    half_order_hz = rng.uniform(*rpm) / 120 * drift * jitter
    phase = 2 * np.pi * np.cumsum(half_order_hz) / sample_rate
    orders = np.arange(1, 61)
    mean_hz = orders * float(np.mean(half_order_hz))
    muffler = 1 / (1 + (mean_hz / rng.uniform(150, 300)) ** 1.6)
    for centre in rng.uniform(60, 900, 3):
        muffler *= 1 + 2 * np.exp(-(((mean_hz - centre) / (0.2 * centre)) ** 2))
    firing = np.where(orders % cylinders == 0, 1.0, 0.2) * rng.lognormal(0, 0.4, len(orders))
    tone = harmonics(phase, firing * muffler, random_phases(rng, len(orders)))
    roar = coloured(num_samples, sample_rate, rng, tilt=(-6.5, -4.5), resonances=3)
    roar *= (1 + 0.5 * np.cos(phase * cylinders)) / np.std(roar)
    road = coloured(num_samples, sample_rate, rng, tilt=(-8, -6), resonances=1)
    return drift**2 * (tone / np.std(tone) + 0.4 * roar) + rng.uniform(0.3, 0.8) * road / np.std(road)


def passing_cars(
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
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

    audio = moving_filter(num_samples, sample_rate, rng, gain)
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
    num_samples: int, sample_rate: int, rng: np.random.Generator, *, speed: Range = (14, 22), rail_m: float = 15.0
) -> np.ndarray:
    """Inside a train: rumble, rolling noise, and the double knock of the bogies at each rail joint."""
    metres_per_s = rng.uniform(*speed)
    joints = np.arange(0, num_samples, rail_m / metres_per_s * sample_rate)
    knock = ring(sample_rate, rng, (70, 900), 10, (0.01, 0.05), 0.25)
    starts = np.concatenate([joints, joints + 2.5 / metres_per_s * sample_rate])
    knocks = [rng.lognormal(0, 0.2) * knock for _ in starts]
    rolling = coloured(num_samples, sample_rate, rng, tilt=(-6, -4.5), resonances=2)
    sway = 1 + 0.15 * slow_curve(num_samples, sample_rate, rng, 0.6)
    beats = reverberate(place(num_samples, np.minimum(starts, num_samples), knocks), sample_rate, rng, 0.3, 0.5)
    return sway * rolling / np.std(rolling) + rng.uniform(0.5, 0.9) * beats / np.std(beats)


def babble(
    num_samples: int, sample_rate: int, rng: np.random.Generator, *, voices: Sequence[np.ndarray], talkers: int = 7
) -> np.ndarray:
    """``talkers`` of ``voices`` (each all speech of one speaker, (n,)) at once, at different distances in one room."""
    chosen = rng.permutation(len(voices))[:talkers]
    audio = np.zeros(num_samples)
    for index in chosen:
        voice = np.roll(voices[index], -rng.integers(len(voices[index])))
        heard = reverberate(np.resize(voice, num_samples), sample_rate, rng, 0.5, rng.uniform(0.4, 1.5))
        audio += 10 ** (rng.uniform(-4, 4) / 20) * heard
    floor = coloured(num_samples, sample_rate, rng, tilt=(-5, -3))
    return audio + 0.06 * np.std(audio) * floor / np.std(floor)
