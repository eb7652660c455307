"""hushwork prepare paired: folders of clean and noisy recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hushwork.audio.io import read_audio, write_audio
from preparers import make_audio, prepare, prepared, silent, snapshot, splits_of


def test_paired_matches_by_path_and_names_skipped_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, noisy, out = tmp_path / "clean", tmp_path / "noisy", tmp_path / "out"
    for name in ("anna/1", "anna/2", "bert/1", "cleo/1", "dora/1"):
        make_audio(clean / f"{name}.wav")
        make_audio(noisy / f"{name}.flac", num_channels=2)
    make_audio(clean / "anna/lonely.wav")
    make_audio(noisy / "anna/odd.wav")
    make_audio(clean / "bert/short.wav")
    make_audio(noisy / "bert/short.wav", duration_s=0.2)
    make_audio(clean / "bert/broken.wav")
    (noisy / "bert/broken.wav").write_bytes(b"not audio at all")
    arguments = ["--clean", clean, "--noisy", noisy, "--out", out]
    assert prepare("paired", *arguments) == 0
    error = capsys.readouterr().err
    assert "skipped 4 file(s)" in error
    assert f"{clean}/anna/lonely.wav: has no noisy file" in error
    assert f"{noisy}/anna/odd.wav: has no clean file" in error
    assert f"{noisy}/bert/short.wav: has 3200 samples at 16000 Hz, its clean file {clean}/bert/short.wav 4000" in error
    assert f"{noisy}/bert/broken.wav: cannot be read as audio" in error

    manifest = prepared(out)
    assert {recording.split for recording in manifest.recordings} == {"train", "valid", "test"}
    anna = [recording for recording in manifest.recordings if recording.speaker == "anna"]
    assert [recording.path for recording in anna] == [f"{clean}/anna/1.wav", f"{clean}/anna/2.wav"]
    assert [recording.noisy_path for recording in anna] == ["audio/noisy/anna/1.flac", "audio/noisy/anna/2.flac"]
    files = snapshot(out)
    assert prepare("paired", *arguments) == 0
    assert snapshot(out) == files

    assert prepare("paired", *arguments[:-1], tmp_path / "strict", "--strict") == 1
    assert "--strict is set" in capsys.readouterr().err
    assert not (tmp_path / "strict" / "manifest.jsonl").exists()


def test_paired_keeps_split_folders_and_refuses_a_speaker_in_two_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean, noisy, out = tmp_path / "clean", tmp_path / "noisy", tmp_path / "out"
    for name in ("train/s1-a", "train/s1-b", "valid/s2-a", "test/s3-a"):
        for side in (clean, noisy):
            make_audio(side / f"{name}.wav")
    arguments = ["--clean", clean, "--noisy", noisy, "--out", out]
    assert prepare("paired", *arguments) == 0
    assert len(prepared(out).select("pair", "train")) == 2
    assert prepare("paired", *arguments, "--speaker-pattern", r"/(\w+)-") == 0
    speakers = splits_of(prepared(out), lambda recording: recording.speaker)
    assert speakers == {"s1": {"train"}, "s2": {"valid"}, "s3": {"test"}}
    assert prepare("paired", *arguments, "--speaker-pattern", "^s9") == 1
    assert "'^s9' finds no speaker in" in capsys.readouterr().err
    for side in (clean, noisy):
        make_audio(side / "test/s1-c.wav")
    assert prepare("paired", *arguments, "--speaker-pattern", r"/(\w+)-") == 1
    assert "speaker 's1' is in the splits test and train" in capsys.readouterr().err


def test_paired_speech_keeps_its_level_where_only_the_noise_is_stereo(tmp_path: Path) -> None:
    clean, noisy, out = tmp_path / "clean", tmp_path / "noisy", tmp_path / "out"
    left, hiss = 0.5 * np.ones(4000), 0.1 * np.ones(4000)
    for folder, right in ((clean, np.zeros(4000)), (noisy, hiss)):
        folder.mkdir()
        for name in "abc":
            write_audio(folder / f"{name}.wav", np.stack([left, right]), 16000)
    assert prepare("paired", "--clean", clean, "--noisy", noisy, "--out", out) == 0
    for side in ("clean", "noisy"):
        np.testing.assert_allclose(read_audio(out / f"audio/{side}/a.flac")[0][0], left, atol=1e-4)


def test_pairs_are_split_after_unusable_ones_were_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, noisy, out = tmp_path / "clean", tmp_path / "noisy", tmp_path / "out"
    for name in ("anna/1", "bert/1", "cleo/1", "dora/1"):
        for side in (clean, noisy):
            make_audio(side / f"{name}.wav")
    silent(noisy / "anna" / "1.wav")  # the only one to test on
    silent(clean / "anna" / "1.wav")
    assert prepare("paired", "--clean", clean, "--noisy", noisy, "--out", out) == 0
    assert "anna/1.wav: is silent" in capsys.readouterr().err
    assert {recording.split for recording in prepared(out).recordings} == {"train", "valid", "test"}
