"""Corpora in shards for tests, and their mixtures."""

from __future__ import annotations

from typing import Any

import numpy as np

from hushwork import cli
from hushwork.data.datasets import FixedMixtureDataset
from hushwork.data.manifest import Manifest
from hushwork.data.mixtures import MixingConfig, NoisyMixtureDataset

RATE = 16000
MIXING = MixingConfig(segment_s=0.3, synthetic_noises={"babble": 0.3}, eq_probability=0.5)


def training_mixtures(manifest: Manifest, **options: Any) -> NoisyMixtureDataset:
    return NoisyMixtureDataset(manifest, MIXING, num_mixtures=8, sample_rate=RATE, seed=1, **options)


def same(one: Manifest, other: Manifest) -> bool:
    """Training and validation mixtures of both are equal to the last bit."""
    fixed = {"num_mixtures": 6, "snr_db": [0.0, 10.0], "max_s": 0.5, "sample_rate": RATE, "seed": 0}
    pairs = [
        *((training_mixtures(each)[epoch, index] for each in (one, other)) for epoch in (0, 3) for index in range(6)),
        *((FixedMixtureDataset(each, "valid", **fixed)[0, index] for each in (one, other)) for index in range(6)),
    ]
    return all(np.array_equal(a.noisy, b.noisy) and np.array_equal(a.clean, b.clean) for a, b in pairs)


def shard(*words: str) -> None:
    assert cli.main(["prepare", "shards", *words, "--shard-size", "40KB"]) == 0
