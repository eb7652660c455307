"""Files of all names that a file system allows: up to 255 bytes, also not UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hushwork.atomic import PART, name_key, temporary_path
from hushwork.audio.io import audio_info
from hushwork.cli import main
from hushwork.files import report
from hushwork.files.check import check_pair
from hushwork.files.engine import LocalWorker, denoise_in_processes
from hushwork.files.job import Outcome
from hushwork.files.ledger import FOLDER, Ledger
from hushwork.files.plan import plan_manifest, plan_targets
from hushwork.files.report import files_folder, write_report

LONGEST = 255  # bytes in a name, on most file systems
NOISE = (0.1 * np.random.default_rng(0).standard_normal(1600)).astype(np.float32)
NAMES = {
    "77 letters of 3 bytes": "字" * 77,
    "83 letters of 3 bytes": "字" * 83,
    "251 letters": "x" * 251,
    "62 letters of 4 bytes": "😀" * 62,
    "Latin-1": os.fsdecode(b"caf\xe9"),
    "251 bytes that are not UTF-8": os.fsdecode(b"\xe9\xff" * 125 + b"\x80"),
    "a folder that is not UTF-8": os.fsdecode(b"d\xe9p\xf4t/a"),
}


def put(path: Path) -> Path:
    """A recording at this path, unless the file system has no such names (as that of a Mac)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            soundfile.write(file, NOISE, 16000, format=path.suffix[1:].upper())
    except (OSError, UnicodeError) as error:
        pytest.skip(f"no such names here ({error})")
    return path


def start(*words: str | Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "hushwork.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **more})


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("stem", NAMES.values(), ids=NAMES)
def test_any_name_is_denoised_and_checked(stem: str, suffix: str, model_folder: Path, tmp_path: Path) -> None:
    if len(os.fsencode(Path(stem).name + suffix)) > LONGEST:
        stem = stem[:-1]
    source = put(tmp_path / "in" / f"{stem}{suffix}")
    target = tmp_path / "out" / f"{stem}{suffix}"
    assert main(["denoise", str(source), "-o", str(target), "--model", str(model_folder), "--noise-only"]) == 0
    assert soundfile.SoundFile(os.fsencode(target)).frames == len(NOISE)
    assert [promise.name for promise in check_pair(source, target) if not promise.kept] == []
    assert main(["check", str(source), str(target)]) == 0
    assert not parts(tmp_path)


@pytest.mark.parametrize("suffix", [".m4a", ".mkv"])
def test_containers_have_any_name_too(suffix: str, model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    for stem in (os.fsdecode(b"caf\xe9"), "x" * 251):
        source, target = put(tmp_path / f"{stem}.wav"), tmp_path / "out" / f"{stem}{suffix}"
        again = tmp_path / "again" / target.name
        for one, other in ((source, target), (target, again)):
            assert main(["denoise", str(one), "-o", str(other), "--model", str(model_folder)]) == 0
        assert audio_info(again).duration_s == pytest.approx(0.1, abs=0.1)


def test_a_batch_goes_through_processes_and_its_ledger(model_folder: Path, tmp_path: Path) -> None:
    names = sorted(f"{stem}.wav" for stem in NAMES.values())
    for name in names:
        put(tmp_path / "in" / name)
    plan = plan_targets([tmp_path / "in"], f"{tmp_path / 'out'}/")
    assert sorted(str(source.relative_to(tmp_path / "in")) for source, _ in plan) == names
    for skipped in (False, True):
        with Ledger(tmp_path / "out", {}) as ledger:
            outcomes = list(denoise_in_processes(plan, model_folder, ledger=ledger, jobs=1, new_worker=LocalWorker))
        assert [outcome.error for outcome in outcomes] == [None] * len(names)
        assert {outcome.skipped for outcome in outcomes} == {skipped}
        assert {(outcome.source, outcome.target) for outcome in outcomes} == set(plan)
    lines = (tmp_path / "out" / FOLDER / "ledger.jsonl").read_bytes().splitlines()
    assert {json.loads(line)["target"] for line in lines} == set(names)


@pytest.mark.parametrize("stem", NAMES.values(), ids=NAMES)
def test_files_left_by_a_killed_run_are_found(stem: str, model_folder: Path, worker_here: Any, tmp_path: Path) -> None:
    source = put(tmp_path / "in" / f"{stem}.wav")
    plan = plan_targets([tmp_path / "in"], f"{tmp_path / 'out'}/")
    ((_, target),) = plan
    target.parent.mkdir(parents=True)
    left = temporary_path(target)
    other = temporary_path(target.with_name("another.wav"))
    for path in (left, left.with_stem(f"{left.stem}0"), other):
        path.write_bytes(b"half")
    with Ledger(tmp_path / "out", {}) as ledger:
        (outcome,) = denoise_in_processes(plan, model_folder, ledger=ledger, jobs=1, new_worker=worker_here)
    assert (outcome.source, outcome.error) == (source, None)
    assert parts(tmp_path) == [other.name]


def test_a_part_has_a_short_name_of_its_own() -> None:
    names = [f"{stem}{suffix}" for stem in NAMES.values() for suffix in (".wav", ".WAV", ".wav ")]
    keys = [name_key(Path(name).name) for name in names]
    assert len(set(keys)) == len(names)
    for name, key in zip(names, keys, strict=True):
        part = temporary_path(Path(name)).name
        found = PART.fullmatch(part)
        assert found
        assert (found[1], len(part) < 64) == (key, True)


def test_messages_are_printed_on_any_terminal(model_folder: Path, tmp_path: Path) -> None:
    bad = put(tmp_path / os.fsdecode(b"in/caf\xe9 \xe5\xad\x97.wav"))
    bad.write_bytes(b"words")
    words = ("denoise", bad, "-o", tmp_path / os.fsdecode(b"o\xfft.wav"), "--model", model_folder)
    report = tmp_path / os.fsdecode(b"r\xe9port.html")
    for encoding, shown in (("utf-8", "caf\\udce9 字.wav"), ("ascii", "caf\\udce9 \\u5b57.wav")):
        done = start(*words, "--report", report, PYTHONIOENCODING=encoding)
        assert done.returncode == 1
        assert f"{shown}: cannot be read as audio" in done.stderr.decode(encoding)
        assert b"Traceback" not in done.stderr
        assert "0 of 1 files written" in done.stdout.decode(encoding)
        assert "r\\udce9port.html" in done.stdout.decode(encoding)


def test_a_list_may_name_files_in_bytes_or_as_json_has_them(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    listed = tmp_path / "list.jsonl"
    for line in (b'{"path": "caf\xe9.wav"}', b'{"path": "caf\\udce9.wav"}\r', json.dumps({"path": name}).encode()):
        listed.write_bytes(line + b"\n\n")
        assert plan_manifest(listed, tmp_path / "out") == [(tmp_path / name, tmp_path / "out" / name)]
    listed.write_text('{"path": "a\u2028b\x85c.wav"}\n', encoding="utf-8")
    assert [source.name for source, _ in plan_manifest(listed, tmp_path / "out")] == ["a\u2028b\x85c.wav"]


@pytest.mark.parametrize("stem", ["r" * 250, "字" * 83, os.fsdecode(b"r\xe9")])
def test_the_sounds_of_a_report_have_a_folder_whose_name_fits(stem: str, tmp_path: Path) -> None:
    folder = files_folder(tmp_path / f"{stem}.html")
    assert len(os.fsencode(folder.name)) <= LONGEST
    assert folder.name.endswith("_files")
    assert stem.startswith(folder.name.removesuffix("_files"))


def test_a_report_links_to_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "find_spec", lambda name: None)  # DNSMOS takes seconds to load
    stem = NAMES["251 bytes that are not UTF-8"]
    source, page = put(tmp_path / f"{stem}.wav"), tmp_path / f"{'r' * 250}.html"
    write_report(page, [Outcome(source, source)], {"command": str(source)})
    assert "%E9%FF" in page.read_text("utf-8")  # its very bytes
    assert [path.name for path in files_folder(page).iterdir()] == ["removed-01.flac"]
    assert not parts(tmp_path)
