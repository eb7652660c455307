"""One training step of a denoiser.

Shapes: B batch, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hushwork.data.batch import NoisySpeechBatch
from hushwork.losses import NegativeSnrLoss, WeightedSum, valid_samples
from hushwork.models.denoiser import Denoiser

SILENT_RMS = 1e-5


class DenoisingModule(pl.LightningModule):
    """Trains a :class:`Denoiser`: batch in, loss out; everything else is the trainer's, the callbacks' and the model's.

    Args:
        denoiser: what is trained.
        loss: ``(estimate, reference, lengths) → scalar``.
        optimizer: builds the optimiser when called with the parameters.
        scheduler: builds what changes the learning rate when called with the optimiser; None keeps it.
        scheduler_interval: "step" or "epoch", when the scheduler moves.
        seed: of dropout; with epoch and batch it decides every draw of the network, so a resumed run repeats none.
    """

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], Any] | None = None,
        scheduler_interval: str = "step",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.loss = loss
        self.si_sdr_loss = NegativeSnrLoss(max_db=None)
        self._build_optimizer = optimizer
        self._build_scheduler = scheduler
        self._scheduler_interval = scheduler_interval
        self._seed = seed

    def forward(self, noisy: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Noisy speech (B, N) → clean speech (B, N)."""
        return self.denoiser(noisy, lengths)

    def step(self, batch: NoisySpeechBatch) -> tuple[Tensor, Tensor]:
        """The loss, and the clean speech (B, N) as estimated."""
        estimate = self(batch.noisy, batch.lengths)
        valid = valid_samples(batch.lengths, batch.noisy.shape[-1])
        level = ((batch.noisy * valid).square().sum(-1, keepdim=True) / batch.lengths[:, None]).sqrt()
        level = level.clamp(min=SILENT_RMS)
        return self.loss(estimate / level, batch.clean / level, batch.lengths), estimate

    def training_step(self, batch: NoisySpeechBatch, batch_idx: int) -> Tensor:
        # Not once an epoch: a loader draws from torch's generator too, and on resuming at another moment.
        torch.manual_seed(hash((self._seed, self.current_epoch, batch_idx, self.global_rank)) % 2**63)
        loss, _ = self.step(batch)
        self._log("train", loss, len(batch.names))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: NoisySpeechBatch, batch_idx: int) -> None:
        # Lightning validates at the end of epochs, and before it stops early, but not where max_steps cuts an epoch.
        if self.trainer.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True

    def validation_step(self, batch: NoisySpeechBatch, batch_idx: int) -> None:
        loss, estimate = self.step(batch)
        size = len(batch.names)
        self._log("valid", loss, size)
        gain = self.si_sdr_loss(batch.noisy, batch.clean, batch.lengths)
        gain = gain - self.si_sdr_loss(estimate, batch.clean, batch.lengths)
        self.log("valid/si_sdr_improvement", gain, batch_size=size, sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> Any:
        optimizer = self._build_optimizer(self.denoiser.parameters())
        if self._build_scheduler is None:
            return optimizer
        scheduler = {
            "scheduler": self._build_scheduler(optimizer),
            "interval": self._scheduler_interval,
            "monitor": "valid/loss",
        }
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _log(self, stage: str, loss: Tensor, size: int) -> None:
        training = stage == "train"
        options: dict[str, Any] = {"batch_size": size, "on_step": training, "on_epoch": True, "sync_dist": not training}
        self.log(f"{stage}/loss", loss, prog_bar=True, **options)
        if isinstance(self.loss, WeightedSum):
            self.log_dict({f"{stage}/loss_{name}": value for name, value in self.loss.parts.items()}, **options)
