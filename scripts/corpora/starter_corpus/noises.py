"""The noise sources of the starter corpus, all synthetic.

The functions that make them have the argument order of ``hushwork.augment.noises``: number of samples N, sample rate in
Hz, generator. Those draw new kinds of noise for each training mixture; these are few, long and shaped in detail, and
their order of random numbers is fixed by the corpus that ships.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hushwork.prepare.utterances import LEVEL_DBFS, SAMPLE_RATE, seed_of
from starter_corpus.events import babble, clatter, engine, footsteps, passing_cars, railway, typing
from starter_corpus.steady import coloured, compressor, drill, fan, hum, rain, speech_shaped, vacuum, waves, wind

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
    return level(source.make(round(source.seconds * SAMPLE_RATE), SAMPLE_RATE, rng))
