"""DistillMOS, a network that predicts ratings of listeners: the only user of the package distillmos."""

from __future__ import annotations

import contextlib
import io
import warnings
from functools import cache
from typing import Any

import numpy as np

from hushwork.audio.io import resample

SAMPLE_RATE = 16000
WINDOW_S = 7.68
"""Length of a window of the network; shorter audio is padded with zeros, longer audio gets the mean over windows."""


def distill_mos(audio: np.ndarray, sample_rate: int) -> float:
    """Predicted mean opinion score of speech, 1 to 5, without a reference; needs the extra ``eval``.

    The level of the audio changes nothing.

    Args:
        audio: (N,), float.
        sample_rate: Hz, 16 kHz or more; frequencies above 8 kHz are ignored.

    Raises:
        ValueError: a lower sample rate.

    Source: Stahl and Gamper, "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality
    Assessment", 2025. Package distillmos (MIT licence), its weights 7.
    """
    import torch

    if sample_rate < SAMPLE_RATE:
        raise ValueError(f"DistillMOS is defined from {SAMPLE_RATE} Hz on, not at {sample_rate} Hz")
    audio = resample(np.asarray(audio, np.float32), sample_rate, SAMPLE_RATE)
    with torch.inference_mode():
        return float(_network()(torch.from_numpy(audio)[None]))


@cache
def _network() -> Any:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints the path of its weights
        warnings.simplefilter("ignore")
        from distillmos import ConvTransformerSQAModel

        return ConvTransformerSQAModel().eval()
