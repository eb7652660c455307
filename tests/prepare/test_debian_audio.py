"""hushwork prepare debian: signal processing of clips."""

from __future__ import annotations

import numpy as np
import pytest

from clips import RATE, hiss, rms_db, tone
from hushwork.prepare.debian import audio as corpus_audio


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
