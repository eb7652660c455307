"""Sweepers, in the namespace in which Hydra looks for plugins at each start.

They pass the overrides of trials to the launcher. A failed trial does not end the sweep; all are named at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hushwork.config import register_resolvers
from hushwork.sweeps.jobs import SweepError, raise_failures
from hushwork.sweeps.launcher import make_launcher, register_missing_launchers

register_resolvers()  # here too, as a launcher's processes start without train.py
register_missing_launchers()


class _WithLauncher:
    """Base of both sweepers: their interface to Hydra."""

    params: Any

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context: Any = hydra_context
        self.config: Any = config
        self.launcher: Any = make_launcher(hydra_context=hydra_context, task_function=task_function, config=config)

    def _parse(self, arguments: list[str]) -> list[Override]:
        """``params`` and the overrides of the command line."""
        words = [*(f"{key}={value}" for key, value in (self.params or {}).items()), *arguments]
        return OverridesParser.create(self.hydra_context.config_loader).parse_overrides(words)

    def _make_folder(self) -> Path:
        """The sweep's folder, with its configuration."""
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        return folder.resolve()


class GridSweeper(_WithLauncher, BasicSweeper):
    """All combinations of the values on the command line, up to ``max_batch_size`` launched at once."""

    def sweep(self, arguments: list[str]) -> Any:
        overrides = self._parse(arguments)
        self._make_folder()
        jobs: list[JobReturn] = []
        for batch in self.split_arguments(overrides, self.max_batch_size):
            self.validate_batch_is_legal(batch)
            jobs += self.launcher.launch(batch, initial_job_idx=len(jobs))
        raise_failures(jobs)
        return jobs


class SearchSweeper(_WithLauncher, Sweeper):
    """A search for the best values with Optuna; see :class:`hushwork.sweeps.search.Search`.

    Args:
        study: its name.
        storage: URL of the data base; None is ``study.db`` in the sweep's folder.
        n_trials: of the whole study.
        n_jobs: number of trials launched at once.
        direction: "minimize" or "maximize", or one for each of several metrics.
        seed: with a trial's number, it determines the trial's values.
        params: overrides that are searched, in Hydra's grammar of sweeps; the command line replaces them.
        pruner: configuration of an Optuna pruner, which trials ask after each validation.
        trial: number of the trial, set in its own configuration.
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
        self.study = study
        self.storage = storage
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self.directions = [direction] if isinstance(direction, str) else list(direction)
        self.seed = seed
        self.params = params
        self.pruner = pruner

    def sweep(self, arguments: list[str]) -> Any:
        from hushwork.sweeps.search import Search

        metrics = self.config.optimized_metric
        metrics = [metrics] if isinstance(metrics, str) else list(metrics)
        self._check(metrics)
        folder = self._make_folder()
        search = Search(
            study=self.study,
            storage=self.storage or f"sqlite:///{folder / 'study.db'}",
            folder=folder,
            directions=dict(zip(metrics, self.directions, strict=True)),
            overrides={override.get_key_element(): override for override in self._parse(arguments)},
            seed=self.seed,
            pruner=self.pruner,
        )
        jobs: list[JobReturn] = []
        while trials := search.ask(self.n_trials, self.n_jobs):
            done = self.launcher.launch([search.overrides(trial) for trial in trials], initial_job_idx=len(jobs))
            for trial, job in zip(trials, done, strict=True):
                search.tell(trial, job)
            search.write_best()
            jobs += done
        print(search.write_best())
        raise_failures(jobs)
        return jobs

    def _check(self, metrics: Sequence[str]) -> None:
        if len(self.directions) != len(metrics):
            raise SweepError(
                f"optimized_metric is {metrics}, hydra.sweeper.direction {self.directions}; give one direction for each"
            )
        if wrong := [direction for direction in self.directions if direction not in ("minimize", "maximize")]:
            raise SweepError(f"hydra.sweeper.direction is {wrong[0]}; choose minimize or maximize")
        if self.pruner and len(metrics) > 1:
            raise SweepError(
                f"a pruner compares one metric, and optimized_metric has {len(metrics)}; switch it off with "
                "hydra/sweeper/pruner=none"
            )
        first, last = (self.pruner and self.pruner.get(f"{end}_resource") for end in ("min", "max"))
        if isinstance(first, int) and isinstance(last, int) and last < first:
            raise SweepError(
                f"the pruner would begin after {first} steps, and trials have {last} (trainer.max_steps); lower "
                "hydra.sweeper.pruner.min_resource"
            )
