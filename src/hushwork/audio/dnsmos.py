"""DNSMOS, which judges speech without a reference: the only user of the package speechmos."""

from __future__ import annotations

import warnings

import numpy as np

WINDOW_S = 9.01
"""What the predictor hears at once; it repeats what is shorter."""


def dnsmos(audio: np.ndarray, sample_rate: int) -> dict[str, float]:
    """DNSMOS P.835, 1 to 5 each: "sig" (speech), "bak" (background) and "ovrl"; needs 16 kHz and the extra ``eval``.

    Args:
        audio: (N,).
        sample_rate: Hz.

    Raises:
        ValueError: another sample rate.

    Source: Reddy et al., "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric", 2022.
    """
    from speechmos import dnsmos as predictor

    if sample_rate != 16000:
        raise ValueError(f"DNSMOS is defined at 16000 Hz, not {sample_rate} Hz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = predictor.run(np.clip(audio, -1, 1), sample_rate)
    return {name: float(scores[f"{name}_mos"]) for name in ("sig", "bak", "ovrl")}
