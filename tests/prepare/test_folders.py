"""hushwork prepare folders: splits, files that cannot be used, and names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hushwork.audio.io import read_audio, write_audio
from hushwork.data.manifest import load_manifest
from hushwork.prepare.corpus import PrepareError, assign_splits
from preparers import make_audio, prepare, prepared, silent


def prepare_folders(folders: tuple[Path, Path], out: Path) -> int:
    return prepare("folders", "--speech", folders[0], "--noise", folders[1], "--out", out)


def test_folders_fills_every_split(folders: tuple[Path, Path], tmp_path: Path) -> None:
    speech, noise = folders
    out = tmp_path / "out"
    arguments = ["--speech", speech, "--noise", noise, "--out", out, "--noise-licence", "CC0-1.0"]
    assert prepare("folders", *arguments) == 0
    manifest = prepared(out)
    lines = (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == 8
    for kind in ("speech", "noise"):
        assert {r.split for r in manifest.recordings if r.kind == kind} == {"train", "valid", "test"}
    assert {r.speaker for r in manifest.recordings if r.kind == "speech"} == {"anna", "bert", "cleo", "dora"}
    classes = {r.source: r.noise_class for r in manifest.recordings if r.kind == "noise"}
    assert classes == {"rain/roof": "rain", "rain/tent": "rain", "street": "noise"}
    assert {r.licence for r in manifest.recordings} == {"unknown", "CC0-1.0"}
    assert str(speech / "anna/sub/2.flac") in {r.path for r in manifest.recordings}
    converted, _ = read_audio(out / "audio/noise/street.flac")
    expected, _ = read_audio(make_audio(tmp_path / "again" / "street.wav", 16000))
    np.testing.assert_allclose(converted[:, 500:-500], expected[:, 500:-500], atol=1e-3)


def test_folders_needs_three_speakers_and_three_noises(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech, noise = folders
    (noise / "street.wav").unlink()
    out = ["--out", tmp_path / "out"]
    assert prepare("folders", "--speech", speech, "--noise", noise, *out) == 1
    assert f"found 2 noise files in {noise}, but test + valid + train need at least 3" in capsys.readouterr().err
    assert prepare("folders", "--speech", speech / "anna", "--noise", noise, *out, "--test", "0") == 0
    assert prepare("folders", "--speech", speech, "--noise", noise, *out, "--valid", "0.5", "--test", "0.5") == 1
    assert "together less than 1" in capsys.readouterr().err


def test_unusable_files_are_named(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech, _ = folders
    whole = make_audio(speech / "bert" / "cut.flac", duration_s=5).read_bytes()
    (speech / "bert" / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (speech / "bert" / "nothing.wav").write_bytes(b"")
    make_audio(speech / "bert" / "silence.wav", duration_s=0)
    write_audio(speech / "bert" / "nan.wav", np.full(4000, np.nan), 16000, subtype="FLOAT")
    (speech / "bert" / "._1.wav").write_bytes(b"hidden")
    assert prepare_folders(folders, tmp_path / "out") == 0
    error = capsys.readouterr().err
    assert "skipped 4 file(s)" in error
    for name in ("cut.flac", "nothing.wav", "silence.wav", "nan.wav"):
        assert f"{speech}/bert/{name}: " in error
    assert len(prepared(tmp_path / "out").recordings) == 8


def test_splits_are_drawn_after_unusable_files_were_dropped(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech, noise = folders
    # Without a fault anna alone is tested on, and bert alone validated on: see the test of assign_splits.
    write_audio(speech / "anna" / "1.wav", np.full(4000, np.nan), 16000, subtype="FLOAT")
    write_audio(speech / "anna" / "sub" / "2.flac", np.zeros(4000), 16000)
    make_audio(noise / "rain" / "wind.wav")
    assert prepare_folders(folders, tmp_path / "out") == 0
    assert "skipped 2 file(s)" in capsys.readouterr().err
    manifest = prepared(tmp_path / "out")
    for kind in ("speech", "noise"):
        for split in ("train", "valid", "test"):
            assert manifest.select(kind, split), (kind, split)
    write_audio(speech / "bert" / "1.wav", np.zeros(4000), 16000)
    assert prepare_folders(folders, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert f"{speech}/bert/1.wav: is silent, all its samples are 0" in error
    assert f"found 2 speakers in {speech}, but test + valid + train need at least 3" in error


def empty(path: Path) -> None:
    path.write_bytes(b"")


def short(path: Path) -> None:
    make_audio(path, duration_s=0.01)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(empty, "was all skipped"), (silent, "was all skipped"), (short, "lasts 0.010 s in all, too short to train on")],
)
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_that_cannot_be_used_is_named_with_its_files(
    split: str, spoil: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train", "valid", "test"):
        make_audio(tmp_path / "speech" / name / f"who{name}" / "1.wav")
        make_audio(tmp_path / "noise" / name / "rain" / f"{name}.wav")
    folders = tmp_path / "speech", tmp_path / "noise"
    assert prepare_folders(folders, tmp_path / "good") == 0
    spoilt = tmp_path / "speech" / split / f"who{split}" / "1.wav"
    spoil(spoilt)
    assert prepare_folders(folders, tmp_path / "out") == 1
    assert f"hushwork prepare: the speech of the split {split} {message}: {spoilt}; add" in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_speech_without_noise_in_its_split_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "valid", "test"):
        make_audio(tmp_path / "speech" / name / f"who{name}" / "1.wav")
    for name in ("train", "valid"):
        make_audio(tmp_path / "noise" / name / "rain" / f"{name}.wav")
    assert prepare_folders((tmp_path / "speech", tmp_path / "noise"), tmp_path / "out") == 1
    assert "the split test has speech, but no noise to mix it with" in capsys.readouterr().err


def test_names_that_are_not_utf_8_and_hidden_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    speech, noise = folders
    name = os.fsdecode(b"\xe9mile")
    try:
        (speech / "anna").rename(speech / name)
    except OSError:
        pytest.skip("no such names here")
    make_audio(speech / ".Trash-1000" / "gone.wav")
    make_audio(speech / "$RECYCLE.BIN" / "gone.wav")
    (noise / "rain" / "tent.wav").rename(noise / "rain" / f"{name}.wav")
    assert prepare_folders(folders, tmp_path / "out") == 0
    manifest = prepared(tmp_path / "out")
    assert {r.speaker for r in manifest.recordings if r.kind == "speech"} == {"\\xe9mile", "bert", "cleo", "dora"}
    assert str(speech / name / "1.wav") in {r.path for r in manifest.recordings}
    assert f"audio/noise/rain/{name}.flac" in {r.path for r in manifest.recordings}


def test_a_file_with_a_name_too_long_for_conversion_is_skipped(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, noise = folders
    make_audio(noise / "rain" / f"{'x' * 252}.au", 48000)
    assert prepare_folders(folders, tmp_path / "out") == 0
    assert "xx.flac: cannot be written (File name too long)" in capsys.readouterr().err


def test_films_are_converted(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    speech, _ = folders
    from hushwork.audio.io import AudioInfo, open_writer

    info = AudioInfo(16000, 16000, 1, "alac", "mov")
    with open_writer(speech / "anna" / "talk.m4a", info) as writer:
        writer.write(0.1 * np.random.default_rng(0).standard_normal((1, 16000)))
    assert prepare_folders(folders, tmp_path / "out") == 0
    manifest = load_manifest(tmp_path / "out" / "manifest.jsonl", 16000)
    assert "audio/speech/anna/talk.flac" in {recording.path for recording in manifest.recordings}


def test_files_that_would_share_a_name_are_an_error(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, noise = folders
    make_audio(noise / "street.flac", 48000)
    assert prepare_folders(folders, tmp_path / "out") == 1
    assert "differ by suffix only" in capsys.readouterr().err


def test_an_output_folder_inside_the_corpus_is_an_error(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, noise = folders
    assert prepare_folders(folders, noise / "out") == 0
    assert prepare_folders(folders, noise / "out") == 1
    assert "choose an --out outside of the corpus" in capsys.readouterr().err


def test_splits_are_stable_and_keep_their_shares() -> None:
    keys = [f"speaker {number}" for number in range(2000)]
    splits = assign_splits(reversed(keys), 0.1, 0.2, "speakers")
    assert splits == assign_splits(keys, 0.1, 0.2, "speakers")
    assert list(splits.values()).count("valid") == pytest.approx(200, abs=50)
    assert list(splits.values()).count("test") == pytest.approx(400, abs=50)
    more = assign_splits([*keys, "another"], 0.1, 0.2, "speakers")
    assert {key: more[key] for key in keys} == splits
    # Fixed by SHA-256, so that a corpus is cut alike on every machine and in every version.
    assert assign_splits(["anna", "bert", "cleo", "dora"], 0.1, 0.1, "speakers") == {
        "anna": "test", "bert": "valid", "cleo": "train", "dora": "train",
    }  # fmt: skip


@pytest.mark.parametrize("num_keys", [3, 4, 10])
def test_every_wanted_split_gets_something(num_keys: int) -> None:
    keys = [f"speaker {number}" for number in range(num_keys)]
    for shares in ((0.01, 0.01), (0.49, 0.5), (0.0, 0.01)):
        splits = set(assign_splits(keys, *shares, "speakers").values())
        assert splits == {"train", "test"} | ({"valid"} if shares[0] else set())
    with pytest.raises(PrepareError, match="found 1 speakers"):
        assign_splits(keys[:1], 0.1, 0.1, "speakers")


def test_noise_alone_is_divided_and_one_file_of_it_is_for_training(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("folders", "--noise", folders[1], "--out", tmp_path / "out") == 0
    manifest = prepared(tmp_path / "out")
    assert {recording.kind for recording in manifest.recordings} == {"noise"}
    assert sorted(recording.split for recording in manifest.recordings) == ["test", "train", "valid"]
    (folders[1] / "rain" / "tent.wav").unlink()
    (folders[1] / "street.wav").unlink()
    assert prepare("folders", "--noise", folders[1], "--out", tmp_path / "out") == 1
    assert "omit a split by --test 0 or --valid 0" in capsys.readouterr().err
    assert prepare("folders", "--noise", folders[1], "--out", tmp_path / "out", "--test", 0, "--valid", 0) == 0
    [left] = prepared(tmp_path / "out").recordings
    assert (left.split, left.source) == ("train", "rain/roof")
