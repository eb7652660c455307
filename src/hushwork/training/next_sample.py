"""Next-sample prediction: networks of equal size hear a recording sample by sample and guess each next one.

The first example of the Keras Clockwork-RNN layer, on real audio: ``python train.py experiment=next_sample``.

Shapes: B batch, T samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from torch.utils.data import TensorDataset

from hushwork.atomic import file_sha256
from hushwork.audio.io import AudioError, read_audio
from hushwork.config import refuse_unused, typed
from hushwork.data.datamodule import shuffled_loader
from hushwork.training.module import seed_batch
from hushwork.training.run import find_checkpoint
from hushwork.training.stft_arrays import OF_DENOISERS
from hushwork.training.trials import USED, Objective, Record, look_back, make_trainer, one_device, recorded

PLOTTED = 320
SETTINGS = ("audio", "train_fraction", "frames", "batch_size", "data.num_workers", "models*")  # besides those of all


class NextSampleModule(pl.LightningModule):
    """Trains predictors ``(x (B, T, 1), state) → (guess (B, T, 1), state)`` side by side, by mean squared error.

    Each learns as if it were alone, from the same batches.

    Args:
        models: by name.
        optimizer: builds the optimiser when called with the parameters and their names.
        seed: of dropout.
    """

    def __init__(self, models: Mapping[str, nn.Module], optimizer: Any, seed: int) -> None:
        super().__init__()
        self.models = nn.ModuleDict(models)
        self._build_optimizer = optimizer
        self._seed = seed

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        seed_batch(self, self._seed, batch_idx)
        heard, wanted = batch
        losses = {name: nn.functional.mse_loss(model(heard)[0], wanted) for name, model in self.models.items()}
        loss = torch.stack(list(losses.values())).sum()
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log_dict({f"train/loss_{name}": value for name, value in losses.items()}, on_step=False, on_epoch=True)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        clip: Any = nn.utils.clip_grad_value_ if gradient_clip_algorithm == "value" else nn.utils.clip_grad_norm_
        for model in self.models.values():
            if gradient_clip_val:
                clip(model.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> Any:
        return self._build_optimizer(self.models.named_parameters())


@recorded
def train(cfg: DictConfig, record: Record) -> Objective:
    """Train ``cfg.models`` on the first part of ``cfg.audio`` and measure them on the rest.

    Leaves checkpoints, logs, ``metrics.json`` and ``prediction.png`` in ``cfg.paths.run_dir``; returns
    ``cfg.optimized_metric``, by default the clockwork network's error.

    Raises:
        AudioError: the recording cannot be read, is silent, or is too short.
        ValueError: several devices, or a setting that this training has no use for.
    """
    refuse_unused(typed(), "experiment=next_sample", used=(*USED, *SETTINGS))
    run_dir = Path(cfg.paths.run_dir)
    path = Path(cfg.audio)
    audio = read_recording(path, cfg.frames)
    data = {"audio": str(path), "sha256": file_sha256(path)}
    earlier = look_back(cfg, data["sha256"])
    if earlier.objective is not None:
        return earlier.objective
    heard_until = round(len(audio) * cfg.train_fraction)
    models: dict[str, nn.Module] = {}
    for name, node in cfg.models.items():
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        models[name] = instantiate(node)
        rank_zero_info(f"{name}: {sum(p.numel() for p in models[name].parameters()):,} parameters")
    module = NextSampleModule(models, instantiate(cfg.optimizer), cfg.seed)
    trainer = make_trainer(cfg, without=("checkpoint", *OF_DENOISERS))
    one_device(trainer, "experiment=next_sample")
    record.about["data"] = data
    record.begin(trainer)
    heard = windows(audio[:heard_until], cfg.frames)
    loader = shuffled_loader(trainer, heard, cfg.seed, cfg.batch_size, cfg.data.num_workers)
    trainer.fit(module, loader, ckpt_path=find_checkpoint(cfg) or earlier.checkpoint, weights_only=True)
    wanted = audio[heard_until:]
    guesses = {name: predict(model, audio)[heard_until - 1 :] for name, model in models.items()}
    results: dict[str, dict[str, float]] = {
        "repeat the last sample": {"nmse": nmse(audio[heard_until - 1 : -1], wanted)}
    }
    for name, model in models.items():
        parameters = sum(parameter.numel() for parameter in model.parameters())
        results[name] = {"parameters": parameters, "nmse": nmse(guesses[name], wanted)}
    about = {"audio": str(path), "seed": cfg.seed, "commit": record.about["commit"], "steps": trainer.global_step}
    (run_dir / "metrics.json").write_text(json.dumps({**about, "results": results}, indent=2), encoding="utf-8")
    draw(wanted, guesses, run_dir / "prediction.png")
    width = max(map(len, results))
    for name, result in results.items():
        print(f"{name:{width}}  {result.get('parameters', 0):6,.0f} parameters  error / power {result['nmse']:.5f}")
    print(f"metrics {run_dir / 'metrics.json'}\nplot {run_dir / 'prediction.png'}")
    return record.reached(trainer, {f"nmse/{name}": results[name]["nmse"] for name in models})


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
