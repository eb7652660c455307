"""Records of runs: found, sorted, compared, written and drawn."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import hushwork
from hushwork.cli import main
from hushwork.runs.compare import against
from hushwork.runs.plot import draw_quality_against_cost, pareto_front
from hushwork.runs.provenance import commit
from hushwork.runs.record import Run, find_runs, network_name, read_record, write_record
from hushwork.runs.table import as_table, sort_runs
from hushwork.runs.timing import with_time


def settings(cell: str = "gru", clockwork: bool = True, bidirectional: bool = False, pool: str = "mean") -> Any:
    kind = "clockwork.StackedClockworkRNN" if clockwork else "recurrence.StackedRNN"
    recurrence = {"_target_": f"hushwork.models.{kind}", "cell": cell, "bidirectional": bidirectional}
    return {"masker": {"recurrence": recurrence | ({"pool": pool} if clockwork else {})}}


def leave_run(folder: Path, scores: dict[str, float] | None = None, status: str = "finished", **more: Any) -> None:
    """Write the files of a run that the table reads."""
    metadata = {
        "name": "cwgru",
        "command": "python train.py experiment=cwgru seed=1 logger=[csv]",
        "model": settings(),
        "seed": 1,
        "parameters": 1000,
        "macs_per_s": 2e6,
        "training": {"steps": 10, "hours": 0.5, "audio_s_per_s": 90.0},
    }
    write_record(folder, metadata | {"best": -0.5} | more, status)
    if scores is not None:
        denoised = {name: {"mean": mean, "low": mean - 0.1, "high": mean + 0.1} for name, mean in scores.items()}
        (folder / "metrics.json").write_text(json.dumps({"summary": {"overall": {"denoised": denoised}}}), "utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    leave_run(tmp_path / "a" / "1", {"si_sdr": 5.0, "si_sdr_improvement": 3.0, "pesq_wb": 1.5})
    leave_run(tmp_path / "a" / "2", {"si_sdr": 7.0, "si_sdr_improvement": 5.0, "pesq_wb": 1.4}, macs_per_s=8e6)
    leave_run(
        tmp_path / "b", status="failed", command="python train.py experiment=gru", model=settings(clockwork=False)
    )
    return tmp_path


def test_every_run_is_found_with_its_record(folder: Path) -> None:
    first, second, third = find_runs(folder)
    assert (first.network, first.overrides, first.status) == ("clockwork gru", "seed=1 logger=[csv]", "finished")
    assert first.scores["si_sdr"] == (5.0, 4.9, 5.1)
    assert (first.best, first.steps, first.hours, first.macs_per_s) == (-0.5, 10, 0.5, 2e6)
    assert second.scores["pesq_wb"][0] == 1.4
    assert (third.network, third.overrides, third.status, third.scores) == ("gru", "", "failed", {})


def test_a_process_that_is_gone_is_not_running(tmp_path: Path) -> None:
    leave_run(tmp_path, status="running")
    assert find_runs(tmp_path)[0].status == "running"  # this very process
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    record = json.loads((tmp_path / "run.json").read_text("utf-8"))
    (tmp_path / "run.json").write_text(json.dumps(record | {"pid": ended.pid}), "utf-8")
    assert find_runs(tmp_path)[0].status == "stopped"
    (tmp_path / "run.json").write_text(json.dumps(record | {"pid": ended.pid, "host": "elsewhere"}), "utf-8")
    assert find_runs(tmp_path)[0].status == "running"  # nobody can tell from here
    assert (record["host"], record["pid"]) == (socket.gethostname(), os.getpid())


def test_a_record_names_the_process_and_status_that_wrote_it_last(tmp_path: Path) -> None:
    write_record(tmp_path, {"name": "a", "pid": -1, "host": "elsewhere", "status": "stopped"}, "failed")
    record = read_record(tmp_path)
    assert record == {"name": "a", "pid": os.getpid(), "host": socket.gethostname(), "status": "failed"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_networks_have_names() -> None:
    assert network_name(settings("lstm", clockwork=False)) == "lstm"
    assert network_name(settings("gru", bidirectional=True, clockwork=False)) == "bidirectional gru"
    assert network_name(settings("rnn", pool="sample")) == "clockwork rnn, sampled"


@pytest.mark.parametrize(("text", "error"), [("{}", "KeyError"), ("{", "JSONDecodeError"), ("[]", "AttributeError")])
def test_a_file_that_is_not_a_record_is_named(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "run.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=rf"run\.json: not the record of a run \({error}"):
        find_runs(tmp_path)


def test_a_folder_without_runs_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 1
    assert "no run below it" in capsys.readouterr().err


def test_sorting_puts_the_best_first_and_the_unknown_last(folder: Path) -> None:
    runs = find_runs(folder)
    assert [run.folder.name for run in sort_runs(runs, "pesq_wb")] == ["1", "2", "b"]
    assert [run.folder.name for run in sort_runs(runs, "si_sdr")] == ["2", "1", "b"]
    assert [run.folder.name for run in sort_runs(runs, "M MAC/s")] == ["1", "b", "2"]
    with pytest.raises(ValueError, match="--sort loudness is not a column; choose from run, name"):
        sort_runs(runs, "loudness")


def test_the_table_shows_intervals_and_hides_what_no_run_has(folder: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(as_table(find_runs(folder)))
    text = console.export_text()
    assert "7.000 [6.900, 7.100]" in text
    assert "logger=[csv]" in text
    assert "ms per s" not in text
    assert "improvement" not in text


def test_the_table_shows_what_differs(tmp_path: Path) -> None:
    for lr in ("1e-3", "0.5"):
        leave_run(tmp_path / lr, command=f"python train.py seed=1 optimizer.lr={lr} data.x=[a.b]")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(as_table(find_runs(tmp_path)))
    text = console.export_text()
    assert " lr=1e-3 " in text
    assert " lr=0.5 " in text
    assert "data" not in text


def test_the_command_writes_a_table_and_a_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["runs", str(folder), "--sort", "si_sdr", "--csv", str(folder / "t.csv"), "--plot", str(folder / "t.png")])
        == 0
    )
    assert "failed" in capsys.readouterr().out
    with (folder / "t.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["si_sdr"] for row in rows] == ["7.0", "5.0", ""]
    assert rows[1]["pesq_wb high"] == "1.6"
    assert (folder / "t.png").read_bytes().startswith(b"\x89PNG")


def leave_files(folder: Path, scores: dict[str, float]) -> None:
    """Scores by mixture, besides those of the noisy input."""
    lines = [
        f"{name},{system},s,rain,0.0,{score},2.5,ok"
        for name, score in scores.items()
        for system in ("noisy", "denoised")
    ]
    head = "name,system,speaker,noise_class,snr_db,si_sdr,pesq_wb,failures"
    (folder / "metrics.csv").write_text("\n".join([head, *lines]), "utf-8")


def test_runs_are_compared_mixture_by_mixture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    easy, gained = rng.normal(5, 10, 50), rng.normal(0.5, 0.2, 50)
    leave_files(folder / "a" / "1", {str(i): score for i, score in enumerate(easy)})
    leave_files(folder / "a" / "2", {str(i): score for i, score in reversed(list(enumerate(easy + gained)))})
    first, second, third = against(find_runs(folder), folder / "a" / "1")
    assert first.scores["si_sdr"] == (0, 0, 0)
    mean, low, high = second.scores["si_sdr"]
    assert mean == pytest.approx(gained.mean())
    standard_error = gained.std(ddof=1) / 50**0.5
    assert (low, high) == pytest.approx((mean - 1.96 * standard_error, mean + 1.96 * standard_error), abs=0.02)
    assert second.scores["pesq_wb"] == (0, 0, 0)
    assert third.scores == {}
    assert main(["runs", str(folder), "--against", str(folder / "a" / "1")]) == 0
    assert f"{mean:.3f}" in capsys.readouterr().out


def test_runs_on_other_mixtures_are_not_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder), "--against", str(folder / "b")]) != 0
    assert "no metrics.csv there" in capsys.readouterr().err
    leave_files(folder / "a" / "1", {"x": 1.0})
    leave_files(folder / "a" / "2", {"y": 1.0})
    assert main(["runs", str(folder), "--against", str(folder / "a" / "1")]) != 0
    assert "was measured on other mixtures than" in capsys.readouterr().err


def test_exported_models_are_timed(folder: Path, model_folder: Path) -> None:
    shutil.copytree(model_folder, folder / "b" / "model")
    times = [run.ms_per_s for run in with_time(find_runs(folder), duration_s=0.2)]
    assert times[:2] == [None, None]
    assert times[2] is not None
    assert times[2] > 0


def test_the_front_holds_points_that_no_cheaper_one_surpasses() -> None:
    points = [(3.0, 1.0), (1.0, 0.5), (2.0, 0.4), (4.0, 1.0), (3.0, 0.9), (5.0, 2.0)]
    assert pareto_front(points) == [(1.0, 0.5), (3.0, 1.0), (5.0, 2.0)]
    assert pareto_front([]) == []


def test_the_picture_has_a_panel_for_each_metric_and_cost(folder: Path) -> None:
    runs = find_runs(folder)
    assert len(draw_quality_against_cost(runs).axes) == 2
    with_time = [Run(**{**vars(run), "ms_per_s": 3.0}) for run in runs]
    figure = draw_quality_against_cost(with_time)
    assert len(figure.axes) == 4
    assert {text.get_text() for text in figure.axes[0].get_legend().get_texts()} == {"clockwork gru", "gru"}
    with pytest.raises(ValueError, match="no run has test scores"):
        draw_quality_against_cost(runs[2:])


def test_seeds_are_averaged(tmp_path: Path) -> None:
    for seed, score in enumerate((1.0, 3.0)):
        leave_run(tmp_path / str(seed), {"si_sdr": score}, seed=seed)
    axis = draw_quality_against_cost(find_runs(tmp_path)).axes[0]
    assert axis.lines[0].get_xydata().tolist() == [[2.0, 2.0]]
    assert axis.collections[0].get_offsets().tolist() == [[2.0, 1.0], [2.0, 3.0]]


def test_the_commit_is_git_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    file = tmp_path / "src" / "hushwork" / "__init__.py"
    monkeypatch.setattr(hushwork, "__file__", str(file))
    file.parent.mkdir(parents=True)
    file.write_text("1")
    assert commit() is None
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "x")
    head = git("rev-parse", "HEAD").strip()
    assert commit() == head
    file.write_text("2")
    assert commit() == head + "+"
    inside = tmp_path / "venv" / "lib" / "hushwork" / "__init__.py"
    monkeypatch.setattr(hushwork, "__file__", str(inside))
    inside.parent.mkdir(parents=True)
    assert commit() is None  # installed into an environment that lies in somebody's checkout
