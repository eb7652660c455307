"""Batches on a Ray cluster give the same results as local ones, also after crashes of its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hushwork.cli import main
from hushwork.files.engine import denoise_in_processes
from hushwork.files.job import Outcome
from hushwork.files.ledger import FOLDER, Ledger
from hushwork.files.plan import plan_targets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 files in three chunks."""
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(40):
        noise = 0.1 * rng.standard_normal(rng.integers(16000, 80000))
        soundfile.write(tmp_path / "in" / f"{number:02d}.wav", noise, 16000)
    return tmp_path / "in"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Of two workers, on this machine."""
    from hushwork.files.cluster import Cluster

    with Cluster("local") as cluster:
        yield cluster


def run(folder: Path, output: Path, model: Path, **options: Any) -> dict[str, Outcome]:
    with Ledger(output, {}) as ledger:
        plan = plan_targets([folder], f"{output}/")
        outcomes = list(denoise_in_processes(plan, model, ledger=ledger, jobs=2, **options))
    assert len(outcomes) == len(plan)
    return {outcome.source.name: outcome for outcome in outcomes}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != FOLDER}


def test_missing_packages_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "hushwork.files.cluster", raising=False)
    assert main(["denoise", str(folder), "-o", str(tmp_path / "out"), "--engine", "ray"]) == 1
    assert "needs ray, which is installed for Ray clusters: pip install 'hushwork[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cluster_gives_what_processes_give(
    folder: Path, tmp_path: Path, model_folder: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress: list[float] = []
    run(folder, tmp_path / "local", model_folder)
    monkeypatch.chdir(tmp_path)  # names are relative to a folder that the workers are not in
    options = {"new_worker": cluster.new_worker, "progress": progress.append}
    outcomes = run(Path("in"), Path("cluster"), model_folder, **options)
    assert not any(outcome.error for outcome in outcomes.values())
    assert sum(progress) == pytest.approx(1, abs=1e-6)
    assert files(tmp_path / "cluster") == files(tmp_path / "local")
    assert all(outcome.skipped for outcome in run(Path("in"), Path("cluster"), model_folder).values())


@pytest.mark.slow
def test_the_files_of_a_killed_worker_are_retried(
    folder: Path, tmp_path: Path, model_folder: Path, cluster: Any
) -> None:
    workers: list[Any] = []

    def new_worker(settings: dict[str, Any]) -> Any:
        workers.append(cluster.new_worker(settings))
        return workers[-1]

    def kill(_: float) -> None:
        """The first progress comes from the middle of a chunk of one of them: kill all that have begun."""
        if len(workers) == 2:
            for worker in workers:
                if worker.pid:
                    os.kill(worker.pid, signal.SIGKILL)
                    worker.pid = None

    outcomes = run(folder, tmp_path / "out", model_folder, new_worker=new_worker, progress=kill)
    assert len(workers) > 2
    assert [outcome.error for outcome in outcomes.values()] == [None] * 40
    run(folder, tmp_path / "local", model_folder)
    again, local = files(tmp_path / "out"), files(tmp_path / "local")
    assert again.keys() == local.keys()  # and no parts
    for name in local:
        # Alone a file comes out as beside others but for rounding.
        samples = (soundfile.read(tmp_path / where / name, dtype="int16")[0].astype(int) for where in ("out", "local"))
        assert np.abs(np.subtract(*samples)).max() <= 1
    entries = [json.loads(line) for line in (tmp_path / "out" / FOLDER / "ledger.jsonl").read_text().splitlines()]
    done = [entry["target"] for entry in entries if entry["status"] == "done"]
    assert sorted(done) == sorted(files(folder))


@pytest.mark.slow
def test_the_command_starts_and_ends_a_cluster(folder: Path, tmp_path: Path, model_folder: Path) -> None:
    where = [str(folder), "-o", str(tmp_path / "out"), "--model", str(model_folder)]
    command = [sys.executable, "-m", "hushwork.cli", "denoise", *where, "--engine", "ray", "--ray-address", "local"]
    environment = {**os.environ, "STARTED_BY": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"40 of 40 files written with {model_folder}\n"
    assert done.stderr == ""
    for _ in range(100):
        if not (left := processes_with(f"STARTED_BY={tmp_path}")):
            break
        time.sleep(0.1)
    assert left == []


def processes_with(variable: str) -> list[str]:
    """Of which the environment has this in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in path.read_bytes().split(b"\0"):
                found.append((path.parent / "cmdline").read_text())
        except OSError:
            continue
    return found
