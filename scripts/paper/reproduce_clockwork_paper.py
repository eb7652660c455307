#!/usr/bin/env python3
"""Two tasks of "A Clockwork RNN" (Koutník et al., ICML 2014), again.

    python scripts/paper/reproduce_clockwork_paper.py                 # task 4.1: 320 samples of audio by heart
    python scripts/paper/reproduce_clockwork_paper.py --audio music.wav
    python scripts/paper/reproduce_clockwork_paper.py --task words    # task 4.2, on a stand-in for TIMIT
    python scripts/paper/reproduce_clockwork_paper.py --quick         # one size, few steps: does it run here?

A simple recurrent network (SRN), an LSTM and a clockwork network (CW-RNN) with equally many parameters each learn the
same. For every model and size the learning rate is chosen from one grid, by networks whose random seeds are not among
the measured ones, and for the words on a speaker who is not among the tested ones. The results go to ``--out``:
``results.json``, a table in ``results.md``, and for task 4.1 the generated waveforms in ``waveforms.png``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from clockwork_paper import generation, words
from clockwork_paper.networks import NAMES
from clockwork_paper.outcome import Outcome, table
from rich.console import Console

from hushwork.audio.io import AudioError
from hushwork.config import PACKAGE


def measure(task: Callable[[str, int], Outcome], kind: str, size: int) -> Outcome:
    """Run a task on one core and time it."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    outcome = task(kind, size)
    outcome.seconds = round(time.perf_counter() - started, 1)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description='Two tasks of "A Clockwork RNN", again.')
    parser.add_argument(
        "--task", choices=("generation", "words"), default="generation", help="4.1 or 4.2 (%(default)s)"
    )
    audio_help = "recording to learn by heart (the example that comes with hushwork)"
    parser.add_argument("--audio", type=Path, default=PACKAGE / "data" / "example.flac", help=audio_help)
    parser.add_argument("--out", type=Path, help="folder (runs/clockwork_paper/<task>)")
    parser.add_argument(
        "--seeds", type=int, default=10, help="networks measured: on each snippet, or in all (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one size, 2 seeds, a twentieth of the epochs")
    options = parser.parse_args(arguments)
    out = options.out or Path("runs/clockwork_paper") / options.task
    console = Console(stderr=True)
    seeds = 2 if options.quick else options.seeds
    try:
        if options.task == "generation":
            sizes, paper, digits, epochs = [*generation.SIZES], generation.PAPER, 3, generation.EPOCHS
            targets = generation.read_snippets(options.audio)
        else:
            sizes, paper, digits, epochs = [*words.SIZES], words.PAPER, 1, words.MAX_EPOCHS
            words.read_words(words.FOLDER, words.VOICES)
    except AudioError as error:
        console.print(f"reproduce_clockwork_paper: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    if options.quick:
        sizes, epochs = sizes[1:2], epochs // 20
    task: Callable[[str, int], Outcome]
    if options.task == "generation":
        task = partial(generation.run, targets=targets, epochs=epochs, num_seeds=seeds)
    else:
        task = partial(words.run, folder=words.FOLDER, max_epochs=epochs, num_seeds=seeds)

    started = time.perf_counter()
    outcomes = []
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        # The longest first, so that no core waits at the end.
        jobs = [pool.submit(measure, task, kind, size) for kind in ("lstm", "cw", "srn") for size in reversed(sizes)]
        for job in as_completed(jobs):
            outcome = job.result()
            outcomes.append(outcome)
            console.print(
                f"{NAMES[outcome.kind]}, {outcome.hidden} units: {np.mean(outcome.scores):.{digits}f} "
                f"(rate {outcome.rate:g}, {outcome.seconds:.0f} s)"
            )
    minutes = (time.perf_counter() - started) / 60
    out.mkdir(parents=True, exist_ok=True)
    about = {"task": options.task, "epochs": epochs, "seeds": seeds, "minutes": round(minutes, 1)}
    if options.task == "generation":
        about["audio"] = str(options.audio)
        generation.draw(outcomes, targets, out / "waveforms.png")
    results = {**about, "outcomes": [asdict(outcome) for outcome in outcomes]}
    (out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    text = table(outcomes, paper, digits)
    (out / "results.md").write_text(text, encoding="utf-8")
    print(f"{text}\n{minutes:.1f} min; in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
