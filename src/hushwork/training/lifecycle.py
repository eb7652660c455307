"""A training as a run: seeded, and recorded in ``run.json`` from its start to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

from hushwork.atomic import write_atomically
from hushwork.config import in_sweep
from hushwork.config_checks import check_settings, refuse_sweep_settings
from hushwork.runs.provenance import provenance
from hushwork.runs.record import RECORD, read_record, write_record
from hushwork.sweeps.jobs import PrunedError
from hushwork.training.objective import Objective, log_hyperparameters, log_objective, select_objective
from hushwork.training.resume import CONFIG, keep_logs
from hushwork.training.trainer import num_cores


class RunRecord:
    """Metadata of a run, written to its folder as ``run.json``.

    Attributes:
        metadata: content of ``run.json`` so far.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self._cfg = cfg
        self._run_dir = Path(cfg.paths.run_dir)
        self._started = False
        self.metadata: dict[str, Any] = {"name": cfg.name, "seed": cfg.seed, **provenance()}

    @rank_zero_only
    def start(self, trainer: pl.Trainer) -> None:
        """Record the start of training and its configuration."""
        keep_logs(trainer.loggers)
        log_hyperparameters(self._cfg, trainer, self.metadata)
        with write_atomically(self._run_dir / CONFIG) as part:
            part.write_text(OmegaConf.to_yaml(self._cfg, resolve=True), encoding="utf-8")
        self._started = True
        self.write("running")

    def objective(self, trainer: pl.Trainer, more: dict[str, float]) -> Objective:
        """The value that a sweep compares: one of the logged metrics or of ``more``.

        The best value of the metric that selects checkpoints; the last value of other metrics.

        Raises:
            ValueError: ``optimized_metric`` names another.
        """
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint: Any = trainer.checkpoint_callback
        if (best := getattr(checkpoint, "best_model_score", None)) is not None:
            metrics[checkpoint.monitor] = self.metadata["best"] = float(best)
        value = select_objective(self._cfg, metrics | more)
        log_objective(self._cfg, trainer, value)
        return value

    @rank_zero_only
    def write(self, status: str, **more: Any) -> None:
        metadata = self.metadata | more
        if not self._started and (self._run_dir / RECORD).is_file():
            earlier = read_record(self._run_dir)
            if earlier["status"] not in ("failed", "stopped"):
                return  # an earlier start of the same trial was better
            metadata = earlier | metadata
        write_record(self._run_dir, metadata, status)


def recorded(train: Callable[[DictConfig, RunRecord], Objective]) -> Callable[[DictConfig], Objective]:
    """Decorate a training function: it sets seeds and threads first, and writes ``run.json`` however it ends."""

    @wraps(train)
    def run(cfg: DictConfig) -> Objective:
        record = RunRecord(cfg)
        try:
            refuse_sweep_settings()
            check_settings(cfg)
            pl.seed_everything(cfg.seed, workers=True)
            torch.set_num_threads(cfg.num_threads or max(1, num_cores() - cfg.data.num_workers))
            objective = train(cfg, record)
        except SystemExit:  # by a signal
            record.write("stopped")
            raise
        except PrunedError as error:
            rank_zero_info(f"pruned: {error}")
            record.write("pruned")
            raise
        except BaseException as error:
            if in_sweep():
                logging.getLogger(__name__).exception("the trial in %s failed", cfg.paths.run_dir)
            record.write("failed", error=f"{type(error).__name__}: {error}")
            raise
        record.write("finished", objective=objective)
        return objective

    return run
