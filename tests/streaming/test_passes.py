"""Two passes beside two recordings denoised by hand, one of them half a hop later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from hushwork.files.denoise import denoise, denoise_file
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained
from hushwork.streaming.chunks import AveragedPasses
from hushwork.streaming.strength import Strength

RATE = 16000


def noise(channels: int, length: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal((channels, length))).astype(np.float32)


@pytest.fixture(params=["small", "offline"], scope="module")
def shipped(request: pytest.FixtureRequest) -> PretrainedDenoiser:
    """A denoiser that is causal, and one that is not."""
    return load_pretrained(request.param)


def by_hand(model: PretrainedDenoiser, audio: np.ndarray, strength: Strength) -> np.ndarray:
    shift = model.stft.hop_length // 2
    later = denoise(np.pad(audio, ((0, 0), (shift, 0))), RATE, model, strength)[:, shift:]
    return (denoise(audio, RATE, model, strength) + later) / 2


@pytest.mark.parametrize("length", [1, 100, 128, 600, 20001])
def test_best_is_the_mean_of_two_passes(shipped: PretrainedDenoiser, length: int) -> None:
    audio, strength = noise(2, length), Strength(max_attenuation_db=20.0)
    best = denoise(audio, RATE, shipped, strength, quality="best")
    np.testing.assert_allclose(best, by_hand(shipped, audio, strength), atol=1e-6)
    if length > 1000:
        assert np.abs(best - denoise(audio, RATE, shipped, strength)).max() > 1e-4


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_chunks_change_nothing(shipped: PretrainedDenoiser, size: int) -> None:
    audio = noise(1, 9000 if size > 1 else 700)
    passes = AveragedPasses(shipped, 1)
    parts = [passes.process(audio[:, start : start + size]) for start in range(0, audio.shape[1], size)]
    out = np.concatenate([*parts, passes.flush()], axis=1)
    np.testing.assert_allclose(out, by_hand(shipped, audio, Strength()), atol=1e-6)


def test_a_file_of_another_rate_keeps_length_and_place(shipped: PretrainedDenoiser, tmp_path: Path) -> None:
    t = np.arange(44100) / 44100
    sweep = (0.3 * np.sin(2 * np.pi * (100 * t + 1450 * t**2))).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", sweep, 44100, subtype="FLOAT")
    unchanged = Strength(max_attenuation_db=0.0)
    denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", shipped, unchanged, quality="best")
    np.testing.assert_allclose(soundfile.read(tmp_path / "out.wav")[0], sweep, atol=2e-3)


def test_another_word_is_refused(shipped: PretrainedDenoiser) -> None:
    with pytest.raises(ValueError, match="quality is 'better'; choose one of standard, best"):
        denoise(noise(1, 500), RATE, shipped, quality="better")
