"""Kill a training repeatedly, resume it, and check that its result is that of an undisturbed one.

One training runs undisturbed. Another is killed at random times, also while it writes checkpoints, and resumed each
time with ``ckpt_path=last``. Weights, optimiser and learning rate must be equal at the end, bit for bit.

    python scripts/benchmarks/kill_training.py --kills 20 experiment=smoke trainer.max_steps=200
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

TRAIN = Path(__file__).parents[2] / "train.py"
COMPARED = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")
ALWAYS = ("name=killed", "test=false", "num_threads=1", "logger=[csv]", "callbacks.examples=null")


class DifferentError(Exception):
    """The two trainings differ at the end; the message names the difference."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--signal", default="SIGKILL", choices=["SIGKILL", "SIGTERM", "SIGINT"])
    parser.add_argument("--seed", type=int, default=0, help="seed of the times of the kills")
    parser.add_argument("--longest", type=float, help="maximum seconds until a kill; default: half an undisturbed run")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="overrides of the training")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="hushwork-") as folder:
        kills = compare(
            Path(folder),
            options.overrides,
            options.kills,
            options.longest,
            options.seed,
            signal.Signals[options.signal],
        )
    print(f"equal after {kills} kills{'' if kills == options.kills else '; a longer training allows more'}")
    return 0


def compare(
    folder: Path, overrides: Sequence[str], kills: int, longest_s: float | None, seed: int, number: signal.Signals
) -> int:
    """Run both trainings; return the number of kills.

    Raises:
        DifferentError: the results differ, or a training failed.
    """
    started = time.monotonic()
    if _start(folder / "whole", overrides).wait():
        raise DifferentError(
            f"the undisturbed training failed:\n{(folder / 'whole' / 'messages.log').read_text()[-2000:]}"
        )
    alone_s = time.monotonic() - started
    times = random.Random(seed)
    done = 0
    while True:
        process = _start(folder / "killed", overrides)
        try:
            status = process.wait(times.uniform(0, longest_s or alone_s / 2) if done < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            process.wait()
            done += 1
            print(f"kill {done}: {_progress(folder / 'killed')}", flush=True)
            continue
        if status:
            raise DifferentError(f"after {done} kills the training ended with status {status}")
        break
    difference = first_difference(_last(folder / "whole"), _last(folder / "killed"))
    if difference:
        raise DifferentError(f"after {done} kills the results differ in {difference}")
    return done


def first_difference(one: Any, other: Any, where: str = "") -> str | None:
    """The path of the first value in which two checkpoints differ; None if they are equal, bit for bit."""
    if isinstance(one, torch.Tensor):
        return None if torch.equal(one, other) else where
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return where
        return next((d for key in one if (d := first_difference(one[key], other[key], f"{where}/{key}"))), None)
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return where
        pairs = enumerate(zip(one, other, strict=True))
        return next((d for i, pair in pairs if (d := first_difference(*pair, f"{where}/{i}"))), None)
    return None if one == other else where


def _start(folder: Path, overrides: Sequence[str]) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(TRAIN), *ALWAYS, *overrides, f"paths.runs_dir={folder}"]
    command.append(f"hydra.run.dir={folder / 'killed' / str(time.time_ns())}")
    if list(folder.glob("killed/*/checkpoints/last.ckpt")):
        command.append("ckpt_path=last")
    with (folder / "messages.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def _last(folder: Path) -> dict[str, Any]:
    newest = max(folder.glob("killed/*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    checkpoint = torch.load(newest, weights_only=True)
    return {name: checkpoint[name] for name in COMPARED}


def _progress(folder: Path) -> str:
    return (
        f"at step {_last(folder)['global_step']}"
        if list(folder.glob("killed/*/checkpoints/last.ckpt"))
        else "before any checkpoint"
    )


if __name__ == "__main__":
    sys.exit(main())
