#!/usr/bin/env python3
"""Measure what adaptation to new noise gains on it and loses on other corpora, with and without replay.

    python scripts/benchmarks/benchmark_adapt.py OUT
    python scripts/benchmarks/benchmark_adapt.py OUT --noise DIR --elsewhere debian trainer.max_steps=800

Trains twice with ``experiment=adapt``, and measures both models and the initial one on the test splits of the new
noise, of the starter corpus, and of the corpora named. The noise is an impact drill, which is synthesised:
gliding tones of a motor under changing load, and blows. No corpus of this project has such noise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate

from hushwork.audio.io import write_audio
from hushwork.config import compose_config
from hushwork.evaluation.evaluate import evaluate
from hushwork.evaluation.metrics import bootstrap_interval
from hushwork.models.export import load_for_training
from hushwork.network.model_folder import find_model
from hushwork.runs.numbers import Column, Numbers

RATE = 16_000
METRICS = {
    "si_sdr": Column("SI-SDR dB", 2),
    "estoi": Column("ESTOI", 3),
    "pesq_wb": Column("PESQ-WB", 2),
    "distill_mos": Column("DistillMOS", 2),
}
Scores = dict[str, np.ndarray]
"""By metric, of each mixture; NaN where one is not defined."""
NUM_FILES, FILE_S = 12, 20


def drill(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """An impact drill (N,), float32, full scale 1: it runs up and down, sinks under load, and hammers on and off."""
    seconds = np.arange(num_samples) / RATE
    top_hz, blows_hz = rng.uniform(150, 420), rng.uniform(22, 48)
    running, load, hammer = (_on_off(num_samples, rng, *lasts) for lasts in ((3, 0.25), (1.5, 0.15), (2.5, 0.05)))
    speed = running * (1 - 0.25 * load) * (1 + 0.01 * np.sin(2 * np.pi * rng.uniform(3, 9) * seconds))
    phase = 2 * np.pi * np.cumsum(top_hz * speed) / RATE
    gears = rng.uniform(7, 23)
    harmonics = np.arange(1, 13)
    gains = harmonics ** -rng.uniform(0.2, 1) * 10 ** rng.uniform(-0.6, 0.6, harmonics.size)
    motor = sum(gain * np.sin(k * phase) for k, gain in zip(harmonics, gains, strict=True))
    motor = speed * (motor + rng.uniform(0.2, 1) * np.sin(gears * phase))
    # A blow in each turn of the hammer, which is a burst of noise; the rest of the time a little noise of the motor.
    since_blow = np.mod(blows_hz * np.cumsum(speed) / RATE, 1) / blows_hz
    envelope = hammer * speed * np.exp(-since_blow / rng.uniform(0.002, 0.008))
    noise = rng.standard_normal(num_samples)
    audio = motor + rng.uniform(1, 5) * envelope * noise + 0.1 * speed * noise
    return (0.3 * audio / np.abs(audio).max()).astype(np.float32)


def _on_off(num_samples: int, rng: np.random.Generator, mean_s: float, change_s: float) -> np.ndarray:
    """1 and 0 in turns of random length (N,), beginning with 1, and smooth changes between them."""
    values = np.zeros(0)
    while len(values) < num_samples:
        lasts = [round(rng.uniform(0.4, 1.6) * share * mean_s * RATE) for share in (1, 0.5)]
        values = np.concatenate([values, np.ones(lasts[0]), np.zeros(lasts[1])])
    window = np.hanning(max(3, round(2 * change_s * RATE)))
    return np.convolve(values[:num_samples], window / window.sum(), "same")


def measured(model: Path, overrides: Sequence[str], num_mixtures: int) -> Scores:
    """Scores of the denoised mixtures of a test split."""
    cfg = compose_config([*overrides, f"data.num_test={num_mixtures}"])
    rows = evaluate(load_for_training(model), instantiate(cfg.data).fixed_dataset("test"), METRICS)
    denoised = [row for row in rows if row.system == "denoised"]
    return {metric: np.array([row.scores[metric] for row in denoised]) for metric in METRICS}


def summary(found: Mapping[tuple[str, str], Scores]) -> Numbers:
    """Means by corpus and model, and the difference to the first model on the same mixtures with its 95 % interval."""
    columns = {"corpus": Column("test split of"), "model": Column("model")}
    for metric, column in METRICS.items():
        columns |= {metric: column, f"{metric}_change": Column(f"{column.title}, change", column.digits, signed=True)}
    rows: list[dict[str, Any]] = []
    first: dict[str, Scores] = {}
    for (corpus, model), scores in found.items():
        row: dict[str, Any] = {"corpus": corpus, "model": model}
        before = first.setdefault(corpus, scores)
        for metric, values in scores.items():
            change = (values - before[metric])[np.isfinite(values - before[metric])]
            row[metric] = float(np.nanmean(values))
            if scores is not before:
                row[f"{metric}_change"] = [float(change.mean()), *map(float, bootstrap_interval(change))]
        rows.append(row)
    count = len(next(iter(first.values()))["si_sdr"])
    return Numbers.measured(f"A model adapted to new noise, on {count} mixtures of each test split", columns, rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for noise, manifest, runs and adapt.json")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="new noise; default: the synthetic drill")
    parser.add_argument("--model", default="default", help="to start from (default: %(default)s)")
    parser.add_argument("--elsewhere", action="append", default=[], metavar="DATA", help="a further corpus: debian, …")
    parser.add_argument("--mixtures", type=int, default=60, help="of each test split (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of both trainings")
    options = parser.parse_intermixed_args(argv)
    torch.set_num_threads(1)
    out: Path = options.out
    if not (noise := options.noise):
        noise = out / "noise"
        for k in range(NUM_FILES):
            audio = drill(FILE_S * RATE, np.random.default_rng([7, k]))
            (noise / "drill").mkdir(parents=True, exist_ok=True)
            write_audio(noise / "drill" / f"{k:02d}.flac", audio, RATE)
    hushwork = [sys.executable, "-m", "hushwork.cli"]
    subprocess.run([*hushwork, "prepare", "folders", "--noise", noise, "--out", out / "folders"], check=True)
    data = [f"data.manifest={out / 'folders' / 'manifest.jsonl'}"]
    models = {f"{options.model}": find_model(options.model)}
    for name, more in (("adapted", []), ("adapted without replay", ["data.replay_share=0"])):
        run = out / "runs" / name.replace(" ", "_")
        models[name] = run / "model"
        train = [*hushwork, "train", "experiment=adapt", f"init_from={options.model}", *data, *more, *options.overrides]
        subprocess.run([*train, "test=false", "num_examples=0", f"hydra.run.dir={run}"], check=True)
    corpora = {
        "new noise": ["experiment=adapt", *data, "data.replay_share=0"],
        **{name: [f"data={name}"] for name in ("starter", *options.elsewhere)},
    }
    found = {
        (corpus, name): measured(model, overrides, options.mixtures)
        for corpus, overrides in corpora.items()
        for name, model in models.items()
    }
    numbers = summary(found)
    numbers.write(out / "adapt.json")
    print(f"{numbers.markdown([f'{key}[]' for key in numbers.columns])}\n{numbers.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
