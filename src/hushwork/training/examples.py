"""Recordings before and after, to look at."""

from __future__ import annotations

from collections.abc import Mapping

import librosa
import librosa.display
import numpy as np
from matplotlib.figure import Figure


def draw_spectrograms(signals: Mapping[str, np.ndarray], sample_rate: int, title: str) -> Figure:
    """Spectrograms of signals (N,) by name, below each other, in dB relative to the loudest bin of them all."""
    figure = Figure(figsize=(9, 2.2 * len(signals)), layout="constrained")
    axes = figure.subplots(len(signals), sharex=True, squeeze=False)[:, 0]
    magnitudes = {name: np.abs(librosa.stft(audio, n_fft=512, hop_length=128)) for name, audio in signals.items()}
    loudest = max(1e-6, *(float(magnitude.max()) for magnitude in magnitudes.values()))
    for axis, (name, magnitude) in zip(axes, magnitudes.items(), strict=True):
        decibels = librosa.amplitude_to_db(magnitude, ref=loudest, amin=1e-8, top_db=None)
        image = librosa.display.specshow(
            decibels,
            sr=sample_rate,
            hop_length=128,
            x_axis="time",
            y_axis="linear",
            ax=axis,
            vmin=-80,
            vmax=0,
            cmap="magma",
        )
        axis.set_title(name)
        axis.label_outer()
    figure.suptitle(title)
    figure.colorbar(image, ax=list(axes), format="%+2.0f dB")
    return figure
