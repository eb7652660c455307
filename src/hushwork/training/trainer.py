"""The Lightning trainer of a run."""

from __future__ import annotations

import os
from collections.abc import Collection

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig

from hushwork.config import cli_overrides, in_sweep
from hushwork.config_checks import refuse_unused
from hushwork.training.pruning import pruning_callbacks

SHARED_SETTINGS = (  # settings that all trainings use
    *("name", "run", "run.*", "experiment", "debug", "sweep", "hydra*", "paths.*", "seed", "num_threads", "ckpt_path"),
    *("optimized_metric", "optimizer", "optimizer.*", "trainer", "trainer.*", "callbacks*", "logger", "logger.*"),
)
DENOISER_CALLBACKS = ("gradients", "speed", "examples")  # callbacks that need mixtures


def make_trainer(cfg: DictConfig, without: Collection[str] = ()) -> pl.Trainer:
    """The configured trainer, ``without`` some of the callbacks.

    Raises:
        ValueError: a trial of a sweep would take several devices, or the command line sets a callback that is left out.
    """
    refuse_unused(cli_overrides(), "this training", unused=[f"callbacks.{name}*" for name in without])
    callbacks = [instantiate(node) for name, node in cfg.callbacks.items() if node and name not in without]
    callbacks += pruning_callbacks(cfg)
    loggers = [instantiate(node) for node in cfg.logger.values() if node]
    trainer: pl.Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers or False)
    if in_sweep():
        advice = ", and hydra/launcher=ray for one trial per GPU at once; or train on several devices without -m"
        require_one_device(trainer, "each trial of a sweep", advice)
    return trainer


def require_one_device(trainer: pl.Trainer, user: str, advice: str = "") -> None:
    """Raises:
    ValueError: the trainer would take several devices.
    """
    if trainer.world_size > 1:
        raise ValueError(f"{user} trains on one device, not on {trainer.world_size}: take trainer=gpu (or cpu){advice}")


def num_cores() -> int:
    """Cores of this process: ``OMP_NUM_THREADS``, which Ray sets to a trial's share, else all that it may use."""
    if share := os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]:
        return int(share)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
