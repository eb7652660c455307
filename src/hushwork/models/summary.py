"""What a denoiser costs: parameters, and multiply-accumulates a second by one rule for all models.

The rule: one MAC is one weight times one activation in a matrix product, averaged over frames and counted per second of
audio. A clockwork module counts at its own rate. Biases, activations, gating products, pooling by a plain mean and the
Fourier transforms are left out, for every model alike.

``hushwork summary`` prints the table of all experiments; every training run prints its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from hushwork.models.clockwork import ClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.recurrence import StepLoop, TiedLayer, cell_weights
from hushwork.models.subband import SubbandRNN


@dataclass(frozen=True)
class Cost:
    """``parameters`` that are trained, and ``macs_per_s`` by the rule above."""

    parameters: int
    macs_per_s: float


def cost(denoiser: Denoiser) -> Cost:
    """Parameters and MACs per second of audio."""
    frames_per_s = denoiser.sample_rate / denoiser.stft.config.hop_length
    parameters = sum(parameter.numel() for parameter in denoiser.parameters() if parameter.requires_grad)
    return Cost(parameters, _macs_per_frame(denoiser) * frames_per_s)


def _macs_per_frame(module: nn.Module) -> float:
    if isinstance(module, ClockworkRNN | SubbandRNN):
        return module.macs_per_frame()
    if isinstance(module, nn.Linear):
        return module.weight.numel()
    if isinstance(module, nn.RNNBase | StepLoop | TiedLayer):
        return cell_weights(module)
    return sum(_macs_per_frame(child) for child in module.children())
