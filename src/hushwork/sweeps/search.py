"""An Optuna study whose trials are trainings, shared by all processes that run the same search."""

from __future__ import annotations

import math
import os
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hushwork.atomic import write_atomically
from hushwork.runs.record import process_exists
from hushwork.sweeps.jobs import PrunedError, SweepError, error_of

if TYPE_CHECKING:
    import optuna

FOLDER, OWNER, CONTINUES = "folder", "owner", "continues"  # a trial's attributes in the study


class Search:
    """A study, opened or resumed. Its lock is held while trials are counted, claimed or ranked.

    Args:
        study: its name.
        storage: URL of its data base.
        folder: of the sweep.
        directions: "minimize" or "maximize", by metric.
        overrides: of the command, by key; those that are sweeps in Hydra's grammar are searched.
        seed: with a trial's number, it determines the trial's values.
        pruner: configuration of an Optuna pruner.

    Raises:
        SweepError: Optuna is not installed, no value is searched, or the study belongs to another search.
    """

    def __init__(
        self,
        *,
        study: str,
        storage: str,
        folder: Path,
        directions: dict[str, str],
        overrides: Mapping[str, Override],
        seed: int,
        pruner: DictConfig | None,
    ) -> None:
        self.storage = storage
        self.folder = folder
        self.metrics = list(directions)
        self.seed = seed
        self.space = {key: override for key, override in overrides.items() if override.is_sweep_override()}
        self.fixed = [str(override.input_line) for key, override in overrides.items() if key not in self.space]
        if not self.space:
            raise SweepError(
                "nothing to search: give hydra.sweeper.params, or a value such as 'model=choice(gru,lstm)'"
            )
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise SweepError("a search needs Optuna: pip install 'hushwork[sweep]'") from error
        from filelock import FileLock

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._lock = FileLock(folder / "study.lock")
        with self._lock:
            self.study = optuna.create_study(
                study_name=study,
                storage=storage,
                directions=list(directions.values()),
                pruner=pruner and instantiate(pruner, _convert_="all"),
                load_if_exists=True,
            )
            settings = [f"{direction} {metric}" for metric, direction in directions.items()]
            self._check_settings([*settings, *(str(override.input_line) for override in overrides.values())])
            self._requeue_unfinished()

    def ask(self, n_trials: int, n_jobs: int) -> list[optuna.Trial]:
        """Up to ``n_jobs`` new trials with values; none if the study has ``n_trials``."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        trials: list[optuna.Trial] = []
        with self._lock:
            while len(trials) < n_jobs:
                latest = self._latest()
                waiting = any(trial.state == TrialState.WAITING for trial in latest)
                if not waiting and len(latest) >= n_trials:
                    break
                trial = self.study.ask()
                # By seed and number, not by one generator: a resumed search must not repeat values.
                self.study.sampler = TPESampler(seed=self.seed * 100_003 + trial.number)
                trial.set_user_attr(OWNER, f"{socket.gethostname()} {os.getpid()}")
                for key, override in self.space.items():
                    suggest(trial, key, override)
                continued = trial.user_attrs.get(CONTINUES)
                if continued is None:
                    trial.set_user_attr(FOLDER, f"trial_{trial.number:04d}")
                else:
                    for step, value in self.study.trials[continued].intermediate_values.items():
                        trial.report(value, step)
                trials.append(trial)
        return trials

    def overrides(self, trial: optuna.Trial) -> list[str]:
        """The overrides of a trial's training."""
        storage = self.storage.replace("'", r"\'")
        return [
            *self._typed(trial.params),
            f"hydra.sweeper.trial={trial.number}",
            f"hydra.sweeper.storage='{storage}'",
            f"hydra.sweep.subdir={trial.user_attrs[FOLDER]}",
        ]

    def tell(self, trial: optuna.Trial, job: JobReturn) -> None:
        """Report how a trial ended; a job with values that are not finite counts as failed."""
        from optuna.trial import TrialState

        if job.status is JobStatus.COMPLETED:
            values = [job.return_value] if len(self.metrics) == 1 else list(job.return_value)
            if all(math.isfinite(value) for value in values):
                self.study.tell(trial, values)
                return
            job.status = JobStatus.FAILED
            job.return_value = ValueError(f"{', '.join(self.metrics)}: {values}, which is not finite")
        pruned = isinstance(error_of(job), PrunedError)
        self.study.tell(trial, state=TrialState.PRUNED if pruned else TrialState.FAIL)

    def write_best(self) -> str:
        """Write the best trial to ``best.yaml``, or the Pareto front of several metrics; returns a summary."""
        from optuna.trial import TrialState

        with self._lock:
            complete = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            best = [] if not complete else [self.study.best_trial] if len(self.metrics) == 1 else self.study.best_trials
            found: list[dict[str, Any]] = [
                {
                    "folder": str(self.folder / trial.user_attrs[FOLDER]),
                    "values": dict(zip(self.metrics, trial.values, strict=True)),
                    "overrides": [f"{key}={value}" for key, value in trial.params.items()],
                    "command": shlex.join(["python", "train.py", *self._typed(trial.params)]),
                }
                for trial in sorted(best, key=lambda trial: trial.values)
            ]
            path = self.folder / "best.yaml"
            with write_atomically(path) as part:
                OmegaConf.save(OmegaConf.create(found), part)
        states = [trial.state.name for trial in self._latest()]
        counts = " ".join(f"{states.count(state)} {state.lower()}" for state in ("COMPLETE", "PRUNED", "FAIL"))
        lines = [f"{path}: of {counts} trials the best:"]
        for each in found:
            values = ", ".join(f"{name} {value:.6g}" for name, value in each["values"].items())
            lines.append(f"{values}: {each['command']}")
        return "\n".join(lines)

    def _check_settings(self, settings: list[str]) -> None:
        changed = set(self.study.user_attrs.get("settings", settings)) ^ set(settings)
        if changed:
            name = self.study.study_name
            raise SweepError(
                f"the study {name} in {self.folder} was begun with other settings (different: "
                f"{', '.join(sorted(changed))}); choose another name, such as hydra.sweeper.study={name}_2"
            )
        self.study.set_user_attr("settings", settings)

    def _requeue_unfinished(self) -> None:
        """Repeat failed trials, and those whose process has ended, once, in their folders."""
        from optuna.trial import TrialState

        for trial in self._latest():
            host, _, pid = trial.user_attrs.get(OWNER, "").partition(" ")
            running_here = trial.state == TrialState.RUNNING and host == socket.gethostname()
            abandoned = running_here and not process_exists(int(pid))
            if abandoned:
                self.study.tell(trial.number, state=TrialState.FAIL)
            if abandoned or trial.state == TrialState.FAIL:
                attributes = {FOLDER: trial.user_attrs[FOLDER], CONTINUES: trial.number}
                self.study.enqueue_trial(trial.params, user_attrs=attributes)

    def _latest(self) -> list[optuna.trial.FrozenTrial]:
        """The last trial of each folder: one that was repeated counts once."""
        trials = self.study.get_trials(deepcopy=False)
        return list({trial.user_attrs[FOLDER]: trial for trial in trials if FOLDER in trial.user_attrs}.values())

    def _typed(self, params: Mapping[str, Any]) -> list[str]:
        return [*self.fixed, *(f"{key}={value}" for key, value in params.items())]


def suggest(trial: optuna.Trial, key: str, override: Override) -> None:
    """Draw a value for a key from its sweep: a choice, a range (without its end, as in Python) or an interval.

    Raises:
        SweepError: the interval is empty, or a logarithmic one is not positive.
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
