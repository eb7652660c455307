#!/usr/bin/env python3
"""Reproduce two tasks of "A Clockwork RNN" (Koutník et al., ICML 2014).

    python scripts/paper/reproduce_clockwork_paper.py                 # task 4.1: memorise 320 samples of audio
    python scripts/paper/reproduce_clockwork_paper.py --audio music.wav
    python scripts/paper/reproduce_clockwork_paper.py --task words    # task 4.2, on a substitute for TIMIT
    python scripts/paper/reproduce_clockwork_paper.py --quick         # one size, few steps: a check that it runs

A simple recurrent network (SRN), an LSTM and a clockwork network (CW-RNN) with equal numbers of parameters learn the
same task. For each model and size the learning rate is chosen from one grid, with other random seeds than those
measured, and for the words on a speaker who is not in the test set. Results are written to ``--out``:
``results.json``, the table ``paper_TASK.json``, and for task 4.1 the generated waveforms in ``waveforms.png``.
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

WHAT = {
    "generation": "Normalised mean square error of 320 generated samples",
    "words": "Word classification errors in per cent",
}


def measure(task: Callable[[str, int], Outcome], kind: str, size: int) -> Outcome:
    """Run a task on one core and time it."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    outcome = task(kind, size)
    outcome.seconds = round(time.perf_counter() - started, 1)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description='Reproduce two tasks of "A Clockwork RNN".')
    parser.add_argument(
        "--task", choices=("generation", "words"), default="generation", help="4.1 or 4.2 (%(default)s)"
    )
    audio_help = "recording to memorise (the example of the package)"
    parser.add_argument("--audio", type=Path, default=PACKAGE / "data" / "example.flac", help=audio_help)
    parser.add_argument("--out", type=Path, help="folder (runs/clockwork_paper/<task>)")
    parser.add_argument("--numbers", type=Path, help="the table as JSON (paper_<task>.json in that folder)")
    parser.add_argument(
        "--seeds", type=int, default=10, help="networks measured, for each snippet or in total (%(default)s)"
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
        # Longest jobs first, so that all processes finish at about one time.
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
    metadata = {"task": options.task, "epochs": epochs, "seeds": seeds, "minutes": round(minutes, 1)}
    if options.task == "generation":
        metadata["audio"] = str(options.audio)
        generation.draw(outcomes, targets, out / "waveforms.png")
    results = {**metadata, "outcomes": [asdict(outcome) for outcome in outcomes]}
    (out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    numbers = table(outcomes, paper, digits, WHAT[options.task])
    numbers.write(options.numbers or out / f"paper_{options.task}.json")
    print(f"{numbers.markdown()}\n{minutes:.1f} min; results are in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
