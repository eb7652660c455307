"""The command hushwork, with arguments as on the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import hushwork
from hushwork.audio import folders
from hushwork.cli import main
from hushwork.files import denoise as files
from hushwork.files import report
from hushwork.network.pretrained import load_pretrained
from hushwork.streaming.strength import PURPOSES

APPLE_DOUBLE = bytes.fromhex("0005160700020000") + bytes(74)
SOURCES = Path(hushwork.__file__).parents[1]


def write(path: Path, num_samples: int = 800, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(num_samples), rate)
    return path


def test_one_file(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = write(tmp_path / "in.wav", rate=22050), tmp_path / "new" / "out.wav"
    assert main(["denoise", str(source), "-o", str(target), "--model", str(model_folder)]) == 0
    noisy, rate = soundfile.read(source, dtype="float32")
    found, _ = soundfile.read(target, dtype="float32")
    expected = files.denoise(noisy, rate, load_pretrained(model_folder))
    assert np.abs(found - expected).max() < 1e-4  # 16 bits
    assert capsys.readouterr().out == f"1 of 1 files written with {model_folder}\n"


def test_a_folder_and_several(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write(tmp_path / "tree" / "deep" / "a.flac"), write(tmp_path / "b.wav")
    out = tmp_path / "out"
    assert main(["denoise", str(tmp_path / "tree"), "-o", str(out), "--model", str(model_folder)]) == 0
    assert (out / "deep" / "a.flac").is_file()
    assert main(["denoise", str(one), str(two), "-o", str(out), "--model", str(model_folder)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [".hushwork", "a.flac", "b.wav", "deep"]
    assert "2 of 2 files written" in capsys.readouterr().out


def test_options_reach_the_denoiser(model_folder: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.wav"), tmp_path / "out.wav"
    words = ["denoise", str(source), "-o", str(target), "--model", str(model_folder)]
    assert main([*words, "--mix", "0"]) == 0
    assert target.read_bytes() == source.read_bytes()
    assert main([*words, "--max-attenuation-db", "6"]) == 1  # exists
    assert main([*words, "--max-attenuation-db", "6", "--overwrite"]) == 0
    noisy, _ = soundfile.read(source, dtype="float32")
    strength = files.Strength(max_attenuation_db=6)
    expected = files.denoise(noisy, 16000, load_pretrained(model_folder), strength)
    assert np.abs(soundfile.read(target, dtype="float32")[0] - expected).max() < 1e-4


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_purpose_sets_the_strength_unless_it_is_given(purpose: str, model_folder: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.wav")
    noisy, _ = soundfile.read(source, dtype="float32")
    words = ["denoise", str(source), "--model", str(model_folder), "--for", purpose, "-o"]
    for name, more, strength in (("for", [], PURPOSES[purpose]), ("mix", ["--mix", "0.5"], files.Strength(mix=0.5))):
        target = tmp_path / f"{name}.wav"
        assert main([*words, str(target), *more]) == 0
        expected = files.denoise(noisy, 16000, load_pretrained(model_folder), strength)
        assert np.abs(soundfile.read(target, dtype="float32")[0] - expected).max() < 1e-4


def test_bad_files_are_named_and_the_others_are_denoised(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "in" / "z.wav").parent
    (folder / "words.wav").write_text("these are words")
    (folder / "empty.wav").touch()
    broken = np.zeros(800, np.float32)
    broken[7] = np.nan
    soundfile.write(folder / "nan.wav", broken, 16000, subtype="FLOAT")
    assert main(["denoise", str(folder), "-o", str(tmp_path / "out"), "--model", str(model_folder)]) == 1
    captured = capsys.readouterr()
    assert f"{folder / 'words.wav'}: cannot be read as audio" in captured.err
    assert f"{folder / 'empty.wav'}: the file is empty (0 bytes)" in captured.err
    assert f"{folder / 'nan.wav'}: 1 samples were NaN, infinite or beyond 1e12 and were set to 0" in captured.err
    assert captured.out == f"2 of 4 files written with {model_folder}\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".hushwork", "nan.wav", "z.wav"]


def test_skipped_files_are_counted_in_one_line(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "find_spec", lambda name: None)  # DNSMOS takes seconds to load
    folder = write(tmp_path / "in" / "a.wav").parent
    write(folder / ".Trash-1000" / "b.wav")
    write(folder / "page_files" / "removed-01.flac")
    (folder / "._a.wav").write_bytes(APPLE_DOUBLE)
    for name in ("a.txt", "b.txt", "page.html"):
        (folder / name).touch()
    page = folder / "page.html"
    words = ["denoise", str(folder), "-o", str(folder / "out"), "--model", str(model_folder), "--report", str(page)]
    others = "3 files of other types skipped: .txt 2, .html 1; 1 AppleDouble file skipped; "
    others += "folders skipped: .Trash-1000 1"
    page.write_bytes(report.GENERATOR)
    for written, before in (("1 of 1", ""), ("0 of 1", ", 1 were done before")):
        assert main(words) == 0
        captured = capsys.readouterr()
        assert captured.out == f"{written} files written with {model_folder}{before}\n{others}\nreport {page}\n"
        assert not captured.err
    assert others in page.read_text("utf-8")
    assert sorted(path.name for path in (folder / "out").iterdir()) == [".hushwork", "a.wav"]


def test_a_folder_with_only_apple_double_files_is_not_an_error(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "in" / "__MACOSX" / "._a.wav"
    alone.parent.mkdir(parents=True)
    alone.write_bytes(APPLE_DOUBLE)
    shutil.copy(alone, tmp_path / "in" / "._b.wav")
    for folder in (tmp_path / "in", alone.parent):
        assert main(["denoise", str(folder), "-o", str(tmp_path / "out"), "--model", str(model_folder)]) == 0
        assert "0 of 0 files written" in capsys.readouterr().out
    for named in (alone, Path(shutil.copy(alone, tmp_path / "renamed.wav"))):
        assert main(["denoise", str(named), "-o", str(tmp_path / "b.wav"), "--model", str(model_folder)]) == 1
        assert f"{named}: is a macOS AppleDouble file, which holds metadata and no audio" in capsys.readouterr().err


def test_a_folder_without_audio_is_an_error_that_lists_its_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / ".hidden" / "a.wav")
    (tmp_path / "in" / "a.txt").touch()
    assert main(["denoise", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 1
    message = "no audio files in this folder; 1 file of other types skipped: .txt 1; folders skipped: .hidden 1"
    assert f"{tmp_path / 'in'}: {message}" in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_fails_after_the_rest(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in" / "a.wav")
    real = folders._files_below

    def failing(folder: Path, enters: Any, unreadable: list[str]) -> Any:
        unreadable.append("in/locked: the folder cannot be listed (Permission denied)")
        return real(folder, enters, unreadable)

    monkeypatch.setattr(folders, "_files_below", failing)
    assert main(["denoise", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(model_folder)]) == 1
    captured = capsys.readouterr()
    assert "in/locked: the folder cannot be listed" in captured.err
    assert "1 of 1 files written" in captured.out


def test_two_sources_of_one_target_write_nothing(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [str(write(tmp_path / name / "a.wav")) for name in ("one", "two")]
    assert main(["denoise", *sources, "-o", str(tmp_path / "out"), "--model", str(model_folder)]) == 1
    assert "is the output of both" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["denois"],
        ["denoise"],
        ["denoise", "a.wav"],
        ["denoise", "a.wav", "-o", "b.wav", "--mix", "much"],
        ["denoise", "a.wav", "-o", "b.wav", "--louder"],
        ["evaluate", "--split", "train"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: hushwork" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mix", "2"], "mix is 2.0; it must lie between 0"),
        (["--max-attenuation-db", "-3"], "max_attenuation_db is -3.0"),
        (["--model", "nowhere"], "nowhere: not a model folder"),
        (["--model", "last"], "last: there is no model below ./runs; train one (python train.py experiment=cwrnn)"),
    ],
)
def test_impossible_commands_are_refused(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["denoise", str(write(tmp_path / "in.wav")), "-o", "out.wav", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("hushwork denoise: ")
    assert message in error
    assert not (tmp_path / "out.wav").exists()


def test_last_is_the_newest_run(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, time in (("older", 100), ("newer", 200)):
        folder = Path(shutil.copytree(model_folder, tmp_path / "runs" / name / "model"))
        os.utime(folder / "SHA256SUMS", (time, time))
    write(tmp_path / "in.wav")
    assert main(["denoise", "in.wav", "-o", "out.wav", "--model", "last"]) == 0
    assert capsys.readouterr().out == "1 of 1 files written with runs/newer/model\n"
    monkeypatch.setenv("HUSHWORK_MODEL", str(model_folder))
    assert main(["denoise", "in.wav", "-o", "out2.wav"]) == 0
    assert capsys.readouterr().out == f"1 of 1 files written with {model_folder}\n"


def test_evaluate_measures_on_a_corpus(
    model_folder: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = shutil.copytree(model_folder, tmp_path / "run" / "model")
    overrides = ["--metrics=si_sdr", f"data.manifest={corpus}", "data.eval_max_s=0.5"]
    assert main(["evaluate", *overrides, "data.num_valid=2", "--model", str(model), "--split", "valid"]) == 0
    results = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text("utf-8"))
    assert results["data"]["split"] == "valid"
    assert results["model"] == str(model)
    assert results["trained"]["name"] == "untrained"
    assert results["summary"]["overall"]["denoised"]["si_sdr"]["files"] == 2
    printed = capsys.readouterr().out
    assert f"{results['summary']['overall']['denoised']['si_sdr']['mean']:.3f} [" in printed
    words = [*overrides, "data.num_test=1", "--model", str(model), "-o", str(tmp_path / "there")]
    assert main(["evaluate", *words]) == 0
    assert (tmp_path / "there" / "metrics.csv").is_file()


def test_evaluate_names_a_missing_corpus(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "manifest.jsonl"
    assert main(["evaluate", f"data.manifest={absent}", "--model", str(model_folder)]) == 1
    assert capsys.readouterr().err.startswith(f"hushwork evaluate: {absent}: no such manifest; write it first")


def test_summary_counts_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "gru", "bgru"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "gru" in line]
    # A GRU of 257 inputs and 256 units, one of 256 and 256, and a dense layer to 257 bins.
    gates = 3 * 256 * (257 + 256 + 2) + 3 * 256 * (256 + 256 + 2) + 257 * 257
    assert len(lines) == 2
    assert f"{gates:,}" in lines[0]
    assert "yes" in lines[0]
    assert "no" in lines[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("experiment=gru", "experiment experiment=gru does not exist; choose one of adapt, bcwgru, "),
        ("next_sample", "does not train a denoiser"),
    ],
)
def test_experiments_without_a_denoiser_have_no_summary(name: str, message: str) -> None:
    with pytest.raises(SystemExit, match=f"hushwork summary: .*{message}"):
        main(["summary", name])


def test_export_writes_graphs(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(model_folder), str(tmp_path / "graphs"), "--sherpa"]) == 0
    names = {path.name for path in (tmp_path / "graphs").iterdir()}
    assert names == {"sequence.onnx", "frame.onnx", "sherpa.onnx"}
    assert "frame.onnx" in capsys.readouterr().out


def test_export_halves_a_model(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "half"
    assert main(["export", str(model_folder), str(target), "--half-precision"]) == 0
    assert re.search(r"half  \S+ → \S+ MB; .* a change of -\d+ dB", capsys.readouterr().out)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (model_folder, target)]
    assert 0.49 < sizes[1] / sizes[0] < 0.55
    noise = 0.1 * np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    exact, rounded = (files.denoise(noise, 16000, load_pretrained(folder)) for folder in (model_folder, target))
    assert 0 < np.abs(rounded - exact).max() < 1e-3 * np.abs(exact).max()
    first = {path.name: path.read_bytes() for path in target.iterdir()}
    assert main(["export", str(target), str(target), "--half-precision"]) == 0  # nothing is lost in a second time
    assert {path.name: path.read_bytes() for path in target.iterdir()} == first
    assert "half precision" in (target / "MODEL_CARD.md").read_text("utf-8")


def test_parity_prints_how_far_all_ways_are_apart(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.wav"
    soundfile.write(source, 0.1 * np.random.default_rng(0).standard_normal((9000, 2)), 22050)
    assert main(["parity", str(model_folder), str(source)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["sequence graph", "chunks", "stream", "frame graph"]
    assert all(line.endswith("dB from torch") for line in lines)


def test_a_pipe_in_and_out(model_folder: Path) -> None:
    samples = (3000 * np.random.default_rng(0).standard_normal(9000)).astype("<i2")
    command = [sys.executable, "-m", "hushwork.cli", "denoise", "-", "-o", "-", "--model", str(model_folder)]
    done = subprocess.run(command, input=samples.tobytes(), capture_output=True, check=True)
    clean = np.frombuffer(done.stdout, "<i2")
    expected = files.denoise(samples / np.float32(32768), 16000, load_pretrained(model_folder))
    assert np.abs(clean / 32768 - expected).max() < 1e-4
    assert not done.stderr


def test_half_a_pipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["denoise", "-", "-o", str(tmp_path / "out.wav")]) == 1
    assert "hushwork denoise - -o -" in capsys.readouterr().err


def test_train_and_prepare_pass_their_options_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("hushwork.prepare.folders.main", lambda arguments: calls.append(arguments) or 0)
    assert main(["prepare", "folders", "--speech", "a", "--noise", "b"]) == 0
    monkeypatch.setattr(sys, "argv", ["hushwork"])
    monkeypatch.setattr("hushwork.cli.train.main", lambda: calls.append(sys.argv[1:]))
    assert main(["train", "-m", "experiment=gru,cwgru", "--cfg", "job"]) == 0
    assert calls == [["--speech", "a", "--noise", "b"], ["-m", "experiment=gru,cwgru", "--cfg", "job"]]
    assert main(["prepare"]) == 0
    assert "voicebank-demand: VoiceBank-DEMAND" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["prepare", "nothing"])
    assert "corpus 'nothing' does not exist; choose one of folders" in capsys.readouterr().err
