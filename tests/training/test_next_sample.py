"""Next-sample prediction: measured on the held-out part, predicted from earlier samples only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from configurations import compose_quickly
from hushwork.audio.io import AudioError
from hushwork.models.predictor import ClockworkPredictor
from hushwork.training.next_sample import nmse, predict, read_recording, train, windows

SMALL = (
    "experiment=next_sample",
    "trainer.max_steps=30",
    "frames=32",
    "models.clockwork.periods=[1,2,4]",
    "models.clockwork.hidden_sizes=4",
    "models.rnn.recurrence.hidden_size=8",
    "models.lstm.recurrence.hidden_size=4",
)


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(2000) / 3), 8000)
    return path


def test_three_networks_are_measured_side_by_side(tone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = train(compose_quickly(*SMALL, f"audio={tone}", f"paths.run_dir={out}"))
    results = json.loads((out / "metrics.json").read_text("utf-8"))["results"]
    assert set(results) == {"repeat the last sample", "rnn", "lstm", "clockwork"}
    assert result == results["clockwork"]["nmse"]
    # Of a sine, x(n) - x(n - 1) has the power (2 sin(1/6))² relative to the sine's.
    assert results["repeat the last sample"]["nmse"] == pytest.approx((2 * np.sin(1 / 6)) ** 2, rel=0.05)
    assert all(np.isfinite(each["nmse"]) for each in results.values())
    assert (out / "prediction.png").stat().st_size > 1000


def test_the_committed_networks_have_equal_parameters() -> None:
    from hydra.utils import instantiate

    models = compose_quickly("experiment=next_sample").models
    sizes = {name: sum(p.numel() for p in instantiate(node).parameters()) for name, node in models.items()}
    assert sizes["clockwork"] == 2497
    assert all(size == pytest.approx(2497, rel=0.05) for size in sizes.values())


def test_a_guess_comes_from_the_past() -> None:
    model = ClockworkPredictor(input_size=1, output_size=1, periods=[1, 2], hidden_sizes=3)
    audio = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    changed = audio.copy()
    changed[20:] += 1
    guess, other = predict(model, audio), predict(model, changed)
    assert guess.shape == (49,)
    np.testing.assert_allclose(guess[:20], other[:20], atol=1e-6)  # guesses of samples 1 to 20
    assert abs(guess[20] - other[20]) > 1e-4


def test_windows_pair_each_sample_with_the_next() -> None:
    audio = np.arange(100, dtype=np.float32)
    pairs = windows(audio, 10)
    assert all(torch.equal(past + 1, target) and past.shape == (10, 1) for past, target in pairs)


def test_the_error_is_relative_to_the_power() -> None:
    assert nmse(np.zeros(10), np.full(10, 3.0)) == 1


@pytest.mark.parametrize(("audio", "message"), [(np.zeros(5000), "is silent"), (np.ones(100), "has 100 samples")])
def test_unfit_recordings_are_named(audio: np.ndarray, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.wav"
    soundfile.write(path, audio, 16000)
    with pytest.raises(AudioError, match=rf"bad\.wav.*{message}"):
        read_recording(path, 64)
