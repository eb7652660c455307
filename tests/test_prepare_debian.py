"""The Debian corpus: its rules, its signal processing against independent facts, and its stages on tiny packages."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.progress import Progress

from hushwork import cli
from hushwork.data.manifest import load_manifest
from hushwork.prepare import debian
from hushwork.prepare.debian import audio as corpus_audio
from hushwork.prepare.debian import noise, packages
from hushwork.prepare.debian.rules import Rules, bcp47
from hushwork.prepare.items import PrepareError

RATE = 16000
FESTVOX = "usr/share/festival/voices/wav/{:04d}.wav"


@pytest.fixture(scope="module")
def rules() -> Any:
    return Rules.load()


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("package", "path", "speaker", "split", "tier"),
    [
        ("festvox-ru", "usr/share/festival/voices/wav/001.wav", ("fvru_nsh", "ru"), "train", "A"),
        ("asterisk-core-sounds-fr-g722", "usr/share/fr/hello.wav", ("ast_fr_june", "fr_CA"), "test", "A"),
        ("asterisk-core-sounds-ru-g722", "usr/share/ru/hello.wav", ("ast_ru_maxim", "ru"), "valid", "A"),
        ("tuxpaint-stamps-default", "stamps/animals/cow_desc_be.ogg", ("tp_be", "be"), "test", "B"),
        ("tuxpaint-stamps-default", "stamps/animals/cow_desc.ogg", ("tp_en", "en"), "train", "C"),
        ("tuxpaint-stamps-default", "stamps/symbols/numbers/7_en_GB.ogg", ("tps_en_GB", "en_GB"), "train", "B"),
        ("klettres-data", "klettres/pt_BR/alpha/a.ogg", ("kl_pt_BR", "pt_BR"), "train", "C"),
        ("ktuberling-data", "ktuberling/sounds/ca@valencia/eye.ogg", ("kt_ca", "ca"), "train", "B"),
        ("ktuberling-data", "ktuberling/sounds/uk/eye.ogg", ("kt_uk", "uk"), "valid", "B"),
        ("gcin-voice", "gcin/ogg/ma1/5.ogg", ("gcin_5", "zh"), "train", "C"),
        ("0ad-data", "audio/voice/latin/civ/civ_female_yes.ogg", ("zad_latin_f", "und"), "train", "B"),
        ("hedgewars-data", "Sounds/voices/Ukrainian_uk/Hello.ogg", ("hw_Ukrainian_uk", "uk"), "train", "C"),
    ],
)
def test_speaker_split_and_tier(
    rules: Any, package: str, path: str, speaker: tuple[str, str], split: str, tier: str
) -> None:
    assert rules.speaker(package, path) == speaker
    assert rules.speech_split(*speaker) == split
    assert rules.tier(speaker[0]) == tier


@pytest.mark.parametrize(
    ("package", "path"),
    [
        ("asterisk-core-sounds-en-g722", "usr/share/en/silence/1.wav"),
        ("tuxpaint-stamps-default", "stamps/animals/cow.ogg"),
        ("klettres-data", "klettres/all/alpha/a.ogg"),
        ("0ad-data", "audio/ambient/rain.ogg"),
        ("torcs-data", "sound/engine.wav"),
    ],
)
def test_not_speech(rules: Any, package: str, path: str) -> None:
    assert rules.speaker(package, path) is None


def test_volunteers_of_a_language_share_a_split(rules: Any) -> None:
    prefixes = {"klettres-data": "kl_", "ktuberling-data": "kt_", "qabcs-data": "qa_", "tuxpaint-stamps-default": "tp_"}
    languages = [
        "ar",
        "be",
        "ca",
        "da",
        "de",
        "el",
        "en",
        "en_GB",
        "en_gb",
        "fr",
        "gl",
        "he",
        "nds",
        "ru",
        "uk",
        "zh_TW",
    ]
    splits = defaultdict(set)
    for language in languages:
        for prefix in prefixes.values():
            splits[language.split("_")[0]].add(rules.speech_split(prefix + language, language))
    assert all(len(found) == 1 for found in splits.values()), splits


def test_a_noise_package_is_in_one_split(rules: Any) -> None:
    packages = rules.packages()
    assert len({package.name for package in packages}) == len(packages)
    assert {package.noise for package in packages} == {None, "train", "valid", "test"}


def test_small_has_every_split(rules: Any) -> None:
    small = rules.packages("small")
    assert len(small) < len(rules.packages())
    assert {package.noise for package in small} >= {"train", "valid", "test"}
    assert {rules.speech_split(rule["speaker"], rule.get("language", "und")) for rule in rules.tables["speech"]
            if rule["package"] in {package.name for package in small}} == {"train", "valid", "test"}  # fmt: skip


@pytest.mark.parametrize(
    ("package", "path", "expected"),
    [
        ("berusky2-data", "sound/dest3.ogg", "rain"),
        ("torcs-data", "data/sound/engine-1.wav", "engine_vehicle"),
        ("flare-game", "soundfx/environment/fire_loop.ogg", "fire"),
        ("flare-game", "soundfx/fireball.ogg", "misc_fx"),
        ("minetest-data", "sounds/default_dig_metal.ogg", "footsteps_tools"),
        ("wesnoth-1.16-data", "sounds/ambient/wind.ogg", "wind"),
        ("wesnoth-1.16-data", "sounds/ambient/windmill.ogg", "machine"),
        ("bucklespring-data", "wav/1e-0.wav", "keyboard"),
        ("nexuiz-data", "sound/weapons/rocket.wav", "impacts"),
        ("qabcs-data", "abcs/en/noises/dog.ogg", "animal"),
        ("qabcs-data", "abcs/en/sounds/dog.ogg", None),
        ("tuxpaint-stamps-default", "stamps/vehicles/emergency/firetruck.ogg", None),
        ("tuxpaint-stamps-default", "stamps/animals/cow_desc_be.ogg", None),
        ("0ad-data", "audio/voice/latin/civ/civ_male_yes.ogg", None),
        ("flare-game", "music/dungeon_theme.ogg", None),
        ("openarena-data", "sound/player/gibimp1.wav", None),
    ],
)
def test_noise_class(rules: Any, package: str, path: str, expected: str | None) -> None:
    assert rules.noise_class(package, path) == expected


@pytest.mark.parametrize(("tag", "expected"), [("zh_tw", "zh-TW"), ("en_GB", "en-GB"), ("nds", "nds")])
def test_language_tags(tag: str, expected: str) -> None:
    assert bcp47(tag) == expected


# ---------------------------------------------------------------- signal processing


def tone(seconds: float, hertz: float = 440.0, peak: float = 0.3) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def hiss(seconds: float, rms: float, seed: int = 0) -> np.ndarray:
    return (rms * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def words(seconds: float, seed: int = 0) -> np.ndarray:
    """Bursts of noise of 0.3 s with pauses of 0.1 s, 60 dB above a hiss: what the checks take for clean speech."""
    burst = np.tile(np.repeat([1.0, 0.0], [int(0.3 * RATE), int(0.1 * RATE)]), int(seconds / 0.4) + 1)
    return hiss(seconds, 0.1, seed) * burst[: int(seconds * RATE)].astype(np.float32) + hiss(seconds, 1e-4, seed + 1)


def rms_db(audio: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(audio.astype(np.float64) ** 2)))


def test_level_brings_the_active_part_to_26_db_below_full_scale() -> None:
    silence = np.zeros(RATE, dtype=np.float32)
    levelled = corpus_audio.level(np.concatenate([silence, tone(2.0), silence]), RATE)
    assert rms_db(levelled[RATE : 3 * RATE]) == pytest.approx(-26.0, abs=0.05)


def test_level_keeps_peaks_below_full_scale() -> None:
    clicks = hiss(1.0, 0.5 / np.sqrt(320) / 10)
    clicks[::1280] = 0.5  # one sample in every fourth frame: 31 dB between peak and average
    assert np.abs(corpus_audio.level(clicks, RATE)).max() == pytest.approx(0.98, abs=1e-3)


def test_trim_leaves_the_tone_and_100_ms_around_it() -> None:
    silence = np.zeros(RATE, dtype=np.float32)
    trimmed = corpus_audio.trim(np.concatenate([silence, tone(0.5), silence]) + hiss(2.5, 1e-4), RATE)
    assert len(trimmed.audio) / RATE == pytest.approx(0.7, abs=0.041)
    assert trimmed.active_s == pytest.approx(0.5, abs=0.041)
    assert trimmed.snr_db == pytest.approx(rms_db(tone(0.5)) + 80, abs=2)


def test_trim_refuses_a_blip() -> None:
    assert corpus_audio.trim(tone(0.05), RATE) is None


def test_stft_round_trip() -> None:
    audio = hiss(1.0, 0.1)
    assert corpus_audio.istft(corpus_audio.stft(audio, RATE), len(audio), RATE) == pytest.approx(audio, abs=1e-5)


def test_gate_lowers_noise_and_keeps_the_voice_and_the_length() -> None:
    background = hiss(3.0, 0.002)
    noisy = background.copy()
    noisy[RATE : 2 * RATE] += tone(1.0)
    gated = corpus_audio.gate(noisy, corpus_audio.noise_spectrum(noisy, RATE), RATE)
    assert len(gated) == len(noisy)
    assert -15 < rms_db(gated[: RATE // 2]) - rms_db(background[: RATE // 2]) < -2.5
    assert rms_db(gated[RATE : 2 * RATE]) == pytest.approx(rms_db(tone(1.0)), abs=0.2)


def test_fingerprint_finds_a_copy_and_tells_others_apart() -> None:
    sound = hiss(2.0, 0.1)
    prints = [corpus_audio.fingerprint(audio, RATE) for audio in (sound, 0.5 * sound, tone(2.0), hiss(1.0, 0.1))]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_mono_ignores_an_empty_channel() -> None:
    left = tone(0.1)
    assert np.array_equal(corpus_audio.mono(np.stack([left, np.zeros_like(left)])), left)
    assert corpus_audio.mono(np.stack([left, -left])) == pytest.approx(0)


# ---------------------------------------------------------------- packages


def test_without_apt_it_says_what_else_to_train_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert cli.main(["prepare", "debian", "--out", str(tmp_path / "corpus")]) == 1
    message = capsys.readouterr().err
    assert "apt-get and dpkg-deb not found" in message
    for alternative in ("voicebank_demand", "librispeech", "folders"):
        assert f"data={alternative}" in message
    assert not (tmp_path / "corpus").exists()


def test_every_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "ffmpeg" else f"/usr/bin/{name}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PrepareError) as caught:
        packages.check_tools()
    assert "apt-get install ffmpeg" in str(caught.value)
    assert "pip install 'hushwork[corpora]'" in str(caught.value)


def test_packages_that_apt_does_not_know_are_left_out(rules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = (
        "'http://mirror/klettres-data_4%3a22.12.3-1_all.deb' klettres-data_4%3a22.12.3-1_all.deb 39529084 SHA256:0\n"
    )
    monkeypatch.setattr(packages.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=answer, stderr="E: Unable"))
    debs = packages.find_debs(rules.packages())
    assert list(debs) == ["klettres-data"]
    assert (debs["klettres-data"].version, debs["klettres-data"].size) == ("4:22.12.3-1", 39529084)


def test_a_full_disk_is_noticed_before_the_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2e9))
    workspace = debian.Workspace(tmp_path, tmp_path, RATE)
    packages.check_space([debian.Deb("a", "a_1_all.deb", 400_000_000)], workspace)
    with pytest.raises(PrepareError, match="--size small"):
        packages.check_space([debian.Deb("a", "a_1_all.deb", 600_000_000)], workspace)


def test_archives_are_replaced_by_their_audio(tmp_path: Path) -> None:
    path = tmp_path / "pak0.pk3"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("sound/rain.ogg", "textures/rain.png", "music/theme.ogg", "../escape.ogg"):
            archive.writestr(name, b"x")
    packages.extract_archive(path)
    found = sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file())
    assert found == ["pak0_pk3/escape.ogg", "pak0_pk3/sound/rain.ogg"]


# ---------------------------------------------------------------- stages


def save(path: Path, audio: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, subtype="FLOAT")


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Five unpacked packages: studio and volunteer speech, noise, key clicks and music."""
    monkeypatch.setattr(noise, "voiced_share", lambda audio, rate: float(rms_db(audio) > -12))
    workspace = debian.Workspace(tmp_path / "out", tmp_path / "work", RATE)
    stamps = "stamps/animals"
    content = {
        "festvox-ru": {FESTVOX.format(number): words(2.0, number) for number in range(8)},
        "tuxpaint-stamps-default": {f"{stamps}/{name}_desc_be.wav": words(2.5, k) for k, name in enumerate("abcd")}
        | {f"{stamps}/{name}_desc_lt.wav": words(2.5, k + 50) for k, name in enumerate("abcd")}
        | {f"{stamps}/duck.wav": hiss(1.0, 0.05, 7), f"{stamps}/quiet.wav": hiss(1.0, 1e-5)},
        "bucklespring-data": {f"wav/{key:02x}-0.wav": hiss(0.1, 0.1, key) for key in range(4)},
        "minetest-data": {
            "sounds/water.wav": hiss(2.0, 0.05, 8), "sounds/water_again.wav": 0.5 * hiss(2.0, 0.05, 8),
            "sounds/speaking.wav": hiss(2.5, 0.5, 9),
        },
        "asterisk-moh-opsound-g722": {f"moh/piece{number}.wav": tone(3.0, 300 + 100 * number) for number in range(5)},
    }  # fmt: skip
    content["festvox-ru"][FESTVOX.format(90)] = np.clip(20 * words(2.0), -1, 1)
    content["festvox-ru"][FESTVOX.format(91)] = hiss(2.0, 0.1)
    for package, files in content.items():
        for path, audio in files.items():
            save(workspace.tree(package) / path, audio)
        inventory = packages.Inventory("1.0", sorted(files))
        packages.inventory_file(package, workspace).parent.mkdir(parents=True, exist_ok=True)
        packages.kept_copyright(package, workspace).write_text(f"authors of {package}")
        packages.write_json(packages.inventory_file(package, workspace), asdict(inventory))
    save(workspace.tree("festvox-ru") / FESTVOX.format(0), words(2.0)[::2], RATE // 2)
    return workspace


def build(workspace: Any) -> Any:
    with Progress(disable=True) as progress:
        return debian.Builder(workspace, "full", 1, progress, Rules.load()).process()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_stages_make_a_manifest_that_training_accepts(workspace: Any) -> None:
    corpus = build(workspace)
    manifest = load_manifest(workspace.out / "manifest.jsonl", RATE)
    speech = [recording for recording in manifest.recordings if recording.kind == "speech"]
    assert {(recording.speaker, recording.split, recording.weight) for recording in speech} == {
        ("fvru_nsh", "train", 1.0),
        ("tp_be", "test", 0.7),
    }
    assert all(recording.duration_s > 1.5 for recording in speech)
    noise = {(recording.noise_class, recording.split, recording.source) for recording in manifest.recordings}
    assert noise >= {
        ("water", "valid", "minetest-data"),
        ("animal", "test", "tuxpaint-stamps-default"),
        ("keyboard", "train", "bucklespring-data"),
        ("music", "valid", "asterisk-moh-opsound-g722/piece3"),
        ("music", "test", "asterisk-moh-opsound-g722/piece4"),
    }
    reasons = {Path(row.path).name: row.reason for row in corpus.rejected}
    assert reasons["0000.wav"] == "narrow band (8000 Hz)"
    assert "clipped" in reasons["0090.wav"]
    assert "SNR" in reasons["0091.wav"]
    assert "tier C" in reasons["tp_lt (4 clips)"]
    assert reasons["quiet.wav"] == "silent"
    assert "speech in" in reasons["speaking.wav"]
    assert reasons["water_again.wav"].startswith("copy of noise/valid/water/")
    on_disk = {path.relative_to(workspace.out).as_posix() for path in workspace.out.rglob("*.flac")}
    assert on_disk == {recording.path for recording in manifest.recordings}
    credits_text = (workspace.out / "CREDITS.md").read_text(encoding="utf-8")
    assert "| festvox-ru | 1.0 |" in credits_text
    assert "BSD-like" in credits_text
    assert (workspace.out / "licences" / "festvox-ru.copyright").read_text() == "authors of festvox-ru"


def test_a_second_run_does_nothing_and_a_fresh_one_gives_the_same_bytes(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(workspace)
    first = contents(workspace.out)
    with monkeypatch.context() as patch:
        patch.setattr(debian, "run_job", lambda *_: pytest.fail("work was done twice"))
        build(workspace)
    assert contents(workspace.out) == first
    shutil.rmtree(workspace.out)
    shutil.rmtree(workspace.work / "done")
    build(workspace)
    assert contents(workspace.out) == first


def test_lost_files_and_interrupted_work_are_made_again(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build(workspace)
    first = contents(workspace.out)
    next((workspace.out / "noise").rglob("*.flac")).unlink()
    shutil.rmtree(workspace.out / "speech" / "test")
    build(workspace)
    assert contents(workspace.out) == first


def test_no_speech_is_an_error(workspace: Any) -> None:
    for package in ("festvox-ru", "tuxpaint-stamps-default"):
        packages.inventory_file(package, workspace).unlink()
    with pytest.raises(PrepareError, match="no package with speech"):
        build(workspace)
