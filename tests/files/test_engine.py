"""Batches: every file is denoised once, also after crashes and interruptions."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hushwork.atomic import name_key
from hushwork.audio.io import read_audio
from hushwork.files import denoise as files
from hushwork.files import engine
from hushwork.files.denoise import denoise, denoise_files
from hushwork.files.engine import LocalWorker, denoise_in_processes
from hushwork.files.job import Outcome
from hushwork.files.ledger import FOLDER, Ledger, LedgerError
from hushwork.files.plan import plan_targets
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.strength import Processing, Strength


def leave_files(folder: Path, count: int, seconds: float = 0.1) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    paths = [folder / f"{number:03d}.wav" for number in range(count)]
    for path in paths:
        soundfile.write(path, 0.1 * rng.standard_normal(round(seconds * 16000 * rng.uniform(0.5, 1))), 16000)
    return paths


class Job:
    """A folder of five files and its output, denoised again and again."""

    def __init__(self, root: Path, model: Path, new_worker: Any) -> None:
        self.source, self.output, self.model, self.new_worker = root / "in", root / "out", model, new_worker
        leave_files(self.source, 5)

    def run(self, settings: str = "full", **options: Any) -> dict[str, Outcome]:
        plan = plan_targets([self.source], f"{self.output}/")
        options = {"new_worker": self.new_worker, **options}
        with Ledger(self.output, {"settings": settings}) as ledger:
            outcomes = list(denoise_in_processes(plan, self.model, ledger=ledger, jobs=2, **options))
        return {outcome.source.name: outcome for outcome in outcomes}

    def redone(self, **options: Any) -> list[str]:
        return sorted(name for name, outcome in self.run(**options).items() if not outcome.skipped)


@pytest.fixture
def job(tmp_path: Path, model_folder: Path, worker_here: Any) -> Job:
    return Job(tmp_path, model_folder, worker_here)


@pytest.fixture
def poison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that crash at files whose name has "poison" in it."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import os, signal\n"
        "from hushwork.files import worker\n"
        "real = worker.denoise_files\n"
        "def crashing(plan, *args, **options):\n"
        "    for pair in plan:\n"
        "        if 'poison' in pair[0].name:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        yield from real([pair], *args, **options)\n"
        "worker.denoise_files = crashing\n"
        "worker.main()\n"
    )
    monkeypatch.setattr(engine, "WORKER", [sys.executable, str(script)])


def test_processes_give_what_one_gives(job: Job, model: PretrainedDenoiser) -> None:
    progress: list[float] = []
    outcomes = job.run(progress=progress.append, new_worker=LocalWorker)
    assert sum(progress) == pytest.approx(1, abs=1e-6)
    assert len(outcomes) == 5
    for outcome in outcomes.values():
        assert (outcome.error, outcome.skipped) == (None, False)
        noisy, rate = read_audio(outcome.source)
        assert outcome.duration_s == noisy.shape[1] / rate
        assert np.abs(read_audio(outcome.target)[0] - denoise(noisy, rate, model)).max() < 1e-4  # 16 bits


def test_settings_reach_the_processes(job: Job, model: PretrainedDenoiser) -> None:
    wide = 0.1 * np.random.default_rng(0).standard_normal((9600, 2))
    soundfile.write(job.source / "wide.wav", wide, 48000)  # every setting makes a difference to it
    settings: dict[str, Any] = {"strength": Strength(mix=0.7), "high_band": "drop", "channels": "mid"}
    job.run(processing=Processing(**settings), new_worker=LocalWorker)
    noisy, rate = read_audio(job.source / "wide.wav")
    found = read_audio(job.output / "wide.wav")[0]
    assert np.abs(found - denoise(noisy, rate, model, **settings)).max() < 1e-4  # 16 bits
    for other in ({"strength": Strength()}, {"high_band": "mask"}, {"channels": "linked"}):
        assert np.abs(found - denoise(noisy, rate, model, **{**settings, **other})).max() > 1e-3


def test_finished_files_are_skipped(job: Job) -> None:
    assert len(job.redone()) == 5
    before = {path: path.stat().st_mtime_ns for path in job.output.glob("*.wav")}
    assert job.redone() == []
    assert {path: path.stat().st_mtime_ns for path in job.output.glob("*.wav")} == before


def test_changed_files_are_denoised_again(job: Job) -> None:
    job.run()
    os.utime(job.source / "000.wav", (1, 1))  # touched, but the same
    leave_files(job.source, 2, seconds=0.2)
    (job.output / "002.wav").unlink()
    (job.output / "003.wav").write_bytes(b"cut off")
    assert job.redone() == ["000.wav", "001.wav", "002.wav", "003.wav"]
    os.utime(job.source / "000.wav", (2, 2))
    assert job.redone() == []
    assert len(job.redone(settings="half")) == 5
    assert len(job.redone(settings="half", overwrite=True)) == 5


def test_files_of_other_programs_are_not_replaced(job: Job) -> None:
    job.output.mkdir()
    (job.output / "001.wav").write_text("precious")
    outcomes = job.run()
    assert "exists already" in str(outcomes["001.wav"].error)
    assert (job.output / "001.wav").read_text() == "precious"
    assert [name for name, outcome in outcomes.items() if outcome.error] == ["001.wav"]
    assert job.redone(overwrite=True) == [f"00{number}.wav" for number in range(5)]


def test_failed_files_are_tried_again(job: Job) -> None:
    good = (job.source / "004.wav").read_bytes()
    (job.source / "004.wav").write_text("no audio")
    assert "004.wav: cannot be read as audio" in str(job.run()["004.wav"].error)
    (job.source / "004.wav").write_bytes(good)
    assert job.redone() == ["004.wav"]


def test_a_crash_costs_one_file(job: Job, poison: None) -> None:
    shutil.copy(job.source / "002.wav", job.source / "poison.wav")
    outcomes = job.run(new_worker=LocalWorker)
    assert len(outcomes) == 6
    assert [name for name, outcome in outcomes.items() if outcome.error] == ["poison.wav"]
    assert "was ended by SIGKILL while it denoised this file, which may be damaged" in str(outcomes["poison.wav"].error)
    assert sorted(path.name for path in job.output.iterdir()) == [FOLDER, *(f"00{n}.wav" for n in range(5))]
    assert job.redone(new_worker=LocalWorker) == ["poison.wav"]


def test_a_process_that_never_begins_is_an_error(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WORKER", [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="ended with status 3 before it had loaded the model, 3 times in a row"):
        job.run(new_worker=LocalWorker)


def test_a_caller_who_stops_ends_the_processes(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[str]] = []
    real = subprocess.Popen

    def popen(*args: Any, **options: Any) -> subprocess.Popen[str]:
        begun.append(real(*args, **options))
        return begun[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    outcomes = denoise_in_processes(plan_targets([job.source], f"{job.output}/"), job.model, jobs=2)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert begun
    assert all(worker.poll() is not None for worker in begun)


def test_unfinished_parts_of_a_killed_run_are_removed(job: Job) -> None:
    job.output.mkdir()
    with Ledger(job.output, {}) as ledger:
        ledger.start([job.output / "000.wav"])
    part = job.output / f".{name_key('000.wav')}.123-456.part"
    part.write_bytes(b"half")
    part.with_stem(f"{part.stem}0").write_bytes(b"half")  # of a copy with metadata
    (job.output / "000.wav").write_bytes(b"half")  # ours, since it was begun
    (job.output / ".other.part").write_bytes(b"not ours")
    assert len(job.redone()) == 5
    assert [path.name for path in job.output.glob(".*.part")] == [".other.part"]


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path, {}), pytest.raises(LedgerError, match="another process is writing it"):
        Ledger(tmp_path, {})
    with Ledger(tmp_path, {}), Ledger(tmp_path, {}, "1/2"), Ledger(tmp_path, {}, "2/2"):
        pass


def test_a_line_cut_off_by_a_power_cut_is_forgotten(job: Job) -> None:
    job.run()
    ledger = job.output / FOLDER / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    assert len(job.redone()) == 1
    assert job.redone() == []  # the torn line stays, and harms nobody


def test_files_that_are_not_ledgers_are_named(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "ledger.jsonl").write_text("shopping list\n")
    with pytest.raises(LedgerError, match=r"ledger\.jsonl, line 1: not written by hushwork"):
        Ledger(tmp_path, {})


def test_too_little_memory_halves_the_batch(
    model: PretrainedDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = files.denoise_together

    def hungry(recordings: list[Any], *args: Any) -> Iterator[float]:
        sizes.append(len(recordings))
        if len(recordings) > 2:
            raise MemoryError("not so many")
        yield from real(recordings, *args)

    monkeypatch.setattr(files, "denoise_together", hungry)
    leave_files(tmp_path / "in", 7)
    outcomes = list(denoise_files(plan_targets([tmp_path / "in"], f"{tmp_path / 'out'}/"), model, jobs=1))
    assert [outcome.error for outcome in outcomes] == [None] * 7
    assert sorted(sizes) == [1, 2, 2, 2, 3, 4, 7]


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_if_undisturbed(tmp_path: Path, model_folder: Path) -> None:
    leave_files(tmp_path / "in", 300)
    (tmp_path / "in" / "bad.wav").write_text("no audio")

    def command(output: str) -> list[str]:
        where = [str(tmp_path / "in"), "-o", str(tmp_path / output), "--model", str(model_folder)]
        return [sys.executable, "-m", "hushwork.cli", "denoise", *where]

    assert subprocess.run(command("undisturbed"), capture_output=True, check=False).returncode == 1
    random.seed(0)
    for _ in range(20):
        running = subprocess.Popen(command("out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            running.wait(random.uniform(0.2, 1.6))
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            running.wait()
    last = subprocess.run(command("out"), capture_output=True, text=True, check=False)
    assert last.returncode == 1
    assert "bad.wav" in last.stderr
    names = sorted(path.name for path in (tmp_path / "undisturbed").iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        if name != FOLDER:
            first, second = (soundfile.read(tmp_path / run / name, dtype="int16")[0] for run in ("undisturbed", "out"))
            # Not the same beside other files, whose number decides in which order products are summed.
            assert np.abs(first.astype(int) - second).max() <= 1
    entries = [
        json.loads(line) for line in (tmp_path / "out" / FOLDER / "ledger.jsonl").read_text().splitlines() if line
    ]
    done = [entry["target"] for entry in entries if entry["status"] == "done"]
    assert sorted(done) == sorted(set(done))  # each once
    assert len(done) == 300
