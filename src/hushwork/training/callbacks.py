"""Callbacks of a training: a guard of the gradients, speed, examples, and progress as lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ProgressBar, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from safetensors.torch import save_file
from torch.optim import Optimizer

from hushwork.data.batch import NoisySpeechBatch
from hushwork.data.datamodule import NoisySpeechDataModule
from hushwork.training.examples import draw_spectrograms, signals_of


class NonFiniteError(RuntimeError):
    """Training was stopped because loss or gradients stayed NaN or infinite."""


class GradientGuard(Callback):
    """Logs the gradient norm before clipping, and skips steps whose loss or gradient is not finite.

    A skipped step changes no weight and no optimiser state; its batch is saved for inspection. In precision 16-mixed a
    gradient may overflow though the loss is finite; then the scale of the loss falls, and nothing is saved.

    Args:
        folder: for the batches of skipped steps, as ``step_<n>.safetensors`` (noisy, clean, lengths).
        max_in_a_row: after this number of consecutive skipped steps, training ends with
            :class:`NonFiniteError`.
        max_saved: maximum number of batches that are saved.
    """

    def __init__(self, *, folder: str, max_in_a_row: int = 10, max_saved: int = 5) -> None:
        if max_in_a_row < 1:
            raise ValueError(f"max_in_a_row is {max_in_a_row}; at least 1 is needed")
        self.folder = Path(folder)
        self.max_in_a_row = max_in_a_row
        self.max_saved = max_saved
        self.skipped = self.in_a_row = 0
        self._batch: NoisySpeechBatch | None = None
        self._loss_is_finite = True

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))  # that of the first device

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: NoisySpeechBatch, batch_idx: int
    ) -> None:
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        if not torch.isfinite(loss):
            self._loss_is_finite = False
            # An infinite loss can have finite gradients; made NaN, every device sees the step as bad.
            loss.register_hook(lambda gradient: gradient * float("nan"))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if torch.isfinite(norm):
            self.in_a_row = 0
            pl_module.log("train/grad_norm", norm)
        else:
            self._skip(trainer, optimizer)
        self._loss_is_finite = True
        pl_module.log("train/skipped_steps", float(self.skipped))

    def _skip(self, trainer: pl.Trainer, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)  # without gradients the optimiser leaves weights and its own state alone
        self.skipped += 1
        self.in_a_row += 1
        why, where = "loss or gradient is not finite", ""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and self._loss_is_finite:
            why = f"the gradient is not finite in float16 at a loss scale of {scaler.get_scale():g}, which falls"
        elif self.skipped <= self.max_saved and self._batch is not None:
            path = self.folder / f"step_{trainer.global_step}_rank_{trainer.global_rank}.safetensors"
            self.folder.mkdir(parents=True, exist_ok=True)
            batch = self._batch.to("cpu")
            save_file({"noisy": batch.noisy, "clean": batch.clean, "lengths": batch.lengths}, path)
            where = f"; its batch is in {path}"
        rank_zero_warn(f"step {trainer.global_step}: {why}, the step is skipped{where}")
        if self.in_a_row >= self.max_in_a_row:
            raise NonFiniteError(
                f"{self.in_a_row} steps in a row had a loss or gradient that is not finite; look at {self.folder}, "
                "lower optimizer.lr, or clip the gradient (trainer.gradient_clip_val)"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]


class Speed(Callback):
    """Logs ``train/audio_s_per_s``: seconds of audio trained per second of wall time, without validation."""

    def __init__(self) -> None:
        self.audio_s = self.wall_s = 0.0
        self._last = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last = time.perf_counter()  # not called where a run is resumed within an epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: NoisySpeechBatch, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.wall_s += now - self._last
        self._last = now
        self.audio_s += float(batch.lengths.sum()) / pl_module.denoiser.sample_rate * trainer.world_size

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.wall_s and not trainer.sanity_checking:
            pl_module.log("train/audio_s_per_s", self.audio_s / self.wall_s)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {"audio_s": self.audio_s, "wall_s": self.wall_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.audio_s, self.wall_s = state_dict["audio_s"], state_dict["wall_s"]


class Examples(Callback):
    """Logs a few validation mixtures to TensorBoard: noisy, denoised and clean audio, and spectrograms.

    Args:
        num_examples: number of mixtures, the first of the validation split.
        every_n_epochs: interval of epochs.
    """

    def __init__(self, *, num_examples: int = 3, every_n_epochs: int = 5) -> None:
        self.num_examples = num_examples
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        due = trainer.current_epoch % self.every_n_epochs == 0 or trainer.should_stop
        boards = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.sanity_checking or not due or not boards or not trainer.is_global_zero:
            return
        datamodule: NoisySpeechDataModule = trainer.datamodule  # type: ignore[attr-defined]
        dataset = datamodule.fixed_dataset("valid")
        for index in range(min(self.num_examples, len(dataset))):
            mixture = dataset[0, index]
            signals = signals_of(mixture, pl_module.denoiser)
            figure = draw_spectrograms(signals, datamodule.sample_rate, mixture.name)
            for board in boards:
                board.add_figure(mixture.name, figure, trainer.global_step)
                for kind, audio in signals.items():
                    board.add_audio(f"{mixture.name}/{kind}", audio, trainer.global_step, datamodule.sample_rate)


class PlainProgress(ProgressBar):
    """Progress as lines, for logs and pipes: steps, loss, speed and the time left."""

    def __init__(self, every_s: float = 10.0) -> None:
        super().__init__()
        self.every_s = every_s
        self._started = self._printed = 0.0
        self._first_step = 0

    def disable(self) -> None:
        self.every_s = float("inf")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._printed = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now - self._printed < self.every_s:
            return
        self._printed = now
        done = trainer.global_step - self._first_step
        left_s = (trainer.max_steps - trainer.global_step) * (now - self._started) / max(1, done)
        total = f"/{trainer.max_steps}, {left_s / 60:.1f} min left" if trainer.max_steps > 0 else ""
        self._print(f"step {trainer.global_step}{total}", trainer.callback_metrics, ("train/loss_step",))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            names = ("train/loss_epoch", "valid/loss", "valid/si_sdr_improvement", "train/audio_s_per_s")
            self._print(f"epoch {trainer.current_epoch} done", trainer.callback_metrics, names)

    def _print(self, head: str, metrics: Mapping[str, Any], names: tuple[str, ...]) -> None:
        if self.every_s < float("inf"):
            values = [f"{name.removesuffix('_step')} {float(metrics[name]):.3f}" for name in names if name in metrics]
            print(": ".join([head, ", ".join(values)]), flush=True)


def progress_bar(*, every_s: float = 10.0) -> ProgressBar:
    """Bars on a terminal, else a line every ``every_s`` seconds."""
    if sys.stdout.isatty():
        return RichProgressBar()
    rank_zero_info("no terminal: progress is printed as lines")
    return PlainProgress(every_s)
