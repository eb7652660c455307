"""Measure the time of exported models on one core."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hushwork.files.denoise import denoise
from hushwork.network.model_folder import SUMS
from hushwork.network.pretrained import load_pretrained
from hushwork.runs.record import Run

DURATION_S = 20.0
ROUNDS = 15


def with_time(runs: Iterable[Run], duration_s: float = DURATION_S) -> list[Run]:
    """The runs, with measured ``ms_per_s`` for those that have exported a model; see :func:`ms_per_s`."""
    runs = list(runs)
    folders = [run.folder / "model" for run in runs if (run.folder / "model" / SUMS).is_file()]
    times = dict(zip(folders, ms_per_s(folders, duration_s), strict=True))
    return [replace(run, ms_per_s=times.get(run.folder / "model")) for run in runs]


def ms_per_s(folders: Sequence[str | Path], duration_s: float = DURATION_S) -> list[float]:
    """Milliseconds that each model takes for a second of audio on one core, the best of many rounds.

    Each round times each model once, so that other load on the machine affects all models alike.
    """
    models = [load_pretrained(folder) for folder in folders]
    noise = np.random.default_rng(0).standard_normal(round(duration_s * 16_000)).astype(np.float32) * 0.01
    best = [float("inf")] * len(models)
    for _ in range(ROUNDS):
        for place, model in enumerate(models):
            started = time.perf_counter()
            denoise(noise, model.sample_rate, model)
            best[place] = min(best[place], time.perf_counter() - started)
    return [1000 * s * model.sample_rate / len(noise) for s, model in zip(best, models, strict=True)]
