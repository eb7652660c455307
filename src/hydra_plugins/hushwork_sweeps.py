"""Hydra's way to our sweepers: it takes them from this namespace only, and imports it whenever it starts.

Each hands overrides to the launcher. If trials fail the others run, and the end names those that failed.
"""

from __future__ import annotations

import math
import os
import shlex
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from hushwork.config import register_resolvers

if TYPE_CHECKING:
    import optuna

register_resolvers()  # here too: a launcher's processes begin without train.py
PLUGINS = {
    "ray": "hydra_ray_launcher.ray_launcher.RayLauncher",
    "submitit_slurm": "hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "submitit_local": "hydra_submitit_launcher.submitit_launcher.LocalLauncher",
}
for name, plugin in PLUGINS.items():
    if find_spec(f"hydra_plugins.{plugin.partition('.')[0]}") is None:  # so that make_launcher says what to install
        ConfigStore.instance().store(name, group="hydra/launcher", node={"_target_": f"hydra_plugins.{plugin}"})

FOLDER, OWNER, CONTINUES = "folder", "owner", "continues"


class SweepError(CompactHydraException):
    """A sweep that cannot start, or whose trials did not all succeed."""


def make_launcher(*, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
    """As configured; what it was not told of a trial's share of a machine is filled in.

    A trial has a GPU to itself, or with ``trainer=cpu`` the cores for torch's threads and the loader's processes.

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
            # Ray waits for ever for more cores than there are. Where there are GPUs they decide how many trials run.
            cores = 0 if gpus else min(cores, os.cpu_count() or 1)
            launcher.ray.remote = {"num_gpus": gpus, "num_cpus": cores, "max_calls": 1} | dict(launcher.ray.remote)
            # The launcher would choose a memory, which Ray refuses for a cluster that exists.
            init = {"object_store_memory": None} if launcher.ray.init.get("address") else {"include_dashboard": False}
            launcher.ray.init = init | dict(launcher.ray.init)
        elif "cpus_per_task" in launcher:
            launcher.cpus_per_task = launcher.cpus_per_task or cores
            launcher.gpus_per_node = launcher.gpus_per_node or gpus or None
    return Plugins.instance().instantiate_launcher(
        hydra_context=hydra_context, task_function=task_function, config=config
    )


class GridSweeper(BasicSweeper):
    """Every combination of what was typed; ``max_batch_size`` of them are handed to the launcher at once."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.launcher: Any = make_launcher(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        overrides = OverridesParser.create(self.hydra_context.config_loader).parse_overrides(words)
        _write_multirun(self.config)
        jobs: list[JobReturn] = []
        for batch in self.split_arguments(overrides, self.max_batch_size):
            self.validate_batch_is_legal(batch)
            jobs += self.launcher.launch(batch, initial_job_idx=len(jobs))
        _raise_failures(jobs)
        return jobs


class SearchSweeper(Sweeper):
    """Optuna looks for the best values; the study lies in a data base, where any number of processes share it.

    Args:
        study: its name.
        storage: URL of the data base; None is ``study.db`` in the sweep's folder.
        n_trials: of the whole study.
        n_jobs: are handed to the launcher at once.
        direction: "minimize" or "maximize", or one for each of several metrics.
        seed: with a trial's number it decides what is drawn for it.
        params: overrides that are searched, in Hydra's grammar of sweeps.
        pruner: configuration of an Optuna pruner, for trials to ask after each validation.
        trial: for a trial's own configuration.
    """

    def __init__(
        self,
        *,
        study: str,
        storage: str | None,
        n_trials: int,
        n_jobs: int,
        direction: str | Sequence[str],
        seed: int,
        params: dict[str, str],
        pruner: DictConfig | None = None,
        trial: int | None = None,
    ) -> None:
        self.name = study
        self.storage = storage
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self.directions = [direction] if isinstance(direction, str) else list(direction)
        self.seed = seed
        self.params = params
        self.pruner = pruner

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context: Any = hydra_context
        self.config: Any = config
        self.launcher: Any = make_launcher(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        from filelock import FileLock

        optuna = _import_optuna()
        metrics = self.config.optimized_metric
        self.metrics = [metrics] if isinstance(metrics, str) else list(metrics)
        self._check()
        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        overrides = OverridesParser.create(self.hydra_context.config_loader).parse_overrides(words)
        last = {override.get_key_element(): override for override in overrides}  # what is typed replaces params
        self.all = list(last.values())
        self.space = {key: override for key, override in last.items() if override.is_sweep_override()}
        self.fixed = [str(override.input_line) for key, override in last.items() if key not in self.space]
        if not self.space:
            raise SweepError(
                "nothing to search: give hydra.sweeper.params, or a value such as 'model=choice(gru,lstm)'"
            )
        self.folder = _write_multirun(self.config).resolve()
        self.storage = self.storage or f"sqlite:///{self.folder / 'study.db'}"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        lock = FileLock(self.folder / "study.lock")
        with lock:  # all that counts or claims trials
            study = self._open()
            self._take_back(study)
        jobs: list[JobReturn] = []
        while True:
            with lock:
                trials = self._claim(study)
            if not trials:
                break
            done = self.launcher.launch([self._overrides(trial) for trial in trials], initial_job_idx=len(jobs))
            for trial, job in zip(trials, done, strict=True):
                self._tell(study, trial, job)
            jobs += done
            with lock:
                self._write_best(study)
        with lock:
            print(self._write_best(study), end="")
        _raise_failures([job for job in jobs if not _is_pruned(job)])
        return jobs

    def _check(self) -> None:
        if len(self.directions) != len(self.metrics):
            raise SweepError(
                f"optimized_metric is {self.metrics}, hydra.sweeper.direction {self.directions}; "
                "give one direction for each"
            )
        if wrong := [direction for direction in self.directions if direction not in ("minimize", "maximize")]:
            raise SweepError(f"hydra.sweeper.direction is {wrong[0]}; choose minimize or maximize")
        if self.pruner and len(self.metrics) > 1:
            raise SweepError(
                f"a pruner compares one figure, and optimized_metric has {len(self.metrics)}; switch it off with "
                "hydra/sweeper/pruner=none"
            )
        first, last = (self.pruner and self.pruner.get(f"{end}_resource") for end in ("min", "max"))
        if isinstance(first, int) and isinstance(last, int) and last < first:
            raise SweepError(
                f"the pruner would begin after {first} steps, and trials have {last} (trainer.max_steps); lower "
                "hydra.sweeper.pruner.min_resource"
            )

    def _open(self) -> optuna.Study:
        """The study, new or as it is.

        Raises:
            SweepError: it is another search's.
        """
        study = _import_optuna().create_study(
            study_name=self.name,
            storage=self.storage,
            directions=self.directions,
            pruner=self.pruner and instantiate(self.pruner, _convert_="all"),
            load_if_exists=True,
        )
        metrics = zip(self.directions, self.metrics, strict=True)
        settings = [*(" ".join(metric) for metric in metrics), *(str(override.input_line) for override in self.all)]
        before = study.user_attrs.get("settings", settings)
        if changed := set(before) ^ set(settings):
            raise SweepError(
                f"the study {self.name} in {self.folder} was begun with other settings (different: "
                f"{', '.join(sorted(changed))}); choose another name, such as hydra.sweeper.study={self.name}_2"
            )
        study.set_user_attr("settings", settings)
        return study

    def _take_back(self, study: optuna.Study) -> None:
        """Failed trials, and those whose process is gone, are to be tried once more, in the folders they had."""
        from optuna.trial import TrialState

        from hushwork.runs.record import process_exists

        for trial in _latest(study):
            host, _, pid = trial.user_attrs.get(OWNER, "").partition(" ")
            gone = trial.state == TrialState.RUNNING and host == socket.gethostname() and not process_exists(int(pid))
            if gone:
                study.tell(trial.number, state=TrialState.FAIL)
            if gone or trial.state == TrialState.FAIL:
                attrs = {FOLDER: trial.user_attrs[FOLDER], CONTINUES: trial.number}
                study.enqueue_trial(trial.params, user_attrs=attrs)

    def _claim(self, study: optuna.Study) -> list[optuna.Trial]:
        """The next trials, with values; none if there are enough."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        trials: list[optuna.Trial] = []
        while len(trials) < self.n_jobs:
            latest = _latest(study)
            waiting = any(trial.state == TrialState.WAITING for trial in latest)
            if not waiting and len(latest) >= self.n_trials:
                break
            trial = study.ask()
            # By seed and number, not one generator: who goes on must not draw again what was drawn.
            study.sampler = TPESampler(seed=self.seed * 100_003 + trial.number)
            trial.set_user_attr(OWNER, f"{socket.gethostname()} {os.getpid()}")
            for key, override in self.space.items():
                suggest(trial, key, override)
            continued = trial.user_attrs.get(CONTINUES)
            if continued is None:
                trial.set_user_attr(FOLDER, f"trial_{trial.number:04d}")
            else:
                for step, value in study.trials[continued].intermediate_values.items():
                    trial.report(value, step)
            trials.append(trial)
        return trials

    def _overrides(self, trial: optuna.Trial) -> list[str]:
        own = {"trial": trial.number, "storage": "'{}'".format(str(self.storage).replace("'", r"\'"))}
        return [
            *self.fixed,
            *(f"{key}={value}" for key, value in trial.params.items()),
            *(f"hydra.sweeper.{key}={value}" for key, value in own.items()),
            f"hydra.sweep.subdir={trial.user_attrs[FOLDER]}",
        ]

    def _tell(self, study: optuna.Study, trial: optuna.Trial, job: JobReturn) -> None:
        from optuna.trial import TrialState

        if job.status is JobStatus.COMPLETED:
            values = [job.return_value] if len(self.metrics) == 1 else list(job.return_value)
            if all(math.isfinite(value) for value in values):
                study.tell(trial, values)
                return
            job.status = JobStatus.FAILED
            job.return_value = ValueError(f"{', '.join(self.metrics)}: {values}, which is not finite")
        study.tell(trial, state=TrialState.PRUNED if _is_pruned(job) else TrialState.FAIL)

    def _write_best(self, study: optuna.Study) -> str:
        """Write the best trial, or with several metrics those that no other surpasses in all; returns it in words."""
        from optuna.trial import TrialState

        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        best = [] if not complete else [study.best_trial] if len(self.metrics) == 1 else study.best_trials
        found: list[dict[str, Any]] = [
            {
                "folder": str(self.folder / trial.user_attrs[FOLDER]),
                "values": dict(zip(self.metrics, trial.values, strict=True)),
                "overrides": [f"{key}={value}" for key, value in trial.params.items()],
                "command": shlex.join(
                    ["python", "train.py", *self.fixed, *(f"{key}={value}" for key, value in trial.params.items())]
                ),
            }
            for trial in sorted(best, key=lambda trial: trial.values)
        ]
        path = self.folder / "best.yaml"
        OmegaConf.save(OmegaConf.create(found), path)
        counts = {
            state: sum(trial.state.name == state for trial in _latest(study))
            for state in ("COMPLETE", "PRUNED", "FAIL")
        }
        lines = [
            f"{path}: of {' '.join(f'{count} {state.lower()}' for state, count in counts.items())} trials the best:"
        ]
        for each in found:
            figures = ", ".join(f"{name} {value:.6g}" for name, value in each["values"].items())
            lines.append(f"{figures}: {each['command']}")
        return "\n".join(lines) + "\n"


def suggest(trial: optuna.Trial, key: str, override: Override) -> None:
    """Draw a value for a key, from what its sweep says: choice, range (without its end, as in Python) or interval.

    Raises:
        SweepError: a logarithm of what is not positive.
    """
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        log = "log" in sweep.tags
        low, high = sweep.start, sweep.end
        assert low is not None
        assert high is not None
        if low >= high or (log and low <= 0):
            raise SweepError(f"{override.input_line}: from {low} to {high} is no interval{' of a logarithm' * log}")
        if isinstance(low, int) and isinstance(high, int):
            trial.suggest_int(key, low, high, log=log)
        else:
            trial.suggest_float(key, low, high, log=log)
    elif isinstance(sweep, RangeSweep) and all(isinstance(x, int) for x in (sweep.start, sweep.stop, sweep.step)):
        values = range(int(sweep.start), int(sweep.stop), int(sweep.step))  # type: ignore[arg-type]
        trial.suggest_int(key, min(values), max(values), step=abs(values.step))
    else:
        trial.suggest_categorical(key, list(override.sweep_string_iterator()))


def _latest(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The last one of each folder: a trial that was tried again counts once."""
    trials = study.get_trials(deepcopy=False)
    return list({trial.user_attrs[FOLDER]: trial for trial in trials if FOLDER in trial.user_attrs}.values())


def _write_multirun(config: DictConfig) -> Path:
    folder = Path(config.hydra.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    return folder


def _is_pruned(job: JobReturn) -> bool:
    if _error(job) is None:
        return False
    from hushwork.training.trials import PrunedError  # with torch, which only trials need

    return isinstance(_error(job), PrunedError)


def _error(job: JobReturn) -> Exception | None:
    return job._return_value if job.status is JobStatus.FAILED else None  # the public one prints and raises


def _raise_failures(jobs: Sequence[JobReturn]) -> None:
    failed = {str(job.hydra_cfg.hydra.runtime.output_dir): _error(job) for job in jobs if job.hydra_cfg and _error(job)}
    if failed:
        lines = [f"  {folder}: {type(error).__name__}: {error}" for folder, error in failed.items()]
        raise SweepError("\n".join([f"{len(failed)} of {len(jobs)} trials failed:", *lines])) from next(
            iter(failed.values())
        )


def _import_optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise SweepError("a search needs Optuna: pip install 'hushwork[sweep]'") from error
    return optuna
