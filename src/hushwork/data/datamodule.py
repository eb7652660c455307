"""A corpus as a Lightning data module: loaders for training, validation and test from one manifest."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from hushwork.config_checks import refuse_unused
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
from hushwork.data.replay import Corpora, ReplayDataset
from hushwork.data.shards import ShardOrder
from hushwork.data.taught import PartlyTaughtDataset, TaughtDataset, read_metadata


class NoisySpeechDataModule(pl.LightningDataModule):
    """Random mixtures for training, fixed ones for validation and test; a split with pairs uses these instead.

    Args:
        manifest: path or URL of a JSONL manifest that a preparer wrote, or of an Arrow manifest.
        train_also: manifests of further corpora for training; validation and test do not use them.
        replay: manifest of a known corpus to train, validate and test with beside ``manifest``, in mixtures of its own;
            splits without speech take its speech; in training ``init_from`` gives the reference. See :class:`Corpora`.
        replay_share: share of its mixtures.
        taught: folder of training mixtures with a teacher's output, see :class:`TaughtDataset`; the manifest then
            serves validation and test alone.
        taught_share: share of the training mixtures that come from that folder, see :class:`PartlyTaughtDataset`.
        taught_speed, taught_eq_db: augmentation of the mixtures from that folder, see :class:`TaughtDataset`.
        sample_rate: Hz; that of all recordings of the corpus.
        seed: of all random draws.
        mixing: distribution of the training mixtures.
        mixtures_per_epoch: number of training mixtures, over all devices.
        num_valid, num_test: number of fixed mixtures for validation and test.
        eval_snr_db: their SNRs in dB, taken in turn.
        eval_max_s: longer utterances of theirs are cut, seconds.
        eval_language: BCP 47 tag such as "en": validate and test with speech in this language only, from
            ``train_also`` too; None takes all languages, and nothing from ``train_also``.
        batch_size: mixtures in a batch, on each device.
        num_workers: loader processes; 0 loads in the training process. The mixtures do not depend on it.
        keep_decoded: each loader process keeps the training recordings that it has decoded in memory.
        order: of training speech. "random" draws it for each mixture, "shards" takes each utterance once, shard after
            shard.
        lanes, window: see :class:`~hushwork.data.shards.ShardOrder`.
        cache: folder for local copies of manifests and shards at URLs.
        cache_gb: GB of shards that are kept there; 0 reads only the bytes needed, from the URL, every time.

    Raises:
        ManifestError: in :meth:`setup`, if the manifest is not valid.
        ValueError: an unknown order, or one that does not fit the number of devices, the batch size or
            ``replay``.
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
        replay: str | None = None,
        replay_share: float = 0.5,
        taught: str | None = None,
        taught_share: float = 1.0,
        taught_speed: Sequence[float] = (1.0, 1.0),
        taught_eq_db: float = 0.0,
        eval_language: str | None = None,
        order: str = "random",
        lanes: int = 8,
        window: int = 2,
        cache: str | None = None,
        cache_gb: float = 0.0,
    ) -> None:
        super().__init__()
        if order not in ("random", "shards"):
            raise ValueError(f"data.order is {order!r}; choose random or shards")
        if replay and (taught or order == "shards"):
            other = f"data.taught={taught}" if taught else "data.order=shards"
            raise ValueError(f"data.replay is {replay}, which does not go with {other}; omit one of them")
        self.sample_rate = sample_rate
        self.batch_size = batch_size
        self.segment_s = mixing.segment_s
        self._manifest_path = manifest
        self._train_also = train_also
        self._taught, self._taught_share = taught, taught_share
        self._taught_variation: dict[str, Any] = {"speed": taught_speed, "eq_db": taught_eq_db}
        self._replay, self._replay_share = replay, replay_share
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
        """The corpus, with ``replay``; read and validated at first use."""
        return self._corpora.both

    @cached_property
    def _corpora(self) -> Corpora:
        measure_also = self._eval_language is not None
        rate = self.sample_rate
        new = load_manifest(self._manifest_path, rate, self._train_also, self._cache, measure_also=measure_also)
        return Corpora.of(new, load_manifest(self._replay, rate)) if self._replay else Corpora(new, new, new)

    @property
    def teachers(self) -> list[str]:
        """Names of the denoisers whose output is among the training targets.

        Raises:
            ManifestError: the folder ``taught`` does not name them.
        """
        return list(read_metadata(Path(self._taught)).get("teachers", [])) if self._taught else []

    def setup(self, stage: str | None = None) -> None:
        _ = self.manifest

    def refuse_unused(self, overrides: Sequence[str], splits: Sequence[str] = ("train", "valid", "test")) -> None:
        """Refuse overrides of ``data.*`` that have no effect on this order, or on splits with pairs among ``splits``.

        Raises:
            ValueError: names the first of them.
        """
        if self._order is None:
            advice = "set data.order=shards, or omit it"
            refuse_unused(overrides, "data.order=random", unused=("data.lanes", "data.window"), advice=advice)
        if not self._replay:
            advice = "set data.replay, or omit it"
            refuse_unused(overrides, "a training without data.replay", unused=("data.replay_share",), advice=advice)
        # Replay draws mixtures beside the pairs.
        paired = [] if self._replay else [split for split in splits if self.manifest.select("pair", split)]
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
        """Raise :class:`ManifestError` if one of these splits has neither pairs nor both speech and noise."""
        for split in splits:
            manifest = self._corpora.new if split == "train" else self.manifest
            if not manifest.select("pair", split):
                manifest.require("speech", split)
                manifest.require("noise", split)

    def train_dataset(self) -> NoisySpeechDataset:
        if self._taught:
            taught = TaughtDataset(
                self._taught,
                num_mixtures=self._mixtures_per_epoch,
                sample_rate=self.sample_rate,
                seed=self._seed,
                **self._taught_variation,
            )
            return PartlyTaughtDataset(taught, self.drawn_dataset(), self._taught_share)
        return self.drawn_dataset()

    def drawn_dataset(self) -> NoisySpeechDataset:
        """The training mixtures of the corpus, without a teacher."""
        new = self._drawn(self._corpora.new)
        return ReplayDataset(new, self._drawn(self._corpora.known), self._replay_share) if self._replay else new

    def _drawn(self, manifest: Manifest) -> NoisySpeechDataset:
        if manifest.select("pair", "train"):
            return PairedDataset(
                manifest,
                "train",
                sample_rate=self.sample_rate,
                seed=self._seed,
                segment_s=self._mixing.segment_s,
                num_mixtures=self._mixtures_per_epoch,
                order=self._order,
            )
        return NoisyMixtureDataset(
            manifest,
            self._mixing,
            num_mixtures=self._mixtures_per_epoch,
            sample_rate=self.sample_rate,
            seed=self._seed,
            keep_decoded=self._keep_decoded,
            order=self._order,
        )

    def fixed_dataset(self, split: str) -> NoisySpeechDataset:
        """The mixtures of "valid" or "test", the same for each call and each seed of training.

        Where ``manifest`` has no noise in this split, all are of ``replay``.
        """
        new, known = self._corpora.new, self._corpora.known
        if not self._replay:
            return self._fixed(new, split)
        if not new.select("pair", split) and not new.select("noise", split):
            return self._fixed(known, split)
        return ReplayDataset(self._fixed(new, split), self._fixed(known, split), self._replay_share)

    def _fixed(self, manifest: Manifest, split: str) -> NoisySpeechDataset:
        if manifest.select("pair", split):
            return PairedDataset(manifest, split, sample_rate=self.sample_rate, seed=0)
        return FixedMixtureDataset(
            manifest,
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
                f"data.order=shards: data.lanes is {self._lanes}, it must be a multiple of {self._devices[1]} "
                f"(devices); data.mixtures_per_epoch is {self._mixtures_per_epoch}, it must be a multiple of "
                f"{per_step} (data.batch_size times devices)"
            )
        progress = Progress(self.trainer, per_step, self._mixtures_per_epoch // per_step)
        dataset = self.train_dataset()
        sampler = EpochSampler(dataset, *self._devices, progress.in_epoch)
        return ResumableLoader(progress, dataset, sampler=sampler, drop_last=True, **self._loading())

    def val_dataloader(self) -> DataLoader[Mixture]:
        dataset = self.fixed_dataset("valid")
        assert isinstance(dataset, Dataset)
        if len(dataset) < self._devices[1]:
            few = f"{len(dataset)} mixtures for validation are fewer than {self._devices[1]} devices"
            raise ValueError(f"{few}; raise data.num_valid")
        return DataLoader(dataset, sampler=EpochSampler(dataset, *self._devices, complete=True), **self._loading())

    @property
    def _devices(self) -> tuple[int, int]:
        """Rank of this device, and number of devices."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loading(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "num_workers": self._num_workers,
            "collate_fn": collate,
            "worker_init_fn": ignore_stop_signals,
            "persistent_workers": self._num_workers > 0,
            "pin_memory": self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        }


def ignore_stop_signals(worker: int) -> None:
    """Ignore signals in a loader process: Slurm sends them to all processes, but the trainer must end first."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class Progress:
    """Progress of a training in mixtures, from Lightning's count of batches, which checkpoints hold.

    Lightning's count of epochs would not do: at the start of a resumed run it is one too low or one too high.

    Args:
        trainer: of the training; None stands for its beginning.
        per_step: mixtures in a batch, over all devices.
        steps: batches in an epoch, unless the trainer limits them.
    """

    def __init__(self, trainer: pl.Trainer | None, per_step: int, steps: int) -> None:
        self._trainer, self._per_step, self._steps = trainer, per_step, steps
        self._before = 0

    @property
    def mixtures(self) -> int:
        """Number of mixtures trained on since the first epoch."""
        if self._trainer is None:
            return 0
        batches = self._trainer.fit_loop.epoch_loop.batch_progress.total
        return self._before + batches.processed * self._per_step  # type: ignore[attr-defined]

    @mixtures.setter
    def mixtures(self, count: int) -> None:
        # Differs from the count of batches if the run is resumed with another batch size or number of devices. Rounded
        # up to whole steps, as epochs consist of whole steps.
        self._before += -(-count // self._per_step) * self._per_step - self.mixtures

    def in_epoch(self) -> tuple[int, int]:
        """The epoch, and the number of its mixtures already trained on."""
        if self._trainer is None or self._trainer.overfit_batches:  # type: ignore[attr-defined]
            return 0, 0
        limit: int | float = self._trainer.limit_train_batches
        steps = min(self._steps, limit) if isinstance(limit, int) else int(self._steps * limit)
        return divmod(self.mixtures, max(1, steps) * self._per_step)


class ResumableLoader(DataLoader[Any]):
    """A loader whose position is part of Lightning's checkpoints, so that a resumed run gets the next mixture."""

    def __init__(self, progress: Progress, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._progress = progress

    def state_dict(self) -> dict[str, int]:
        return {"mixtures": self._progress.mixtures}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._progress.mixtures = state_dict["mixtures"]


def shuffled_loader(trainer: pl.Trainer, dataset: Any, seed: int, batch_size: int, num_workers: int) -> ResumableLoader:
    """A loader of all items in each epoch, shuffled by seed and epoch, for data sets that are not mixtures."""
    progress = Progress(trainer, batch_size, -(-len(dataset) // batch_size))
    return ResumableLoader(
        progress,
        dataset,
        sampler=ShuffledSampler(dataset, seed, progress.in_epoch),
        batch_size=batch_size,
        num_workers=num_workers,
        worker_init_fn=ignore_stop_signals,
    )
