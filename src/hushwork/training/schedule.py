"""How the learning rate moves, beyond what torch has under one name."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer, *, warmup_steps: int, total_steps: int, final_fraction: float = 0.01
) -> LambdaLR:
    """Learning rate rising linearly over ``warmup_steps``, then falling as half a cosine to ``final_fraction`` of it.

    Raises:
        ValueError: unless 0 <= ``warmup_steps`` < ``total_steps``.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5, without restarts.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps is {warmup_steps}; it must lie below total_steps ({total_steps}, trainer.max_steps)"
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)
