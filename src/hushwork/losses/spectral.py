"""Losses on magnitudes and spectra.

Shapes: B batch, T frames, F bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from hushwork.losses.base import EPS, SpectralLoss, magnitude, parts, power


class MagnitudeLoss(SpectralLoss):
    """Distance of magnitudes: squared (``power=2``, MSE) or absolute (``power=1``, L1).

    Raises:
        ValueError: another power.
    """

    def __init__(
        self, *, power: int = 2, sample_rate: int = 16000, window_ms: float = 32.0, hop_ms: float = 16.0
    ) -> None:
        super().__init__(sample_rate=sample_rate, window_ms=window_ms, hop_ms=hop_ms)
        if power not in (1, 2):
            raise ValueError(f"power is {power}; choose 1 (L1) or 2 (MSE)")
        self.power = power

    def distance(self, estimate: Tensor, reference: Tensor) -> Tensor:
        return (magnitude(estimate) - magnitude(reference)).abs() ** self.power


class LogSpectralLoss(SpectralLoss):
    """Absolute difference of log magnitudes, in decibels, with everything below ``floor_db`` taken as equal.

    Source: after the log-spectral distance of Gray and Markel, "Distance measures for speech processing", 1976.
    """

    def __init__(
        self, *, floor_db: float = -60.0, sample_rate: int = 16000, window_ms: float = 32.0, hop_ms: float = 16.0
    ) -> None:
        super().__init__(sample_rate=sample_rate, window_ms=window_ms, hop_ms=hop_ms)
        self.floor = 10 ** (floor_db / 20)

    def distance(self, estimate: Tensor, reference: Tensor) -> Tensor:
        return 20 * (self._log(estimate) - self._log(reference)).abs()

    def _log(self, spectrum: Tensor) -> Tensor:
        return (magnitude(spectrum) + self.floor).log10()


class CompressedSpectralLoss(SpectralLoss):
    """Squared distance of power-compressed spectra: of magnitudes and of complex values.

    Removed speech can cost more than remaining noise.

    Args:
        exponent: of the compression, in (0, 1].
        complex_weight: weight of the complex distance, in [0, 1]; the distance of magnitudes has the remaining weight.
        over_suppression_weight: weight of a further term, the squared amount by which the estimate's magnitude is below
            the reference's.

    Raises:
        ValueError: a value outside those ranges.

    Source: Ephrat et al., "Looking to listen at the cocktail party", 2018 (compression); Braun et al., "Data
    augmentation and loss normalization for deep noise suppression", 2020, eq. 4 (both parts); Wang et al.,
    "VoiceFilter-Lite", 2020, section 2.4 (asymmetry).
    """

    def __init__(
        self,
        *,
        exponent: float = 0.3,
        complex_weight: float = 0.3,
        over_suppression_weight: float = 1.0,
        sample_rate: int = 16000,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
    ) -> None:
        super().__init__(sample_rate=sample_rate, window_ms=window_ms, hop_ms=hop_ms)
        if not 0 < exponent <= 1:
            raise ValueError(f"exponent is {exponent}; it must lie in (0, 1]")
        if not 0 <= complex_weight <= 1 or over_suppression_weight < 0:
            raise ValueError(
                f"complex_weight is {complex_weight} and over_suppression_weight {over_suppression_weight}; "
                "the first must lie in [0, 1], the second be 0 or more"
            )
        self.exponent = exponent
        self.complex_weight = complex_weight
        self.over_suppression_weight = over_suppression_weight

    def distance(self, estimate: Tensor, reference: Tensor) -> Tensor:
        weights = (self.exponent, self.complex_weight, self.over_suppression_weight)
        distance: Tensor = _CompressedDistance.apply(estimate, reference, *weights)
        return distance


class _CompressedDistance(Function):
    """The distance of :class:`CompressedSpectralLoss` in each bin: ``apply(estimate, reference, exponent a, v, w)``.

    With compressed magnitudes c = |X|^a, the angle φ between the spectra and short = c₂ - c₁, the distance is
    short² + v·2·c₁·c₂·(1 - cos φ) + w·max(short, 0)². Its gradient is A·X₁ + B·X₂ with two real factors per bin, which
    forward computes: less than half the time of autograd.
    """

    @staticmethod
    def forward(
        ctx: Any, estimate: Tensor, reference: Tensor, exponent: float, complex_weight: float, short_weight: float
    ) -> Tensor:
        (e_real, e_imag), (r_real, r_imag) = parts(estimate), parts(reference)
        power_e, power_r = power(e_real, e_imag), power(r_real, r_imag)
        log_e, log_r = power_e.log(), power_r.log()
        estimated, target = (log_e * (exponent / 2)).exp_(), (log_r * (exponent / 2)).exp_()
        # 2·c₁·c₂·cos φ is the scalar product of the spectra times this.
        turning = log_e.add_(log_r).mul_((exponent - 1) / 2).exp_().mul_(2 * complex_weight)
        product = (e_real * r_real).addcmul_(e_imag, r_imag).mul_(turning)
        short = target - estimated
        lost = short.clamp(min=0)
        distance = short.square().addcmul_(lost, lost, value=short_weight)
        distance.addcmul_(estimated, target, value=2 * complex_weight).sub_(product)
        slope = target.mul_(complex_weight).sub_(short).sub_(lost, alpha=short_weight).mul_(2 * exponent)
        of_estimate = slope.mul_(estimated).sub_(product, alpha=exponent - 1).div_(power_e)
        ctx.save_for_backward(estimate, reference, of_estimate, turning)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        estimate, reference, of_estimate, turning = ctx.saved_tensors
        gradient = torch.view_as_real(estimate) * (grad * of_estimate)[..., None]
        gradient.sub_(torch.view_as_real(reference) * (grad * turning)[..., None])
        return torch.view_as_complex(gradient), None, None, None, None


class MultiResolutionStftLoss(nn.Module):
    """Mean over several window lengths of spectral convergence plus L1 of log magnitudes.

    Args:
        sample_rate: Hz, of the signals.
        windows_ms: lengths of the windows in milliseconds; hops are a quarter of them.

    Source: Yamamoto et al., "Parallel WaveGAN", ICASSP 2020, eqs. 4-6.
    """

    def __init__(self, *, sample_rate: int = 16000, windows_ms: Sequence[float] = (16.0, 32.0, 64.0)) -> None:
        super().__init__()
        self.resolutions = nn.ModuleList(
            _ConvergenceLoss(sample_rate=sample_rate, window_ms=window_ms, hop_ms=window_ms / 4)
            for window_ms in windows_ms
        )

    def forward(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
        return torch.stack([loss(estimate, reference, lengths) for loss in self.resolutions]).mean()


class _ConvergenceLoss(SpectralLoss):
    def measure(self, estimate: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        estimated, target = magnitude(estimate), magnitude(reference)
        frames = valid[..., None]
        error = ((estimated - target) * frames).square().sum((1, 2)) + EPS
        convergence = (error / ((target * frames).square().sum((1, 2)) + EPS)).sqrt().mean()
        logs = ((estimated + 1e-4).log() - (target + 1e-4).log()).abs()
        return convergence + (logs.mean(-1) * valid).sum() / valid.sum()
