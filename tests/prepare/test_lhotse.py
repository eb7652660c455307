"""CutSets, made by lhotse itself, as a corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("lhotse")

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from hushwork import cli
from hushwork.data.manifest import load_manifest

RATE = 16000


@pytest.fixture
def sound(tmp_path: Path) -> np.ndarray:
    """Three seconds at 16 kHz, as ``long.wav``, with another channel; and a folder of noise."""
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal((3 * RATE, 2))).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", sound, RATE, subtype="FLOAT")
    (tmp_path / "noise").mkdir()
    for k in range(6):
        soundfile.write(tmp_path / "noise" / f"{k}.wav", 0.1 * rng.standard_normal(RATE), RATE)
    return sound


def cut(folder: Path, name: str, start: float, duration: float, *speakers: str, channel: int = 0) -> MonoCut:
    length = duration / max(1, len(speakers))
    supervisions = [
        SupervisionSegment(
            id=f"{name}{k}", recording_id="long", start=k * length, duration=length, channel=channel,
            speaker=speaker, text=f"text {k}", language="en",
        )
        for k, speaker in enumerate(speakers)
    ]  # fmt: skip
    recording = Recording.from_file(folder / "long.wav", recording_id="long")
    return MonoCut(
        id=name, start=start, duration=duration, channel=channel, recording=recording, supervisions=supervisions
    )


def prepare(folder: Path, *words: str) -> int:
    return cli.main(["prepare", "lhotse", "--out", str(folder / "out"), "--noise", str(folder / "noise"), *words])


def test_cuts_become_files(sound: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cuts = [
        cut(tmp_path, "one", 0.5, 1.0, "anna"),
        cut(tmp_path, "two", 1.25, 0.75, "anna", "anna", channel=1),
        cut(tmp_path, "three", 0.0, 1.0, "anna", "ben"),
        cut(tmp_path, "four", 0.0, 1.0),
        cut(tmp_path, "../five", 0.0, 1.0, "anna"),
        cut(tmp_path, "six", 0.0, 1.0, "anna").mix(cut(tmp_path, "seven", 0.0, 1.0, "anna"), snr=5),
    ]
    CutSet.from_cuts(cuts).to_file(tmp_path / "train.jsonl.gz")
    CutSet.from_cuts([cut(tmp_path, "v", 0.0, 0.5, "eva")]).to_file(tmp_path / "dev.jsonl.gz")
    words = ("--cuts", str(tmp_path / "train.jsonl.gz"), "--valid-cuts", str(tmp_path / "dev.jsonl.gz"))
    assert prepare(tmp_path, *words) == 0
    errors = capsys.readouterr().err
    assert "cut three: has 2 speakers in its supervisions, expected one" in errors
    assert "cut four: has 0 speakers" in errors
    assert "cut ../five: its id is not a valid file name" in errors
    assert errors.count(": is mixed or has no recording") == 1
    manifest = load_manifest(tmp_path / "out" / "manifest.jsonl", RATE)
    speech = {Path(recording.path).stem: recording for recording in manifest.recordings if recording.kind == "speech"}
    assert {name: (r.split, r.speaker, r.text, r.language, r.source) for name, r in speech.items()} == {
        "one": ("train", "anna", "text 0", "en", "train"),
        "two": ("train", "anna", "text 0 text 1", "en", "train"),
        "v": ("valid", "eva", "text 0", "en", "dev"),
    }
    for name, start, end, channel in (("one", 0.5, 1.5, 0), ("two", 1.25, 2.0, 1), ("v", 0.0, 0.5, 0)):
        written, rate = soundfile.read(manifest.file(speech[name].path), dtype="float32")
        assert rate == RATE
        assert np.abs(written - sound[int(start * RATE) : int(end * RATE), channel]).max() < 1e-4  # 16 bits
    assert {r.split for r in manifest.recordings if r.kind == "noise"} == {"train", "valid"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.flac")}
    assert prepare(tmp_path, *words) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.flac")} == before


def test_one_cutset_is_split_by_speaker(sound: np.ndarray, tmp_path: Path) -> None:
    cuts = [cut(tmp_path, f"c{k}", 0.1 * k, 0.5, f"speaker{k % 10}") for k in range(20)]
    CutSet.from_cuts(cuts).to_file(tmp_path / "all.jsonl.gz")
    assert prepare(tmp_path, "--cuts", str(tmp_path / "all.jsonl.gz"), "--sample-rate", "8000") == 0
    manifest = load_manifest(tmp_path / "out" / "manifest.jsonl", 8000)
    assert {split: len(manifest.select("speech", split)) > 0 for split in ("train", "valid", "test")} == {
        "train": True,
        "valid": True,
        "test": True,
    }
    assert len(manifest.select("speech", "train")) + len(manifest.select("speech", "valid")) <= 18


def test_files_that_are_not_cutsets_are_named(
    sound: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(tmp_path, "--cuts", str(tmp_path / "absent.jsonl.gz")) == 1
    assert "absent.jsonl.gz: no such file; expected a CutSet" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text("{not json")
    assert prepare(tmp_path, "--cuts", str(tmp_path / "bad.jsonl")) == 1
    assert "bad.jsonl: cannot be read as a CutSet" in capsys.readouterr().err
