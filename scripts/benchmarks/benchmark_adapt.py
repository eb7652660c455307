#!/usr/bin/env python3
"""What adapting a model to new noise gains there, and costs elsewhere, with and without replay of a known corpus.

    python scripts/benchmarks/benchmark_adapt.py OUT
    python scripts/benchmarks/benchmark_adapt.py OUT --noise DIR --elsewhere data=debian --steps 800

Trains twice with ``experiment=adapt``, and measures both models and the one that they started from on the test split of
the new noise, on that of the starter corpus, and on those named. The noise is an impact drill, which is synthesised:
gliding tones of a motor under changing load, and blows. No corpus of this project has anything like it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from turns import table

from hushwork.audio.io import write_audio
from hushwork.config import compose_config
from hushwork.evaluation.evaluate import Row, evaluate
from hushwork.evaluation.metrics import bootstrap_interval
from hushwork.models.export import load_for_training
from hushwork.network.model_folder import find_model

RATE = 16_000
METRICS = {"si_sdr": 2, "estoi": 3, "pesq_wb": 2}
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


def measured(model: Path, overrides: Sequence[str], num_mixtures: int) -> list[Row]:
    """The rows of a test split."""
    cfg = compose_config([*overrides, f"data.num_test={num_mixtures}"])
    return evaluate(load_for_training(model), instantiate(cfg.data).fixed_dataset("test"), METRICS)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for noise, manifest and runs")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="new noise; default: the synthetic drill")
    parser.add_argument("--model", default="default", help="to start from (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of training; default: those of the experiment")
    parser.add_argument(
        "--elsewhere", action="append", default=[], metavar="KEY=VALUE,…", help="a corpus that is known"
    )
    parser.add_argument(
        "--mixtures", type=int, default=60, help="to measure with, of each corpus (default: %(default)s)"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of both trainings")
    args = parser.parse_intermixed_args(argv)
    torch.set_num_threads(1)
    out: Path = args.out.resolve()
    noise = args.noise or out / "noise"
    if args.noise is None:
        for k in range(NUM_FILES):
            folder = noise / "drill"
            folder.mkdir(parents=True, exist_ok=True)
            write_audio(folder / f"drill_{k:02d}.flac", drill(FILE_S * RATE, np.random.default_rng([7, k])), RATE)
    hushwork = [sys.executable, "-m", "hushwork.cli"]
    subprocess.run([*hushwork, "prepare", "folders", "--noise", noise, "--out", out / "folders"], check=True)
    data = [f"data.manifest={out / 'folders' / 'manifest.jsonl'}"]
    models = {"as it is": find_model(args.model)}
    for name, share in (("with replay", None), ("without replay", 0.0)):
        run = out / "runs" / name.replace(" ", "_")
        models[f"adapted {name}"] = run / "model"
        if (run / "model").is_dir():
            continue
        more = [] if share is None else [f"data.replay_share={share}"]
        more += [] if args.steps is None else [f"trainer.max_steps={args.steps}"]
        train = [*hushwork, "train", "experiment=adapt", f"init_from={args.model}", *data, *more, *args.overrides]
        subprocess.run([*train, "test=false", "num_examples=0", f"hydra.run.dir={run}"], check=True)
    corpora = {
        "new noise": ["experiment=adapt", *data, "data.replay_share=0"],
        "starter": ["data=starter"],
        **{each: each.split(",") for each in args.elsewhere},
    }
    rows = []
    for corpus, overrides in corpora.items():
        first: dict[str, np.ndarray] = {}
        for name, model in models.items():
            found = measured(model, overrides, args.mixtures)
            cells = []
            for metric, digits in METRICS.items():
                systems = {
                    s: np.array([r.scores[metric] for r in found if r.system == s]) for s in ("noisy", "denoised")
                }
                values = systems["denoised"]
                change = values - first.setdefault(metric, values)
                low, high = bootstrap_interval(change[np.isfinite(change)])
                difference = f" ({np.nanmean(change):+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}])"
                cells.append(f"{np.nanmean(values):.{digits}f}" + (difference if change.any() else ""))
            rows.append([corpus, name, *cells])
            print(*rows[-1], sep="  ", flush=True)
    print(table(["corpus", args.model, *METRICS], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
