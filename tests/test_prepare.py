"""The corpus preparers, each on a tiny tree laid out like its corpus."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hushwork import cli
from hushwork.audio.io import audio_info, read_audio, write_audio
from hushwork.data.manifest import Manifest, load_manifest
from hushwork.data.recordings import Recording
from hushwork.prepare.corpus import PrepareError, assign_splits

CONF = Path(__file__).parents[1] / "conf"
DURATION_S = 0.25
READERS = [f"reader_0670{number}" for number in range(6)]


def make_audio(path: Path, sample_rate: int = 16000, num_channels: int = 1, duration_s: float = DURATION_S) -> Path:
    """A tone whose pitch depends on the path, equal in all channels."""
    hz = 200 + hashlib.sha256(path.name.encode()).digest()[0]
    tone = 0.3 * np.sin(2 * np.pi * hz * np.arange(round(duration_s * sample_rate)) / sample_rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, np.tile(tone, (num_channels, 1)), sample_rate)
    return path


def prepare(corpus: str, *words: str | Path) -> int:
    return cli.main(["prepare", corpus, *map(str, words)])


def prepared(out: Path, sample_rate: int = 16000) -> Manifest:
    """The manifest, which load_manifest has found valid, after a look at what is in the files."""
    manifest = load_manifest(out / "manifest.jsonl", sample_rate)
    for recording in manifest.recordings:
        for path in filter(None, (recording.path, recording.noisy_path)):
            info = audio_info(manifest.file(path))
            assert (info.num_channels, info.sample_rate) == (1, sample_rate)
            assert info.num_samples == round(DURATION_S * sample_rate)
    return manifest


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*.flac")}


def splits_of(manifest: Manifest, name: Callable[[Recording], str | None]) -> dict[str | None, set[str]]:
    found: dict[str | None, set[str]] = {}
    for recording in manifest.recordings:
        found.setdefault(name(recording), set()).add(recording.split)
    return found


@pytest.fixture
def voicebank(tmp_path: Path) -> Path:
    root = tmp_path / "voicebank"
    for side in ("clean", "noisy"):
        for name in ("p226_001", "p287_002", "p227_001", "p228_001"):
            make_audio(root / f"{side}_trainset_28spk_wav" / f"{name}.wav", 48000)
        for name in ("p232_001", "p257_001"):
            make_audio(root / f"{side}_testset_wav" / f"{name}.wav", 48000)
    (root / "log_trainset_28spk.txt").write_text("p226_001 babble 15\np227_001 ssn 0\n\n")
    (root / "logfiles").mkdir()
    (root / "logfiles" / "log_testset.txt").write_text("p232_001 bus 2.5\n")
    return root


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    speech, noise = tmp_path / "speech", tmp_path / "noise"
    for name in ("anna/1.wav", "anna/sub/2.flac", "bert/1.wav", "cleo/1.ogg", "dora/1.wav"):
        make_audio(speech / name)
    for name in ("rain/roof.wav", "rain/tent.wav", "street.wav"):
        make_audio(noise / name, 48000, num_channels=2)
    return speech, noise


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
    assert "leave out a split with --test 0 or --valid 0" in capsys.readouterr().err
    assert prepare("folders", "--noise", folders[1], "--out", tmp_path / "out", "--test", 0, "--valid", 0) == 0
    [left] = prepared(tmp_path / "out").recordings
    assert (left.split, left.source) == ("train", "rain/roof")


def test_voicebank_demand_keeps_the_published_splits(voicebank: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare("voicebank-demand", "--root", voicebank, "--out", out) == 0
    manifest = prepared(out)
    assert {recording.kind for recording in manifest.recordings} == {"pair"}
    assert splits_of(manifest, lambda recording: recording.speaker) == {
        "p226": {"valid"}, "p287": {"valid"}, "p227": {"train"}, "p228": {"train"}, "p232": {"test"}, "p257": {"test"},
    }  # fmt: skip
    by_speaker = {recording.speaker: recording for recording in manifest.recordings}
    assert (by_speaker["p226"].noise_class, by_speaker["p226"].snr_db) == ("babble", 15.0)
    assert (by_speaker["p232"].noise_class, by_speaker["p232"].snr_db) == ("bus", 2.5)
    assert by_speaker["p228"].snr_db is None
    assert by_speaker["p227"].path == "audio/clean_trainset_28spk_wav/p227_001.flac"
    assert by_speaker["p227"].noisy_path == "audio/noisy_trainset_28spk_wav/p227_001.flac"
    assert by_speaker["p227"].licence == "CC-BY-4.0"


def test_a_second_run_rewrites_nothing_and_a_lost_file_is_made_again(voicebank: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare("voicebank-demand", "--root", voicebank, "--out", out) == 0
    first, manifest = snapshot(out), (out / "manifest.jsonl").read_bytes()
    assert len(first) == 12
    assert prepare("voicebank-demand", "--root", voicebank, "--out", out, "--jobs", "1") == 0
    assert snapshot(out) == first
    lost = out / "audio/noisy_testset_wav/p232_001.flac"
    lost.unlink()
    assert prepare("voicebank-demand", "--root", voicebank, "--out", out) == 0
    again = snapshot(out)
    assert again.pop(str(lost))[1] == first.pop(str(lost))[1]
    assert again == first
    assert (out / "manifest.jsonl").read_bytes() == manifest


def test_another_rate_is_converted_anew(voicebank: Path, tmp_path: Path) -> None:
    for sample_rate in (16000, 8000):
        assert (
            prepare("voicebank-demand", "--root", voicebank, "--out", tmp_path / "out", "--sample-rate", sample_rate)
            == 0
        )
        prepared(tmp_path / "out", sample_rate)


def test_voicebank_demand_without_its_folders_says_what_to_get(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("voicebank-demand", "--root", tmp_path, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert f"{tmp_path}/clean_trainset_28spk_wav: no such folder" in error
    assert "Noisy speech database for training speech enhancement algorithms and TTS models" in error


def test_voicebank_demand_56_speakers_validates_on_two_of_them(voicebank: Path, tmp_path: Path) -> None:
    for side in ("clean", "noisy"):
        for name in ("p234_001", "p237_001", "p241_001"):
            make_audio(voicebank / f"{side}_trainset_56spk_wav" / f"{name}.wav", 48000)
    out = tmp_path / "out"
    assert prepare("voicebank-demand", "--root", voicebank, "--out", out, "--trainset", "56spk") == 0
    speakers = splits_of(prepared(out), lambda recording: recording.speaker)
    assert [name for name, splits in speakers.items() if splits == {"valid"}] == ["p234", "p237"]
    assert "p226" not in speakers
    assert prepare("voicebank-demand", "--root", voicebank, "--out", out, "--valid-speakers", "p999") == 1


def test_voicebank_demand_rejects_a_malformed_log(
    voicebank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (voicebank / "log_trainset_28spk.txt").write_text("p226_001 babble\n")
    assert prepare("voicebank-demand", "--root", voicebank, "--out", tmp_path / "out") == 1
    assert "log_trainset_28spk.txt: 'p226_001 babble' is not like" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["datasets_fullband/{}_fullband", "datasets/{}", "{}"])
def test_dns_splits_by_reader_and_noise_source(tmp_path: Path, layout: str) -> None:
    root, out = tmp_path / "dns", tmp_path / "out"
    clean, noise = root / layout.format("clean"), root / layout.format("noise")
    for number, reader in enumerate(READERS):
        for cut in range(2):
            name = f"book_00000_chp_000{cut}_{reader}_{cut}_seg1.wav"
            make_audio(clean / ("read_speech", "german_speech")[number % 2] / name, 48000)
    for name in ("VocalSet_48kHz_mono/f1_scales_a", "VocalSet_48kHz_mono/f1_long_e", "read_speech/tale_01_f000145"):
        make_audio(clean / f"{name}.wav", 48000)
    for name in ("breath_spit_Freesound_validated_42_0", "door_Freesound_validated_42_1", "-x_Yz12345_", "b", "c", "d"):
        make_audio(noise / f"{name}.wav")
    test = root / ("datasets/" if layout.startswith("datasets/") else "") / "test_set/synthetic/no_reverb"
    for noisy, number in (("clnsp102_traffic_248091_3_snr5_tl-21", 12), ("clnsp7_3Wjw0nadnM4_snr-3_tl-22", 3)):
        make_audio(test / "clean" / f"clean_fileid_{number}.wav")
        make_audio(test / "noisy" / f"{noisy}_fileid_{number}.wav")
    assert prepare("dns", "--root", root, "--out", out) == 0

    manifest = prepared(out)
    speech = [recording for recording in manifest.recordings if recording.kind == "speech"]
    assert {recording.split for recording in speech} == {"train", "valid", "test"}
    assert {recording.speaker for recording in speech} == {*READERS, "f1", "read_speech/tale"}
    assert {r.language for r in speech if r.source == "DNS-Challenge/german_speech"} == {"de"}
    sources = {r.source: r for r in manifest.recordings if r.kind == "noise"}
    assert set(sources) == {"freesound/42", "audioset/-x_Yz12345_", "audioset/b", "audioset/c", "audioset/d"}
    assert sources["freesound/42"].noise_class in ("breath_spit", "door")
    assert sources["audioset/b"].noise_class == "audioset"
    assert sources["audioset/b"].path == str(noise / "b.wav")
    pairs = {recording.snr_db: recording for recording in manifest.select("pair", "test")}
    assert set(pairs) == {5.0, -3.0}
    assert (pairs[5.0].speaker, pairs[5.0].noise_class) == ("clnsp102", "traffic")
    assert pairs[5.0].path.endswith("clean_fileid_12.wav")
    assert (pairs[-3.0].speaker, pairs[-3.0].noise_class) == ("clnsp7", "audioset")


def test_dns_without_noise_names_the_layouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_audio(tmp_path / "clean" / "a.wav")
    assert prepare("dns", "--root", tmp_path, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert f"{tmp_path}: has none of the folders datasets_fullband/noise_fullband" in error
    assert "--noise DIR" in error


def test_paired_matches_by_path_and_names_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_paired_keeps_split_folders_and_refuses_a_speaker_in_two(
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


def test_folders_fills_every_split(folders: tuple[Path, Path], tmp_path: Path) -> None:
    speech, noise = folders
    out = tmp_path / "out"
    arguments = ["--speech", speech, "--noise", noise, "--out", out, "--noise-licence", "CC0-1.0"]
    assert prepare("folders", *arguments) == 0
    manifest = prepared(out)
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
    speech, noise = folders
    whole = make_audio(speech / "bert" / "cut.flac", duration_s=5).read_bytes()
    (speech / "bert" / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (speech / "bert" / "nothing.wav").write_bytes(b"")
    make_audio(speech / "bert" / "silence.wav", duration_s=0)
    write_audio(speech / "bert" / "nan.wav", np.full(4000, np.nan), 16000, subtype="FLOAT")
    (speech / "bert" / "._1.wav").write_bytes(b"hidden")
    arguments = ["--speech", speech, "--noise", noise, "--out", tmp_path / "out"]
    assert prepare("folders", *arguments) == 0
    error = capsys.readouterr().err
    assert "skipped 4 file(s)" in error
    for name in ("cut.flac", "nothing.wav", "silence.wav", "nan.wav"):
        assert f"{speech}/bert/{name}: " in error
    assert len(prepared(tmp_path / "out").recordings) == 8


def test_splits_are_drawn_after_unusable_files_were_dropped(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech, noise = folders
    arguments = ["--speech", speech, "--noise", noise, "--out", tmp_path / "out"]
    # Without a fault anna alone is tested on, and bert alone validated on: see the test of assign_splits.
    write_audio(speech / "anna" / "1.wav", np.full(4000, np.nan), 16000, subtype="FLOAT")
    write_audio(speech / "anna" / "sub" / "2.flac", np.zeros(4000), 16000)
    make_audio(noise / "rain" / "wind.wav")
    assert prepare("folders", *arguments) == 0
    assert "skipped 2 file(s)" in capsys.readouterr().err
    manifest = prepared(tmp_path / "out")
    for kind in ("speech", "noise"):
        for split in ("train", "valid", "test"):
            assert manifest.select(kind, split), (kind, split)
    write_audio(speech / "bert" / "1.wav", np.zeros(4000), 16000)
    assert prepare("folders", *arguments) == 1
    error = capsys.readouterr().err
    assert f"{speech}/bert/1.wav: is silent, all its samples are 0" in error
    assert f"found 2 speakers in {speech}, but test + valid + train need at least 3" in error


def empty(path: Path) -> None:
    path.write_bytes(b"")


def silent(path: Path) -> None:
    write_audio(path, np.zeros(16000), 16000)


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
    arguments = [*("--speech", tmp_path / "speech"), *("--noise", tmp_path / "noise"), "--out"]
    assert prepare("folders", *arguments, tmp_path / "good") == 0
    spoilt = tmp_path / "speech" / split / f"who{split}" / "1.wav"
    spoil(spoilt)
    assert prepare("folders", *arguments, tmp_path / "out") == 1
    assert f"hushwork prepare: the speech of the split {split} {message}: {spoilt}; add" in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_speech_without_noise_in_its_split_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "valid", "test"):
        make_audio(tmp_path / "speech" / name / f"who{name}" / "1.wav")
    for name in ("train", "valid"):
        make_audio(tmp_path / "noise" / name / "rain" / f"{name}.wav")
    arguments = [
        "--speech",
        str(tmp_path / "speech"),
        "--noise",
        str(tmp_path / "noise"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert prepare("folders", *arguments) == 1
    assert "the split test has speech, but no noise to mix it with" in capsys.readouterr().err


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
    arguments = ["--speech", speech, "--noise", noise, "--out", tmp_path / "out"]
    assert prepare("folders", *arguments) == 0
    manifest = prepared(tmp_path / "out")
    assert {r.speaker for r in manifest.recordings if r.kind == "speech"} == {"\\xe9mile", "bert", "cleo", "dora"}
    assert str(speech / name / "1.wav") in {r.path for r in manifest.recordings}
    assert f"audio/noise/rain/{name}.flac" in {r.path for r in manifest.recordings}


def test_a_name_too_long_to_be_converted_costs_that_file(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech, noise = folders
    make_audio(noise / "rain" / f"{'x' * 252}.au", 48000)
    arguments = ["--speech", speech, "--noise", noise, "--out", tmp_path / "out"]
    assert prepare("folders", *arguments) == 0
    assert "xx.flac: cannot be written (File name too long)" in capsys.readouterr().err


def test_films_are_converted(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    speech, noise = folders
    from hushwork.audio.io import AudioInfo, open_writer

    info = AudioInfo(16000, 16000, 1, "alac", "mov")
    with open_writer(speech / "anna" / "talk.m4a", info) as writer:
        writer.write(0.1 * np.random.default_rng(0).standard_normal((1, 16000)))
    arguments = ["--speech", speech, "--noise", noise, "--out", tmp_path / "out"]
    assert prepare("folders", *arguments) == 0
    manifest = load_manifest(tmp_path / "out" / "manifest.jsonl", 16000)
    assert "audio/speech/anna/talk.flac" in {recording.path for recording in manifest.recordings}


def test_files_that_would_share_a_name_are_an_error(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech, noise = folders
    make_audio(noise / "street.flac", 48000)
    arguments = ["--speech", speech, "--noise", noise, "--out", tmp_path / "out"]
    assert prepare("folders", *arguments) == 1
    assert "differ by suffix only" in capsys.readouterr().err


def test_an_output_folder_inside_the_corpus_is_an_error(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    speech, noise = folders
    arguments = ["--speech", speech, "--noise", noise, "--out", noise / "out"]
    assert prepare("folders", *arguments) == 0
    assert prepare("folders", *arguments) == 1
    assert "choose an --out outside of the corpus" in capsys.readouterr().err


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    root = tmp_path / "libri"
    for subset, speaker in (("train-clean-100", 84), ("train-clean-100", 85), ("dev-clean", 1272), ("test-clean", 61)):
        chapter = root / "LibriSpeech" / subset / str(speaker) / "7"
        for utterance in range(2):
            make_audio(chapter / f"{speaker}-7-{utterance:04}.flac")
        (chapter / f"{speaker}-7.trans.txt").write_text(f"{speaker}-7-0000 ONE\n{speaker}-7-0001 TWO\n")
    return root


def test_librispeech_takes_splits_from_subsets(
    librispeech: Path, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--noise", folders[1], "--out", out]
    make_audio(librispeech / "LibriSpeech/train-clean-100/84/7/84-7-0009.flac")
    assert prepare("librispeech", "--root", librispeech, *options) == 0
    assert "recording 3 in order of name: Translation not found for 84-7-0009" in capsys.readouterr().err
    manifest = prepared(out)
    speech = [recording for recording in manifest.recordings if recording.kind == "speech"]
    assert len(speech) == 8
    assert {(recording.speaker, recording.split) for recording in speech} == {
        ("84", "train"), ("85", "train"), ("1272", "valid"), ("61", "test"),
    }  # fmt: skip
    assert speech[0].path.startswith(str(librispeech / "LibriSpeech"))
    assert {r.split for r in manifest.recordings if r.kind == "noise"} == {"train", "valid", "test"}

    assert prepare("librispeech", "--root", librispeech / "LibriSpeech", "--subsets", "train-clean-100", *options) == 0
    assert {recording.split for recording in prepared(out).recordings} == {"train"}


def test_librispeech_without_a_subset_says_how_to_get_it(
    librispeech: Path, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--noise", folders[1], "--out", tmp_path / "out", "--subsets", "dev-other"]
    assert prepare("librispeech", "--root", librispeech, *options) == 1
    error = capsys.readouterr().err
    assert f"{librispeech}/LibriSpeech/dev-other: cannot be opened" in error
    assert "or add --download" in error


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


@pytest.mark.parametrize("corpus", ["voicebank_demand", "dns", "paired", "folders", "librispeech"])
def test_every_preparer_explains_itself(corpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        prepare(corpus.replace("_", "-"), "--help")
    assert str(Path("data", corpus)) in " ".join(capsys.readouterr().out.split())
    config = (CONF / "data" / f"{corpus}.yaml").read_text(encoding="utf-8")
    assert f"hushwork prepare {corpus.replace('_', '-')} " in config
    assert f"/{corpus}/manifest.jsonl" in config


@pytest.mark.parametrize(("option", "value"), [("--sample-rate", "0"), ("--jobs", "two"), ("--speaker-pattern", "(")])
def test_bad_options_are_refused(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        prepare("paired", "--clean", "a", "--noisy", "b", option, value)
    assert repr(value) in capsys.readouterr().err


def test_the_manifest_is_json_lines(folders: tuple[Path, Path], tmp_path: Path) -> None:
    speech, noise = folders
    arguments = ["--speech", speech, "--noise", noise, "--out", tmp_path / "out"]
    assert prepare("folders", *arguments) == 0
    lines = (tmp_path / "out" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == 8
