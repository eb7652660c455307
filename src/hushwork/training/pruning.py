"""Early end of trials that a search's pruner does not expect to succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback

from hushwork.sweeps.jobs import PrunedError

if TYPE_CHECKING:
    import optuna


class Pruning(Callback):
    """Reports the monitored metric to the search after each validation, and ends training if its pruner decides so.

    Raises:
        PrunedError: during training, if the pruner ends the trial.
    """

    def __init__(self, monitor: str, trial: optuna.trial.Trial) -> None:
        self.monitor = monitor
        self.trial = trial

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.enable_validation:
            raise ValueError("a pruner needs validations, and this training has none; take hydra/sweeper/pruner=none")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            raise ValueError(
                f"a pruner needs optimized_metric={self.monitor} at each validation, and it is not logged there; "
                "choose another metric, or hydra/sweeper/pruner=none"
            )
        value = float(trainer.callback_metrics[self.monitor])
        self.trial.report(value, trainer.global_step)
        if self.trial.should_prune():
            raise PrunedError(f"{self.monitor} is {value:.4g} after step {trainer.global_step}")


def pruning_callbacks(cfg: DictConfig) -> list[Callback]:
    """:class:`Pruning` if this run is a trial of a search that has a pruner."""
    sweeper = HydraConfig.get().sweeper if HydraConfig.initialized() else None
    if sweeper is None or sweeper.get("trial") is None or not sweeper.get("pruner"):
        return []
    import optuna

    study = optuna.load_study(
        study_name=sweeper.study, storage=sweeper.storage, pruner=instantiate(sweeper.pruner, _convert_="all")
    )
    return [Pruning(cfg.optimized_metric, optuna.trial.Trial(study, study.trials[sweeper.trial]._trial_id))]
