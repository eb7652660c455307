"""The paper's three networks, N of one kind computed in parallel: weights are tensors (N, …).

Clockwork is in the paper's form, a masked full matrix; tests compare it with ``hushwork.ClockworkRNN``.

Shapes: N networks, B sequences, T steps, I inputs, H hidden units, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

NAMES = {"srn": "SRN", "lstm": "LSTM", "cw": "CW-RNN"}
GATES = {"srn": 1, "lstm": 4, "cw": 1}
WEIGHT_SD = 0.1
FORGET_BIAS = 5.0
CLIP_NORM = 10.0  # not in the paper; without it most networks end in NaN at these rates


class Bank:
    """N independent networks of one kind, computed in parallel.

    Args:
        kind: "srn", "lstm" or "cw".
        hidden: H.
        periods: of the clockwork's modules, fastest first; ignored by the others.
        seeds: of each network's weights, N of them.
        num_inputs: I, may be 0.
        num_outputs: O.
    """

    def __init__(
        self,
        kind: str,
        hidden: int,
        periods: Sequence[int],
        seeds: Sequence[int],
        *,
        num_inputs: int = 0,
        num_outputs: int = 1,
    ) -> None:
        self.kind, self.hidden, self.periods = kind, hidden, tuple(periods)
        gates = GATES[kind] * hidden
        shapes = {
            "recurrent": (hidden, gates),
            "bias": (1, gates),
            "out": (hidden, num_outputs),
            "level": (1, num_outputs),
        }
        if num_inputs:
            shapes["input"] = (num_inputs, gates)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.weights = {
            name: torch.stack([WEIGHT_SD * torch.randn(*shape, generator=g) for g in generators]).requires_grad_()
            for name, shape in shapes.items()
        }
        if kind == "lstm":
            with torch.no_grad():
                self.weights["bias"][..., hidden : 2 * hidden] += FORGET_BIAS
        self.sizes = module_sizes(hidden, self.periods)
        self.mask = clock_mask(self.sizes)

    def run(self, x: Tensor | None, num_steps: int) -> Tensor:
        """Outputs (N, B, T, O) from a state of zero, given ``x`` (N, B, T, I) or no input (B is 1)."""
        bias = self.weights["bias"]
        if x is None:
            drive = [bias] * num_steps
        else:
            by_step = x.transpose(1, 2).flatten(1, 2)  # (N, T·B, I)
            drive = list(torch.baddbmm(bias, by_step, self.weights["input"]).split(x.shape[1], dim=1))
        states = torch.stack(getattr(self, f"_{self.kind}")(drive), dim=2)
        return states @ self.weights["out"][:, None] + self.weights["level"][:, None]

    def _start(self, drive: list[Tensor]) -> Tensor:
        return torch.zeros(*drive[0].shape[:2], self.hidden)

    def _srn(self, drive: list[Tensor]) -> list[Tensor]:
        h, states = self._start(drive), []
        for a in drive:
            h = torch.baddbmm(a, h, self.weights["recurrent"]).tanh()
            states.append(h)
        return states

    def _lstm(self, drive: list[Tensor]) -> list[Tensor]:
        h = c = self._start(drive)
        states = []
        for a in drive:
            i, f, o, g = torch.baddbmm(a, h, self.weights["recurrent"]).split(self.hidden, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return states

    def _cw(self, drive: list[Tensor]) -> list[Tensor]:
        h, states = self._start(drive), []
        masked = self.weights["recurrent"] * self.mask
        # Modules are sorted by period, each period a multiple of the one before: those that tick are the first ones.
        ends = np.cumsum(self.sizes)
        upto = [int(max(e for e, p in zip(ends, self.periods, strict=True) if t % p == 0)) for t in range(len(drive))]
        blocks = {end: masked[..., :end].contiguous() for end in set(upto)}
        for a, end in zip(drive, upto, strict=True):
            h = torch.cat([torch.baddbmm(a[..., :end], h, blocks[end]).tanh(), h[..., end:]], dim=-1)
            states.append(h)
        return states


def module_sizes(hidden: int, periods: Sequence[int]) -> list[int]:
    """Units of each module, fastest first; the remainder goes to the fastest."""
    size, remainder = divmod(hidden, len(periods))
    return [size + (i < remainder) for i in range(len(periods))]


def clock_mask(sizes: Sequence[int]) -> Tensor:
    """(H, H), row = from, column = to: 1 where a unit has an input, from its own module and slower ones."""
    module = np.repeat(np.arange(len(sizes)), sizes)
    return torch.from_numpy((module[:, None] >= module[None, :]).astype(np.float32))


def count_parameters(kind: str, hidden: int, periods: Sequence[int], num_inputs: int = 0, num_outputs: int = 1) -> int:
    """Parameters of one network; as in the paper, the periods of a CW-RNN count as parameters."""
    gates = GATES[kind] * hidden
    recurrent = hidden * gates
    if kind == "cw":
        recurrent = int(clock_mask(module_sizes(hidden, periods)).sum()) + len(periods)
    return recurrent + (num_inputs + 1) * gates + (hidden + 1) * num_outputs


class Momentum:
    """SGD with Nesterov's momentum, each network with its own learning rate and its own clipping by norm.

    Args:
        bank: whose weights are changed.
        rates: (N,) learning rates.
        momentum: share of the last step that is kept.
    """

    def __init__(self, bank: Bank, rates: Tensor, momentum: float) -> None:
        self.weights = list(bank.weights.values())
        self.speeds = [torch.zeros_like(weight) for weight in self.weights]
        self.rates, self.momentum = rates[:, None, None], momentum

    def step(self, errors: Tensor) -> None:
        """One step on ``errors`` (N,), one error per network."""
        gradients = torch.autograd.grad(errors.sum(), self.weights)
        norms = sum(gradient.square().sum((1, 2), keepdim=True) for gradient in gradients) ** 0.5
        scale = self.rates * (CLIP_NORM / norms.clamp(min=CLIP_NORM))
        with torch.no_grad():
            for weight, speed, gradient in zip(self.weights, self.speeds, gradients, strict=True):
                step = scale * gradient.nan_to_num(0.0, 0.0, 0.0)
                speed.mul_(self.momentum).sub_(step)
                weight.add_(self.momentum * speed - step)
