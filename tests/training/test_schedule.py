"""The learning rate over a run."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR

from hushwork.training.schedule import warmup_cosine, warmup_stable_decay

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


def test_it_is_torch_s_own_warmup_and_cosine() -> None:
    steps, warmup = 5000, 150
    found = rates(lambda o: warmup_cosine(o, warmup_fraction=0.03, total_steps=steps), steps)

    def build(optimizer: SGD) -> SequentialLR:
        rise = LinearLR(optimizer, 1 / (warmup + 1), 1.0, total_iters=warmup)
        return SequentialLR(optimizer, [rise, CosineAnnealingLR(optimizer, steps - warmup, 0.01 * LR)], [warmup])

    assert found == pytest.approx(rates(build, steps), rel=1e-12)


def test_a_run_that_is_continued_with_more_steps_follows_the_new_plan() -> None:
    def start(total_steps: int) -> tuple[SGD, LambdaLR]:
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
        return optimizer, warmup_cosine(optimizer, warmup_fraction=0.1, total_steps=total_steps)

    def go_on(optimizer: SGD, scheduler: LambdaLR, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            found.append(optimizer.param_groups[0]["lr"])
        return found

    first = start(20)
    go_on(*first, 15)
    second = start(40)
    for after, before in zip(second, first, strict=True):
        after.load_state_dict(before.state_dict())
    assert go_on(*second, 25) == go_on(*start(40), 40)[15:]


@pytest.mark.parametrize(("warmup_fraction", "total_steps"), [(-0.1, 10), (1.0, 10), (0.1, 0)])
def test_a_warmup_that_does_not_fit_is_refused(warmup_fraction: float, total_steps: int) -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    with pytest.raises(ValueError, match=rf"warmup_fraction is {warmup_fraction} and .*max_steps\) {total_steps}"):
        warmup_cosine(optimizer, warmup_fraction=warmup_fraction, total_steps=total_steps)


def test_one_step_is_a_run() -> None:
    assert rates(lambda o: warmup_cosine(o, warmup_fraction=0.9, total_steps=1), 1) == pytest.approx([LR])


def test_the_rate_rises_stays_and_falls_by_the_root_of_the_remaining_share() -> None:
    def build(optimizer: SGD) -> object:
        return warmup_stable_decay(optimizer, warmup_steps=4, decay_steps=16, total_steps=30, final_fraction=0.0)

    found = rates(build, 33)
    assert found[:5] == pytest.approx([LR * part for part in (0.2, 0.4, 0.6, 0.8, 1.0)])
    assert found[4:15] == pytest.approx([LR] * 11)
    assert found[14:31] == pytest.approx([LR * (1 - (n / 16) ** 0.5) for n in range(17)])
    assert found[30:] == [0.0] * 3


def test_a_longer_run_begins_as_a_shorter_one_up_to_its_decay() -> None:
    short, long = (
        rates(lambda o, t=total: warmup_stable_decay(o, warmup_steps=3, decay_steps=5, total_steps=t), 20)
        for total in (20, 100)
    )
    assert short[:15] == long[:15]
    assert short[15:] != long[15:]


@pytest.mark.parametrize("steps", [(-1, 5, 10), (5, -1, 10), (6, 5, 10), (0, 0, 0)])
def test_phases_that_do_not_fit_are_refused(steps: tuple[int, int, int]) -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    with pytest.raises(ValueError, match=rf"total_steps \(trainer.max_steps\) {steps[2]}"):
        warmup_stable_decay(optimizer, warmup_steps=steps[0], decay_steps=steps[1], total_steps=steps[2])
