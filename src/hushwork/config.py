"""The Hydra configuration: its folder, its resolvers, and composition outside ``train.py``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

PACKAGE = Path(__file__).parent
RENAMED = {"data.mixing.made_noises": "data.mixing.synthetic_noises"}  # keys of earlier versions


def config_dir() -> Path:
    """``conf`` of the checkout, or its copy in the installed package."""
    packed, checkout = PACKAGE / "conf", PACKAGE.parents[1] / "conf"
    return packed if packed.is_dir() else checkout


def compose_config(overrides: list[str]) -> DictConfig:
    """The training configuration with command-line overrides such as ``["experiment=cwgru", "data=debian"]``."""
    refuse_renamed(overrides)
    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=overrides)


def refuse_renamed(overrides: Sequence[str]) -> None:
    """Refuse keys of earlier versions.

    Raises:
        ValueError: names the first such key and its new name.
    """
    for word in overrides:
        for old, new in RENAMED.items():
            if re.match(rf"[+~]*{re.escape(old)}\b", word):
                raise ValueError(f"{old} is now called {new}; set {word.replace(old, new)}")


def cli_overrides() -> list[str]:
    """The overrides on the command line of this run; none if Hydra did not start it."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def in_sweep() -> bool:
    """Whether this run is a trial of a sweep (``-m``)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def register_resolvers() -> None:
    """Resolvers of the configuration; ``${package_path:data/starter}`` is a path inside the installed package."""
    OmegaConf.register_new_resolver("package_path", lambda relative: str(PACKAGE / relative), replace=True)
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("job_or", job_or, replace=True)


def folder_name(overrides: str) -> str:
    """The folder of a trial, named by its overrides; with a hash if they are long or hold unusual characters.

    >>> folder_name("model=gru,seed=0")
    'model=gru,seed=0'
    >>> folder_name("model.masker.recurrence.periods=[1,2]")
    'model.masker.recurrence.periods=_1,2_-dca09dc2'
    """
    name = re.sub(r"[^\w.,=+-]+", "_", overrides) or "defaults"
    if len(name) > 100:
        name = re.sub(r"(^|,)[\w.]+\.(?=\w+=)", r"\1", name)[:150]
    return name if name == (overrides or "defaults") else f"{name}-{sha256(overrides.encode()).hexdigest()[:8]}"


def job_or(time: str) -> str:
    """The name of a run's folder: its Slurm job, so that a requeued job resumes there, or else ``time``."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return time
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return f"slurm_{job}"


def quieten_other_ranks(arguments: list[str]) -> None:
    """Extend the command line of processes of torchrun and srun, so that only the first one writes files for Hydra."""
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
    if rank != "0":
        arguments += ["hydra.output_subdir=null", "hydra/job_logging=stdout"]
        if "RANK" in os.environ:  # the default folder is named by the time, which differs between processes
            arguments += ["hydra.run.dir=."]
