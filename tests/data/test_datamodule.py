"""The corpus as loaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hushwork.data.datamodule import NoisySpeechDataModule
from hushwork.data.datasets import PairedDataset, in_order
from hushwork.data.manifest import ManifestError
from hushwork.data.mixtures import MixingConfig

RATE = 16000


def make(manifest: Path, **changed: Any) -> NoisySpeechDataModule:
    options = {
        "sample_rate": RATE,
        "seed": 0,
        "mixing": MixingConfig(segment_s=0.25),
        "mixtures_per_epoch": 7,
        "num_valid": 5,
        "num_test": 4,
        "eval_snr_db": [0.0, 10.0],
        "eval_max_s": 0.5,
        "batch_size": 2,
        "num_workers": 0,
    }
    return NoisySpeechDataModule(manifest=str(manifest), **{**options, **changed})


def test_training_batches_are_full_and_validation_is_complete(corpus: Path) -> None:
    data = make(corpus)
    training, validation = list(data.train_dataloader()), list(data.val_dataloader())
    assert [batch.noisy.shape for batch in training] == [(2, RATE // 4)] * 3
    assert [len(batch.names) for batch in validation] == [2, 2, 1]
    assert all(batch.lengths.tolist() == [RATE // 2] * len(batch.names) for batch in validation)


def test_the_seed_moves_training_alone(corpus: Path) -> None:
    one, two = make(corpus, seed=0), make(corpus, seed=1)
    assert not torch.equal(next(iter(one.train_dataloader())).noisy, next(iter(two.train_dataloader())).noisy)
    for split, number in (("valid", 5), ("test", 4)):
        mixtures = [list(in_order(data.fixed_dataset(split))) for data in (one, two)]
        assert len(mixtures[0]) == number
        for a, b in zip(*mixtures, strict=True):
            assert (a.noisy == b.noisy).all()


def test_pairs_are_used_where_there_are_some(paired_corpus: Path) -> None:
    data = make(paired_corpus)
    batches = list(data.train_dataloader())
    assert len(batches) == 3
    assert all(batch.noisy.shape == (2, RATE // 4) for batch in batches)
    for batch in batches:  # what was added to the clean file is a tone of 2 kHz with amplitude 0.02
        tone = (batch.noisy - batch.clean).numpy()
        assert tone.std(axis=-1) == pytest.approx(0.02 / 2**0.5, rel=0.01)
    assert isinstance(data.fixed_dataset("test"), PairedDataset)
    assert next(iter(data.val_dataloader())).lengths.tolist() == [16000, 17600]


def test_padding_is_silent(paired_corpus: Path) -> None:
    batch = next(iter(make(paired_corpus).val_dataloader()))
    assert batch.noisy.shape == (2, 17600)
    assert not batch.noisy[0, 16000:].any()
    assert not batch.clean[0, 16000:].any()


def test_setup_refuses_a_corpus_at_another_rate(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="training is set to 8000 Hz"):
        make(corpus, sample_rate=8000).setup()
    with pytest.raises(ManifestError, match="run the preparer"):
        make(tmp_path / "manifest.jsonl").setup()


def test_the_manifest_is_read_once(corpus: Path) -> None:
    data = make(corpus)
    data.setup()
    assert data.manifest is data.manifest
