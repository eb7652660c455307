"""``scripts/benchmarks/teach.py``: mixtures with the output of teachers and committees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import teach

from configurations import compose_quickly
from hushwork.audio.io import read_audio
from hushwork.data.taught import METADATA, file_name
from hushwork.files.denoise import denoise
from hushwork.network.pretrained import load_pretrained

RATE = 16000
MIXING = ["data.mixing.segment_s=0.5", "data.mixing.room_probability=0"]


@pytest.fixture
def gains(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A teacher at 48 kHz that multiplies by the first of these numbers, and is 10 ms late, in this process. It takes a
    number that is not the last one off the list, but for the first call, which measures its delay."""
    gains = [0.7, 0.7]

    def peer(audio: np.ndarray) -> np.ndarray:
        gain = gains.pop(0) if len(gains) > 1 else gains[0]
        return np.pad(audio, (480, 0))[: len(audio)] * gain

    class InProcess:
        def __init__(self, jobs: int, mp_context: object, initializer: Any) -> None:
            initializer()

        def __enter__(self) -> InProcess:
            return self

        def __exit__(self, *_: object) -> None: ...

        map = staticmethod(map)

    monkeypatch.setitem(teach.PEERS, "DeepFilterNet 3", ("numpy", 48000, lambda: peer))
    monkeypatch.setattr(teach, "ProcessPoolExecutor", InProcess)
    monkeypatch.setattr(teach, "compose_config", lambda words: compose_quickly(*words))
    return gains


def run(corpus: Path, folder: Path, *more: str, hours: float = 4 / 7200) -> int:
    words = [f"data.manifest={corpus}", *MIXING, *more, "--hours", str(hours), "-o", str(folder)]
    return teach.main(words)


def test_mixtures_are_written_with_the_teacher_in_step(gains: list[float], corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "taught"
    assert run(corpus, folder) == 0
    files = sorted(folder.glob("*.flac"))
    assert [path.name for path in files] == [file_name(k) for k in range(4)]
    for path in files:
        (noisy, clean, teacher), rate = read_audio(path)
        assert (rate, len(noisy)) == (RATE, 8000)
        assert np.abs(noisy - clean).max() > 1e-3
        # The ends are those of resampling.
        assert np.abs(teacher - 0.7 * noisy)[400:-400].max() < 0.05 * np.abs(noisy).max()
    metadata = json.loads((folder / METADATA).read_text())
    assert metadata["teachers"] == ["DeepFilterNet 3"]
    assert metadata["mixing"]["segment_s"] == 0.5

    before = {path: path.stat().st_mtime_ns for path in files}
    files[2].unlink()
    assert run(corpus, folder) == 0  # goes on where it stopped
    assert sorted(folder.glob("*.flac")) == files
    assert all(path.stat().st_mtime_ns == before[path] for path in files if path != files[2])


def test_a_mixture_whose_speech_the_teacher_loses_is_drawn_again(
    gains: list[float], corpus: Path, tmp_path: Path
) -> None:
    def written(name: str, *given: float) -> np.ndarray:
        gains[:] = [1.0, *given]
        assert run(corpus, tmp_path / name, hours=1 / 7200) == 0
        return read_audio(tmp_path / name / file_name(0))[0]

    first, second = written("first", 0.7), written("second", 0.05, 0.7)
    assert np.abs(second[0] - first[0]).max() > 1e-2
    np.testing.assert_array_equal(written("again", 0.0, 0.7), second)
    # After a number of draws, that of the least loss is written.
    third = written("third", 0.01, 0.01, 0.05, 0.01)
    assert not np.array_equal(third[0], second[0])
    assert np.abs(third[2] - 0.05 * third[0])[400:-400].max() < 0.005 * np.abs(third[0]).max()


def test_the_nearest_of_a_committee_is_taken_in_each_band_and_frame() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(16000) / RATE
    low, high = np.sin(2 * np.pi * 440 * times), np.sin(2 * np.pi * 3100 * times)
    hiss = 0.3 * rng.standard_normal(16000) * (times > 0.5)
    members = [low + hiss, high - hiss, 0.5 * (low + high) * (times > 0.5)]
    clean = (low + high) * np.where(times > 0.5, 0.5, 1.0)
    found = teach.nearest(members, clean, RATE)
    assert found.shape == clean.shape
    away = (np.abs(times - 0.5) > 0.032) & (times > 0.032)  # from frames that hold both halves, or a beginning
    assert np.abs(found - clean)[away].max() < 0.02
    # One that is right everywhere is the result, to rounding, at any rate.
    np.testing.assert_allclose(teach.nearest([clean, 0 * clean], clean, 44100), clean, atol=1e-5)
    np.testing.assert_allclose(teach.mean([low, high], clean, RATE), (low + high) / 2)


def test_a_committee_may_hold_models_of_ours(gains: list[float], corpus: Path, tmp_path: Path) -> None:
    words = ["--teacher", "DeepFilterNet 3", "--teacher", "small", "--committee", "nearest"]
    assert run(corpus, tmp_path, *words, hours=1 / 7200) == 0
    (noisy, clean, teacher), _ = read_audio(tmp_path / file_name(0))
    members = [0.7 * noisy, denoise(noisy, RATE, load_pretrained("small"))]
    assert np.abs(teacher - teach.nearest(members, clean, RATE))[400:-400].max() < 0.05 * np.abs(noisy).max()
    metadata = json.loads((tmp_path / METADATA).read_text())
    assert (metadata["teachers"], metadata["committee"]) == (["DeepFilterNet 3", "small"], "nearest")


@pytest.mark.parametrize(
    ("name", "message"), [("DTLM", "DTLM: "), ("GTCRN", "GTCRN: not_there is not installed; benchmark_peers.py says")]
)
def test_a_teacher_that_cannot_run_is_refused(
    gains: list[float],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    message: str,
) -> None:
    monkeypatch.setitem(teach.PEERS, "GTCRN", ("not_there", RATE, lambda: np.copy))
    assert run(corpus, tmp_path / "taught", "--teacher", name) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "taught").exists()


def test_lost_speech_is_that_of_loud_frames() -> None:
    speech = np.concatenate([np.full(3200, 0.5), np.full(3200, 0.01)])
    estimate = np.concatenate([np.full(3200, 0.25), np.zeros(3200)])
    assert teach.lost_db(speech, estimate, RATE) == pytest.approx(20 * np.log10(2))
    assert teach.lost_db(np.zeros(6400), np.zeros(6400), RATE) == 0


def test_a_folder_of_another_configuration_is_refused(
    gains: list[float], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(corpus, tmp_path) == 0
    assert run(corpus, tmp_path, "seed=1") == 1
    assert "holds mixtures of another configuration" in capsys.readouterr().err
