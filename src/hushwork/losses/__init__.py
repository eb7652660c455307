"""Training losses: ``(estimate (B, N), reference (B, N), lengths (B,) in samples) → scalar``, see ``base``."""

from hushwork.losses.base import Loss, SpectralLoss, WeightedSum, valid_samples
from hushwork.losses.perceptual import IntelligibilityLoss, PesqLoss
from hushwork.losses.spectral import CompressedSpectralLoss, LogSpectralLoss, MagnitudeLoss, MultiResolutionStftLoss
from hushwork.losses.teaching import OnsetLoss, PauseLoss, TeacherLoss
from hushwork.losses.waveform import NegativeSnrLoss

__all__ = [
    "CompressedSpectralLoss",
    "IntelligibilityLoss",
    "LogSpectralLoss",
    "Loss",
    "MagnitudeLoss",
    "MultiResolutionStftLoss",
    "NegativeSnrLoss",
    "OnsetLoss",
    "PauseLoss",
    "PesqLoss",
    "SpectralLoss",
    "TeacherLoss",
    "WeightedSum",
    "valid_samples",
]
