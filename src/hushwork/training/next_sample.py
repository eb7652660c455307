"""Next-sample prediction: networks of equal size hear a recording sample by sample and guess each next one.

The first example of the Keras Clockwork-RNN layer, on real audio: ``python train.py experiment=next_sample``.

Shapes: B batch, T samples.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hushwork.audio.io import AudioError, read_audio
from hushwork.training.run import commit

PLOTTED = 320


class NextSampleModule(pl.LightningModule):
    """Trains a predictor ``(x (B, T, 1), state) → (guess (B, T, 1), state)`` by mean squared error."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        super().__init__()
        self.model = model
        self._build_optimizer = optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        heard, wanted = batch
        loss = nn.functional.mse_loss(self.model(heard)[0], wanted)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        return self._build_optimizer(self.model.parameters())


def train(cfg: DictConfig) -> float:
    """Train each of ``cfg.models`` on the first part of ``cfg.audio`` and measure it on the rest.

    Leaves ``metrics.json`` and ``prediction.png`` in ``cfg.paths.run_dir``; returns the clockwork network's error.

    Raises:
        AudioError: the recording cannot be read, is silent, or is too short.
    """
    run_dir = Path(cfg.paths.run_dir)
    audio = read_recording(Path(cfg.audio), cfg.frames)
    heard_until = round(len(audio) * cfg.train_fraction)
    wanted = audio[heard_until:]
    results: dict[str, dict[str, float]] = {
        "repeat the last sample": {"nmse": nmse(audio[heard_until - 1 : -1], wanted)}
    }
    guesses: dict[str, np.ndarray] = {}
    for name, node in cfg.models.items():
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        model = instantiate(node)
        module = NextSampleModule(model, instantiate(cfg.optimizer))
        trainer = instantiate(
            cfg.trainer, callbacks=[instantiate(cfg.callbacks.progress)], logger=False, enable_checkpointing=False
        )
        rank_zero_info(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters")
        trainer.fit(module, DataLoader(windows(audio[:heard_until], cfg.frames), cfg.batch_size, shuffle=True))
        guesses[name] = guess = predict(model, audio)[heard_until - 1 :]
        results[name] = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "nmse": nmse(guess, wanted),
        }
    run_dir.mkdir(parents=True, exist_ok=True)
    about = {"audio": str(cfg.audio), "seed": cfg.seed, "commit": commit(), "steps": cfg.trainer.max_steps}
    (run_dir / "metrics.json").write_text(json.dumps({**about, "results": results}, indent=2), encoding="utf-8")
    draw(wanted, guesses, run_dir / "prediction.png")
    width = max(map(len, results))
    for name, result in results.items():
        print(f"{name:{width}}  {result.get('parameters', 0):6,.0f} parameters  error / power {result['nmse']:.5f}")
    print(f"metrics {run_dir / 'metrics.json'}\nplot {run_dir / 'prediction.png'}")
    return results["clockwork"]["nmse"]


def read_recording(path: Path, frames: int) -> np.ndarray:
    """The recording (N,) as one channel with peak 1.

    Raises:
        AudioError: see :func:`train`.
    """
    samples, _ = read_audio(path)
    audio = np.nan_to_num(samples.mean(axis=0), posinf=0.0, neginf=0.0)
    if len(audio) < 4 * frames:
        raise AudioError(
            f"{path}: has {len(audio)} samples; at least {4 * frames} (4 times frames={frames}) are needed"
        )
    if not audio.any():
        raise AudioError(f"{path}: is silent; choose a recording with sound")
    return audio / np.abs(audio).max()


def windows(audio: np.ndarray, frames: int) -> TensorDataset:
    """Stretches of ``frames`` samples and the same one sample later, (T, 1) each, half overlapping."""
    starts = range(0, len(audio) - frames, frames // 2)
    heard = np.stack([audio[start : start + frames + 1] for start in starts])[..., None]
    return TensorDataset(torch.from_numpy(heard[:, :-1]), torch.from_numpy(heard[:, 1:]))


@torch.inference_mode()
def predict(model: nn.Module, audio: np.ndarray) -> np.ndarray:
    """The guess (N - 1,) for every sample but the first, each from all true samples before it."""
    guess, _ = model.eval()(torch.from_numpy(audio)[None, :-1, None])
    return guess[0, :, 0].numpy()


def nmse(guess: np.ndarray, wanted: np.ndarray) -> float:
    """Power of the error relative to the power of the signal."""
    return float(np.mean((guess - wanted) ** 2) / np.mean(wanted**2))


def draw(wanted: np.ndarray, guesses: dict[str, np.ndarray], path: Path) -> None:
    """Target and prediction at the loudest stretch of what was held out."""
    block = max(1, min(PLOTTED, len(wanted)))
    powers = np.convolve(wanted**2, np.ones(block), mode="valid")
    shown = slice(int(powers.argmax()), int(powers.argmax()) + block)
    figure = Figure(figsize=(10, 2.3 * len(guesses)), layout="constrained")
    axes = figure.subplots(len(guesses), squeeze=False, sharex=True)[:, 0]
    for axis, (name, guess) in zip(axes, guesses.items(), strict=True):
        axis.plot(wanted[shown], color="0.7", linewidth=3, label="target")
        axis.plot(guess[shown], color="C3", linewidth=1, label=name)
        axis.plot((guess - wanted)[shown], color="C0", linewidth=0.8, label="error")
        axis.legend(loc="upper right", ncols=3)
    axes[-1].set_xlabel("sample")
    figure.savefig(path, dpi=110)
