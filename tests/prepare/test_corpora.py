"""The preparers of published corpora, each on a tiny tree with the layout of its corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from preparers import CONF, make_audio, prepare, prepared, snapshot, splits_of

READERS = [f"reader_0670{number}" for number in range(6)]


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


def test_the_error_of_missing_voicebank_folders_says_what_to_download(
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
    assert "recording 3 in the order of names: Translation not found for 84-7-0009" in capsys.readouterr().err
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


def test_the_error_of_a_missing_librispeech_subset_says_how_to_get_it(
    librispeech: Path, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--noise", folders[1], "--out", tmp_path / "out", "--subsets", "dev-other"]
    assert prepare("librispeech", "--root", librispeech, *options) == 1
    error = capsys.readouterr().err
    assert f"{librispeech}/LibriSpeech/dev-other: cannot be opened" in error
    assert "or add --download" in error


@pytest.mark.parametrize("corpus", ["voicebank_demand", "dns", "paired", "folders", "librispeech"])
def test_every_preparer_has_help_and_a_configuration(corpus: str, capsys: pytest.CaptureFixture[str]) -> None:
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
