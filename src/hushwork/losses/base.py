"""The base classes of losses.

A loss takes ``(estimate (B, N), reference (B, N), lengths (B,) samples)`` and returns a scalar. No loss depends
on padding: samples beyond a signal's length are set to zero first, and means are taken over valid frames only. The
training step divides the signals by the level of the noisy one, so that no loss depends on loudness.

Shapes: B batch, N samples, T frames, F bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hushwork.audio.stft import StftConfig
from hushwork.models.precision import in_float32
from hushwork.models.stft import Stft

EPS = 1e-8


class Loss(nn.Module):
    """Base of all losses: zeroes padding, and computes in float32 under any autocast."""

    @in_float32
    def forward(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
        """Estimate and reference (B, N), lengths (B,) in samples → scalar."""
        valid = valid_samples(lengths, estimate.shape[-1])
        return self.compare(estimate * valid, reference * valid, lengths)

    def compare(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
        """As :meth:`forward`, for signals that are zero beyond their lengths."""
        raise TypeError(f"{type(self).__name__} must define compare")


class SpectralLoss(Loss):
    """Base of the losses on spectra: one STFT, and a mean over the bins of valid frames.

    Args:
        sample_rate: Hz, of the signals.
        window_ms: length of the Hann window in milliseconds, an even number of hops.
        hop_ms: hop in milliseconds, rounded to whole samples.

    Raises:
        ValueError: the window is not an even number of hops, or the hop is shorter than two samples.
    """

    def __init__(self, *, sample_rate: int = 16000, window_ms: float = 32.0, hop_ms: float = 16.0) -> None:
        super().__init__()
        hop_length = round(hop_ms * sample_rate / 1000)
        num_hops = round(window_ms / hop_ms) if hop_length > 1 else 0
        if num_hops < 2 or num_hops % 2 or abs(num_hops * hop_ms - window_ms) > 1e-6 * window_ms:
            raise ValueError(
                f"window_ms is {window_ms} and hop_ms {hop_ms} at {sample_rate} Hz; choose a hop of two samples or "
                "more and a window of 2, 4 or another even number of hops"
            )
        self.stft = Stft(StftConfig(n_fft=num_hops * hop_length, hop_length=hop_length, window="hann"))
        # White noise of unit power then has magnitude about 1 in every bin, for any window length.
        self.scale = 1 / float(self.stft.window.square().sum().sqrt())

    def compare(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
        frames = self.stft.num_frames(lengths)
        estimate = self.stft.analysis(estimate) * self.scale
        reference = self.stft.analysis(reference) * self.scale
        valid_frames = (torch.arange(estimate.shape[1], device=frames.device) < frames[:, None]).float()
        return self.measure(estimate, reference, valid_frames)

    def measure(self, estimate: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        """Spectra (B, T, F) complex and valid frames (B, T) → scalar."""
        distance = self.distance(estimate, reference)
        return (distance.mean(-1) * valid).sum() / valid.sum()

    def distance(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Spectra (B, T, F) complex → (B, T, F) distance of each bin."""
        raise TypeError(f"{type(self).__name__} must define distance or measure")


class WeightedSum(nn.Module):
    """Weighted sum of named losses; ``parts`` holds the latest value of each, for the log.

    Losses with the attribute ``needs_teacher`` also get the teacher's signal; without one, as in validation, they are
    omitted.

    Args:
        losses: losses by name.
        weights: their weights, by the same names.

    Raises:
        ValueError: the names differ.
    """

    def __init__(self, *, losses: dict[str, nn.Module], weights: dict[str, float]) -> None:
        super().__init__()
        if losses.keys() != weights.keys():
            raise ValueError(f"losses are {sorted(losses)}, weights {sorted(weights)}; each loss needs its weight")
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)
        self.parts: dict[str, Tensor] = {}

    def forward(self, estimate: Tensor, reference: Tensor, lengths: Tensor, teacher: Tensor | None = None) -> Tensor:
        values = {}
        for name, loss in self.losses.items():
            if not getattr(loss, "needs_teacher", False):
                values[name] = loss(estimate, reference, lengths)
            elif teacher is not None:
                values[name] = loss(estimate, reference, lengths, teacher)
        self.parts = {name: value.detach() for name, value in values.items()}
        return torch.stack([self.weights[name] * value for name, value in values.items()]).sum()


def valid_samples(lengths: Tensor, num_samples: int) -> Tensor:
    """(B, N), 1 where a sample is not padding."""
    return (torch.arange(num_samples, device=lengths.device) < lengths[:, None]).float()


def parts(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part, by one operation, so that backward assembles the complex gradient once."""
    real, imag = torch.view_as_real(spectrum).unbind(-1)
    return real, imag


def power(real: Tensor, imag: Tensor) -> Tensor:
    """|spectrum|² plus a small constant, so that roots and logarithms have finite gradients."""
    return real.square() + imag.square() + EPS


def magnitude(spectrum: Tensor) -> Tensor:
    """|spectrum|, greater than 0."""
    return power(*parts(spectrum)).sqrt()
