"""Write noisy and clean magnitudes as two arrays, for ``experiment=tutorial data=stft_arrays``.

    hushwork prepare stft-arrays data/stft_arrays                       # from the starter corpus
    hushwork prepare stft-arrays data/stft_arrays --data debian --samples 10000
    hushwork train experiment=tutorial data=stft_arrays data.noisy=data/stft_arrays/noisy.npy \\
        data.clean=data/stft_arrays/clean.npy

``noisy.npy`` holds log magnitudes with mean 0 and standard deviation 1 in each bin, ``clean.npy`` magnitudes in [0, 1],
both of shape (samples, frames, bins). ``scaling.json`` and ``phase.npy`` beside them convert back to audio.

The mixtures are those of training (split "train" of the corpus, mixed as in ``conf/data``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track

from hushwork.atomic import write_atomically
from hushwork.config import compose_config
from hushwork.data.stft_arrays import Scaling, log_magnitude
from hushwork.models.stft import Stft


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="hushwork prepare stft-arrays", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--data", default="starter", help="the corpus, as in data=… (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=2000, help="number of mixtures (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each mixture (default: %(default)s)")
    parser.add_argument(
        "--exponent", type=float, default=0.3, help="exponent of the clean magnitudes (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the mixtures (default: %(default)s)")
    options = parser.parse_args(arguments)
    write_arrays(options, Console(stderr=True))
    return 0


def write_arrays(options: argparse.Namespace, console: Console) -> None:
    """Mix, transform, measure the scaling, scale; the folder appears when all arrays are complete."""
    if options.samples < 1 or options.seconds <= 0 or not 0 < options.exponent <= 1:
        raise ValueError("--samples must be at least 1, --seconds above 0 and --exponent in (0, 1]")
    if options.out.exists():
        raise FileExistsError(f"{options.out} exists; name a new folder, or remove it")
    cfg = compose_config([f"data={options.data}", f"seed={options.seed}", f"data.mixing.segment_s={options.seconds}"])
    datamodule = instantiate(cfg.data)
    datamodule.setup()
    mixtures = datamodule.train_dataset()
    stft = Stft(instantiate(cfg.stft))
    num_frames = stft.num_frames(round(options.seconds * cfg.sample_rate))
    shape = (options.samples, num_frames, stft.config.num_bins)
    with write_atomically(options.out) as part:
        part.mkdir()
        noisy, clean, phase = (
            np.lib.format.open_memmap(part / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape)
            for name in ("noisy", "clean", "phase")
        )
        for index in track(range(options.samples), "mixing", console=console):
            mixture = mixtures[divmod(index, len(mixtures))]
            spectrum = stft.analysis(torch.from_numpy(np.stack([mixture.noisy, mixture.clean]))).numpy()
            noisy[index], clean[index] = np.abs(spectrum)
            phase[index] = np.angle(spectrum[0])
        logs = log_magnitude(noisy)
        scaling = Scaling(
            sample_rate=cfg.sample_rate,
            n_fft=stft.config.n_fft,
            hop_length=stft.config.hop_length,
            window=stft.config.window,
            mean=logs.mean(axis=(0, 1), dtype=np.float64).tolist(),
            deviation=logs.std(axis=(0, 1), dtype=np.float64).clip(min=1e-6).tolist(),
            peak=float(max(clean.max(), 1e-9)),
            exponent=options.exponent,
        )
        for index in track(range(options.samples), "scaling", console=console):
            noisy[index], clean[index] = scaling.noisy(noisy[index]), scaling.clean(clean[index])
        for array in (noisy, clean, phase):
            array.flush()
        scaling.save(part)
    console.print(f"{options.out}: noisy.npy and clean.npy of shape {shape}")
