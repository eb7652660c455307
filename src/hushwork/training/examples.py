"""Examples of denoised mixtures: recordings to listen to and spectrograms to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import librosa
import librosa.display
import numpy as np
import torch
from matplotlib.figure import Figure

from hushwork.audio.io import write_audio
from hushwork.data.batch import Mixture
from hushwork.data.datasets import NoisySpeechDataset
from hushwork.models.denoiser import Denoiser


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


@torch.no_grad()
def signals_of(mixture: Mixture, denoiser: Denoiser) -> dict[str, np.ndarray]:
    """The noisy, denoised and clean signal (N,) of a mixture."""
    noisy = torch.from_numpy(mixture.noisy)[None].to(next(denoiser.parameters()).device)
    return {"noisy": mixture.noisy, "denoised": denoiser(noisy)[0].cpu().numpy(), "clean": mixture.clean}


def write_examples(denoiser: Denoiser, dataset: NoisySpeechDataset, folder: Path, count: int) -> None:
    """Write ``count`` mixtures spread over the data set: noisy, denoised and clean wav, and their spectrograms."""
    folder.mkdir(parents=True, exist_ok=True)
    spread = sorted({round(index) for index in np.linspace(0, len(dataset) - 1, count)})
    for index in spread:
        mixture = dataset[0, index]
        signals = signals_of(mixture, denoiser)
        name = mixture.name.replace("/", "_")  # pairs are named by their path
        for kind, audio in signals.items():
            write_audio(folder / f"{name}_{kind}.wav", audio, denoiser.sample_rate)
        draw_spectrograms(signals, denoiser.sample_rate, mixture.name).savefig(folder / f"{name}.png", dpi=110)
