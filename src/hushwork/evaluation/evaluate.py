"""Scores of a denoiser on fixed mixtures, of the noisy input and of an oracle mask, with confidence intervals.

Shapes: N samples, T frames, F bins.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hushwork.atomic import write_atomically
from hushwork.data.batch import Mixture
from hushwork.data.datasets import NoisySpeechDataset, in_order
from hushwork.evaluation.metrics import INSTALL, NEEDS, available_metrics, bootstrap_interval, is_installed, measure
from hushwork.models.denoiser import Denoiser

SYSTEMS = ("noisy", "denoised", "oracle mask")
MIXTURES_PER_WORKER = 16  # fewer are measured sooner than a worker process starts


@dataclass(frozen=True)
class Row:
    """The scores of one system on one mixture."""

    name: str
    system: str
    speaker: str
    noise_class: str
    snr_db: float
    scores: dict[str, float]
    failures: dict[str, str]


def evaluate(denoiser: Denoiser, dataset: NoisySpeechDataset, metrics: Iterable[str] | None = None) -> list[Row]:
    """Score each mixture of ``dataset``: noisy, denoised, and filtered with the oracle ideal ratio mask.

    Args:
        denoiser: on the CPU, in eval mode.
        dataset: fixed mixtures.
        metrics: names from ``METRICS``; None for :func:`hushwork.evaluation.metrics.available_metrics`.

    Where a metric is not defined for a mixture, its score is NaN and ``failures`` holds the reason.
    """
    names = list(metrics or available_metrics(denoiser.sample_rate))
    jobs: list[tuple[Mixture, str, Future[Any]]] = []
    workers = min(os.cpu_count() or 1, len(dataset) // MIXTURES_PER_WORKER)
    # Spawned processes: forked ones would inherit a threaded library in an unknown state. Each uses one thread, so that
    # the judges' networks do not compete for cores.
    spawn, one_thread = get_context("spawn"), (torch.set_num_threads, (1,))
    pool = ProcessPoolExecutor(workers, spawn, *one_thread) if workers > 1 else _SameProcess()
    try:
        for mixture in in_order(dataset):
            noisy, clean = torch.from_numpy(mixture.noisy)[None], torch.from_numpy(mixture.clean)[None]
            with torch.inference_mode():
                outputs = (noisy, denoiser(noisy), oracle_mask_output(denoiser, noisy, clean))
            for system, output in zip(SYSTEMS, outputs, strict=True):
                arguments = (output[0].numpy(), mixture.clean, denoiser.sample_rate, names, mixture.language)
                jobs.append((mixture, system, pool.submit(measure, *arguments)))
        rows = []
        for mixture, system, future in track(jobs, "measuring", console=Console(stderr=True), transient=True):
            labels = (mixture.name, system, mixture.speaker, mixture.noise_class, mixture.snr_db)
            rows.append(Row(*labels, *future.result()))
    finally:
        pool.shutdown(cancel_futures=True)
    return _with_improvement(rows)


def oracle_mask_output(denoiser: Denoiser, noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """The mixture (B, N) filtered with the ideal ratio mask, in this denoiser's STFT: a bound for magnitude masks.

    Source: Wang, Narayanan and Wang, "On training targets for supervised speech separation", 2014, eq. 2, β = 0.5.
    """
    spectrum = denoiser.analysis(noisy)
    speech, noise = denoiser.analysis(clean).abs().square(), denoiser.analysis(noisy - clean).abs().square()
    mask = (speech / (speech + noise).clamp(min=1e-20)).sqrt()
    return denoiser.synthesis(spectrum * mask, noisy.shape[-1])


def summarize(rows: list[Row]) -> dict[str, Any]:
    """Means with 95 % bootstrap intervals: over all files, by SNR and by noise class; NaN scores are excluded.

    Returns ``{"overall": {system: {metric: {"mean", "low", "high", "files", "failed"}}}, "by_snr": {snr: …},
    "by_noise_class": {class: …}}``.
    """
    return {
        "overall": _by_system(rows),
        "by_snr": {
            f"{snr:g}": _by_system([r for r in rows if r.snr_db == snr]) for snr in _sorted(r.snr_db for r in rows)
        },
        "by_noise_class": {
            name: _by_system([r for r in rows if r.noise_class == name])
            for name in _sorted(r.noise_class for r in rows)
        },
    }


def write_results(rows: list[Row], folder: str | Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Write ``metrics.csv`` (a line per mixture and system) and ``metrics.json`` (metadata and summary).

    Returns what ``metrics.json`` holds.
    """
    folder = Path(folder)
    columns = list(rows[0].scores) if rows else []
    with write_atomically(folder / "metrics.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "system", "speaker", "noise_class", "snr_db", *columns, "failures"])
        for row in rows:
            failures = "; ".join(f"{metric} {reason}" for metric, reason in row.failures.items())
            scores = [f"{row.scores[column]:.4f}" for column in columns]
            writer.writerow([row.name, row.system, row.speaker, row.noise_class, row.snr_db, *scores, failures])
    results = {**metadata, "summary": summarize(rows)}
    with write_atomically(folder / "metrics.json") as part:
        part.write_text(json.dumps(_without_nan(results), indent=2) + "\n", encoding="utf-8")
    return results


def print_tables(summary: dict[str, Any], console: Console | None = None) -> None:
    """Print the means with intervals over all files, and the means by SNR and by noise class."""
    # Without a terminal rich assumes 80 columns, too few for these tables.
    console = console or Console(width=None if Console().is_terminal else 120)
    metrics = list(next(iter(summary["overall"].values())))
    overall = Table(title="Mean over files [95 % interval]", title_justify="left")
    overall.add_column("metric")
    for system in summary["overall"]:
        overall.add_column(system, justify="right", no_wrap=True)
    for name in metrics:
        scores = [summary["overall"][system][name] for system in summary["overall"]]
        means = [f"{s['mean']:.3f} [{s['low']:.3f}, {s['high']:.3f}]" if s["files"] else "–" for s in scores]
        overall.add_row(name, *means)
    missing = [name for name in NEEDS if name not in metrics and not is_installed(name)]
    for name in missing:
        overall.add_row(name, *["not installed"] * len(summary["overall"]))
    console.print(overall)
    if missing:
        console.print(f"To install the missing metrics: {INSTALL}", markup=False)
    shown = [name for name in metrics if name != "si_sdr_improvement"]  # the arrow of si_sdr shows it
    for key, title in (("by_snr", "SNR dB"), ("by_noise_class", "noise class")):
        table = Table(title=f"By {title}: noisy → denoised", title_justify="left")
        table.add_column(title)
        table.add_column("files", justify="right")
        for name in shown:
            table.add_column(name, justify="right", no_wrap=True)
        for group, systems in summary[key].items():
            noisy, denoised = systems["noisy"], systems["denoised"]
            files = str(next(iter(denoised.values()))["files"])
            table.add_row(group, files, *(f"{noisy[n]['mean']:.2f} → {denoised[n]['mean']:.2f}" for n in shown))
        console.print(table)
    for system, by_metric in summary["overall"].items():
        failed = {name: score["failed"] for name, score in by_metric.items() if score["failed"]}
        if failed:
            console.print(
                f"{system}: metrics without a score, and for how many files (reasons in metrics.csv): {failed}",
                style="yellow",
            )


class _SameProcess(Executor):
    """Runs each call at once in this process."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args, **options))
        return future


def _with_improvement(rows: list[Row]) -> list[Row]:
    """Add to each row its improvement of SI-SDR over the noisy input of the same mixture."""
    noisy = {row.name: row.scores.get("si_sdr", float("nan")) for row in rows if row.system == "noisy"}
    for row in rows:
        if "si_sdr" in row.scores:
            row.scores["si_sdr_improvement"] = row.scores["si_sdr"] - noisy[row.name]
    return rows


def _by_system(rows: list[Row]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        system: {
            metric: _mean(np.array([row.scores[metric] for row in rows if row.system == system]))
            for metric in rows[0].scores
        }
        for system in SYSTEMS
    }


def _mean(values: np.ndarray) -> dict[str, float]:
    valid = values[np.isfinite(values)]
    low, high = bootstrap_interval(valid) if len(valid) else (float("nan"), float("nan"))
    mean = float(valid.mean()) if len(valid) else float("nan")
    return {"mean": mean, "low": low, "high": high, "files": len(valid), "failed": len(values) - len(valid)}


def _sorted(values: Iterable[Any]) -> list[Any]:
    return sorted({value for value in values if value == value})


def _without_nan(value: Any) -> Any:
    # Standard JSON has no NaN.
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
