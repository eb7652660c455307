"""The data module: loaders, resuming, devices."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from hushwork.audio.io import write_audio
from hushwork.data.batch import NoisySpeechBatch
from hushwork.data.datamodule import NoisySpeechDataModule
from hushwork.data.datasets import PairedDataset, in_order
from hushwork.data.manifest import write_manifest
from hushwork.data.mixtures import MixingConfig
from hushwork.data.recordings import ManifestError, Recording

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


@pytest.fixture(scope="module")
def new_noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a drill: noise alone, none of it for validation."""
    folder, rng = tmp_path_factory.mktemp("new"), np.random.default_rng(5)
    drill = 0.1 * rng.standard_normal(RATE).astype(np.float32)
    fields = {"kind": "noise", "noise_class": "drill", "licence": "CC0-1.0", "sample_rate": RATE, "duration_s": 1.0}
    recordings = []
    for split in ("train", "test"):
        write_audio(folder / f"{split}.flac", drill, RATE)
        recordings.append(Recording(path=f"{split}.flac", split=split, source=f"drill {split}", **fields))
    write_manifest(folder / "manifest.jsonl", recordings)
    return folder / "manifest.jsonl"


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_replay_mixes_new_noise_and_a_known_corpus_in_turns(new_noise: Path, corpus: Path, share: float) -> None:
    data = make(new_noise, replay=str(corpus), replay_share=share, mixtures_per_epoch=8)
    for dataset in (data.train_dataset(), data.fixed_dataset("test")):
        classes = [mixture.noise_class for mixture in in_order(dataset)]
        assert classes.count("drill") == round(len(classes) * (1 - share))
        if share == 0.5:
            assert [name == "drill" for name in classes[:4]] == [True, False, True, False]
    assert {mixture.speaker for mixture in in_order(data.train_dataset())} <= {"train0", "train1", "train2"}
    # The known mixtures are those that the known corpus gives by itself.
    alone = make(corpus, mixtures_per_epoch=8)
    for get in ("train_dataset", "fixed_dataset"):
        part, dataset = (getattr(each, get)(*(["test"] if get == "fixed_dataset" else [])) for each in (data, alone))
        known = [mixture for mixture in in_order(part) if mixture.noise_class != "drill"]
        for one, other in zip(known, in_order(dataset), strict=False):
            np.testing.assert_array_equal(one.noisy, other.noisy)
    assert all(mixture.replayed == (mixture.noise_class != "drill") for mixture in in_order(data.train_dataset()))


def test_replay_measures_with_the_known_corpus_where_there_is_no_new_noise(new_noise: Path, corpus: Path) -> None:
    data = make(new_noise, replay=str(corpus))
    data.require("train", "valid", "test")
    classes = {mixture.noise_class for mixture in in_order(data.fixed_dataset("valid"))}
    assert classes <= {"class0", "class1", "class2"}
    assert len({make(new_noise).manifest.sha256, make(corpus).manifest.sha256, data.manifest.sha256}) == 3
    assert {source["source"] for source in data.manifest.contents("train")["sources"]} >= {"drill train", "tones"}


def test_replay_needs_new_noise_and_no_other_order(new_noise: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="has no speech in the split 'train'"):
        make(new_noise).require("train")
    speech = [line for line in corpus.read_text("utf-8").splitlines() if '"kind": "speech"' in line]
    (corpus.parent / "speech.jsonl").write_text("\n".join(speech), encoding="utf-8")
    with pytest.raises(ManifestError, match="has no noise in the split 'train'"):
        make(corpus.parent / "speech.jsonl", replay=str(new_noise)).require("train")
    (corpus.parent / "speech.jsonl").unlink()
    with pytest.raises(ValueError, match=r"data.replay is .*, which does not go with data.order=shards"):
        make(new_noise, replay=str(corpus), order="shards")
    with pytest.raises(ValueError, match=r"data.replay_share is set, but a training without data.replay"):
        make(corpus).refuse_unused(["data.replay_share=0.2"])
    moved = new_noise.read_text("utf-8").replace("drill test", "noise of train")
    (new_noise.parent / "moved.jsonl").write_text(moved, encoding="utf-8")
    with pytest.raises(ManifestError, match="noise source 'noise of train' is in the splits test and train"):
        make(new_noise.parent / "moved.jsonl", replay=str(corpus)).setup()


class Listener(pl.LightningModule):
    """Notes the names of what it trains on; raises after ``stop`` batches."""

    def __init__(self, stop: int = 999) -> None:
        super().__init__()
        self.names_seen: list[str] = []
        self.stop = stop
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: NoisySpeechBatch, batch_idx: int) -> Tensor:
        if self.stop == 0:
            raise InterruptedError("stopped")
        self.stop -= 1
        self.names_seen += batch.names
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
    return module.names_seen


WHOLE = [f"{epoch}/{index}" for epoch in range(4) for index in range(6)]  # 7 in an epoch, of which the last is dropped


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(("stops", "num_workers"), [([1], 0), ([4], 1), ([3], 0), ([2, 5], 0), ([7, 1, 1], 0)])
def test_training_resumes_with_the_next_mixture(
    corpus: Path, tmp_path: Path, stops: list[int], num_workers: int
) -> None:
    names_seen: list[str] = []
    for turn, stop in enumerate([*stops, 999]):
        names_seen += listen(make(corpus, num_workers=num_workers), tmp_path, stop, turn > 0)
    assert names_seen == WHOLE


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_limit_of_batches_is_an_epoch(corpus: Path, tmp_path: Path) -> None:
    options = {"limit_train_batches": 2}
    names_seen = listen(make(corpus), tmp_path, 3, **options) + listen(make(corpus), tmp_path, resume=True, **options)
    assert names_seen == [f"{epoch}/{index}" for epoch in range(6) for index in range(4)]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_run_resumes_with_another_batch_size(corpus: Path, tmp_path: Path) -> None:
    """Four batches of 2 out of epochs of 12, then batches of 3, which begin at a multiple of 3."""
    names_seen = listen(make(corpus, mixtures_per_epoch=12), tmp_path, 4)
    names_seen += listen(make(corpus, mixtures_per_epoch=12, batch_size=3), tmp_path, resume=True)
    expected = [f"{epoch}/{index}" for epoch in range(3) for index in range(12) if (epoch, index) != (0, 8)]
    assert names_seen == expected[: 4 * 2 + 8 * 3]


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
