"""Checkpoints that survive a run's end at any time: written atomically, at the end of epochs and on signals."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_info

from hushwork.atomic import write_atomically

LAST = "last.ckpt"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints atomically and syncs them to disk; until then the previous one remains."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Raises OSError if it cannot be written, as on a full disk."""
        try:
            with write_atomically(path) as part:
                torch.save(checkpoint, part)
        except (OSError, RuntimeError) as error:  # torch.save wraps the OSError
            kept = "; the previous one is kept" if Path(path).exists() else ""
            raise OSError(f"{path}: the checkpoint cannot be written; is the disk full?{kept} ({error})") from error


class LastCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` after each epoch, and on SIGTERM or SIGUSR1 after the current step, which ends the run.

    (``ModelCheckpoint(save_last=True)`` saves it only together with a new best one.)

    A signal to one device stops all of them. SIGUSR1 in a Slurm job also requeues the job. The exit status is 128 plus
    the signal's number.

    Args:
        folder: of the checkpoint.
        every_n_steps: interval of further checkpoints within long epochs; None saves none.
    """

    def __init__(self, *, folder: str, every_n_steps: int | None = None) -> None:
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self._signal: int = 0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not earlier: Lightning's own handlers would stop the devices at different steps.
        for number in (signal.SIGTERM, signal.SIGUSR1):
            self._handlers[number] = signal.signal(number, self._receive)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.folder / LAST)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        received = self._signal
        if trainer.world_size > 1:
            # Slurm sends the signal to all processes, a user usually to one.
            received = int(trainer.strategy.reduce(torch.tensor(received, device=pl_module.device), reduce_op="max"))
        # A checkpoint holds no accumulated gradients.
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if received or (self.every_n_steps and trainer.global_step % self.every_n_steps == 0):
            trainer.save_checkpoint(self.folder / LAST)
        if not received:
            return
        name = signal.Signals(received).name
        rank_zero_info(f"{name}: stopped at step {trainer.global_step}, {self.folder / LAST} is saved")
        if received == signal.SIGUSR1 and trainer.is_global_zero:
            requeue()
        # The first device's exit status is that of the run; Lightning and torchrun would treat another's as a crash.
        raise SystemExit(128 + received if trainer.is_global_zero else 0)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not in teardown: Lightning removes its handlers before that, and these would then be restored and stay.
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


def load_best(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Load the best weights of a training; without a monitored metric the module keeps its last ones."""
    if best := getattr(trainer.checkpoint_callback, "best_model_path", ""):
        module.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])


def requeue() -> None:
    """Requeue this Slurm job; outside of Slurm do nothing."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    subprocess.run(["scontrol", "requeue", job], check=True)
