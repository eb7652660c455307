"""A corpus as Lightning wants it: loaders for training, validation and test from one manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from hushwork.data.batch import Mixture, collate
from hushwork.data.datasets import (
    EpochSampler,
    FixedMixtureDataset,
    NoisySpeechDataset,
    PairedDataset,
)
from hushwork.data.manifest import Manifest, load_manifest
from hushwork.data.mixtures import MixingConfig, NoisyMixtureDataset


class NoisySpeechDataModule(pl.LightningDataModule):
    """Mixtures for training, fixed ones for validation and test; a split that has pairs uses those as they are.

    Args:
        manifest: path of the JSONL manifest that a preparer wrote.
        train_also: manifests of further corpora, to train on but not to measure with.
        sample_rate: Hz; the corpus must have it.
        seed: of every draw.
        mixing: what is drawn for training mixtures.
        mixtures_per_epoch: on all devices together.
        num_valid, num_test: fixed mixtures for validation and test.
        eval_snr_db: the grid of their SNRs.
        eval_max_s: longer utterances are cut there, seconds.
        batch_size: on each device.
        num_workers: loader processes; 0 loads in the training process. Changes no mixture.
        keep_decoded: keep the training recordings in memory once decoded, in every loader process.

    Raises:
        ManifestError: on :meth:`setup`, if the corpus must not be trained on.
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
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.batch_size = batch_size
        self.segment_s = mixing.segment_s
        self._manifest_path = Path(manifest)
        self._train_also = train_also
        self._manifest: Manifest | None = None
        self._seed = seed
        self._mixing = mixing
        self._mixtures_per_epoch = mixtures_per_epoch
        self._num_fixed = {"valid": num_valid, "test": num_test}
        self._eval_snr_db = eval_snr_db
        self._eval_max_s = eval_max_s
        self._num_workers = num_workers
        self._keep_decoded = keep_decoded

    @property
    def manifest(self) -> Manifest:
        """The corpus, read and validated at first use."""
        if self._manifest is None:
            self._manifest = load_manifest(self._manifest_path, self.sample_rate, self._train_also)
        return self._manifest

    def setup(self, stage: str | None = None) -> None:
        _ = self.manifest

    def train_dataset(self) -> NoisySpeechDataset:
        if self.manifest.select("pair", "train"):
            return PairedDataset(
                self.manifest,
                "train",
                sample_rate=self.sample_rate,
                seed=self._seed,
                segment_s=self._mixing.segment_s,
                num_mixtures=self._mixtures_per_epoch,
            )
        return NoisyMixtureDataset(
            self.manifest,
            self._mixing,
            num_mixtures=self._mixtures_per_epoch,
            sample_rate=self.sample_rate,
            seed=self._seed,
            keep_decoded=self._keep_decoded,
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
        )

    def train_dataloader(self) -> DataLoader[Mixture]:
        return self._loader(self.train_dataset(), drop_last=True)

    def val_dataloader(self) -> DataLoader[Mixture]:
        return self._loader(self.fixed_dataset("valid"), drop_last=False)

    def _loader(self, dataset: NoisySpeechDataset, drop_last: bool) -> DataLoader[Mixture]:
        trainer = self.trainer
        sampler = EpochSampler(dataset)
        if trainer:
            sampler = EpochSampler(dataset, trainer.global_rank, trainer.world_size, self._epoch)
        assert isinstance(dataset, Dataset)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self._num_workers,
            collate_fn=collate,
            drop_last=drop_last,
            persistent_workers=self._num_workers > 0,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )

    def _epoch(self) -> int:
        # By steps, because Lightning's own count of epochs is not yet, or twice, raised where a resumed run begins.
        trainer = self.trainer
        assert trainer is not None
        if trainer.overfit_batches:  # type: ignore[attr-defined]
            return 0
        batches: int = self._mixtures_per_epoch // trainer.world_size // self.batch_size
        limit: int | float = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        return trainer.global_step // max(1, math.ceil(batches / trainer.accumulate_grad_batches))
