"""Synthetic clips of speech and noise."""

from __future__ import annotations

import numpy as np

RATE = 16000


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
