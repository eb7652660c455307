"""The features that a network reads: formulas and constants that all programs share.

Formulas take torch tensors, or values of a :class:`hushwork.network.graph.Graph`, which have the same methods.

Shapes: F bins, K bands.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

SILENT_POWER = 1e-30
"""Mean power of a frame's bins below which it is digital silence.

The network treats such frames, which no microphone produces, as steady noise. Before the first sound they enter the
running level and the running mean, so that speech stands out as after quiet noise. Later they enter neither: after a
muted passage, speech is compared with the sound before it.
"""

FLOOR_DB = -80.0
"""Lower limit of magnitudes, relative to the running level."""

OFFSET_DB, SCALE_DB = 25.0, 20.0
"""Offset and scale of features in decibels, so that they have about mean 0 and deviation 1."""

PEAK_DB = 40.0
"""Magnitude, relative to the running level, of an output of 1 of a head that predicts magnitudes."""


NEIGHBOURS = 2
"""Bands on either side that a recurrence over each band reads."""

SUBBAND_INPUTS = 3
"""What it reads of each: the feature, the same before its running mean is taken from it, and the predicted mask."""

BOUND = 6.0


def bounded(predicted: Any) -> Any:
    """A mask before its activation, as a recurrence over each band reads it: within ±2, so that no value is far out."""
    return (predicted * (1 / BOUND)).tanh() * 2.0


def compress(relative: Any, compression: str | float) -> Any:
    """Magnitudes relative to the running level → features of about mean 0 and deviation 1.

    Args:
        relative: magnitudes.
        compression: "log" for decibels, cut off at ``FLOOR_DB``, or an exponent, as in the power law of loudness.
    """
    if not isinstance(compression, str):
        return relative**compression
    logarithm = relative.clamp(min=10 ** (FLOOR_DB / 20)).log()
    return logarithm * (20 / math.log(10) / SCALE_DB) + OFFSET_DB / SCALE_DB


def band_edges(num_bins: int, num_bands: int, sample_rate: int) -> np.ndarray:
    """The first bin of each band (K,), rising from 0. Bands are adjacent and cover all bins.

    Each is as wide as a fixed share of the ear's critical band there, and never narrower than one bin: low bands are
    single bins, which resolve the harmonics of a voice, high ones grow with frequency.

    Args:
        num_bins: F, evenly spaced from 0 Hz to half the sample rate.
        num_bands: K, 1 to F.
        sample_rate: Hz.

    Raises:
        ValueError: fewer than 1 or more than F bands.

    Source: Glasberg and Moore, "Derivation of auditory filter shapes from notched-noise data", 1990, eq. 3 (width of a
    critical band).
    """
    if not 1 <= num_bands <= num_bins:
        raise ValueError(f"num_bands is {num_bands}; it must lie between 1 and the number of bins, {num_bins}")
    hz = np.linspace(0, sample_rate / 2, num_bins)
    critical = 24.7 * (4.37 * hz / 1000 + 1)
    # Bands per bin, none above 1; how many there are in all rises with the factor, which is found by halving.
    low, high = 0.0, float(critical.max())
    for _ in range(60):
        factor = (low + high) / 2
        low, high = (factor, high) if np.minimum(1, factor / critical).sum() < num_bands else (low, factor)
    density = np.minimum(1, high / critical)
    begun = np.cumsum(density) - density
    return np.searchsorted(begun, np.arange(num_bands) - 1e-9)


def band_weights(num_bins: int, num_bands: int, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices from bins to bands (F, K), the mean of a band's bins, and back (K, F), lines between the bands' centres.

    Both keep a constant; see :func:`band_edges`.
    """
    edges = np.append(band_edges(num_bins, num_bands, sample_rate), num_bins)
    member = np.searchsorted(edges, np.arange(num_bins), side="right") - 1
    means = (member[:, None] == np.arange(num_bands)) / np.diff(edges)
    centres = (edges[:-1] + edges[1:] - 1) / 2
    lines = [np.interp(np.arange(num_bins), centres, one) for one in np.eye(num_bands)]
    return means.astype(np.float32), np.array(lines, np.float32)
