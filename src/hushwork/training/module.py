"""One training step of a denoiser.

Shapes: B batch, N samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hushwork.data.batch import NoisySpeechBatch
from hushwork.losses import NegativeSnrLoss, WeightedSum, valid_samples
from hushwork.models.denoiser import Denoiser

SILENT_RMS = 1e-5


def seed_batch(module: pl.LightningModule, seed: int, batch_idx: int) -> None:
    """Seed dropout by seed, epoch, batch and device, so that a resumed run draws what an undisturbed one would."""
    # For each batch: loaders draw from torch's generator too, and at another time in a resumed run.
    torch.manual_seed(hash((seed, module.current_epoch, batch_idx, module.global_rank)) % 2**63)


class DenoisingModule(pl.LightningModule):
    """Trains a :class:`Denoiser`: batch in, loss out; everything else is the trainer's, the callbacks' and the model's.

    Args:
        denoiser: the network to train.
        loss: ``(estimate, reference, lengths) → scalar``.
        optimizer: builds the optimiser when called with the parameters and their names.
        scheduler: builds the scheduler when called with the optimiser; None keeps the learning rate constant.
        scheduler_interval: "step" or "epoch", when the scheduler moves.
        seed: of dropout, with epoch and batch, so that a resumed run repeats no draw.
        initial: the network as it was; its output is the reference of replayed mixtures, so that it is kept.
    """

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        loss: nn.Module,
        optimizer: Callable[[Iterable[tuple[str, nn.Parameter]]], Optimizer],
        scheduler: Callable[[Optimizer], Any] | None = None,
        scheduler_interval: str = "step",
        seed: int = 0,
        initial: Denoiser | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        # In a list, so that it is no part of the checkpoints.
        self._initial = [] if initial is None else [initial.eval().requires_grad_(False)]
        self.loss = loss
        self.si_sdr_loss = NegativeSnrLoss(max_db=None)
        self._build_optimizer = optimizer
        self._build_scheduler = scheduler
        self._scheduler_interval = scheduler_interval
        self._seed = seed
        self._sums: defaultdict[str, float | Tensor] = defaultdict(float)

    def forward(self, noisy: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Noisy speech (B, N) → clean speech (B, N)."""
        return self.denoiser(noisy, lengths)

    def step(self, batch: NoisySpeechBatch) -> tuple[Tensor, Tensor]:
        """The loss, and the estimate of the clean speech (B, N)."""
        estimate = self(batch.noisy, batch.lengths)
        return self._compare(estimate, batch), estimate

    def _compare(self, estimate: Tensor, batch: NoisySpeechBatch, part: slice = slice(None)) -> Tensor:
        """The loss of a part of the batch."""
        noisy, clean, lengths = batch.noisy[part], batch.clean[part], batch.lengths[part]
        valid = valid_samples(lengths, noisy.shape[-1])
        level = ((noisy * valid).square().sum(-1, keepdim=True) / lengths[:, None]).sqrt().clamp(min=SILENT_RMS)
        signals = estimate[part] / level, clean / level, lengths
        heeds_teacher = isinstance(self.loss, WeightedSum) or getattr(self.loss, "needs_teacher", False)
        if batch.teacher is not None and heeds_teacher:
            return self.loss(*signals, batch.teacher[part] / level)
        return self.loss(*signals)

    def training_step(self, batch: NoisySpeechBatch, batch_idx: int) -> Tensor:
        seed_batch(self, self._seed, batch_idx)
        loss, _ = self.step(self._with_known_output(batch))
        options: dict[str, Any] = {"batch_size": len(batch.names), "on_step": True, "on_epoch": True, "sync_dist": True}
        self.log("train/loss", loss, prog_bar=True, **options)
        self.log_dict({f"train/loss_{name}": value for name, value in self._parts().items()}, **options)
        return loss

    @torch.no_grad()
    def _with_known_output(self, batch: NoisySpeechBatch) -> NoisySpeechBatch:
        """The batch with the initial network's output as the reference of replayed mixtures.

        Source: Li and Hoiem, "Learning without forgetting", 2016, section 3, with replayed mixtures.
        """
        rows = batch.replayed
        if not self._initial or rows is None:
            return batch
        clean, initial = batch.clean.clone(), self._initial[0].to(batch.noisy.device)
        clean[rows] = initial(batch.noisy[rows], batch.lengths[rows]).to(clean.dtype)
        return replace(batch, clean=clean)

    def on_train_batch_end(self, outputs: Any, batch: NoisySpeechBatch, batch_idx: int) -> None:
        # Lightning validates at the end of epochs, and before it stops early, but not where max_steps cuts an epoch.
        if self.trainer.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        self._sums = defaultdict(float)

    def validation_step(self, batch: NoisySpeechBatch, batch_idx: int) -> None:
        estimate = self(batch.noisy, batch.lengths)
        # One by one, so that the result does not depend on batches and devices.
        for i in range(len(batch.names)):
            one = slice(i, i + 1)
            self._sums["loss"] += self._compare(estimate, batch, one)
            for name, value in self._parts().items():
                self._sums[f"loss_{name}"] += value
            noisy, clean, lengths = batch.noisy[one], batch.clean[one], batch.lengths[one]
            gain = self.si_sdr_loss(noisy, clean, lengths) - self.si_sdr_loss(estimate[one], clean, lengths)
            self._sums["si_sdr_improvement"] += gain
            self._sums["count"] += 1

    def on_validation_epoch_end(self) -> None:
        # Lightning's own means are wrong if devices have different numbers of recordings.
        sums = torch.tensor([float(value) for value in self._sums.values()], dtype=torch.float64, device=self.device)
        sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        totals = dict(zip(self._sums, sums.tolist(), strict=True))
        count = totals.pop("count")
        for name, total in totals.items():
            self.log(f"valid/{name}", total / count, prog_bar=name in ("loss", "si_sdr_improvement"), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = self._build_optimizer(self.denoiser.named_parameters())
        if self._build_scheduler is None:
            return optimizer
        scheduler = {
            "scheduler": self._build_scheduler(optimizer),
            "interval": self._scheduler_interval,
            "monitor": "valid/loss",
        }
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _parts(self) -> dict[str, Tensor]:
        """Of the loss just measured."""
        return self.loss.parts if isinstance(self.loss, WeightedSum) else {}
