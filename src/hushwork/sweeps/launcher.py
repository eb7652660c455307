"""Launchers of a sweep's trials, with each trial's share of a machine."""

from __future__ import annotations

import os
from importlib.util import find_spec

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from hushwork.sweeps.jobs import SweepError

PLUGINS = {
    "ray": "hydra_ray_launcher.ray_launcher.RayLauncher",
    "submitit_slurm": "hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "submitit_local": "hydra_submitit_launcher.submitit_launcher.LocalLauncher",
}


def register_missing_launchers() -> None:
    """Register launchers that are not installed, so that :func:`make_launcher` can report how to install them."""
    for name, plugin in PLUGINS.items():
        if find_spec(f"hydra_plugins.{plugin.partition('.')[0]}") is None:
            ConfigStore.instance().store(name, group="hydra/launcher", node={"_target_": f"hydra_plugins.{plugin}"})


def make_launcher(*, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
    """The configured launcher; a trial's share of the machine is set unless the configuration sets it.

    A trial gets a GPU of its own, or with ``trainer=cpu`` the cores for torch's threads and the loader's processes.

    Raises:
        SweepError: its plugin is not installed.
    """
    launcher = config.hydra.launcher
    if find_spec(".".join(launcher._target_.split(".")[:2])) is None:
        raise SweepError(f"{launcher._target_} is not installed: pip install 'hushwork[sweep]'")
    gpus = 0 if config.trainer.accelerator == "cpu" else 1
    cores = (config.num_threads or 1) + config.get("data", {}).get("num_workers", 0)
    with open_dict(config):
        if "ray" in launcher:
            # Ray waits forever for more cores than exist. With GPUs, their number limits the trials.
            cores = 0 if gpus else min(cores, os.cpu_count() or 1)
            launcher.ray.remote = {"num_gpus": gpus, "num_cpus": cores, "max_calls": 1} | dict(launcher.ray.remote)
            # The launcher would set a memory size, which Ray refuses for an existing cluster.
            init = {"object_store_memory": None} if launcher.ray.init.get("address") else {"include_dashboard": False}
            launcher.ray.init = init | dict(launcher.ray.init)
        elif "cpus_per_task" in launcher:
            launcher.cpus_per_task = launcher.cpus_per_task or cores
            launcher.gpus_per_node = launcher.gpus_per_node or gpus or None
    return Plugins.instance().instantiate_launcher(
        hydra_context=hydra_context, task_function=task_function, config=config
    )
