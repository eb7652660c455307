"""The report of a batch: complete, sorted, and readable by a browser for files of any name."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hushwork.audio.remote import locate
from hushwork.cli import main
from hushwork.files import report
from hushwork.files.comparison import Measures
from hushwork.files.job import Outcome
from hushwork.files.report import check_page, write_report
from report_page import NAMES, RATE, Page, denoised, noise
from sounds import write


@pytest.fixture(autouse=True)
def _no_dnsmos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "find_spec", lambda name: None)


def shown(path: Path) -> str:
    return str(path).replace("\n", "␊")


def test_any_name_is_shown_and_linked(tmp_path: Path) -> None:
    outcomes = [denoised(tmp_path, name) for name in NAMES]
    odd = tmp_path / os.fsdecode(b"caf\xe9\x7f.wav")
    outcomes.append(Outcome(odd, tmp_path / "x", error=f"{odd}: <script>alert(1)</script>"))
    about = {"command <1>": "hushwork 'denoise' & \"more\" \udce9", "model": "tiny"}
    path = tmp_path / "pages & more" / "my report #1.html"
    write_report(path, outcomes, about)
    page = Page(path)
    assert sorted(page.files) == sorted(shown(outcome.source) for outcome in outcomes[:-1])
    removed = {path.parent / "my report #1_files" / f"removed-{rank:02}.flac" for rank in range(1, len(NAMES) + 1)}
    assert page.targets() == {file for one in outcomes[:-1] for file in (one.source, one.target)} | removed
    assert all(target.is_file() for target in page.targets())
    assert page.failures.strip().endswith(f"{tmp_path}/caf\ufffd␡.wav<script>alert(1)</script>")
    assert "hushwork 'denoise' & \"more\" \ufffd" in page.text
    assert "command <1>" in page.text


def test_the_page_stands_alone(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [denoised(tmp_path, "a.wav")], {})
    text = (tmp_path / "report.html").read_text("utf-8")
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    text = re.sub('base64,[^"]*', "", text)
    assert not re.search(r"https?:|[\"'(]//|@import|url\(|\bimport\b|\bfetch\b|\$", text)
    page = Page(tmp_path / "report.html")
    assert max(page.ids.values()) == 1
    assert [picture.split(",")[0] for picture in page.pictures if picture] == ["data:image/png;base64"] * 3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_failures_first_then_the_worst(tmp_path: Path) -> None:
    outcomes = [denoised(tmp_path, f"{snr_db}.wav", snr_db) for snr_db in (12, -3, 20, 5)]
    outcomes.insert(1, Outcome(tmp_path / "bad.wav", tmp_path / "x", error=f"{tmp_path / 'bad.wav'}: is no audio"))
    gone = denoised(tmp_path, "gone.wav")
    gone.target.unlink()
    shares: list[float] = []
    write_report(tmp_path / "report.html", [*outcomes, gone], {"model": "tiny"}, progress=shares.append)
    assert sum(shares) == pytest.approx(1, abs=0.15)  # there is nothing to draw of the one that is gone
    page = Page(tmp_path / "report.html")
    assert [Path(name).stem for name in page.files] == ["-3", "5", "12", "20"]
    assert page.column("estimated SNR, dB") == ["−3.0", "5.0", "12.0", "20.0"]
    assert page.column("rank") == ["1", "2", "3", "4"]
    level_db = 10 * np.log10(np.mean(soundfile.read(outcomes[0].target)[0] ** 2))
    assert page.column("level after, dBFS") == [f"{level_db:.1f}".replace("-", "−")] * 4
    assert page.column("length") == ["0:00"] * 4
    assert f"{tmp_path / 'bad.wav'}is no audio" in page.failures
    assert "was denoised, but could not be compared" in page.failures
    text = (tmp_path / "report.html").read_text("utf-8")
    assert text.index("is no audio") < text.index("files denoised") < text.index("<table")
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", text))
    assert (facts["files denoised"], facts["failed"], facts["of audio"], facts["model"]) == ("4", "2", "0:02", "tiny")
    assert facts["mean estimated SNR"] == "8.5 dB"


def test_speech_loss_comes_before_quality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names_and_losses = {"fine": 0.0, "unknown": np.nan, "little": 0.09, "much": 0.5, "some": 0.1}
    outcomes = [denoised(tmp_path, f"{name}.wav") for name in names_and_losses]

    def measured(source: Path, target: Path, judges: object) -> Measures:
        return Measures(10 * len(source.stem), (-20, -30), (0, 0), names_and_losses[source.stem])

    monkeypatch.setattr(report, "measure", measured)
    write_report(tmp_path / "report.html", outcomes, {}, illustrated=0)
    page = Page(tmp_path / "report.html")
    assert [Path(name).stem for name in page.files] == ["much", "some", "fine", "little", "unknown"]
    assert ["speech lost?" in row[1] for row in page.rows] == [True, True, False, False, False]
    assert page.column("speech lost, %") == ["50", "10", "0", "9", "–"]


@pytest.mark.parametrize("judge", ["DNSMOS", "DistillMOS"])
def test_scores_of_the_judges_that_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: str) -> None:
    outcomes = [denoised(tmp_path, "good.wav", 0), denoised(tmp_path, "bad.wav", 20)]
    write_report(tmp_path / "without.html", outcomes, {})
    assert not [head for head in Page(tmp_path / "without.html").heads if "MOS" in head]
    assert "speechmos is not installed" in Page(tmp_path / "without.html").text
    assert "distillmos is not installed" in Page(tmp_path / "without.html").text
    package, window_s, _ = report.JUDGES[judge]
    scored: list[int] = []

    def score(audio: np.ndarray, sample_rate: int) -> float:
        scored.append(len(audio))
        return 4.25 if audio[0] == report.resample(soundfile.read(outcomes[0].target)[0], RATE, RATE)[0] else 2

    monkeypatch.setattr(report, "find_spec", lambda name: name == package)
    monkeypatch.setitem(report.JUDGES, judge, (package, window_s, score))
    write_report(tmp_path / "with.html", outcomes, {})
    page = Page(tmp_path / "with.html")
    assert [head for head in page.heads if "MOS" in head] == [f"{judge} before", f"{judge} after"]
    assert page.column(f"{judge} before") == ["2.00", "2.00"]
    assert page.column(f"{judge} after") == ["4.25", "4.25"]
    assert f"then by {judge} after denoising" in page.text
    assert "2.00 → 4.25" in page.text
    assert scored == [round(window_s * 16000)] * 4


@pytest.mark.parametrize(("seconds", "windows"), [(1, 1), (9.01, 1), (10, 2), (25, 3), (60, 3)])
def test_a_judge_rates_windows_spread_over_the_file(
    seconds: float, windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = np.arange(round(seconds * RATE), dtype=np.float32)
    scored: list[np.ndarray] = []
    monkeypatch.setitem(report.JUDGES, "DNSMOS", ("speechmos", 9.01, lambda window, rate: scored.append(window) or 3.0))
    assert report._mean_score("DNSMOS", audio, RATE) == 3
    assert [len(window) for window in scored] == [round(9.01 * RATE)] * windows
    assert scored[0][0] == audio[0]
    assert audio[-1] in scored[-1]


def test_a_thousand_files_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "in" / "noisy.wav", noise(0, seconds=3.3))  # a picture of noise packs worst
    target = write(tmp_path / "out" / "clean.wav", noise(0, seconds=3.3) + noise(1, -40, 3.3))
    long_name = tmp_path / "out" / f"{'very ' * 30}long name.wav"
    os.link(target, long_name)
    monkeypatch.setattr(report, "draw", functools.cache(report.draw))

    def size(count: int, name: str) -> int:
        write_report(tmp_path / name, [Outcome(source, long_name, 3.3)] * count, {})
        return (tmp_path / name).stat().st_size

    fifty, more = size(50, "fifty.html"), size(90, "more.html")
    assert len(list((tmp_path / "more_files").iterdir())) == 50
    page = Page(tmp_path / "more.html")
    assert page.players == [3] * 50 + [2] * 40
    assert "The worst 50 have pictures and the removed signal." in page.text
    assert fifty + (more - fifty) / 40 * 950 < 20e6


def test_another_drive_is_linked_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, start: Path) -> str:
        raise ValueError("path is on another mount")

    monkeypatch.setattr(os.path, "relpath", refuse)
    assert report._link(tmp_path / "a #1.wav", tmp_path) == f"file://{tmp_path}/a%20%231.wav"


def test_more_channels_than_flac_holds_are_noted(tmp_path: Path) -> None:
    source, target = (write(tmp_path / name, np.full((800, 9), 0.1)) for name in ("in.wav", "out.wav"))
    write_report(tmp_path / "report.html", [Outcome(source, target, 0.05)], {})
    page = Page(tmp_path / "report.html")
    assert "The audio for the players could not be written: " in page.text
    assert (page.players, len(page.pictures)) == ([2], 3)


def test_remote_files_are_compared_and_played_from_copies(tmp_path: Path, memory: Any) -> None:
    outcomes = []
    for number, snr_db in enumerate((20, -3, 5)):
        local = denoised(tmp_path / "local", f"a b#{number}.wav", snr_db)
        outcomes.append(Outcome(*(upload(memory, path) for path in (local.source, local.target)), duration_s=0.5))
    outcomes.append(Outcome(locate("memory://in/gone.wav"), outcomes[0].target, duration_s=0.5))
    write_report(tmp_path / "report.html", outcomes, {}, illustrated=2)
    page = Page(tmp_path / "report.html")
    assert page.files == [f"memory://in/a b#{number}.wav" for number in (1, 2, 0)]
    assert page.column("estimated SNR, dB") == ["−3.0", "5.0", "20.0"]
    assert "memory://in/gone.wav: no such file" in page.failures
    assert page.players == [3, 3, 0]  # no browser opens memory://
    assert "memory://out/a%20b%231.wav" in page.links
    sounds = {path.name: soundfile.read(path)[0] for path in (tmp_path / "report_files").iterdir()}
    assert set(sounds) == {f"{kind}-{rank:02}.flac" for kind in ("before", "after", "removed") for rank in (1, 2)}
    assert {f"report_files/{name}" for name in sounds} < set(page.links)
    worst = [soundfile.read(tmp_path / "local" / kind / "a b#1.wav")[0] for kind in ("in", "out")]
    np.testing.assert_allclose(sounds["before-01.flac"], worst[0], atol=2**-15)
    np.testing.assert_allclose(sounds["after-01.flac"], worst[1], atol=2**-15)
    np.testing.assert_allclose(sounds["removed-01.flac"], worst[0] - worst[1], atol=2**-14)


def upload(memory: Any, path: Path) -> Path:
    memory.pipe_file(f"/{path.parent.name}/{path.name}", path.read_bytes())
    return locate(f"memory://{path.parent.name}/{path.name}")


def test_a_batch_at_urls_of_files_is_reported(model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("upath")
    write(tmp_path / "in" / "a b.wav", noise())
    write(tmp_path / "in" / "b.wav", noise(1))
    place = tmp_path.as_uri()
    words = ["denoise", f"{place}/in", "-o", f"{place}/out", "--model", str(model_folder), "--jobs", "1"]
    assert main([*words, "--report", str(tmp_path / "report.html")]) == 0
    page = Page(tmp_path / "report.html")
    assert sorted(page.files) == [f"{place}/in/a b.wav", f"{place}/in/b.wav"]
    assert page.players == [3, 3]
    assert page.failures.strip() == "Failed"
    assert f"{place}/out/a%20b.wav" in page.links


def test_a_page_is_a_local_file() -> None:
    with pytest.raises(ValueError, match=r"memory://x/report\.html: the report is written to a local file"):
        check_page("memory://x/report.html")


def test_nothing_but_failures(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [Outcome(Path("a.wav"), Path("b.wav"), error="a.wav: no such file")], {})
    page = Page(tmp_path / "report.html")
    assert page.failures.split() == ["Failed", "a.wavno", "such", "file"]
    assert page.rows == []
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_files_that_are_not_pages_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    there = tmp_path / "there.html"
    there.touch()
    for path, message in {
        tmp_path / "noisy.wav": "give it a name that ends in .html",
        tmp_path / "folder.html": "is a folder",
        there: "exists already",
    }.items():
        with pytest.raises(ValueError, match=re.escape(f"{path}: ") + f".*{message}"):
            check_page(path)
    check_page(there, overwrite=True)
    with pytest.raises(ValueError, match=r"ends in \.html"):
        write_report(tmp_path / "noisy.wav", [], {})


@pytest.fixture
def denoise(model_folder: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs ``hushwork denoise`` on a folder of a good file and a bad one."""
    write(tmp_path / "in" / "good.wav", noise())
    (tmp_path / "in" / "bad.wav").write_text("words")

    def run(*words: str | Path) -> int:
        inputs = ["denoise", tmp_path / "in", "-o", tmp_path / "out", "--model", model_folder, *words]
        return main([str(word) for word in inputs])

    return run


def test_the_command_writes_a_page_though_files_failed(
    denoise: Callable[..., int], model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "report.html"
    assert denoise("--report", path, "--mix", "0.5", "--max-attenuation-db", "12") == 1
    assert capsys.readouterr().out.splitlines() == [f"1 of 2 files written with {model_folder}", f"report {path}"]
    page = Page(path)
    assert page.files == [str(tmp_path / "in" / "good.wav")]
    assert "bad.wavcannot be read as audio" in page.failures
    for words in (
        str(model_folder),
        "mix 0.5, max_attenuation_db 12.0",
        f"hushwork denoise {tmp_path / 'in'} -o",
        "--mix 0.5",
    ):
        assert words in page.text
    assert denoise("--report", path) == 1  # a report of ours is written anew
    assert "max_attenuation_db" not in path.read_text("utf-8").replace("--max-attenuation-db", "")
    path.write_text("precious")
    assert denoise("--report", path) == 1
    assert f"{path}: exists already" in capsys.readouterr().err
    assert path.read_text() == "precious"
    assert denoise("--report", path, "--overwrite") == 1
    assert path.read_text("utf-8") != "precious"


def test_a_page_that_cannot_be_written_is_reported(
    denoise: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "report.html"
    assert denoise("--report", path) == 1
    assert capsys.readouterr().err.endswith(
        f"{path}: the report cannot be written ([Errno 17] File exists: '{path.parent}')\n"
    )
    assert (tmp_path / "out" / "good.wav").is_file()


def test_a_pipe_leaves_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["denoise", "-", "-o", "-", "--report", str(tmp_path / "report.html")]) == 1
    assert "--report describes files, and a pipe has none" in capsys.readouterr().err


def test_the_light_install_is_enough(model_folder: Path, tmp_path: Path) -> None:
    source, path = write(tmp_path / "in.wav", noise()), tmp_path / "report.html"
    words = ["denoise", source, "-o", tmp_path / "out.wav", "--model", model_folder, "--report", path]
    code = f"""
import sys
for name in ("torch", "scipy", "matplotlib", "librosa", "rich", "pandas", "speechmos"):
    sys.modules[name] = None
from hushwork.cli import main
sys.exit(main({[str(word) for word in words]!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert Page(path).players == [3]


def test_notes_are_shown(tmp_path: Path) -> None:
    outcome = replace(denoised(tmp_path, "a.wav"), notes=("is cut off: 1.0 s of <2.0 s> are there",))
    write_report(tmp_path / "report.html", [outcome], {})
    assert "<p>is cut off: 1.0 s of &lt;2.0 s&gt; are there</p>" in (tmp_path / "report.html").read_text("utf-8")
