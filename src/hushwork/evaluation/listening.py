"""The listening set: forty fixed mixtures of the test split of ``data=debian``, to compare models by ear.

Scores are means over two hundred mixtures; listeners compare a few, the same for each model.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from hushwork.atomic import write_atomically
from hushwork.data.batch import Key, Mixture
from hushwork.data.datasets import NoisySpeechDataset, in_order

LOCK = Path(__file__).with_name("listening_set.json")
"""Name → SHA-256 of each mixture's noisy and clean samples with 16 bits, one after the other."""
NUM_MIXTURES, NUM_SNRS, NUM_CLASSES = 40, 5, 15


class ListeningSet:
    """The mixtures of the listening set: each class of noise two or three times, at different SNRs, each SNR 8 times.

    Args:
        test: the test split, whose mixtures run through 5 SNRs for each of 15 classes of noise.

    Shapes: N samples of a mixture, float32.
    """

    def __init__(self, test: NoisySpeechDataset) -> None:
        self._test = test
        rounds = [divmod(k, NUM_CLASSES) for k in range(NUM_MIXTURES)]
        self._indices = [NUM_SNRS * k + (k + turn) % NUM_SNRS for k, (turn, _) in enumerate(rounds)]

    def __len__(self) -> int:
        return NUM_MIXTURES

    def __getitem__(self, key: Key) -> Mixture:
        return self._test[key[0], self._indices[key[1]]]


def fingerprints(dataset: NoisySpeechDataset) -> dict[str, str]:
    """Name → SHA-256, as in :data:`LOCK`."""
    return {mixture.name: _fingerprint(mixture) for mixture in in_order(dataset)}


def differences(dataset: NoisySpeechDataset, lock: Path = LOCK) -> list[str]:
    """Names of the mixtures that are not the locked ones, or are missing; empty if all are."""
    locked, found = json.loads(lock.read_text("utf-8")), fingerprints(dataset)
    return sorted(name for name in locked.keys() | found.keys() if locked.get(name) != found.get(name))


def write_lock(dataset: NoisySpeechDataset, lock: Path = LOCK) -> None:
    """Lock these mixtures. Earlier listening results are then not comparable with later ones."""
    with write_atomically(lock) as part:
        part.write_text(json.dumps(fingerprints(dataset), indent=1) + "\n", encoding="utf-8")


def _fingerprint(mixture: Mixture) -> str:
    samples = np.concatenate([mixture.noisy, mixture.clean])
    return hashlib.sha256(np.rint(samples * 32767).astype("<i2").tobytes()).hexdigest()
