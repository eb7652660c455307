"""A corpus as Lightning wants it: loaders for training, validation and test from one manifest."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from hushwork.config import refuse_unused
from hushwork.data.batch import Mixture, collate
from hushwork.data.cache import Cache
from hushwork.data.datasets import (
    EpochSampler,
    FixedMixtureDataset,
    NoisySpeechDataset,
    PairedDataset,
    ShuffledSampler,
)
from hushwork.data.manifest import Manifest, load_manifest
from hushwork.data.mixtures import MixingConfig, NoisyMixtureDataset
from hushwork.data.shards import ShardOrder
from hushwork.data.taught import TaughtDataset


class NoisySpeechDataModule(pl.LightningDataModule):
    """Mixtures for training, fixed ones for validation and test; a split that has pairs uses those as they are.

    Args:
        manifest: path of the JSONL manifest that a preparer wrote, or of an Arrow manifest, which may be a URL.
        train_also: manifests of further corpora, to train on but not to measure with.
        taught: folder of mixtures with a teacher's output to train on instead, see :class:`TaughtDataset`; the manifest
            still validates and tests.
        sample_rate: Hz; the corpus must have it.
        seed: of every draw.
        mixing: what is drawn for training mixtures.
        mixtures_per_epoch: on all devices together.
        num_valid, num_test: fixed mixtures for validation and test.
        eval_snr_db: the grid of their SNRs.
        eval_max_s: longer utterances are cut there, seconds.
        eval_language: BCP 47 tag such as "en": validate and test with speech in this language alone, also with that of
            ``train_also``; None takes all languages, and nothing of ``train_also``.
        batch_size: on each device.
        num_workers: loader processes; 0 loads in the training process. Changes no mixture.
        keep_decoded: keep the training recordings in memory once decoded, in every loader process.
        order: "random" draws speech for each mixture; "shards" takes each utterance once, shard after shard.
        lanes, window: see :class:`~hushwork.data.shards.ShardOrder`.
        cache: folder for copies of what lies at URLs.
        cache_gb: keep shards from URLs there, up to so many GB; 0 fetches from them only what is needed, every time.

    Raises:
        ManifestError: on :meth:`setup`, if the corpus must not be trained on.
        ValueError: an unknown order, or one that batches or devices do not fit.
    """

    def __init__(
        self,
        *,
        manifest: str,
        sample_rate: int,
        seed: int,
        mixing: MixingConfig,
        mixtures_per_epoch: int,
        num_valid: int,
        num_test: int,
        eval_snr_db: list[float],
        eval_max_s: float,
        batch_size: int,
        num_workers: int,
        keep_decoded: bool = False,
        train_also: Sequence[str] = (),
        taught: str | None = None,
        eval_language: str | None = None,
        order: str = "random",
        lanes: int = 8,
        window: int = 2,
        cache: str | None = None,
        cache_gb: float = 0.0,
    ) -> None:
        super().__init__()
        if order not in ("random", "shards"):
            raise ValueError(f"data.order is {order!r}; choose of random, shards")
        self.sample_rate = sample_rate
        self.batch_size = batch_size
        self.segment_s = mixing.segment_s
        self._manifest_path = manifest
        self._train_also = train_also
        self._taught = taught
        self._manifest: Manifest | None = None
        self._seed = seed
        self._mixing = mixing
        self._mixtures_per_epoch = mixtures_per_epoch
        self._num_fixed = {"valid": num_valid, "test": num_test}
        self._eval_snr_db = eval_snr_db
        self._eval_max_s = eval_max_s
        self._eval_language = eval_language
        self._num_workers = num_workers
        self._keep_decoded = keep_decoded
        self._lanes = lanes
        self._order = partial(ShardOrder, seed=seed, lanes=lanes, window=window) if order == "shards" else None
        self._cache = Cache(Path(cache), round(cache_gb * 1e9)) if cache else None

    @property
    def manifest(self) -> Manifest:
        """The corpus, read and validated at first use."""
        if self._manifest is None:
            self._manifest = load_manifest(
                self._manifest_path,
                self.sample_rate,
                self._train_also,
                self._cache,
                measure_also=self._eval_language is not None,
            )
        return self._manifest

    def setup(self, stage: str | None = None) -> None:
        _ = self.manifest

    def refuse_unused(self, overrides: Sequence[str], splits: Sequence[str] = ("train", "valid", "test")) -> None:
        """Refuse overrides of ``data.*`` that this order, or ``splits`` of pairs, would ignore.

        Raises:
            ValueError: with the first of them.
        """
        if self._order is None:
            advice = "set data.order=shards, or leave it out"
            refuse_unused(overrides, "data.order=random", unused=("data.lanes", "data.window"), advice=advice)
        paired = [split for split in splits if self.manifest.select("pair", split)]
        ignored = {
            "train": ("data.mixing.*", "data.keep_decoded"),
            "valid": ("data.num_valid",),
            "test": ("data.num_test",),
        }
        for split in paired:
            user, used = f"the split {split}, whose pairs are used as they are,", ("data.mixing.segment_s",)
            refuse_unused(overrides, user, unused=ignored[split], used=used)
        if paired and set(splits) <= {"train", *paired}:
            refuse_unused(overrides, "a corpus whose pairs are used as they are", unused=("data.eval_*",))

    def require(self, *splits: str) -> None:
        """Raises :class:`ManifestError` if one of these splits has neither pairs nor speech and noise."""
        for split in splits:
            if not self.manifest.select("pair", split):
                self.manifest.require("speech", split)
                self.manifest.require("noise", split)

    def train_dataset(self) -> NoisySpeechDataset:
        if self._taught:
            return TaughtDataset(
                self._taught, num_mixtures=self._mixtures_per_epoch, sample_rate=self.sample_rate, seed=self._seed
            )
        return self.drawn_dataset()

    def drawn_dataset(self) -> NoisySpeechDataset:
        """The training mixtures as the corpus gives them, without a teacher."""
        if self.manifest.select("pair", "train"):
            return PairedDataset(
                self.manifest,
                "train",
                sample_rate=self.sample_rate,
                seed=self._seed,
                segment_s=self._mixing.segment_s,
                num_mixtures=self._mixtures_per_epoch,
                order=self._order,
            )
        return NoisyMixtureDataset(
            self.manifest,
            self._mixing,
            num_mixtures=self._mixtures_per_epoch,
            sample_rate=self.sample_rate,
            seed=self._seed,
            keep_decoded=self._keep_decoded,
            order=self._order,
        )

    def fixed_dataset(self, split: str) -> NoisySpeechDataset:
        """The mixtures of "valid" or "test", the same at every call and for every seed of training."""
        if self.manifest.select("pair", split):
            return PairedDataset(self.manifest, split, sample_rate=self.sample_rate, seed=0)
        return FixedMixtureDataset(
            self.manifest,
            split,
            num_mixtures=self._num_fixed[split],
            snr_db=self._eval_snr_db,
            max_s=self._eval_max_s,
            sample_rate=self.sample_rate,
            seed=0,
            language=self._eval_language,
        )

    def train_dataloader(self) -> DataLoader[Mixture]:
        per_step = self.batch_size * self._devices[1]
        if self._order and (self._lanes % self._devices[1] or self._mixtures_per_epoch % per_step):
            raise ValueError(
                f"data.order=shards: data.lanes is {self._lanes}, which must be a multiple of {self._devices[1]} "
                f"device(s), and data.mixtures_per_epoch {self._mixtures_per_epoch}, which must be one of {per_step} "
                "mixtures in a step"
            )
        progress = Progress(self.trainer, per_step, self._mixtures_per_epoch // per_step)
        dataset = self.train_dataset()
        sampler = EpochSampler(dataset, *self._devices, progress.in_epoch)
        return ResumableLoader(progress, dataset, sampler=sampler, drop_last=True, **self._loading())

    def val_dataloader(self) -> DataLoader[Mixture]:
        dataset = self.fixed_dataset("valid")
        assert isinstance(dataset, Dataset)
        if len(dataset) < self._devices[1]:
            raise ValueError(
                f"{len(dataset)} mixtures to validate with (data.num_valid) for {self._devices[1]} devices"
            )
        return DataLoader(dataset, sampler=EpochSampler(dataset, *self._devices, complete=True), **self._loading())

    @property
    def _devices(self) -> tuple[int, int]:
        """Which one this is, of how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loading(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "num_workers": self._num_workers,
            "collate_fn": collate,
            "worker_init_fn": leave_signals_to_the_trainer,
            "persistent_workers": self._num_workers > 0,
            "pin_memory": self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        }


def leave_signals_to_the_trainer(worker: int) -> None:
    """What tells a run to stop is often sent to all its processes, as Slurm does; loaders end when the trainer does."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class Progress:
    """How far a training is, in mixtures, by Lightning's count of batches, which checkpoints keep.

    Its counts of epochs are not yet, or twice, raised where a resumed run begins.

    Args:
        trainer: whose training; None is at its beginning.
        per_step: mixtures in a batch, on all devices together.
        steps: batches in an epoch, unless the trainer limits them.
    """

    def __init__(self, trainer: pl.Trainer | None, per_step: int, steps: int) -> None:
        self._trainer, self._per_step, self._steps = trainer, per_step, steps
        self._before = 0

    @property
    def mixtures(self) -> int:
        """That were trained on, since the first epoch."""
        if self._trainer is None:
            return 0
        batches = self._trainer.fit_loop.epoch_loop.batch_progress.total
        return self._before + batches.processed * self._per_step  # type: ignore[attr-defined]

    @mixtures.setter
    def mixtures(self, count: int) -> None:
        # Something is to be made up for if the run goes on with batches of another size, or on more devices. What is
        # less than a step is left out, since epochs are of whole steps.
        self._before += -(-count // self._per_step) * self._per_step - self.mixtures

    def in_epoch(self) -> tuple[int, int]:
        """The epoch, and the mixtures of it that were trained on."""
        if self._trainer is None or self._trainer.overfit_batches:  # type: ignore[attr-defined]
            return 0, 0
        limit: int | float = self._trainer.limit_train_batches
        steps = min(self._steps, limit) if isinstance(limit, int) else int(self._steps * limit)
        return divmod(self.mixtures, max(1, steps) * self._per_step)


class ResumableLoader(DataLoader[Any]):
    """A loader that Lightning's checkpoints know the place of, so that a run goes on with the next mixture."""

    def __init__(self, progress: Progress, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._progress = progress

    def state_dict(self) -> dict[str, int]:
        return {"mixtures": self._progress.mixtures}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._progress.mixtures = state_dict["mixtures"]


def shuffled_loader(trainer: pl.Trainer, dataset: Any, seed: int, batch_size: int, num_workers: int) -> ResumableLoader:
    """All of a data set in each epoch, shuffled by seed and epoch; for data that is no mixtures."""
    progress = Progress(trainer, batch_size, -(-len(dataset) // batch_size))
    return ResumableLoader(
        progress,
        dataset,
        sampler=ShuffledSampler(dataset, seed, progress.in_epoch),
        batch_size=batch_size,
        num_workers=num_workers,
        worker_init_fn=leave_signals_to_the_trainer,
    )
