"""Sweeps and searches of a cheap function, in this process."""

from __future__ import annotations

import math
import os
import socket
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from configurations import compose_quickly
from hushwork.config import config_dir
from hushwork.sweeps import launcher as launchers
from studies import LR

CHEAP = """
defaults: [_self_, {hydra: default}, {override hydra/job_logging: none}, {override hydra/hydra_logging: none}]
hydra: {searchpath: ["file://%s"]}
name: cheap
paths: {runs_dir: runs, run_dir: "${hydra:runtime.output_dir}"}
trainer: {accelerator: cpu}
data: {num_workers: 0}
num_threads: null
optimized_metric: loss
seed: 0
lr: 0.1
size: 1
periods: [1, 2]
cell: rnn
"""
SEARCH = ("hydra/sweeper=optuna", "hydra/sweeper/pruner=none")
Sweep = Callable[..., str]


@pytest.fixture
def calls() -> list[DictConfig]:
    """The configurations of all trials, resolved."""
    return []


@pytest.fixture
def sweep(
    calls: list[DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Sweep]:
    """A sweep of a cheap function, with our sweepers; gives what it wrote. Trials with negative seeds fail."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "cheap.yaml").write_text(CHEAP % config_dir(), encoding="utf-8")

    @hydra.main(version_base="1.3", config_path=str(tmp_path / "conf"), config_name="cheap")
    def main(cfg: DictConfig) -> Any:
        calls.append(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)))
        if cfg.seed < 0:
            raise ArithmeticError(f"seed {cfg.seed}")
        return loss(cfg) if isinstance(cfg.optimized_metric, str) else [loss(cfg), float(cfg.size)]

    def swept(*words: str, fails: bool = False) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", "-m", *words])
        if fails:
            with pytest.raises(SystemExit, match="1"):
                main()
        else:
            main()
        GlobalHydra.instance().clear()
        written = capsys.readouterr()
        return written.err if fails else written.out

    monkeypatch.chdir(tmp_path)
    yield swept
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def loss(cfg: DictConfig) -> float:
    return (math.log10(cfg.lr) + 3) ** 2


def folders(calls: list[DictConfig]) -> list[str]:
    return [Path(cfg.paths.run_dir).name for cfg in calls]


def test_a_failed_trial_is_named_and_does_not_end_the_sweep(sweep: Sweep, calls: list[DictConfig]) -> None:
    error = sweep("seed=-1,0,-2,1", fails=True)
    assert [cfg.seed for cfg in calls] == [-1, 0, -2, 1]
    assert "2 of 4 trials failed" in error
    assert f"sweeps/{folders(calls)[2]}: ArithmeticError: seed -2" in error
    assert "ArithmeticError: seed -1" in error
    calls.clear()
    assert "1 of 2 trials failed" in sweep("seed=-1,0", "hydra.sweeper.max_batch_size=1", fails=True)
    assert [cfg.seed for cfg in calls] == [-1, 0]


def test_a_trial_has_the_folder_of_its_overrides(sweep: Sweep, calls: list[DictConfig], tmp_path: Path) -> None:
    sweep("seed=0,1", "name=x", f"paths.runs_dir={tmp_path / 'there'}")
    sweep("name=x", "seed=1,2", "size=1")
    found = [str(Path(cfg.paths.run_dir).relative_to(tmp_path)) for cfg in calls]
    assert found[:2] == ["there/sweeps/name=x,seed=0", "there/sweeps/name=x,seed=1"]
    assert found[2:] == ["runs/sweeps/name=x,seed=1,size=1", "runs/sweeps/name=x,seed=2,size=1"]


def test_a_search_finds_the_best(sweep: Sweep, calls: list[DictConfig], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    text = sweep(*SEARCH, LR, "hydra.sweeper.n_trials=5", "cell=gru")
    assert len({cfg.lr for cfg in calls}) == len(calls) == 5
    assert all(1e-5 <= cfg.lr <= 1e-1 for cfg in calls)
    (best,) = OmegaConf.load(tmp_path / "runs" / "sweeps" / "search" / "best.yaml")
    found = min(calls, key=loss)
    assert best["values"]["loss"] == loss(found)
    assert best["overrides"] == [f"lr={found.lr}"]
    assert best["folder"] == found.paths.run_dir
    assert best["command"] == f"python train.py cell=gru lr={found.lr}"
    assert best["command"] in text


def test_a_search_resumes(sweep: Sweep, calls: list[DictConfig]) -> None:
    pytest.importorskip("optuna")
    sweep(*SEARCH, LR, "hydra.sweeper.n_trials=3")
    whole = [cfg.lr for cfg in calls]
    assert folders(calls) == [f"trial_{number:04d}" for number in range(3)]
    calls.clear()
    for trials in (1, 1, 3):
        sweep(*SEARCH, LR, f"hydra.sweeper.n_trials={trials}", "hydra.sweeper.study=b")
    assert [cfg.lr for cfg in calls] == whole
    calls.clear()
    sweep(*SEARCH, LR, "hydra.sweeper.n_trials=1", "hydra.sweeper.study=c", "seed=1")
    assert calls[0].lr != whole[0]
    assert "other settings (different: cell=gru)" in sweep(*SEARCH, LR, "cell=gru", fails=True)


def test_all_sweeps_of_hydra_are_searched(sweep: Sweep, calls: list[DictConfig]) -> None:
    pytest.importorskip("optuna")
    space = {
        "periods": "choice([1,2],[1,4])",
        "size": "range(2,8,3)",
        "cell": "gru,lstm",
        "num_threads": "int(interval(3,5))",
        "data.num_workers": "tag(log,int(interval(1,100)))",
        "+x": "interval(0.5,1)",
        "+y": "range(0,1,0.5)",
    }
    sweep(*SEARCH, *(f"{key}={value}" for key, value in space.items()), "hydra.sweeper.n_trials=6")
    assert {tuple(cfg.periods) for cfg in calls} == {(1, 2), (1, 4)}
    assert {cfg.size for cfg in calls} == {2, 5}
    assert {cfg.cell for cfg in calls} == {"gru", "lstm"}
    assert {cfg.num_threads for cfg in calls} <= {3, 4, 5}
    assert all(isinstance(cfg.data.num_workers, int) and 1 <= cfg.data.num_workers <= 100 for cfg in calls)
    assert all(0.5 <= cfg.x <= 1 for cfg in calls)
    assert {cfg.y for cfg in calls} == {0, 0.5}
    calls.clear()
    sweep(*SEARCH, LR, "hydra.sweeper.study=b", "+hydra.sweeper.params.cell='a,b'", "hydra.sweeper.n_trials=1")
    assert calls[0].cell in ("a", "b")


def test_several_metrics_have_a_front(sweep: Sweep, calls: list[DictConfig], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    metrics = ("optimized_metric=[loss,size]", "hydra.sweeper.direction=[minimize,maximize]")
    sweep(*SEARCH, *metrics, LR, "size=range(1,5)", "hydra.sweeper.n_trials=7")
    points = [(loss(cfg), cfg.size) for cfg in calls]
    front = {a for a in points if not any(b != a and b[0] <= a[0] and b[1] >= a[1] for b in points)}
    best = OmegaConf.load(tmp_path / "runs" / "sweeps" / "search" / "best.yaml")
    assert {(each["values"]["loss"], each["values"]["size"]) for each in best} == front
    assert 1 < len(front) < 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("hydra/sweeper/pruner=median", "hydra.sweeper.direction=[minimize,minimize]"),
            "a pruner compares one metric",
        ),
        (("hydra/sweeper/pruner=none",), "give one direction for each"),
        (
            ("hydra/sweeper/pruner=none", "hydra.sweeper.direction=[down,up]"),
            "direction is down; choose minimize or max",
        ),
        (
            ("hydra/sweeper/pruner=hyperband", "hydra.sweeper.direction=[minimize,minimize]", "+trainer.max_steps=99"),
            "a pruner compares one metric",
        ),
        (
            ("hydra/sweeper/pruner=hyperband", "optimized_metric=loss", "+trainer.max_steps=99"),
            "the pruner would begin after 100 steps, and trials have 99 (trainer.max_steps)",
        ),
        (("optimized_metric=loss", "lr=1"), "nothing to search: give"),
        (("optimized_metric=loss", "lr=tag(log,interval(0,1))"), "from 0.0 to 1.0 is no interval of a logarithm"),
        (("optimized_metric=loss", "lr=interval(1,0)"), "from 1.0 to 0.0 is no interval"),
    ],
)
def test_invalid_searches_are_refused(words: tuple[str, ...], message: str, sweep: Sweep) -> None:
    pytest.importorskip("optuna")
    assert message in sweep("hydra/sweeper=optuna", "optimized_metric=[loss,size]", LR, *words, fails=True)


def test_failed_and_abandoned_trials_are_tried_again_where_they_were(
    sweep: Sweep, calls: list[DictConfig], tmp_path: Path
) -> None:
    optuna = pytest.importorskip("optuna")
    words = (*SEARCH, "seed=range(-1,2)", "hydra.sweeper.seed=3", "hydra.sweeper.n_trials=3")
    sweep(*words, fails=True)
    assert len(calls) == 3
    failed = {folder for folder, cfg in zip(folders(calls), calls, strict=True) if cfg.seed == -1}
    assert 0 < len(failed) < 3
    calls.clear()
    assert f"{len(failed)} of {len(failed)} trials failed" in sweep(*words, fails=True)
    assert set(folders(calls)) == failed
    assert {cfg.seed for cfg in calls} == {-1}
    calls.clear()

    words = (*SEARCH, LR, "hydra.sweeper.study=b")
    sweep(*words, "hydra.sweeper.n_trials=2")
    elsewhere = optuna.load_study(study_name="b", storage=f"sqlite:///{tmp_path / 'runs/sweeps/b/study.db'}")
    for pid in (2**22 + 1, os.getpid()):  # the first is above Linux' largest
        trial = elsewhere.ask()
        trial.set_user_attr("owner", f"{socket.gethostname()} {pid}")
        trial.set_user_attr("folder", f"trial_{trial.number:04d}")
        trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    calls.clear()
    sweep(*words, "hydra.sweeper.n_trials=4")  # two are done, one is at work
    assert [(cfg.lr, Path(cfg.paths.run_dir).name) for cfg in calls] == [
        (elsewhere.trials[2].params["lr"], "trial_0002")
    ]
    calls.clear()
    sweep(*words, "hydra.sweeper.n_trials=4")
    assert not calls


def test_a_launcher_gets_a_trials_share_of_the_machine(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    configured: list[Any] = []

    def instantiate_launcher(self: Any, *, config: DictConfig, **more: Any) -> Any:
        configured.append(OmegaConf.to_container(config.hydra.launcher, resolve=True))
        return types.SimpleNamespace(launch=lambda batch, initial_job_idx: [])

    monkeypatch.setattr(launchers.Plugins, "instantiate_launcher", instantiate_launcher)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    ray, cores = "hydra/launcher=ray", ("num_threads=2", "data.num_workers=3")
    sweep(ray, *cores)
    sweep(ray, "num_threads=20")
    sweep(ray, "trainer.accelerator=gpu", "hydra.launcher.ray.init.address=auto")
    sweep(ray, "trainer.accelerator=gpu", "+hydra.launcher.ray.remote.num_gpus=0.5")
    remotes = [launcher["ray"]["remote"] for launcher in configured]
    assert [(remote["num_gpus"], remote["num_cpus"]) for remote in remotes] == [(0, 5), (0, 16), (1, 0), (0.5, 0)]
    assert all(remote["max_calls"] == 1 for remote in remotes)  # a process for each trial
    assert [launcher["ray"]["init"]["address"] for launcher in configured] == [None, None, "auto", None]
    assert configured[2]["ray"]["init"]["object_store_memory"] is None  # Ray refuses another for a cluster that exists
    slurm = ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=fast", *cores)
    sweep(*slurm)
    sweep(*slurm, "trainer.accelerator=gpu", "hydra.launcher.cpus_per_task=8")
    jobs = [(job["partition"], job["gpus_per_node"], job["cpus_per_task"]) for job in configured[4:]]
    assert jobs == [("fast", None, 5), ("fast", 1, 8)]


def test_missing_packages_are_named(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "a search needs Optuna: pip install 'hushwork[sweep]'" in sweep(*SEARCH, LR, fails=True)
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    text = sweep("hydra/launcher=ray", fails=True)
    assert "RayLauncher is not installed: pip install 'hushwork[sweep]'" in text


@pytest.mark.parametrize("name", sorted(path.stem for path in (config_dir() / "sweep").glob("*.yaml")))
def test_every_search_searches_settings_that_exist(name: str) -> None:
    overrides = (config_dir() / "sweep" / f"{name}.yaml").read_text("utf-8")
    params = OmegaConf.create(overrides).hydra.sweeper.params
    for override in OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()]):
        sweep = override.value()
        values = [sweep.start] if override.is_interval_sweep() else list(override.sweep_string_iterator())  # type: ignore[union-attr]
        for value in values:
            cfg = compose_quickly(f"sweep={name}", "name=x", f"{override.get_key_element()}={value}")
            assert instantiate(cfg.model)
            assert instantiate(cfg.loss)
