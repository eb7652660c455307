"""Tiny data sets of mixtures, and measurements of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hushwork.data import pool
from hushwork.data.batch import Mixture
from hushwork.data.datasets import (
    FixedMixtureDataset,
)
from hushwork.data.manifest import Manifest
from hushwork.data.mixtures import MixingConfig, NoisyMixtureDataset
from hushwork.data.recordings import Recording, Recordings

RATE = 16000
PLAIN: dict[str, Any] = {"segment_s": 0.5, "max_noises": 1, "speed": [1.0, 1.0], "eq_probability": 0.0}


def training(manifest: Manifest, seed: int = 0, num_mixtures: int = 8, **mixing: Any) -> NoisyMixtureDataset:
    config = MixingConfig(**{**PLAIN, **mixing})
    return NoisyMixtureDataset(manifest, config, num_mixtures=num_mixtures, sample_rate=RATE, seed=seed)


def fixed(manifest: Manifest, split: str = "valid", num_mixtures: int = 6, **options: Any) -> FixedMixtureDataset:
    options = {"snr_db": [-5.0, 5.0, 15.0], "max_s": 0.4, "seed": 0, **options}
    return FixedMixtureDataset(manifest, split, num_mixtures=num_mixtures, sample_rate=RATE, **options)


def loudness_of_speech(clean: np.ndarray) -> float:
    """Active level as its docstring defines it, frame by frame: 20 ms frames within 30 dB of the 95th percentile."""
    powers = [float((clean[i : i + 320].astype(float) ** 2).sum() / 320) for i in range(0, len(clean) - 319, 320)]
    loud = np.percentile(powers, 95)
    active = [power for power in powers if power > 0 and 10 * np.log10(power / loud) >= -30]
    return float(np.sqrt(sum(active) / len(active)))


def measured_snr_db(mixture: Mixture) -> float:
    noise = mixture.noisy.astype(float) - mixture.clean
    return float(20 * np.log10(loudness_of_speech(mixture.clean) / noise.std(ddof=0, mean=0.0)))


def equal(one: Mixture, other: Mixture) -> bool:
    return np.array_equal(one.noisy, other.noisy) and np.array_equal(one.clean, other.clean)


def opened(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the files that data sets read from now on."""
    names = set()
    original = pool.read_audio

    def reading(path: Path, *arguments: Any) -> Any:
        names.add(path.name)
        return original(path, *arguments)

    monkeypatch.setattr(pool, "read_audio", reading)
    return names


def hand_made(folder: Path, speech: np.ndarray, noise: np.ndarray) -> Manifest:
    """One speech and one noise file as float wav, for all splits."""
    soundfile.write(folder / "s.wav", speech.T, RATE, subtype="FLOAT")
    soundfile.write(folder / "n.wav", noise.T, RATE, subtype="FLOAT")
    common = {"sample_rate": RATE, "source": "x", "licence": "x"}
    lines = []
    for split in ("train", "valid"):
        seconds = [audio.shape[-1] / RATE for audio in (speech, noise)]
        lines += [
            Recording(path="s.wav", kind="speech", split=split, speaker="a", duration_s=seconds[0], **common),
            Recording(path="n.wav", kind="noise", split=split, noise_class="b", duration_s=seconds[1], **common),
        ]
    return Manifest(folder, Recordings(lines), "")
