"""The data module: loaders, resuming, devices."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from hushwork.data.batch import NoisySpeechBatch
from hushwork.data.datamodule import NoisySpeechDataModule
from hushwork.data.datasets import PairedDataset, in_order
from hushwork.data.mixtures import MixingConfig
from hushwork.data.recordings import ManifestError

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
    with pytest.raises(ManifestError, match="no such manifest"):
        make(tmp_path / "manifest.jsonl").setup()


class Listener(pl.LightningModule):
    """Notes the names of what it trains on; raises after ``stop`` batches."""

    def __init__(self, stop: int = 999) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.stop = stop
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: NoisySpeechBatch, batch_idx: int) -> Tensor:
        if self.stop == 0:
            raise InterruptedError("stopped")
        self.stop -= 1
        self.heard += batch.names
        return self.weight * batch.noisy.mean()

    def validation_step(self, batch: NoisySpeechBatch, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def listen(
    data: NoisySpeechDataModule, folder: Path, stop: int = 999, resume: bool = False, **options: Any
) -> list[str]:
    """Trains until step 12, or breaks off; a checkpoint after each step."""
    module = Listener(stop)
    saving = ModelCheckpoint(folder, save_last=True, every_n_train_steps=1)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    distributed = {"use_distributed_sampler": False, "limit_val_batches": 0}
    trainer = pl.Trainer(max_steps=12, max_epochs=-1, callbacks=[saving], **quiet, **distributed, **options)
    checkpoint = str(folder / "last.ckpt") if resume else None
    with suppress(InterruptedError):
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return module.heard


WHOLE = [f"{epoch}/{index}" for epoch in range(4) for index in range(6)]  # 7 in an epoch, of which the last is dropped


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(("stops", "num_workers"), [([1], 0), ([4], 1), ([3], 0), ([2, 5], 0), ([7, 1, 1], 0)])
def test_training_resumes_with_the_next_mixture(
    corpus: Path, tmp_path: Path, stops: list[int], num_workers: int
) -> None:
    heard: list[str] = []
    for turn, stop in enumerate([*stops, 999]):
        heard += listen(make(corpus, num_workers=num_workers), tmp_path, stop, turn > 0)
    assert heard == WHOLE


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_limit_of_batches_is_an_epoch(corpus: Path, tmp_path: Path) -> None:
    options = {"limit_train_batches": 2}
    heard = listen(make(corpus), tmp_path, 3, **options) + listen(make(corpus), tmp_path, resume=True, **options)
    assert heard == [f"{epoch}/{index}" for epoch in range(6) for index in range(4)]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_run_resumes_with_another_batch_size(corpus: Path, tmp_path: Path) -> None:
    """Four batches of 2 out of epochs of 12, then batches of 3, which begin at a multiple of 3."""
    heard = listen(make(corpus, mixtures_per_epoch=12), tmp_path, 4)
    heard += listen(make(corpus, mixtures_per_epoch=12, batch_size=3), tmp_path, resume=True)
    expected = [f"{epoch}/{index}" for epoch in range(3) for index in range(12) if (epoch, index) != (0, 8)]
    assert heard == expected[: 4 * 2 + 8 * 3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"order": "sharded"}, "data.order is 'sharded'; choose random or shards"),
        ({"order": "shards"}, "mixtures_per_epoch is 7, it must be a multiple of 2"),
        ({"order": "shards", "mixtures_per_epoch": 8}, "data.order=shards needs all speech in shards"),
    ],
    ids=str,
)
def test_impossible_orders_are_refused(wrong: dict[str, Any], message: str, corpus: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make(corpus, **wrong).train_dataloader()


def test_the_manifest_is_read_once(corpus: Path) -> None:
    data = make(corpus)
    data.setup()
    assert data.manifest is data.manifest
