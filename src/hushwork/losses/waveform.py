"""Losses on waveforms.

Shapes: B batch, N samples.
"""

from __future__ import annotations

from torch import Tensor

from hushwork.losses.base import EPS, Loss, valid_samples


class NegativeSnrLoss(Loss):
    """Negative signal-to-distortion ratio in decibels, by default scale-invariant (SI-SDR), mean over the batch.

    Args:
        scale_invariant: scale the reference to fit the estimate first (SI-SDR); False gives the plain ratio, which
            also penalises a wrong level.
        max_db: soft limit of the ratio, so that easy mixtures do not dominate; None sets no limit.

    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, eqs. 1 and 3; soft limit of Wisdom et al.,
    "Unsupervised sound separation using mixture invariant training", 2020, eq. 2.
    """

    def __init__(self, *, scale_invariant: bool = True, max_db: float | None = 30.0) -> None:
        super().__init__()
        self.scale_invariant = scale_invariant
        self.softness = 0.0 if max_db is None else 10 ** (-max_db / 10)

    def compare(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
        if self.scale_invariant:
            valid = valid_samples(lengths, estimate.shape[-1])
            count = lengths[:, None].to(estimate.dtype)
            estimate = (estimate - estimate.sum(-1, keepdim=True) / count) * valid
            reference = (reference - reference.sum(-1, keepdim=True) / count) * valid
            power = reference.square().sum(-1, keepdim=True)
            reference = (estimate * reference).sum(-1, keepdim=True) / (power + EPS) * reference
        signal = reference.square().sum(-1)
        distortion = (estimate - reference).square().sum(-1) + self.softness * signal
        return -10 * ((signal + EPS) / (distortion + EPS)).log10().mean()
