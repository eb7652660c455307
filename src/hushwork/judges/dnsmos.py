"""DNSMOS, which judges speech without a reference: the only user of the package speechmos."""

from __future__ import annotations

import warnings

import numpy as np

from hushwork.audio.io import resample

SAMPLE_RATE = 16000
WINDOW_S = 9.01
"""Length of a window of the predictor; shorter audio is repeated."""


def dnsmos(audio: np.ndarray, sample_rate: int) -> dict[str, float]:
    """DNSMOS P.835, 1 to 5 each: "sig" (speech), "bak" (background) and "ovrl"; needs the extra ``eval``.

    Args:
        audio: (N,).
        sample_rate: Hz, 16 kHz or more; frequencies above 8 kHz are ignored.

    Raises:
        ValueError: a lower sample rate.

    Source: Reddy et al., "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric", 2022.
    """
    from speechmos import dnsmos as predictor

    if sample_rate < SAMPLE_RATE:
        raise ValueError(f"DNSMOS is defined from {SAMPLE_RATE} Hz on, not at {sample_rate} Hz")
    audio = resample(audio, sample_rate, SAMPLE_RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = predictor.run(np.clip(audio, -1, 1), SAMPLE_RATE)
    return {name: float(scores[f"{name}_mos"]) for name in ("sig", "bak", "ovrl")}
