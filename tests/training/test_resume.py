"""Resumed runs end as undisturbed ones, and runs are reproducible."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from checkpoints import identical, last
from configurations import TINY
from hushwork.training.module import DenoisingModule
from hushwork.training.resume import find_checkpoint
from hushwork.training.run import train

Compose = Callable[..., DictConfig]


def test_zero_is_a_seed(compose: Compose, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(compose(*TINY, f"seed={seed}", "trainer.max_steps=2", f"paths.run_dir={tmp_path / name}"))
        weights.append(last(tmp_path / name)["state_dict"])
    assert identical(weights[0], weights[1])
    assert not identical(weights[0], weights[2])


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # a resumed run has a folder of its own
# Lightning ends the epoch again that had ended when the checkpoint was made.
@pytest.mark.filterwarnings("ignore:`ModelCheckpoint.monitor='valid/loss'.` could not find the monitored key")
@pytest.mark.parametrize(
    ("callbacks", "scheduler"),
    [
        ("[default]", "warmup_cosine"),
        ("[default,ema]", "warmup_cosine"),
        ("[default,early_stopping]", "plateau"),
    ],
)
def test_a_resumed_run_equals_one_without_a_stop(
    callbacks: str, scheduler: str, compose: Compose, tmp_path: Path
) -> None:

    def run(folder: Path, *overrides: str) -> dict[str, Any]:
        options = (f"callbacks={callbacks}", f"scheduler={scheduler}", "model.masker.dropout=0.3")
        train(compose(*TINY, *options, f"paths.run_dir={folder}", *overrides))
        return last(folder)

    whole = run(tmp_path / "whole")
    runs = tmp_path / "runs" / "smoke"
    half = run(runs / "half", "trainer.max_epochs=1")
    assert half["global_step"] == 2
    resumed = run(tmp_path / "resumed", "name=smoke", "ckpt_path=last")
    assert (whole["global_step"], whole["epoch"]) == (resumed["global_step"], resumed["epoch"]) == (4, 1)
    assert not identical(half["state_dict"], whole["state_dict"])
    parts = ["state_dict", "optimizer_states", "lr_schedulers"]
    if scheduler == "plateau":  # Lightning saves before it steps this one, and keeps no figure to make up for it
        parts.pop()
    for part in parts:
        assert whole[part]
        assert identical(whole[part], resumed[part]), part
    if "ema" in callbacks:
        assert not identical(whole["state_dict"], whole["current_model_state"])  # averages are exported, not these
        assert identical(whole["current_model_state"], resumed["current_model_state"])
    # Dropout took part: without it the weights would be others.
    if callbacks == "[default]":
        plain = run(tmp_path / "plain", "model.masker.dropout=0.0")
        assert not identical(plain["state_dict"], whole["state_dict"])


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # a resumed run has a folder of its own
def test_a_run_that_fails_within_an_epoch_resumes_with_the_next_mixture(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six steps in an epoch of four; the checkpoint of step 3 is the last before the accident."""
    batches: list[list[str]] = []
    step = DenoisingModule.training_step

    def breaking(self: DenoisingModule, batch: Any, batch_idx: int) -> Any:
        if len(batches) == 3 and not resumed:
            raise RuntimeError("accident")
        batches.append(batch.names)
        return step(self, batch, batch_idx)

    def run(folder: Path, *overrides: str) -> dict[str, Any]:
        options = ("data.mixtures_per_epoch=8", "trainer.max_steps=6", "model.masker.dropout=0.3")
        often = "callbacks.last_checkpoint.every_n_steps=1"
        train(compose(*TINY, *options, often, f"paths.run_dir={folder}", *overrides))
        return last(folder)

    resumed = True
    monkeypatch.setattr(DenoisingModule, "training_step", breaking)
    whole = run(tmp_path / "whole")
    expected, batches = batches, []
    assert expected[3:5] == [["0/6", "0/7"], ["1/0", "1/1"]]
    resumed = False
    with pytest.raises(RuntimeError, match="accident"):
        run(tmp_path / "runs" / "smoke" / "broken")
    resumed = True
    after = run(tmp_path / "resumed", "name=smoke", "ckpt_path=last")
    assert batches == expected
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert identical(whole[part], after[part]), part


def test_last_is_the_newest_checkpoint_of_this_name(compose: Compose, tmp_path: Path) -> None:
    paths = {}
    for age, (name, run) in enumerate([("tiny", "new"), ("tiny", "old"), ("other", "newest")]):
        paths[run] = tmp_path / "runs" / name / run / "checkpoints" / "last.ckpt"
        paths[run].parent.mkdir(parents=True)
        paths[run].touch()
        os.utime(paths[run], (1000 - age, 1000 - age) if name == "tiny" else (2000, 2000))
    assert find_checkpoint(compose("ckpt_path=last")) == str(paths["new"])
    assert find_checkpoint(compose(f"ckpt_path={paths['old']}")) == str(paths["old"])
    assert find_checkpoint(compose()) is None
    with pytest.raises(FileNotFoundError, match=r"ckpt_path=last, but no run below .*runs/fresh"):
        find_checkpoint(compose("name=fresh", "ckpt_path=last"))
    with pytest.raises(FileNotFoundError, match=r"ckpt_path is absent\.ckpt, which does not exist"):
        find_checkpoint(compose("ckpt_path=absent.ckpt"))
