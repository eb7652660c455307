"""Files named by URL: as sources, targets, manifests and outputs, without a network."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("upath")

from fsspec.implementations.memory import MemoryFileSystem

from hushwork.atomic import name_key
from hushwork.audio import remote
from hushwork.audio.io import AudioError
from hushwork.audio.remote import is_remote, locate, publish, stamps
from hushwork.cli import main
from hushwork.files import ledger as ledger_module
from hushwork.files.denoise import denoise_file, denoise_files
from hushwork.files.engine import denoise_in_processes
from hushwork.files.job import Outcome
from hushwork.files.ledger import FOLDER, Ledger
from hushwork.files.plan import plan_manifest, plan_targets, shard_of
from hushwork.network.pretrained import PretrainedDenoiser


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files, one of them in a folder with a name that URLs could stumble over."""
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "a b#c").mkdir(parents=True)
    for number in range(5):
        path = tmp_path / "in" / ("a b#c" if number == 4 else "") / f"{number}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(rng.integers(800, 1600)), 16000)
    return tmp_path / "in"


def upload(memory: MemoryFileSystem, folder: Path) -> None:
    for path in folder.rglob("*.wav"):
        memory.pipe_file(f"/in/{path.relative_to(folder)}", path.read_bytes())


Run = Callable[[str, str, Path], dict[str, Outcome]]


@pytest.fixture
def run(worker_here: Any) -> Run:
    def run(source: str, output: str, model: Path) -> dict[str, Outcome]:
        with Ledger(output, {}) as ledger:
            plan = plan_targets([source], output)
            outcomes = list(denoise_in_processes(plan, model, ledger=ledger, jobs=2, new_worker=worker_here))
        return {outcome.source.name: outcome for outcome in outcomes}

    return run


def test_names_are_files_or_urls(tmp_path: Path) -> None:
    for name in ("a.wav", "/x/a.wav", "C:/x", "weird:name.wav"):
        assert locate(name) == Path(name)
        assert not is_remote(locate(name))
    assert locate(tmp_path) is tmp_path
    for name in ("memory://x/a b#c.wav", f"file://{tmp_path}/a.wav"):
        assert is_remote(locate(name))
        assert str(locate(name)) == name
        assert locate(locate(name)) is not None
    with pytest.raises(AudioError, match=r"foo://x: .*foo"):
        locate("foo://x")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    assert main(["denoise", "memory://in", "-o", "out"]) == 1
    assert "needs upath, which is installed for URLs: pip install 'hushwork[remote]'" in capsys.readouterr().err


def test_a_file_in_memory(
    folder: Path, model: PretrainedDenoiser, memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    upload(memory, folder)
    outcome = denoise_file("memory://in/0.wav", "memory://out/x/0.wav", model)
    denoise_file(folder / "0.wav", tmp_path / "0.wav", model)
    assert memory.cat_file("/out/x/0.wav") == (tmp_path / "0.wav").read_bytes()
    assert memory.find("/out") == ["/out/x/0.wav"]  # and no part
    assert str(outcome.target) == "memory://out/x/0.wav"
    denoise_file(folder / "0.wav", "memory://out/1.flac", model)
    denoise_file("memory://in/0.wav", tmp_path / "2.wav", model)
    assert (tmp_path / "2.wav").read_bytes() == (tmp_path / "0.wav").read_bytes()
    assert not list(tmp_path.glob("hushwork-*"))  # no copies are left


def test_errors_name_the_url(folder: Path, model: PretrainedDenoiser, memory: MemoryFileSystem) -> None:
    upload(memory, folder)
    memory.pipe_file("/in/bad.wav", b"no audio")
    cases = {
        ("memory://in/none.wav", "memory://out/a.wav"): "memory://in/none.wav: no such file",
        ("memory://in/bad.wav", "memory://out/a.wav"): "memory://in/bad.wav: cannot be read as audio",
        ("memory://in/0.wav", "memory://in/0.wav"): "memory://in/0.wav: input and output are the same file",
        ("memory://in/1.wav", "memory://in/0.wav"): "memory://in/0.wav: exists already",
        ("memory://in/2.wav", "memory://out/a.xyz"): "memory://out/a.xyz: ",
    }
    for (source, target), message in cases.items():
        with pytest.raises(AudioError) as caught:
            denoise_file(source, target, model)
        assert str(caught.value).startswith(message)
        assert "hushwork-" not in str(caught.value)
    outcomes = list(denoise_files([(locate(source), locate(target)) for source, target in cases], model))
    assert len(outcomes) == len(cases)
    for outcome in outcomes:
        assert cases[str(outcome.source), str(outcome.target)] in str(outcome.error)


def test_plans_of_urls(folder: Path, memory: MemoryFileSystem) -> None:
    upload(memory, folder)
    memory.pipe_file("/in/notes.txt", b"")
    memory.pipe_file("/in/out/0.wav", b"of an earlier run")
    plan = plan_targets(["memory://in"], "memory://in/out")
    names = ["0.wav", "1.wav", "2.wav", "3.wav", "a b#c/4.wav"]
    assert [(str(source), str(target)) for source, target in plan] == [
        (f"memory://in/{name}", f"memory://in/out/{name}") for name in names
    ]
    local = plan_targets([folder], "out/")
    for part in ("1/2", "2/2"):  # the same files, wherever they lie
        chosen = shard_of(plan, "memory://in/out", part)
        assert [pair[0].name for pair in chosen] == [pair[0].name for pair in shard_of(local, "out/", part)]
    assert [str(pair[1]) for pair in plan_targets(["memory://in/0.wav"], "memory://o/")] == ["memory://o/0.wav"]


def test_a_manifest_of_urls(folder: Path, memory: MemoryFileSystem) -> None:
    lines = [
        {"path": "x/a.wav"},
        {"path": "memory://far/b.wav"},
        {"path": "/near/c.wav"},
        {"path": "memory://far/b.wav", "output": "y/d.flac"},
    ]
    memory.pipe_file("/lists/all.jsonl", "\n".join(map(json.dumps, lines)).encode())
    plan = plan_manifest("memory://lists/all.jsonl", "memory://out")
    assert [(str(source), str(target)) for source, target in plan] == [
        ("memory://lists/x/a.wav", "memory://out/x/a.wav"),
        ("memory://far/b.wav", "memory://out/b.wav"),
        ("/near/c.wav", "memory://out/c.wav"),
        ("memory://far/b.wav", "memory://out/y/d.flac"),
    ]
    memory.pipe_file("/lists/bad.jsonl", b'{"path": "a.wav", "output": "s3://b/a.wav"}')
    with pytest.raises(AudioError, match="leads out of the output folder"):
        plan_manifest("memory://lists/bad.jsonl", "out")


@pytest.mark.parametrize("few", [0, 16])
def test_stamps_change_with_files(few: int, folder: Path, memory: MemoryFileSystem, monkeypatch: Any) -> None:
    monkeypatch.setattr(remote, "FEW", few)  # by listing folders, and file by file
    upload(memory, folder)
    paths = [locate("memory://in/0.wav"), locate("memory://in/none.wav"), locate("memory://nowhere/0.wav")]
    paths += [folder / "0.wav", folder / "none.wav", locate(f"file://{folder}/0.wav")]
    before = stamps(paths)
    assert list(before) == [folder / "0.wav", paths[0], paths[-1]]
    assert {stamp[0] for stamp in before.values()} == {(folder / "0.wav").stat().st_size}
    assert stamps(paths) == before
    upload(memory, folder)
    os.utime(folder / "0.wav", (1, 1))
    assert all(stamps([path])[path] != stamp for path, stamp in before.items())


def test_a_target_appears_whole(tmp_path: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"content")
    target = locate("memory://out/a")

    def cut_off(self: Any, copy: str, path: str, **_: Any) -> None:
        self.pipe_file(path, b"con")
        raise TimeoutError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(MemoryFileSystem, "put_file", cut_off)
        with pytest.raises(AudioError, match=r"memory://out/a: cannot be written \(gone\)"):
            publish(tmp_path / "a", target)
    assert memory.find("/out") == []
    publish(tmp_path / "a", target)
    assert memory.cat_file("/out/a") == b"content"


def test_a_folder_by_url(folder: Path, model_folder: Path, tmp_path: Path, run: Run) -> None:
    source, output = f"file://{folder}", f"file://{tmp_path}/out"
    first = run(source, output, model_folder)
    assert [outcome.error for outcome in first.values()] == [None] * 5
    assert not list((tmp_path / "out").rglob("*.part"))
    run(str(folder), str(tmp_path / "local"), model_folder)
    for path in (tmp_path / "local").rglob("*.wav"):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "local")).read_bytes()
    assert all(outcome.skipped for outcome in run(source, output, model_folder).values())
    os.utime(folder / "0.wav", (1, 1))
    (tmp_path / "out" / "1.wav").unlink()
    (tmp_path / "out" / "2.wav").write_bytes(b"cut off")
    again = run(source, output, model_folder)
    assert sorted(name for name, outcome in again.items() if not outcome.skipped) == ["0.wav", "1.wav", "2.wav"]
    assert not any(outcome.error for outcome in again.values())


def test_the_command_takes_urls(folder: Path, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text(json.dumps({"path": f"file://{folder}/0.wav", "output": "x/y.wav"}))
    command = ["denoise", "--manifest", f"file://{tmp_path}/list.jsonl", "-o", f"file://{tmp_path}/out"]
    assert main([*command, "--model", str(model_folder), "--shard", "1/1"]) == 0
    assert (tmp_path / "out" / "x" / "y.wav").exists()


def test_memory_is_refused_where_others_work(
    folder: Path, model_folder: Path, memory: MemoryFileSystem, run: Run
) -> None:
    with pytest.raises(ValueError, match="memory:// exists in this process only"):
        run(str(folder), "memory://out", model_folder)


def test_a_killed_run_costs_what_followed_the_last_segment(
    folder: Path, model_folder: Path, tmp_path: Path, worker_here: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = f"file://{folder}", f"file://{tmp_path}/out"
    monkeypatch.setattr(ledger_module, "SEGMENT_LINES", 2)
    plan = plan_targets([source], output)
    ledger = Ledger(output, {})
    more = {"ledger": ledger, "jobs": 1, "new_worker": worker_here}
    assert not any(outcome.error for outcome in denoise_in_processes(plan, model_folder, **more))
    # Not closed: 5 files in segments of 2 lines leave the last one unrecorded. All were recorded as started before.
    segments = sorted((tmp_path / "out" / FOLDER).iterdir())
    assert [len(path.read_text().splitlines()) for path in segments] == [5, 2, 2]
    cut_off = json.loads(segments[-1].read_text().splitlines()[-1])["target"]
    segments[-1].write_bytes(segments[-1].read_bytes()[:-5])
    part = tmp_path / "out" / cut_off
    part.with_name(f".{name_key(part.name)}.12-34.part").write_bytes(b"half")
    outcomes = run(source, output, model_folder)
    assert sum(not outcome.skipped for outcome in outcomes.values()) == 2
    assert not any(outcome.error for outcome in outcomes.values())
    assert not list((tmp_path / "out").rglob("*.part"))
    assert all(outcome.skipped for outcome in run(source, output, model_folder).values())


def test_files_of_other_programs_at_urls_are_not_replaced(
    folder: Path, model_folder: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1.wav").write_text("precious")
    outcomes = run(f"file://{folder}", f"file://{tmp_path}/out", model_folder)
    assert "1.wav: exists already" in str(outcomes["1.wav"].error)
    assert (tmp_path / "out" / "1.wav").read_text() == "precious"
    assert sum(outcome.error is None for outcome in outcomes.values()) == 4
