"""Synthetic utterances: level, trimming, and checks.

Shapes: N samples, T frames. Audio is mono float32 (N,), full scale 1.
"""

from __future__ import annotations

import hashlib

import numpy as np
from scipy import signal

from hushwork.audio.io import resample
from hushwork.judges.dnsmos import dnsmos
from hushwork.prepare.kokoro import MODEL_RATE

SAMPLE_RATE = 16_000
LEVEL_DBFS = -26.0
PEAK = 0.98

# Limits of a good utterance. Slower or faster speech, or a long pause, means that synthesis has lost the text.
MIN_SECONDS, MAX_SECONDS = 3.0, 9.0
PHONEMES_PER_SECOND = (7.0, 18.0)
MAX_PAUSE_S = 0.6
SILENCE_DBFS = -70.0
MAX_CLICK_RATIO = 25.0


def seed_of(*parts: object) -> int:
    """A 160-bit seed from the SHA-1 of the parts, the same on every machine and in every process."""
    return int(hashlib.sha1(" ".join(map(str, parts)).encode()).hexdigest(), 16)


def frame_levels(audio: np.ndarray, frame: int = SAMPLE_RATE // 50) -> np.ndarray:
    """Level in dB re full scale of consecutive frames of ``frame`` samples, (T,)."""
    frames = audio[: len(audio) // frame * frame].reshape(-1, frame)
    return 10 * np.log10(np.mean(frames**2, axis=1, dtype=np.float64) + 1e-12)


def master_speech(audio: np.ndarray) -> np.ndarray:
    """Model output (N,) at 24 kHz as a corpus file: 16 kHz, silence trimmed to 0.1 s, active level ``LEVEL_DBFS``."""
    audio = resample(audio, MODEL_RATE, SAMPLE_RATE)
    frame = SAMPLE_RATE // 50
    levels = frame_levels(audio, frame)
    loud = np.percentile(levels, 95)
    voiced = np.flatnonzero(levels > loud - 40)
    audio = audio[max(0, voiced[0] - 5) * frame : (voiced[-1] + 6) * frame].copy()
    fade = np.linspace(0, 1, frame // 2, dtype=np.float32)
    audio[: len(fade)] *= fade
    audio[-len(fade) :] *= fade[::-1]
    active = 10 * np.log10(np.mean(10 ** (levels[levels > loud - 25] / 10)))
    audio *= 10 ** ((LEVEL_DBFS - active) / 20)
    return audio * min(1.0, PEAK / float(np.abs(audio).max()))


def longest_pause(audio: np.ndarray) -> float:
    """Seconds of the longest pause, below ``SILENCE_DBFS``, inside the utterance."""
    sounding = np.flatnonzero(frame_levels(audio) > SILENCE_DBFS)
    return float(np.max(np.diff(sounding), initial=1) - 1) / 50


def click_ratio(audio: np.ndarray) -> float:
    """How far the sharpest corner of the waveform stands above its surroundings of 0.1 s.

    Speech reaches 20 at the onsets of stops and creaky voice, a lone click about 30.
    """
    corners = np.abs(np.diff(audio, 2)).astype(np.float64)
    width = SAMPLE_RATE // 10
    around = np.sqrt(signal.fftconvolve(corners**2, np.full(width, 1 / width), mode="same").clip(min=1e-10))
    # A corner of this size is below anything audible at the corpus level.
    return float(np.max(corners / (around + 1e-3)))


def speech_problems(audio: np.ndarray, sounds: int, max_pause_s: float = MAX_PAUSE_S) -> list[str]:
    """Why a mastered utterance of ``sounds`` phonemes must not be used; empty if it may."""
    if not np.isfinite(audio).all():
        return ["holds values that are not finite"]
    seconds = len(audio) / SAMPLE_RATE
    problems = []
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        problems.append(f"lasts {seconds:.1f} s")
    if not PHONEMES_PER_SECOND[0] <= sounds / seconds <= PHONEMES_PER_SECOND[1]:
        problems.append(f"has {sounds / seconds:.1f} phonemes a second")
    if (pause := longest_pause(audio)) > max_pause_s:
        problems.append(f"is silent for {pause:.2f} s")
    if (ratio := click_ratio(audio)) > MAX_CLICK_RATIO:
        problems.append(f"clicks (corner {ratio:.0f} times its surroundings)")
    return problems


def predict_quality(audio: np.ndarray) -> float:
    """DNSMOS overall, 1 to 5."""
    # DNSMOS scores 9.01 s; it repeats shorter audio, then slides over the result second by second. One window
    # is enough for an utterance that fits into it.
    return dnsmos(np.resize(audio, round(9.01 * SAMPLE_RATE)), SAMPLE_RATE)["ovrl"]
