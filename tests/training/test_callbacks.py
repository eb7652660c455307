"""Callbacks: bad steps change nothing, and logged figures are right."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hushwork.data.batch import NoisySpeechBatch
from hushwork.losses import MagnitudeLoss
from hushwork.models.denoiser import Denoiser
from hushwork.training.callbacks import GradientGuard, NonFiniteError, PlainProgress, Speed, progress_bar
from hushwork.training.module import DenoisingModule

N = 1600
pytestmark = pytest.mark.filterwarnings(
    "ignore:step .* is not finite, the step is skipped", "ignore:You defined a `validation_step` but have no"
)


class Faulty(nn.Module):
    """A loss that goes wrong in one way at chosen steps."""

    def __init__(self, kind: str, bad_steps: set[int]) -> None:
        super().__init__()
        self.kind, self.bad_steps, self.calls = kind, bad_steps, 0
        self.good = MagnitudeLoss()

    def forward(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
        step, self.calls = self.calls, self.calls + 1
        loss = self.good(estimate, reference, lengths)
        if step not in self.bad_steps:
            return loss
        if self.kind == "nan loss":
            return loss * float("nan")
        if self.kind == "infinite loss, finite gradient":
            return loss + float("inf")
        estimate.register_hook(lambda gradient: gradient * float("inf"))
        return loss


class Snapshots(Callback):
    """Weights and optimiser state after each step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self.adam: list[dict[str, Any]] = []
        self.rows: list[int] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.weights.append(copy.deepcopy(pl_module.denoiser.state_dict()))
        self.adam.append(copy.deepcopy(trainer.optimizers[0].state_dict()["state"]))
        guard = next(callback for callback in trainer.callbacks if isinstance(callback, GradientGuard))
        self.rows.append(guard.in_a_row)


def make_batch(seed: int) -> NoisySpeechBatch:
    noisy, clean = torch.randn(2, 2, N, generator=torch.Generator().manual_seed(seed))
    return NoisySpeechBatch(noisy=noisy, clean=clean, lengths=torch.tensor([N, N - 100]), names=["a", "b"])


def run(
    denoiser: Denoiser, folder: Path, steps: int, bad: set[int], kind: str = "nan loss", **options: Any
) -> tuple[GradientGuard, Snapshots, pl.Trainer]:
    guard, snapshots = GradientGuard(folder=str(folder), **options), Snapshots()
    module = DenoisingModule(
        denoiser=denoiser.train(), loss=Faulty(kind, bad), optimizer=partial(torch.optim.AdamW, lr=1e-2)
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        gradient_clip_val=1.0,
        callbacks=[guard, snapshots],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader: Any = DataLoader([make_batch(seed) for seed in range(steps)], batch_size=None)  # type: ignore[arg-type]
    try:
        trainer.fit(module, loader)
    except NonFiniteError as error:
        guard.error = str(error)  # type: ignore[attr-defined]
    return guard, snapshots, trainer


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other)


@pytest.mark.parametrize("kind", ["nan loss", "infinite loss, finite gradient", "infinite gradient"])
def test_a_bad_step_changes_no_weight_or_state(kind: str, denoiser: Denoiser, tmp_path: Path) -> None:
    guard, seen, trainer = run(denoiser, tmp_path / "skipped", 5, {2}, kind)
    assert same(seen.weights[2], seen.weights[1])
    assert same(seen.adam[2], seen.adam[1])
    assert seen.adam[1][0]["step"] == 2
    assert not same(seen.weights[3], seen.weights[2])  # goes on after it
    assert seen.adam[4][0]["step"] == 4
    assert all(torch.isfinite(weight).all() for weight in seen.weights[4].values())
    assert guard.skipped == 1
    assert float(trainer.callback_metrics["train/skipped_steps"]) == 1
    saved = list((tmp_path / "skipped").iterdir())
    assert [path.name for path in saved] == ["step_2_rank_0.safetensors"]
    batch, found = make_batch(2), load_file(saved[0])
    assert same(found, {"noisy": batch.noisy, "clean": batch.clean, "lengths": batch.lengths})


def test_a_bad_first_step_leaves_the_optimiser_empty(denoiser: Denoiser, tmp_path: Path) -> None:
    before = copy.deepcopy(denoiser.state_dict())
    _, seen, _ = run(denoiser, tmp_path, 2, {0})
    assert same(seen.weights[0], before)
    assert seen.adam[0] == {}
    assert seen.adam[1][0]["step"] == 1


def test_training_ends_after_too_many_bad_steps_in_a_row(denoiser: Denoiser, tmp_path: Path) -> None:
    guard, seen, _ = run(denoiser, tmp_path, 9, {1, 2, 4, 5, 6, 7}, max_in_a_row=3)
    assert seen.rows == [0, 1, 2, 0, 1, 2]  # the good step 3 starts the count again; step 6 ends it
    assert guard.skipped == 5
    assert guard.error == (  # type: ignore[attr-defined]
        f"3 steps in a row had a loss or gradient that is not finite; look at {tmp_path}, lower optimizer.lr, or clip "
        "the gradient (trainer.gradient_clip_val)"
    )


def test_only_some_bad_batches_are_kept(denoiser: Denoiser, tmp_path: Path) -> None:
    guard, _, _ = run(denoiser, tmp_path, 5, {0, 1, 2, 4}, max_saved=2)
    assert guard.skipped == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step_{n}_rank_0.safetensors" for n in (0, 1)]


def test_a_bad_step_is_announced_with_its_batch(denoiser: Denoiser, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=rf"step 1: .* skipped; its batch is in {tmp_path}/step_1_rank_0"):
        run(denoiser, tmp_path, 2, {1})


def test_the_counts_survive_a_resume(tmp_path: Path) -> None:
    guard = GradientGuard(folder=str(tmp_path))
    guard.skipped, guard.in_a_row = 7, 3
    other = GradientGuard(folder=str(tmp_path))
    other.load_state_dict(guard.state_dict())
    assert (other.skipped, other.in_a_row) == (7, 3)


def test_a_guard_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="max_in_a_row is 0; at least 1"):
        GradientGuard(folder="x", max_in_a_row=0)


def test_speed_counts_audio_and_leaves_validation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 5.0, 100.0, 101.0])  # epoch starts, two steps, validation ends, one step
    monkeypatch.setattr("hushwork.training.callbacks.time.perf_counter", lambda: next(clock))
    trainer: Any = SimpleNamespace(world_size=2, sanity_checking=False)
    logged: dict[str, float] = {}
    module: Any = SimpleNamespace(denoiser=SimpleNamespace(sample_rate=100), log=logged.__setitem__)
    batch: Any = SimpleNamespace(lengths=torch.tensor([100, 200]))
    speed = Speed()
    speed.on_train_epoch_start(trainer, module)
    for _ in range(2):
        speed.on_train_batch_end(trainer, module, None, batch, 0)
    speed.on_validation_start(trainer, module)
    assert logged == {"train/audio_s_per_s": 12 / 5}
    speed.on_validation_end(trainer, module)
    speed.on_train_batch_end(trainer, module, None, batch, 0)
    assert (speed.audio_s, speed.wall_s) == (18.0, 6.0)
    resumed = Speed()
    resumed.load_state_dict(speed.state_dict())
    assert (resumed.audio_s, resumed.wall_s) == (18.0, 6.0)


def test_progress_prints_lines_at_most_so_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 4.0, 12.0, 15.0])
    monkeypatch.setattr("hushwork.training.callbacks.time.monotonic", lambda: next(clock))
    trainer: Any = SimpleNamespace(
        global_step=10, max_steps=50, callback_metrics={"train/loss_step": torch.tensor(0.5)}
    )
    bar = PlainProgress(every_s=10.0)
    bar.on_train_start(trainer, None)  # type: ignore[arg-type]
    for step in (20, 30, 40):
        trainer.global_step = step
        bar.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    # 20 steps in 12 s, 20 to go: 12 s more
    assert capsys.readouterr().out == "step 30/50, 0.2 min left: train/loss 0.500\n"


def test_without_a_terminal_progress_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    bar = progress_bar(every_s=3.0)
    assert isinstance(bar, PlainProgress)
    assert bar.every_s == 3.0
