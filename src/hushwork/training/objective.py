"""The value that a sweep compares, and its place in loggers."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import TensorBoardLogger

from hushwork.config import cli_overrides

Objective = float | list[float]


def select_objective(cfg: DictConfig, metrics: dict[str, float]) -> Objective:
    """The metric that ``cfg.optimized_metric`` names, or a list for a list of names.

    Raises:
        ValueError: there is no such metric.
    """
    names = _names(cfg)
    for name in names:
        if name not in metrics:
            raise ValueError(f"optimized_metric is {name!r}, not logged; choose from {', '.join(sorted(metrics))}")
    values = [metrics[name] for name in names]
    return values[0] if isinstance(cfg.optimized_metric, str) else values


def log_hyperparameters(cfg: DictConfig, trainer: pl.Trainer, metadata: dict[str, Any]) -> None:
    """Log the overrides to TensorBoard, with a placeholder for the objective; log all metadata to other loggers."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(hyperparameters(cfg), dict.fromkeys(_tags(cfg), float("nan")))
        else:
            logger.log_hyperparams(metadata)


def log_objective(cfg: DictConfig, trainer: pl.Trainer, objective: Objective) -> None:
    """Log the objective to TensorBoard, in the placeholder of :func:`log_hyperparameters`."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            values = objective if isinstance(objective, list) else [objective]
            logger.log_metrics(dict(zip(_tags(cfg), values, strict=True)), trainer.global_step)
            logger.save()


def hyperparameters(cfg: DictConfig) -> dict[str, Any]:
    """Name, seed and overrides of the command line; numbers and booleans keep their type."""
    found: dict[str, Any] = {"name": cfg.name, "seed": cfg.seed}
    for word in cli_overrides():
        key, _, text = word.lstrip("+~").partition("=")
        value = OmegaConf.select(cfg, key)
        found[key] = value if isinstance(value, bool | int | float) else text
    return found


def _names(cfg: DictConfig) -> list[str]:
    return [cfg.optimized_metric] if isinstance(cfg.optimized_metric, str) else list(cfg.optimized_metric)


def _tags(cfg: DictConfig) -> list[str]:
    return [f"best/{name}" for name in _names(cfg)]
