"""How the learning rate moves, beyond what torch has under one name."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer, *, warmup_fraction: float, total_steps: int, final_fraction: float = 0.01
) -> LambdaLR:
    """Learning rate rising linearly over the first steps, then falling as half a cosine to ``final_fraction`` of it.

    Args:
        optimizer: whose learning rate moves.
        warmup_fraction: share of ``total_steps`` (rounded) in which it rises, in [0, 1).
        total_steps: after which it stays.
        final_fraction: of the top, at the end.

    Raises:
        ValueError: ``warmup_fraction`` is outside [0, 1), or there are no steps.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5, without restarts.
    """
    if not 0 <= warmup_fraction < 1 or total_steps < 1:
        raise ValueError(
            f"warmup_fraction is {warmup_fraction} and total_steps (trainer.max_steps) {total_steps}; "
            "the first must lie in [0, 1), the second be at least 1"
        )
    warmup_steps = min(round(warmup_fraction * total_steps), total_steps - 1)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)
