"""Measures and spectrograms before and after denoising, against numpy and signals of known measures."""

from __future__ import annotations

import io
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

from hushwork.audio.io import AudioError
from hushwork.files import comparison
from hushwork.files.comparison import draw, measure, write_sounds

RATE = 16000


def noise(seconds: float, db: float, rate: int = RATE) -> np.ndarray:
    samples = np.random.default_rng(0).standard_normal(round(seconds * rate))
    return 10 ** (db / 20) * samples


def voice(seconds: float, rate: int = RATE, pitch_hz: float = 140.0) -> np.ndarray:
    """A buzz of harmonics below 4 kHz, rms about 0.1."""
    t = np.arange(round(seconds * rate)) / rate
    return 0.1 * sum(np.sin(2 * np.pi * k * pitch_hz * t + k) / k for k in range(1, 25))


def bursts(sound: np.ndarray, which: tuple[int, ...], rate: int = RATE) -> np.ndarray:
    """``sound`` during the first 0.4 s of each second named, silence elsewhere."""
    t = np.arange(len(sound)) / rate
    return sound * (t % 1 < 0.4) * np.isin(t.astype(int), which)


def write(path: Path, audio: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, audio, rate, "FLOAT")
    return path


def compared(folder: Path, before: np.ndarray, after: np.ndarray, rate: int = RATE) -> comparison.Measures:
    return measure(write(folder / "before.wav", before, rate), write(folder / "after.wav", after, rate))


def decibels(power: float) -> float:
    return 10 * math.log10(power)


def test_levels_snr_and_clipping_are_numpys(tmp_path: Path) -> None:
    clean, hiss = voice(9.3), noise(9.3, -30)  # longer than a block
    before = np.stack([clean + hiss, 0.5 * clean], axis=1).astype(np.float32)
    after = np.stack([clean, 0.4 * clean], axis=1).astype(np.float32)
    before[100:150, 1], after[100:110, 0] = 1.0, -1.2
    found = compared(tmp_path, before, after)
    powers = [np.mean(audio.astype(np.float64) ** 2) for audio in (before, after, before - after)]
    assert found.level_db == pytest.approx([decibels(power) for power in powers[:2]], abs=1e-6)
    assert found.snr_db == pytest.approx(decibels(powers[1] / powers[2]), abs=1e-6)
    assert found.clipped == pytest.approx((50 / before.size, 10 / before.size))


def test_blocks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = bursts(voice(5), (0, 1, 2, 3, 4))
    before, after = speech + noise(5, -50), bursts(speech, (0, 2, 4))
    whole = compared(tmp_path, before, after)
    picture = draw(tmp_path / "before.wav", tmp_path / "after.wav")
    monkeypatch.setattr(comparison, "BLOCK_S", 0.0371)
    parts = compared(tmp_path, before, after)
    assert parts.speech_loss == pytest.approx(whole.speech_loss, rel=1e-4)
    assert parts.level_db == pytest.approx(whole.level_db)
    assert draw(tmp_path / "before.wav", tmp_path / "after.wav") == picture


def test_long_files_are_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = noise(120, -20).astype(np.float32)
    before, after = write(tmp_path / "before.wav", audio), write(tmp_path / "after.wav", audio)
    monkeypatch.setattr(comparison, "BLOCK_S", 0.5)
    monkeypatch.setattr(comparison, "SCORED_S", 1.0)
    tracemalloc.start()
    try:
        measure(before, after, {"MOS": lambda audio, rate: 3.0})
        draw(before, after)
        write_sounds(before, after, {"removed": tmp_path / "removed.flac"})
        assert tracemalloc.get_traced_memory()[1] < audio.nbytes
    finally:
        tracemalloc.stop()


def test_samples_that_are_not_finite_count_as_zero(tmp_path: Path) -> None:
    before = voice(1).astype(np.float32)
    before[[5, 60, 700]] = np.nan, np.inf, -np.inf
    found = compared(tmp_path, before, np.zeros_like(before))
    expected = np.mean(np.where(np.isfinite(before), before, 0).astype(np.float64) ** 2)
    assert found.level_db == pytest.approx((decibels(expected), -120))
    assert found.clipped == (0, 0)


def test_silence_has_no_snr_and_no_speech(tmp_path: Path) -> None:
    found = compared(tmp_path, np.zeros(RATE), np.zeros(RATE))
    assert found.level_db == (-120, -120)
    assert math.isnan(found.snr_db)
    assert math.isnan(found.speech_loss)
    assert not found.seems_to_lose_speech


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_word_that_is_gone_is_speech_lost(rate: int, tmp_path: Path) -> None:
    speech = bursts(voice(4, rate), (0, 1, 2, 3), rate)
    hiss = noise(4, -55, rate)
    kept = compared(tmp_path, speech + hiss, speech, rate)
    assert (kept.speech_loss, kept.seems_to_lose_speech) == (0, False)
    one_gone = compared(tmp_path, speech + hiss, bursts(speech, (0, 1, 3), rate), rate)
    assert one_gone.speech_loss == pytest.approx(1 / 4, abs=0.02)
    assert one_gone.seems_to_lose_speech


def test_how_much_is_turned_down_decides(tmp_path: Path) -> None:
    speech = bursts(voice(4), (0, 1, 2, 3))
    for gain_db, loss in ((-8, 0), (-12, 1)):
        found = compared(tmp_path, speech + noise(4, -60), speech * 10 ** (gain_db / 20))
        assert found.speech_loss == loss


def test_removed_noise_is_not_speech_loss(tmp_path: Path) -> None:
    speech = bursts(voice(4), (0, 1, 2, 3))
    clatter = np.roll(bursts(noise(4, -15), (0, 1, 2, 3)), RATE // 2)  # in the pauses, as loud, not voiced
    hum = 0.1 * np.sin(2 * np.pi * 150 * np.arange(4 * RATE) / RATE)  # voiced, and always there
    assert compared(tmp_path, speech + clatter + noise(4, -55), speech).speech_loss == 0
    assert math.isnan(compared(tmp_path, hum + noise(4, -55), 0.01 * hum).speech_loss)


def test_the_judge_scores_the_beginning_of_the_first_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SCORED_S", 9.0)  # more than a block
    before, after = (np.stack([voice(11), noise(11, db)], axis=1).astype(np.float32) for db in (-20, -40))
    after *= np.float32(0.5)
    files = write(tmp_path / "before.wav", before), write(tmp_path / "after.wav", after)
    scored: list[np.ndarray] = []

    def judge(audio: np.ndarray, sample_rate: int) -> float:
        assert sample_rate == RATE
        scored.append(audio)
        return float(len(scored))

    assert measure(*files, {"MOS": judge}).quality == {"MOS": (1, 2)}
    np.testing.assert_array_equal(scored[0], before[: 9 * RATE, 0])
    np.testing.assert_array_equal(scored[1], after[: 9 * RATE, 0])

    def broken(audio: np.ndarray, sample_rate: int) -> float:
        raise RuntimeError("out of order")

    found = measure(*files, {"MOS": broken})
    assert all(map(math.isnan, found.quality["MOS"]))
    assert found.notes[1] == "MOS after failed (RuntimeError: out of order)"


def brightness(png: bytes) -> np.ndarray:
    return imread(io.BytesIO(png))[..., :3].sum(axis=2)


def test_spectrograms_show_time_and_frequency(tmp_path: Path) -> None:
    t = np.arange(20 * RATE) / RATE
    low, high = 0.1 * np.sin(2 * np.pi * 200 * t), 0.1 * np.sin(2 * np.pi * 7000 * t) * (t >= 15)
    write(tmp_path / "before.wav", low + high)
    write(tmp_path / "after.wav", low)
    pictures = {kind: brightness(png) for kind, png in draw(tmp_path / "before.wav", tmp_path / "after.wav").items()}
    assert [(kind, picture.shape) for kind, picture in pictures.items()] == [
        (kind, (120, 400)) for kind in ("before", "after", "removed")
    ]
    for kind, rows_and_columns in {"before": {(1, 300), (0, 0)}, "after": {(0, 0)}, "removed": {(1, 300)}}.items():
        picture = pictures[kind]
        for is_high, start in rows_and_columns:
            rows = picture[:12] if is_high else picture[-12:]
            assert rows[:, start + 3 :].max(axis=0).min() > 1.5
            assert start == 0 or rows[:, : start - 3].max() < 0.1
    assert pictures["after"][:12].max() < 0.1
    assert pictures["removed"][-12:, :297].max() < 0.1


@pytest.mark.parametrize(("num_samples", "rate"), [(1, 8000), (7, 16000), (3000, 96000)])
def test_the_shortest_recordings(num_samples: int, rate: int, tmp_path: Path) -> None:
    audio = np.full(num_samples, 0.1)
    found = compared(tmp_path, audio, audio, rate)
    assert found.level_db == pytest.approx((-20, -20), abs=1e-5)
    for png in draw(tmp_path / "before.wav", tmp_path / "after.wav").values():
        assert brightness(png).shape[1] >= 1


def test_the_removed_signal_is_the_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = 0.1 * np.random.default_rng(0).standard_normal((2, 10 * RATE, 2)).astype(np.float32)
    files = write(tmp_path / "before.wav", before), write(tmp_path / "after.wav", after)
    for limit_s in (300.0, 8.5, 0.5):
        monkeypatch.setattr(comparison, "EXCERPT_S", limit_s)
        write_sounds(*files, {"removed": tmp_path / "removed.flac"})
        found, rate = soundfile.read(tmp_path / "removed.flac", dtype="float32")
        expected = (before - after)[: round(limit_s * RATE)]
        assert (rate, found.shape) == (RATE, expected.shape)
        assert np.abs(found - expected).max() <= 1 / 32768


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    before = write(tmp_path / "before.wav", voice(0.1))
    with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
        measure(before, tmp_path / "gone.wav")
