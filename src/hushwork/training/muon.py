"""Muon, an optimiser with orthogonalised steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
RMS = 0.2


class Muon(Optimizer):
    """Orthogonalised momentum for matrices, Adam for all other parameters.

    Each gate's matrix in the stacked weights of a recurrent cell is orthogonalised by itself, which takes a third of
    the time of the whole stack. Adam's steps have elements of about 0.2 in root mean square, and so have the orthogonal
    ones here: learning rates mean the same for both. torch.optim.Muon takes matrices alone, knows no gates, and
    computes in bfloat16, which is slow on many CPUs.

    Args:
        named_parameters: as from ``module.named_parameters()``; gates are recognised by the names "weight_ih" and
            "weight_hh".
        lr: learning rate of all.
        weight_decay: share of ``lr`` by which matrices shrink in each step.
        momentum: of matrices, with Nesterov's look ahead; in [0, 1).
        betas: of Adam, for the rest.
        steps: of the Newton-Schulz iteration.

    Raises:
        ValueError: a number outside its range.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (iteration and momentum); Liu
    et al., "Muon is scalable for LLM training", 2025, eq. 4 (size of the steps).
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        lr: float = 5e-3,
        weight_decay: float = 1e-4,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        steps: int = 5,
    ) -> None:
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1 or not all(0 <= beta < 1 for beta in betas) or steps < 1:
            raise ValueError(
                f"lr is {lr}, weight_decay {weight_decay}, momentum {momentum}, betas {tuple(betas)}, steps {steps}; "
                "the first two must be at least 0, momentum and betas lie in [0, 1), and there must be a step"
            )
        named = dict(named_parameters)
        super().__init__(
            named.items(),
            {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": tuple(betas), "steps": steps},
        )
        self._gates = {parameter: _num_gates(name, named) for name, parameter in named.items()}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; parameters without a gradient stay unchanged."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.ndim == 2:
                    self._step_orthogonally(parameter, group)
                else:
                    self._step_as_adam(parameter, group)
        return loss

    def _step_orthogonally(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        ahead = parameter.grad.lerp(state["momentum"], group["momentum"])  # type: ignore[union-attr]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        gates = self._gates[parameter]
        for matrix, change in zip(parameter.chunk(gates), ahead.chunk(gates), strict=True):
            size = group["lr"] * RMS * max(matrix.shape) ** 0.5
            matrix.sub_(orthogonalized(change, group["steps"]), alpha=size)

    def _step_as_adam(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["step"] += 1
        slow, slower = group["betas"]
        state["mean"].lerp_(parameter.grad, 1 - slow)
        state["square"].lerp_(parameter.grad.square(), 1 - slower)  # type: ignore[union-attr]
        deviation = (state["square"] / (1 - slower ** state["step"])).sqrt() + 1e-8
        parameter.addcdiv_(state["mean"], deviation, value=-group["lr"] / (1 - slow ** state["step"]))


def orthogonalized(matrix: Tensor, steps: int = 5) -> Tensor:
    """Nearly the closest matrix with orthonormal rows (or columns, if those are fewer): singular values of 0.7 to 1.2.

    Those below a thousandth of the matrix's norm stay smaller.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def _num_gates(name: str, named: dict[str, nn.Parameter]) -> int:
    """Number of gates whose matrices are stacked in this parameter."""
    recurrent = named.get(name.replace("weight_ih", "weight_hh"))
    return recurrent.shape[0] // recurrent.shape[1] if recurrent is not None and "weight_" in name else 1
