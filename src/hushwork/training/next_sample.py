"""Next-sample prediction: networks of equal size predict each sample of a recording from those before it.

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

from hushwork.atomic import file_sha256, write_atomically
from hushwork.audio.io import AudioError, read_audio
from hushwork.config import cli_overrides
from hushwork.config_checks import refuse_unused
from hushwork.data.datamodule import shuffled_loader
from hushwork.training.lifecycle import RunRecord, recorded
from hushwork.training.module import seed_batch
from hushwork.training.objective import Objective
from hushwork.training.resume import find_earlier
from hushwork.training.trainer import DENOISER_CALLBACKS, SHARED_SETTINGS, make_trainer, require_one_device

PLOTTED = 320
SETTINGS = (
    "audio",
    "train_fraction",
    "frames",
    "batch_size",
    "data.num_workers",
    "models*",
)  # in addition to those of all trainings


class NextSampleModule(pl.LightningModule):
    """Trains predictors ``(x (B, T, 1), state) → (prediction (B, T, 1), state)`` in parallel, by mean squared error.

    All get the same batches, and none influences another.

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
        past, target = batch
        losses = {name: nn.functional.mse_loss(model(past)[0], target) for name, model in self.models.items()}
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
def train(cfg: DictConfig, record: RunRecord) -> Objective:
    """Train ``cfg.models`` on the first part of ``cfg.audio`` and measure them on the rest.

    Leaves checkpoints, logs, ``metrics.json`` and ``prediction.png`` in ``cfg.paths.run_dir``; returns
    ``cfg.optimized_metric``, by default the clockwork network's error.

    Raises:
        AudioError: the recording cannot be read, is silent, or is too short.
        ValueError: several devices, or a setting that this training does not use.
    """
    refuse_unused(cli_overrides(), "experiment=next_sample", used=(*SHARED_SETTINGS, *SETTINGS))
    run_dir = Path(cfg.paths.run_dir)
    path = Path(cfg.audio)
    audio = read_recording(path, cfg.frames)
    data = {"audio": str(path), "sha256": file_sha256(path)}
    earlier = find_earlier(cfg, data["sha256"])
    if earlier.objective is not None:
        return earlier.objective
    split = round(len(audio) * cfg.train_fraction)
    models: dict[str, nn.Module] = {}
    for name, node in cfg.models.items():
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        models[name] = instantiate(node)
        rank_zero_info(f"{name}: {sum(p.numel() for p in models[name].parameters()):,} parameters")
    module = NextSampleModule(models, instantiate(cfg.optimizer), cfg.seed)
    trainer = make_trainer(cfg, without=("checkpoint", *DENOISER_CALLBACKS))
    require_one_device(trainer, "experiment=next_sample")
    record.metadata["data"] = data
    record.start(trainer)
    training = windows(audio[:split], cfg.frames)
    loader = shuffled_loader(trainer, training, cfg.seed, cfg.batch_size, cfg.data.num_workers)
    trainer.fit(module, loader, ckpt_path=earlier.checkpoint, weights_only=True)
    target = audio[split:]
    predictions = {name: predict(model, audio)[split - 1 :] for name, model in models.items()}
    results: dict[str, dict[str, float]] = {"repeat the last sample": {"nmse": nmse(audio[split - 1 : -1], target)}}
    for name, model in models.items():
        parameters = sum(parameter.numel() for parameter in model.parameters())
        results[name] = {"parameters": parameters, "nmse": nmse(predictions[name], target)}
    settings = {"audio": str(path), "seed": cfg.seed, "commit": record.metadata["commit"], "steps": trainer.global_step}
    with write_atomically(run_dir / "metrics.json") as part:
        part.write_text(json.dumps({**settings, "results": results}, indent=2) + "\n", encoding="utf-8")
    draw(target, predictions, run_dir / "prediction.png")
    width = max(map(len, results))
    for name, result in results.items():
        print(f"{name:{width}}  {result.get('parameters', 0):6,.0f} parameters  error / power {result['nmse']:.5f}")
    print(f"metrics {run_dir / 'metrics.json'}\nplot {run_dir / 'prediction.png'}")
    return record.objective(trainer, {f"nmse/{name}": results[name]["nmse"] for name in models})


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
        raise AudioError(f"{path}: is silent; choose another recording")
    return audio / np.abs(audio).max()


def windows(audio: np.ndarray, frames: int) -> TensorDataset:
    """Windows of ``frames`` samples and the same one sample later, (T, 1) each, half overlapping."""
    starts = range(0, len(audio) - frames, frames // 2)
    samples = torch.from_numpy(np.stack([audio[start : start + frames + 1] for start in starts])[..., None])
    return TensorDataset(samples[:, :-1], samples[:, 1:])


@torch.inference_mode()
def predict(model: nn.Module, audio: np.ndarray) -> np.ndarray:
    """The prediction (N - 1,) of every sample but the first, each from all true samples before it."""
    prediction, _ = model.eval()(torch.from_numpy(audio)[None, :-1, None])
    return prediction[0, :, 0].numpy()


def nmse(prediction: np.ndarray, target: np.ndarray) -> float:
    """Power of the error relative to the power of the target."""
    return float(np.mean((prediction - target) ** 2) / np.mean(target**2))


def draw(target: np.ndarray, predictions: dict[str, np.ndarray], path: Path) -> None:
    """Target, predictions and errors where the held-out part is loudest."""
    block = max(1, min(PLOTTED, len(target)))
    powers = np.convolve(target**2, np.ones(block), mode="valid")
    shown = slice(int(powers.argmax()), int(powers.argmax()) + block)
    figure = Figure(figsize=(10, 2.3 * len(predictions)), layout="constrained")
    axes = figure.subplots(len(predictions), squeeze=False, sharex=True)[:, 0]
    for axis, (name, prediction) in zip(axes, predictions.items(), strict=True):
        axis.plot(target[shown], color="0.7", linewidth=3, label="target")
        axis.plot(prediction[shown], color="C3", linewidth=1, label=name)
        axis.plot((prediction - target)[shown], color="C0", linewidth=0.8, label="error")
        axis.legend(loc="upper right", ncols=3)
    axes[-1].set_xlabel("sample")
    figure.savefig(path, dpi=110)
