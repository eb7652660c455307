"""Training in the form of the Keras tutorial: from an array of noisy magnitudes to one of clean magnitudes.

``python train.py experiment=tutorial data=stft_arrays data.noisy=noisy.npy data.clean=clean.npy``

Shapes: S samples, B batch, T frames, F bins.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from hushwork.atomic import file_sha256, write_atomically
from hushwork.audio.io import write_audio
from hushwork.config import cli_overrides
from hushwork.config_checks import refuse_unused
from hushwork.data.datamodule import shuffled_loader
from hushwork.data.stft_arrays import ArrayError, ArrayPairs, Scaling
from hushwork.training.checkpoints import load_best
from hushwork.training.lifecycle import RunRecord, recorded
from hushwork.training.module import seed_batch
from hushwork.training.objective import Objective
from hushwork.training.resume import find_earlier
from hushwork.training.trainer import DENOISER_CALLBACKS, SHARED_SETTINGS, make_trainer, require_one_device

SETTINGS = (  # in addition to those of all trainings
    *("data", "data.noisy", "data.clean", "data.valid_fraction", "data.last_only", "data.batch_size"),
    *("data.num_workers", "model", "model.masker.*", "loss", "num_examples"),
)


class MagnitudeModule(pl.LightningModule):
    """Noisy magnitudes (B, T, F) → clean ones in [0, 1], by mean squared error.

    Args:
        network: ``x (B, T, F) → (y (B, T, F), state)``.
        optimizer: builds the optimiser when called with the parameters and their names.
        last_only: compare only the last frame.
        seed: of dropout.
    """

    def __init__(self, network: nn.Module, optimizer: Any, last_only: bool, seed: int) -> None:
        super().__init__()
        self.network = network
        self._build_optimizer = optimizer
        self._last_only = last_only
        self._seed = seed

    def forward(self, noisy: Tensor) -> Tensor:
        return self.network(noisy)[0]

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        noisy, clean = batch
        estimate = self(noisy)
        if self._last_only:
            estimate, clean = estimate[:, -1], clean[:, -1]
        return nn.functional.mse_loss(estimate, clean)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        seed_batch(self, self._seed, batch_idx)
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("valid/loss", self.loss(batch), batch_size=len(batch[0]), prog_bar=True)

    def configure_optimizers(self) -> Any:
        return self._build_optimizer(self.network.named_parameters())


@recorded
def train(cfg: DictConfig, record: RunRecord) -> Objective:
    """Train ``cfg.model``'s network on the arrays; the last ``cfg.data.valid_fraction`` of them validate, as in Keras.

    Leaves in ``cfg.paths.run_dir``: checkpoints, logs, ``metrics.json``, ``predicted.npy`` (clean magnitudes of the
    estimated for the validation samples), and ``examples/`` if ``scaling.json`` and ``phase.npy`` lie beside the array.
    Returns ``cfg.optimized_metric``, by default the lowest validation loss.

    Raises:
        ArrayError: arrays that cannot be trained on.
        ValueError: a model that estimates masks instead of magnitudes, several devices, or a setting that this training
            does not use.
    """
    if cfg.model.masker.head != "magnitude":
        raise ValueError(
            f"model.masker.head is {cfg.model.masker.head!r}, but arrays hold magnitudes; use experiment=tutorial"
        )
    refuse_unused(cli_overrides(), "data=stft_arrays", used=(*SHARED_SETTINGS, *SETTINGS))
    if cfg.loss.get("_target_") != "hushwork.losses.MagnitudeLoss" or cfg.loss.power != 2:
        raise ValueError("loss is set, but arrays are compared by mean squared error; take loss=magnitude_mse")
    run_dir = Path(cfg.paths.run_dir)
    noisy_path, clean_path = Path(cfg.data.noisy), Path(cfg.data.clean)
    pairs = ArrayPairs(noisy_path, clean_path)
    data = {
        "noisy": str(noisy_path),
        "clean": str(clean_path),
        "sha256": f"{file_sha256(noisy_path)} {file_sha256(clean_path)}",
    }
    earlier = find_earlier(cfg, data["sha256"])
    if earlier.objective is not None:
        return earlier.objective
    num_valid = round(len(pairs) * cfg.data.valid_fraction)
    if not 0 < num_valid < len(pairs):
        raise ArrayError(
            f"{noisy_path} has {len(pairs)} samples, {num_valid} of them for validation (data.valid_fraction); "
            "use more samples or another fraction"
        )
    first_valid = len(pairs) - num_valid
    training, valid = Subset(pairs, range(first_valid)), Subset(pairs, range(first_valid, len(pairs)))
    network = instantiate(cfg.model.masker)(num_bins=pairs.noisy.shape[-1])
    module = MagnitudeModule(network, instantiate(cfg.optimizer), cfg.data.last_only, cfg.seed)
    trainer = make_trainer(cfg, without=DENOISER_CALLBACKS)
    require_one_device(trainer, "data=stft_arrays")
    record.metadata |= {"data": data, "parameters": sum(parameter.numel() for parameter in network.parameters())}
    record.start(trainer)
    options = {"batch_size": cfg.data.batch_size, "num_workers": cfg.data.num_workers}
    valid_loader = DataLoader(valid, **options)
    trainer.fit(
        module,
        shuffled_loader(trainer, training, cfg.seed, **options),
        valid_loader,
        ckpt_path=earlier.checkpoint,
        weights_only=True,
    )
    if not trainer.callback_metrics:  # resumed after its last step
        trainer.validate(module, valid_loader, verbose=False)
    objective = record.objective(trainer, {"parameters": float(record.metadata["parameters"])})
    load_best(trainer, module)
    predicted = predict(module, valid_loader)
    np.save(run_dir / "predicted.npy", predicted)
    target = pairs.clean[first_valid:]
    frames = slice(-1, None) if cfg.data.last_only else slice(None)
    mean_frame = pairs.clean[:first_valid].mean(axis=(0, 1), dtype=np.float64)
    results = {
        "valid_mse": float(np.mean((predicted - target)[:, frames] ** 2, dtype=np.float64)),
        "valid_mse_of_the_mean_spectrum": float(np.mean((mean_frame - target[:, frames]) ** 2)),
    }
    settings = {
        "noisy": str(noisy_path),
        "samples": len(pairs),
        "parameters": record.metadata["parameters"],
        "seed": cfg.seed,
        "commit": record.metadata["commit"],
        "epochs": trainer.current_epoch,
    }
    with write_atomically(run_dir / "metrics.json") as part:
        part.write_text(json.dumps({**settings, **results}, indent=2) + "\n", encoding="utf-8")
    write_examples(noisy_path.parent, predicted, target, first_valid, run_dir / "examples", cfg.num_examples)
    rank_zero_info(f"validation error {results['valid_mse']:.5f}; metrics {run_dir / 'metrics.json'}")
    return objective


@torch.inference_mode()
def predict(module: MagnitudeModule, loader: DataLoader[tuple[Tensor, Tensor]]) -> np.ndarray:
    """Estimated clean magnitudes (S, T, F) in [0, 1]."""
    module.eval()
    return np.concatenate([module(noisy).numpy() for noisy, _ in loader])


def write_examples(folder: Path, predicted: np.ndarray, target: np.ndarray, first: int, out: Path, count: int) -> None:
    """The first ``count`` validation samples as audio, estimated and clean, both with the noisy phase."""
    scaling = Scaling.load(folder)
    if scaling is None or not (folder / "phase.npy").is_file():
        return
    out.mkdir(parents=True, exist_ok=True)
    phase = np.load(folder / "phase.npy", mmap_mode="r")[first : first + count]
    for name, magnitudes in (("denoised", predicted), ("clean", target)):
        for number, audio in enumerate(scaling.audio(magnitudes[: len(phase)], phase)):
            write_audio(out / f"{first + number:05d}_{name}.wav", audio, scaling.sample_rate)
