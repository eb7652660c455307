"""A training as a run, and as a trial of a sweep: its folder says what it is, so that the same command neither repeats
nor loses work.

A search's trial also reports how it does, and ends early where the search's pruner says so.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

import hushwork
from hushwork.config import check_settings, refuse_sweep_settings, refuse_unused, typed
from hushwork.runs.record import RECORD, is_running_elsewhere, write_record
from hushwork.training.checkpoints import LAST

if TYPE_CHECKING:
    import optuna

CONFIG = "config.yaml"
USED = (  # settings that every training uses
    *("name", "run", "run.*", "experiment", "debug", "sweep", "hydra*", "paths.*", "seed", "num_threads", "ckpt_path"),
    *("optimized_metric", "optimizer", "optimizer.*", "trainer", "trainer.*", "callbacks*", "logger", "logger.*"),
)
PACKAGES = ("torch", "torchaudio", "pytorch-lightning", "numpy", "librosa")
Objective = float | list[float]


class PrunedError(Exception):
    """The search's pruner gave a trial up."""


@dataclass(frozen=True)
class Earlier:
    """What an earlier start of the same trial left: its objective if it was finished, else where to go on."""

    objective: Objective | None = None
    checkpoint: str | None = None


class Record:
    """What a run says of itself in its ``run.json``.

    Attributes:
        about: all that is known so far.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self._cfg = cfg
        self._run_dir = Path(cfg.paths.run_dir)
        self._begun = False
        self.about: dict[str, Any] = {
            "name": cfg.name,
            "seed": cfg.seed,
            "commit": commit(),
            "command": command(),
            "hushwork": hushwork.__version__,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        }

    @rank_zero_only
    def begin(self, trainer: pl.Trainer) -> None:
        """Training starts."""
        keep_logs(trainer.loggers)
        log_hyperparameters(self._cfg, trainer, self.about)
        self._run_dir.mkdir(parents=True, exist_ok=True)
        (self._run_dir / CONFIG).write_text(OmegaConf.to_yaml(self._cfg, resolve=True), encoding="utf-8")
        self._begun = True
        self.write("running")

    def reached(self, trainer: pl.Trainer, figures: dict[str, float]) -> Objective:
        """What a sweep compares of all that was logged, the best of what checkpoints go by, and further figures.

        Raises:
            ValueError: ``optimized_metric`` is none of these.
        """
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint: Any = trainer.checkpoint_callback
        best = getattr(checkpoint, "best_model_score", None)
        if best is not None:
            logged[checkpoint.monitor] = self.about["best"] = float(best)
        reached = objective(self._cfg, logged | figures)
        log_objective(self._cfg, trainer, reached)
        return reached

    @rank_zero_only
    def write(self, status: str, **more: Any) -> None:
        about = self.about | more
        if not self._begun and (self._run_dir / RECORD).is_file():
            # An earlier start of the same trial came further.
            before = json.loads((self._run_dir / RECORD).read_text("utf-8"))
            if before["status"] not in ("failed", "stopped"):
                return
            about = before | about
        write_record(self._run_dir, about, status)


def recorded(train: Callable[[DictConfig, Record], Objective]) -> Callable[[DictConfig], Objective]:
    """Have a training leave its ``run.json``, however early it ends; seeds and threads are set before."""

    @wraps(train)
    def run(cfg: DictConfig) -> Objective:
        record = Record(cfg)
        try:
            refuse_sweep_settings()
            check_settings(cfg)
            pl.seed_everything(cfg.seed, workers=True)
            torch.set_num_threads(cfg.num_threads or max(1, num_cores() - cfg.data.num_workers))
            reached = train(cfg, record)
        except SystemExit:  # a signal
            record.write("stopped")
            raise
        except PrunedError as reason:
            rank_zero_info(f"pruned: {reason}")
            record.write("pruned")
            raise
        except BaseException as error:
            if in_sweep():
                logging.getLogger(__name__).exception("the trial in %s failed", cfg.paths.run_dir)
            record.write("failed", error=f"{type(error).__name__}: {error}")
            raise
        record.write("finished", objective=reached)
        return reached

    return run


def num_cores() -> int:
    """For this process: as many as ``OMP_NUM_THREADS`` says, which Ray sets to a trial's share, else all it may use."""
    if share := os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]:
        return int(share)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command() -> str | None:
    """What was typed; None if Hydra did not start this run."""
    return shlex.join(["python", "train.py", *typed()]) if HydraConfig.initialized() else None


def commit() -> str | None:
    """The checkout's commit, with "+" if files were changed since; None outside a checkout."""
    root = Path(hushwork.__file__).parents[2]
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")) != root.resolve():
            return None
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def make_trainer(cfg: DictConfig, without: Collection[str] = (), **options: Any) -> pl.Trainer:
    """As configured, ``without`` some of the callbacks.

    Raises:
        ValueError: a trial of a sweep would take several devices, or a callback is set that is left out.
    """
    refuse_unused(typed(), "this training", unused=[f"callbacks.{name}*" for name in without])
    callbacks = [instantiate(node) for name, node in cfg.callbacks.items() if node and name not in without]
    loggers = [instantiate(node) for node in cfg.logger.values() if node]
    trainer: pl.Trainer = instantiate(
        cfg.trainer, callbacks=callbacks + pruning(cfg), logger=loggers or False, **options
    )
    if in_sweep():
        more = ", and hydra/launcher=ray for one trial per GPU at once; or train on several devices without -m"
        one_device(trainer, "each trial of a sweep", more)
    return trainer


def one_device(trainer: pl.Trainer, what: str, more: str = "") -> None:
    """Raises:
    ValueError: it would take several.
    """
    if trainer.world_size > 1:
        raise ValueError(f"{what} trains on one device, not on {trainer.world_size}: take trainer=gpu (or cpu){more}")


def in_sweep() -> bool:
    """Whether this run is one of several that a command started."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def look_back(cfg: DictConfig, data_sha256: str) -> Earlier:
    """What is left of this trial. If configuration or corpus were others, all of it moves to ``earlier_<n>/``.

    Code may have changed since: a trial is not trained again for that, but it is said.

    Raises:
        RuntimeError: another process is training it now.
        PrunedError: it was given up before.
    """
    if not in_sweep():
        return Earlier()
    run_dir = Path(cfg.paths.run_dir)
    try:
        record = json.loads((run_dir / RECORD).read_text("utf-8"))
        before = OmegaConf.load(run_dir / CONFIG)
    except FileNotFoundError:
        return Earlier()
    if is_running_elsewhere(record):
        raise RuntimeError(
            f"{run_dir} is being trained by process {record['pid']}; wait for it, or remove {RECORD} if that is wrong"
        )
    changed = _differences(before, OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)))
    if record["data"]["sha256"] != data_sha256:
        changed.append("the data's content")
    if changed:
        aside = _set_aside(run_dir)
        rank_zero_info(f"{run_dir} was trained otherwise ({', '.join(changed)}): moved to {aside}, and trained anew")
        return Earlier()
    if record["status"] == "finished":
        rank_zero_info(f"{run_dir} was finished at commit {record['commit']}: not trained again")
        return Earlier(objective=record["objective"])
    if record["status"] == "pruned":
        raise PrunedError(f"{run_dir} was pruned before")
    last = run_dir / "checkpoints" / LAST
    rank_zero_info(f"{run_dir} was begun before: goes on from {last}" if last.is_file() else f"{run_dir}: begins again")
    return Earlier(checkpoint=str(last) if last.is_file() else None)


def keep_logs(loggers: list[Logger]) -> None:
    """Lightning's csv logger deletes what it finds; move it to ``csv_1``, ``csv_2`` and so on."""
    for logger in loggers:
        folder = Path(logger.log_dir) if isinstance(logger, CSVLogger) else None
        if folder and folder.is_dir():
            folder.rename(_next_free(folder))


def objective(cfg: DictConfig, figures: dict[str, float]) -> Objective:
    """What a sweep compares: ``cfg.optimized_metric``, one or a list.

    Raises:
        ValueError: there is no such figure.
    """
    names = _listed(cfg.optimized_metric)
    for name in names:
        if name not in figures:
            raise ValueError(f"optimized_metric is {name!r}, not logged; choose of {', '.join(sorted(figures))}")
    values = [figures[name] for name in names]
    return values[0] if isinstance(cfg.optimized_metric, str) else values


def log_hyperparameters(cfg: DictConfig, trainer: pl.Trainer, about: dict[str, Any]) -> None:
    """For TensorBoard what was typed and, in time, what it led to; for other loggers all that is known."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(hyperparameters(cfg), dict.fromkeys(_tags(cfg), float("nan")))
        else:
            logger.log_hyperparams(about)


def log_objective(cfg: DictConfig, trainer: pl.Trainer, reached: Objective) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            values = reached if isinstance(reached, list) else [reached]
            logger.log_metrics(dict(zip(_tags(cfg), values, strict=True)), trainer.global_step)
            logger.save()


def hyperparameters(cfg: DictConfig) -> dict[str, Any]:
    """What was typed, typed values as such; for tables that compare runs."""
    found: dict[str, Any] = {"name": cfg.name, "seed": cfg.seed}
    for word in typed():
        key, _, text = word.lstrip("+~").partition("=")
        value = OmegaConf.select(cfg, key)
        found[key] = value if isinstance(value, bool | int | float) else text
    return found


class Pruning(Callback):
    """Reports each validation's figure to the search, and gives the trial up if its pruner says so.

    Raises:
        PrunedError: from training.
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
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.monitor not in figures:
            raise ValueError(f"a pruner needs optimized_metric={self.monitor} at each validation, which logs no such")
        self.trial.report(figures[self.monitor], trainer.global_step)
        if self.trial.should_prune():
            raise PrunedError(f"{self.monitor} is {figures[self.monitor]:.4g} after step {trainer.global_step}")


def pruning(cfg: DictConfig) -> list[Callback]:
    """The callback, if this run is the trial of a search with a pruner."""
    sweeper = HydraConfig.get().sweeper if HydraConfig.initialized() else None
    if sweeper is None or sweeper.get("trial") is None or not sweeper.get("pruner"):
        return []
    import optuna

    study = optuna.load_study(
        study_name=sweeper.study, storage=sweeper.storage, pruner=instantiate(sweeper.pruner, _convert_="all")
    )
    return [Pruning(cfg.optimized_metric, optuna.trial.Trial(study, study.trials[sweeper.trial]._trial_id))]


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _tags(cfg: DictConfig) -> list[str]:
    return [f"best/{name}" for name in _listed(cfg.optimized_metric)]


def _differences(before: Any, now: Any) -> list[str]:
    """Dotted keys whose values differ, with both."""
    old, new = _flat(before), _flat(now)
    old.pop("ckpt_path", None), new.pop("ckpt_path", None)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key) or (key in old) != (key in new)]
    return [f"{key}: {old.get(key)} → {new.get(key)}" for key in keys]


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not OmegaConf.is_dict(node):
        return {prefix: node}
    return {
        key: value
        for name, child in node.items()
        for key, value in _flat(child, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def _set_aside(run_dir: Path) -> Path:
    """Move all but Hydra's own, which is of now, and what was set aside before."""
    aside = _next_free(run_dir / "earlier")
    aside.mkdir()
    for path in sorted(run_dir.iterdir(), key=lambda path: path.name != RECORD):  # the record first
        if path.suffix != ".log" and path.name != ".hydra" and not path.name.startswith("earlier_"):
            path.rename(aside / path.name)
    return aside


def _next_free(path: Path) -> Path:
    number = 1
    while (free := path.with_name(f"{path.name}_{number}")).exists():
        number += 1
    return free


def _git(root: Path, *arguments: str) -> str:
    output = subprocess.run(
        ["git", "-C", os.fspath(root), *arguments], check=True, capture_output=True, text=True, timeout=10
    )
    return output.stdout.strip()
