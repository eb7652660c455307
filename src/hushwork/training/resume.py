"""Find where training continues: at the configured checkpoint, or after an earlier start of the same trial."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.utilities import rank_zero_info

from hushwork.config import in_sweep
from hushwork.runs.record import RECORD, is_running_elsewhere, read_record
from hushwork.sweeps.jobs import PrunedError
from hushwork.training.checkpoints import LAST
from hushwork.training.objective import Objective

CONFIG = "config.yaml"


@dataclass(frozen=True)
class Earlier:
    """The state that an earlier start left: objective of a finished trial, or checkpoint to continue from, if any."""

    objective: Objective | None = None
    checkpoint: str | None = None


def find_earlier(cfg: DictConfig, data_sha256: str) -> Earlier:
    """Where training continues. A trial with other configuration or data than before moves to ``earlier_<n>/``.

    A finished trial is not trained again if only the code has changed; its commit is printed.

    Raises:
        FileNotFoundError: ``ckpt_path`` does not exist.
        RuntimeError: another process is training this trial.
        PrunedError: the trial was pruned.
    """
    earlier = _earlier_trial(cfg, data_sha256) if in_sweep() else Earlier()
    if earlier.objective is not None:
        return earlier
    return Earlier(checkpoint=find_checkpoint(cfg) or earlier.checkpoint)


def find_checkpoint(cfg: DictConfig) -> str | None:
    """``cfg.ckpt_path``; "last" is the newest ``last.ckpt`` of the runs with this name.

    Without it, a Slurm job that was requeued continues from its own checkpoint, if it has saved one.

    Raises:
        FileNotFoundError: the checkpoint does not exist.
    """
    if cfg.ckpt_path is None:
        return _last(cfg) if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" else None
    if cfg.ckpt_path != "last":
        if not Path(cfg.ckpt_path).is_file():
            raise FileNotFoundError(
                f"ckpt_path is {cfg.ckpt_path}, which does not exist; name a checkpoint, or ckpt_path=last"
            )
        return cfg.ckpt_path
    runs = Path(cfg.paths.runs_dir) / cfg.name
    found = sorted(runs.glob(f"*/checkpoints/{LAST}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(
            f"ckpt_path=last, but no run below {runs} has a checkpoints/{LAST}; start without ckpt_path"
        )
    return str(found[-1])


def keep_logs(loggers: list[Logger]) -> None:
    """Rename logs of earlier starts to ``csv_1``, ``csv_2`` and so on; Lightning's csv logger would delete them."""
    for logger in loggers:
        folder = Path(logger.log_dir) if isinstance(logger, CSVLogger) else None
        if folder and folder.is_dir():
            folder.rename(_next_free(folder))


def _last(cfg: DictConfig) -> str | None:
    path = Path(cfg.paths.run_dir) / "checkpoints" / LAST
    return str(path) if path.is_file() else None


def _earlier_trial(cfg: DictConfig, data_sha256: str) -> Earlier:
    run_dir = Path(cfg.paths.run_dir)
    try:
        record, config = read_record(run_dir), OmegaConf.load(run_dir / CONFIG)
    except FileNotFoundError:
        return Earlier()
    if is_running_elsewhere(record):
        raise RuntimeError(
            f"{run_dir} is being trained by process {record['pid']}; wait for it, or remove {RECORD} if it has ended"
        )
    changed = _differences(config, OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)))
    if record["data"]["sha256"] != data_sha256:
        changed.append("the data's content")
    if changed:
        aside = _set_aside(run_dir)
        rank_zero_info(f"{run_dir}: other settings than before ({', '.join(changed)}): moved to {aside}, trained again")
        return Earlier()
    if record["status"] == "finished":
        rank_zero_info(f"{run_dir}: finished at commit {record['commit']}, not trained again")
        return Earlier(objective=record["objective"])
    if record["status"] == "pruned":
        raise PrunedError(f"{run_dir} was pruned before")
    checkpoint = _last(cfg)
    rank_zero_info(f"{run_dir}: {f'resumed from {checkpoint}' if checkpoint else 'has no checkpoint, begins again'}")
    return Earlier(checkpoint=checkpoint)


def _differences(before: Any, now: Any) -> list[str]:
    """Dotted keys whose values differ, with both."""
    old, new = _flat(before), _flat(now)
    keys = [key for key in old | new if key != "ckpt_path" and (key in old, old.get(key)) != (key in new, new.get(key))]
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
    """Move all files but Hydra's own, which belong to this start, and those that were moved before."""
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
