#!/usr/bin/env python3
"""Tables of scores from the summaries that models and evaluations hold.

python scripts/benchmarks/scores.py                           # the shipped models: docs/numbers/models.json
python scripts/benchmarks/scores.py runs/cwrnn/TIME/metrics.json --out docs/numbers/starter.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hushwork.network.model_folder import read_config, shipped_models
from hushwork.runs.numbers import Column, Numbers, machine, short_commit

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "src" / "hushwork" / "weights"
EVALUATE = "hushwork evaluate data=debian --metrics si_sdr,stoi,estoi,pesq_wb"
METRICS = {"si_sdr": "si_sdr", "gain": "si_sdr_improvement", "stoi": "stoi", "estoi": "estoi", "pesq_wb": "pesq_wb"}
COLUMNS = {
    "model": Column("model"),
    "parameters": Column("parameters"),
    "mmacs": Column("M MAC/s", 1),
    "latency": Column("latency"),
    "training_h": Column("training, h", 1),
    "mixtures_h": Column("mixtures, h"),
    "si_sdr": Column("SI-SDR dB", 1),
    "gain": Column("gain dB", 1),
    "stoi": Column("STOI", 3),
    "estoi": Column("ESTOI", 3),
    "pesq_wb": Column("PESQ-WB", 2),
}


def scores(by_metric: dict[str, dict[str, float]]) -> dict[str, list[float]]:
    """Columns of means with intervals, from one system's part of a summary."""
    found = {column: by_metric[name] for column, name in METRICS.items() if name in by_metric}
    return {column: [score[part] for part in ("mean", "low", "high")] for column, score in found.items()}


def trainings(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of a model and of those it began from, as each recorded them."""
    earlier: dict[str, Any] | None = record
    while earlier:
        yield earlier.get("training") or {}
        earlier = earlier.get("init_from")


def cost(record: dict[str, Any]) -> dict[str, Any]:
    """Size, operations, latency, and hours of training and of mixtures, those of earlier trainings included."""
    stft, rate = record["model"]["stft"], record["sample_rate"]
    is_causal = not record["model"]["masker"]["recurrence"]["bidirectional"]
    return {
        "parameters": record["parameters"],
        "mmacs": record["macs_per_s"] / 1e6,
        "latency": f"{1000 * (stft['n_fft'] - 1) / rate:.0f} ms" if is_causal else "whole recording",
        "training_h": sum(each.get("hours", 0.0) for each in trainings(record)),
        "mixtures_h": sum(each.get("audio_s", 0.0) for each in trainings(record)) / 3600,
    }


def table(records: dict[str, dict[str, Any]], what: str) -> Numbers:
    """A row for the noisy speech, for each model from the smallest on, and for the oracle mask."""
    ordered = dict(sorted(records.items(), key=lambda item: item[1].get("parameters", 0)))
    systems = next(iter(records.values()))["summary"]["overall"]
    rows: list[dict[str, Any]] = [{"model": "noisy", **scores(systems["noisy"])}]
    for name, record in ordered.items():
        facts = cost(record) if "parameters" in record else {}
        rows.append({"model": name, **facts, **scores(record["summary"]["overall"]["denoised"])})
    rows.append({"model": "oracle ratio mask", **scores(systems["oracle mask"])})
    used = {key: column for key, column in COLUMNS.items() if any(key in row for row in rows)}
    return Numbers.measured(what, used, rows)


def models_of_the_package() -> Numbers:
    """The table of the shipped models; the date is that of their files, the machine that of the table that is there."""
    records = {name: read_config(WEIGHTS / name) for name in shipped_models()}
    commits: dict[str, list[str]] = {}
    for name, record in records.items():
        commits.setdefault(short_commit(record["commit"]), []).append(name)
    before = Numbers.read(ROOT / "docs" / "numbers" / "models.json")
    numbers = table(records, before.what)
    of_models = ", ".join(f"{commit} ({', '.join(names)})" for commit, names in commits.items())
    git = ["git", "-C", str(ROOT), "log", "-1", "--format=%as", "--", str(WEIGHTS)]
    date = subprocess.run(git, check=False, capture_output=True, text=True).stdout.strip() or before.date
    return replace(numbers, command=EVALUATE, commit=of_models, machine=before.machine, date=date)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("metrics", type=Path, nargs="?", help="metrics.json of a run (the shipped models)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/numbers/models.json", help="the table as JSON")
    options = parser.parse_args(arguments)
    if options.metrics:
        record = json.loads(options.metrics.read_text(encoding="utf-8"))
        count = record["summary"]["overall"]["denoised"]["si_sdr"]["files"]
        measured = table({record["name"]: record}, f"{record['name']} on {count} mixtures of its test split")
        day = f"{datetime.fromtimestamp(options.metrics.stat().st_mtime, UTC):%Y-%m-%d}"
        facts = {"command": record["command"], "commit": short_commit(record["commit"])}
        numbers = replace(measured, **facts, machine=machine(), date=day)
    else:
        numbers = models_of_the_package()
    numbers.write(options.out)
    print(f"{numbers.markdown()}\n{numbers.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
