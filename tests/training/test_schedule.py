"""The learning rate over a run."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from hushwork.training.schedule import warmup_cosine

LR = 0.4


def rates(scheduler_of: object, steps: int) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = scheduler_of(optimizer)  # type: ignore[operator]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_it_rises_in_a_line_and_falls_as_torch_s_own_cosine() -> None:
    found = rates(lambda optimizer: warmup_cosine(optimizer, warmup_fraction=1 / 6, total_steps=24), 30)
    assert found[:5] == pytest.approx([LR * part for part in (0.2, 0.4, 0.6, 0.8, 1.0)])
    cosine = rates(lambda optimizer: CosineAnnealingLR(optimizer, T_max=20, eta_min=0.01 * LR), 20)
    assert found[4:24] == pytest.approx(cosine)
    assert found[24:] == pytest.approx([0.01 * LR] * 6)  # stays there instead of rising again


def test_without_warmup_it_starts_at_the_top() -> None:
    found = rates(lambda o: warmup_cosine(o, warmup_fraction=0.0, total_steps=2, final_fraction=0.5), 3)
    assert found == pytest.approx([LR, 0.75 * LR, 0.5 * LR])


@pytest.mark.parametrize(("warmup_fraction", "total_steps"), [(-0.1, 10), (1.0, 10), (0.1, 0)])
def test_a_warmup_that_does_not_fit_is_refused(warmup_fraction: float, total_steps: int) -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    with pytest.raises(ValueError, match=rf"warmup_fraction is {warmup_fraction} and .*max_steps\) {total_steps}"):
        warmup_cosine(optimizer, warmup_fraction=warmup_fraction, total_steps=total_steps)


def test_one_step_is_a_run() -> None:
    assert rates(lambda o: warmup_cosine(o, warmup_fraction=0.9, total_steps=1), 1) == pytest.approx([LR])
