"""Whole checkpoints, stopping on a signal, and resuming."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kill_training import compare, first_difference
from omegaconf import DictConfig

from configurations import TINY, compose_quickly
from hushwork.runs.record import find_runs
from hushwork.training import checkpoints
from hushwork.training.checkpoints import WholeCheckpoints, requeue
from hushwork.training.module import DenoisingModule
from hushwork.training.run import train

Compose = Callable[..., DictConfig]
BARE = (*TINY, "data.mixtures_per_epoch=8", "trainer.max_steps=8")


def test_a_checkpoint_is_what_torch_saves(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"a": torch.arange(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.arange(3))
    assert list(path.parent.iterdir()) == [path]


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(_: Any, path: Path) -> None:
    path.write_bytes(b"half")
    raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")


@pytest.mark.parametrize(("module", "name", "fails"), [(os, "fsync", full), (torch, "save", broken)])
def test_a_full_disk_leaves_the_checkpoint_before(
    module: Any, name: str, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 1}, path)
    monkeypatch.setattr(module, name, fails)
    with pytest.raises(
        OSError, match=r"last\.ckpt: the checkpoint cannot be written; is the disk full\?; the previous one is kept"
    ):
        WholeCheckpoints().save_checkpoint({"step": 2}, path)
    assert list(tmp_path.iterdir()) == [path]
    assert torch.load(path, weights_only=True) == {"step": 1}


def signal_at_step(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    """Send this process a signal while it takes that step."""
    original = DenoisingModule.training_step

    def training_step(self: DenoisingModule, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == step:
            signal.raise_signal(number)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DenoisingModule, "training_step", training_step)


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    train(compose_quickly(*BARE, f"data.manifest={corpus}", f"paths.run_dir={folder}"))
    return folder / "checkpoints" / "last.ckpt"


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # a resumed run has a folder of its own
@pytest.mark.parametrize("step", [0, 2, 3, 4])  # an epoch has four
def test_a_run_that_a_signal_stopped_is_resumed_bit_for_bit(
    step: int, whole: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        signal_at_step(patch, step, signal.SIGTERM)
        with pytest.raises(SystemExit) as stopped:
            train(compose(*BARE, f"paths.run_dir={tmp_path / 'stopped'}"))
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    (run,) = find_runs(tmp_path / "stopped")
    assert run.status == "stopped"
    stop = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    assert torch.load(stop, weights_only=True)["global_step"] == step + 1
    train(compose(*BARE, f"paths.run_dir={tmp_path / 'resumed'}", f"ckpt_path={stop}"))
    resumed = tmp_path / "resumed" / "checkpoints" / "last.ckpt"
    one, other = (torch.load(path, weights_only=True) for path in (whole, resumed))
    for part in ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers"):
        assert first_difference(one[part], other[part], part) is None
    assert other["callbacks"]["Speed"]["audio_s"] == one["callbacks"]["Speed"]["audio_s"]
    assert 0 < other["callbacks"]["Speed"]["wall_s"] < 60  # and not the time since the machine started


def test_the_work_after_training_can_be_stopped(compose: Compose, tmp_path: Path) -> None:
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    train(compose(*BARE, f"paths.run_dir={tmp_path}"))
    assert [signal.getsignal(number) for number in numbers] == before


def test_each_epoch_leaves_a_checkpoint_also_without_progress(compose: Compose, tmp_path: Path) -> None:
    train(compose(*BARE, "callbacks.checkpoint.mode=max", "optimizer.lr=0", f"paths.run_dir={tmp_path}"))
    steps = {
        name: torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"]
        for name in ("best", "last")
    }
    assert steps == {"best": 4, "last": 8}


def test_waiting_gradients_are_not_lost(compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    signal_at_step(monkeypatch, 1, signal.SIGTERM)  # in the first of the two batches of the second step
    with pytest.raises(SystemExit):
        train(compose(*BARE, "trainer.accumulate_grad_batches=2", f"paths.run_dir={tmp_path}"))
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2


def test_a_slurm_job_goes_back_into_the_queue(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signal_at_step(monkeypatch, 1, signal.SIGUSR1)
    commands: list[list[str]] = []
    monkeypatch.setattr(checkpoints, "subprocess", SimpleNamespace(run=lambda words, check: commands.append(words)))
    with pytest.raises(SystemExit) as stopped:
        train(compose(*BARE, f"paths.run_dir={tmp_path}"))
    assert stopped.value.code == 128 + signal.SIGUSR1
    assert commands == []  # no Slurm here
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    requeue()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "15")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    requeue()
    assert commands == [["scontrol", "requeue", "17"], ["scontrol", "requeue", "15_2"]]


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_as_if_undisturbed(corpus: Path, tmp_path: Path) -> None:
    overrides = (*BARE, f"data.manifest={corpus}", "trainer.max_steps=40")
    assert compare(tmp_path, overrides, 4, None, 0, signal.SIGKILL) > 0
