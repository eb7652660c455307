"""Schedules of the learning rate that torch does not have.

Each schedule is a formula of the step, which checkpoints do not hold, so that a run continued with another
``trainer.max_steps`` follows the new plan. The state of torch's ``SequentialLR`` (of ``LinearLR`` and
``CosineAnnealingLR``) holds the plan: such a run would follow the old one, and its rate rise again at the end.
"""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer, *, warmup_fraction: float, total_steps: int, final_fraction: float = 0.01
) -> LambdaLR:
    """Learning rate rising linearly over the first steps, then falling as half a cosine to ``final_fraction`` of it.

    Args:
        optimizer: its learning rate is scheduled.
        warmup_fraction: share of ``total_steps`` (rounded) in which the rate rises, in [0, 1).
        total_steps: number of steps; the rate stays constant afterwards.
        final_fraction: last rate over the highest.

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


def warmup_stable_decay(
    optimizer: Optimizer, *, warmup_steps: int, decay_steps: int, total_steps: int, final_fraction: float = 0.01
) -> LambdaLR:
    """Learning rate rising linearly, staying, and falling over the last steps, by the root of what is left.

    Only the last ``decay_steps`` depend on the length of training, so that a run can be continued with more steps from
    any checkpoint before them, as if that length had been planned.

    Args:
        optimizer: its learning rate is scheduled.
        warmup_steps, decay_steps: number of steps in which the rate rises and falls, 0 or more.
        total_steps: number of steps, at least the sum of both; the rate stays constant afterwards.
        final_fraction: last rate over the highest.

    Raises:
        ValueError: the numbers do not fit.

    Source: Hägele et al., "Scaling laws and compute-optimal training beyond fixed training durations", NeurIPS 2024,
    eq. 1 ("1-sqrt").
    """
    if warmup_steps < 0 or decay_steps < 0 or total_steps < max(1, warmup_steps + decay_steps):
        raise ValueError(
            f"warmup_steps is {warmup_steps}, decay_steps {decay_steps} and total_steps (trainer.max_steps) "
            f"{total_steps}; the first two must be 0 or more, the last at least their sum, and 1"
        )

    def factor(step: int) -> float:
        rising = min(1.0, (step + 1) / (warmup_steps + 1))
        left = min(max(total_steps - step, 0), decay_steps)
        falling = 1 - (1 - left / decay_steps) ** 0.5 if decay_steps else 1.0
        return rising * (final_fraction + (1 - final_fraction) * falling)

    return LambdaLR(optimizer, factor)
