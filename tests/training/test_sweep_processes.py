"""Sweeps as processes: killed and resumed, launched, pruned, shared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from configurations import SMALL_NETWORK, TINY
from hushwork.config import config_dir
from hushwork.runs.record import find_runs
from studies import LR, study

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **more}


def start(*words: str, cwd: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", *words],
        cwd=cwd,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, text[-3000:]
    return text


def records(folder: Path) -> dict[int, dict[str, Any]]:
    """By seed."""
    found = [json.loads(path.read_text("utf-8")) for path in folder.glob("runs/sweeps/**/run.json")]
    return {record["seed"]: record for record in found}


@pytest.mark.slow
def test_a_killed_sweep_resumes(corpus: Path, tmp_path: Path) -> None:
    words = (*TINY, f"data.manifest={corpus}", "seed=0,1,2,3", "trainer.max_steps=40", "data.mixtures_per_epoch=8")
    process = start(*words, cwd=tmp_path)
    assert process.stdout is not None
    second = []
    for line in process.stdout:  # of the second trial, after its second checkpoint
        second.append("#1 :" in line) if not any(second) else second.append("epoch 1 done" in line)
        if sum(second) == 2:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.communicate()
    before = records(tmp_path)
    assert {seed: record["status"] for seed, record in before.items()} == {0: "finished", 1: "running"}
    text = ended(start(*words, cwd=tmp_path))
    after = records(tmp_path)
    assert {seed: (record["status"], record["training"]["steps"]) for seed, record in after.items()} == dict.fromkeys(
        range(4), ("finished", 40)
    )
    assert after[0] == before[0]  # not touched
    assert text.count("not trained again") == 1
    assert text.count("resumed from") == 1
    assert text.count("epoch 9 done") == 3
    assert text.count("epoch 0 done") == 2  # the last two trials began, the second did not
    again = ended(start(*words, cwd=tmp_path))
    assert again.count("not trained again") == 4
    assert records(tmp_path) == after


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["ray", "submitit_local"])
def test_trials_run_in_processes_of_their_own(launcher: str, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.split('_')[0]}_launcher")
    more = ("hydra.launcher.cpus_per_task=1",) if launcher == "submitit_local" else ()
    process = start(*TINY, f"data.manifest={corpus}", f"hydra/launcher={launcher}", *more, "seed=0,-1,1", cwd=tmp_path)
    text, _ = process.communicate(timeout=1800)
    assert process.returncode == 1
    assert "1 of 3 trials failed" in text
    assert "ValueError: -1 is not in bounds" in text
    found = records(tmp_path)
    assert {seed: record["status"] for seed, record in found.items()} == {0: "finished", 1: "finished", -1: "failed"}
    assert len({process.pid, *(record["pid"] for record in found.values())}) == 4
    (failed,) = [run for run in find_runs(tmp_path) if run.status == "failed"]
    assert "ValueError: -1 is not in bounds" in str(failed.error)
    assert failed.overrides.endswith("seed=-1")
    assert "$" not in (tmp_path / "runs" / "sweeps" / "multirun.yaml").name


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "ray"])
def test_a_search_prunes(launcher: str, corpus: Path, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    words = (
        f"hydra/launcher={launcher}",
        "hydra/sweeper=optuna",
        "hydra.sweeper.pruner.n_startup_trials=2",
        "hydra.sweeper.n_trials=8",
        "hydra.sweeper.n_jobs=2",
        "scheduler=none",
        "optimizer.lr=choice(1e-9,1e-3,3e-3)",
        "trainer.max_steps=10",
    )
    ended(start(*TINY, f"data.manifest={corpus}", *words, cwd=tmp_path))
    found = study(tmp_path).trials
    states = [trial.state for trial in found]
    assert len(found) == 8
    assert states.count(optuna.trial.TrialState.PRUNED) >= 1
    assert states.count(optuna.trial.TrialState.PRUNED) + states.count(optuna.trial.TrialState.COMPLETE) == 8
    runs = {run.folder.name: run for run in find_runs(tmp_path)}
    for trial in found:
        run = runs[f"trial_{trial.number:04d}"]
        assert (run.status == "pruned") == (trial.state == optuna.trial.TrialState.PRUNED)
        if run.status == "pruned":
            assert max(trial.intermediate_values) <= 10
            assert not (run.folder / "model").exists()
        else:
            assert list(trial.intermediate_values) == [2, 4, 6, 8, 10]
            assert trial.value == pytest.approx(min(trial.intermediate_values.values()))


@pytest.mark.slow
def test_processes_share_a_search(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = (*TINY, f"data.manifest={corpus}", "hydra/sweeper=optuna", f"optimizer.{LR}", "hydra.sweeper.n_trials=6")
    both = [start(*words, cwd=tmp_path) for _ in range(2)]
    for process in both:
        ended(process)
    trials = study(tmp_path).trials
    assert len(trials) == len({trial.params["optimizer.lr"] for trial in trials}) == 6
    assert len({trial.user_attrs["owner"] for trial in trials}) == 2
    assert len(find_runs(tmp_path)) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in (config_dir() / "sweep").glob("*.yaml")))
def test_every_search_runs(name: str, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = [word for word in TINY if not word.startswith("experiment") and word not in SMALL_NETWORK]
    ended(start(f"sweep={name}", *words, f"data.manifest={corpus}", "hydra.sweeper.n_trials=2", cwd=tmp_path))
    assert [run.status for run in find_runs(tmp_path / "runs" / "sweeps" / name)] == ["finished"] * 2
    assert OmegaConf.load(tmp_path / "runs" / "sweeps" / name / "best.yaml")
