#!/usr/bin/env python3
"""Word error rates of noisy speech, and of speech denoised at full and at reduced strength.

    pip install -e '.[eval]' pocketsphinx
    hushwork prepare debian && hushwork prepare tts
    hushwork mixtures data=debian_tts data.eval_language=en --split valid -o english
    python scripts/benchmarks/benchmark_asr.py --manifest english/manifest.jsonl --model default

The recogniser is Moonshine tiny-en (a network of 2024) or PocketSphinx with the American English model of its package
(hidden Markov models, of the 2000s); both run offline. The recogniser's transcript of the clean recording is taken as
correct, so that none is needed. Choose settings on the split "valid".
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from torchmetrics.functional.text import word_error_rate

from hushwork.data.manifest import Manifest, load_manifest
from hushwork.data.pool import Reader
from hushwork.data.recordings import ManifestError, Recording
from hushwork.evaluation.metrics import bootstrap_interval
from hushwork.files.denoise import denoise
from hushwork.judges import recogniser
from hushwork.network.pretrained import load_pretrained
from hushwork.runs.numbers import Column, Numbers
from hushwork.streaming.strength import Strength

RATE = 16_000
STRENGTHS = {
    "denoised": Strength(),
    **{f"mix {mix:g}": Strength(mix=mix) for mix in (0.9, 0.8, 0.7)},
    **{f"at most {limit_db} dB": Strength(max_attenuation_db=limit_db) for limit_db in (20, 15, 12, 10)},
}
Recogniser = Callable[[np.ndarray], str]


def moonshine() -> Recogniser:
    """A recogniser: audio (N,) at 16 kHz → text."""
    return lambda audio: recogniser.recognise(audio, RATE)


def pocketsphinx() -> Recogniser:
    """A recogniser: audio (N,) at 16 kHz → text.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        from pocketsphinx import Decoder
    except ModuleNotFoundError:
        raise ValueError("PocketSphinx is not installed: pip install pocketsphinx") from None
    decoder = Decoder(samprate=RATE, loglevel="FATAL")

    def recognise(audio: np.ndarray) -> str:
        decoder.start_utt()
        samples = np.rint(audio * 32767).clip(-32768, 32767).astype("<i2")
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    return recognise


RECOGNISERS = {"moonshine": moonshine, "pocketsphinx": pocketsphinx}


def english_pairs(manifest: Manifest, count: int | None) -> list[Recording]:
    """``count`` pairs of English speech, spread over the manifest; None takes all.

    Raises:
        ManifestError: the manifest has none.
    """
    pairs = [r for r in manifest.recordings if r.kind == "pair" and (r.language or "").split("-")[0] == "en"]
    if not pairs:
        raise ManifestError(f"{manifest.root}: has no pairs of English speech; --help shows how to make them")
    places = np.linspace(0, len(pairs) - 1, min(count or len(pairs), len(pairs))).round().astype(int)
    return [pairs[place] for place in places]


def error_rates(
    pairs: Sequence[Recording],
    reader: Reader,
    denoised: Callable[[np.ndarray, Strength], np.ndarray],
    recognise: Recogniser,
    console: Console,
) -> dict[str, np.ndarray]:
    """System → word error rate of each pair (files,), NaN where the clean recording has no words."""

    def transcript(audio: np.ndarray) -> str:
        return " ".join(recogniser.words(recognise(audio)))

    rates: dict[str, list[float]] = defaultdict(list)
    for pair in track(pairs, "recognising", console=console):
        noisy, correct = reader.read(pair.noisy_path or ""), transcript(reader.read(pair.path))
        outputs = {"noisy": noisy} | {name: denoised(noisy, strength) for name, strength in STRENGTHS.items()}
        for name, audio in outputs.items():
            rates[name].append(float(word_error_rate(transcript(audio), correct)) if correct else float("nan"))
    return {name: np.array(values) for name, values in rates.items()}


def summary(rates: dict[str, np.ndarray], pairs: Sequence[Recording]) -> Numbers:
    """Mean word error rates in per cent: all files, difference to noisy with its 95 % interval, and by SNR."""
    snrs = sorted({pair.snr_db for pair in pairs if pair.snr_db is not None})
    columns = {
        "system": Column("WER %"),
        "all": Column("all", 1),
        "difference": Column("difference to noisy", 1, signed=True),
        **{f"{snr_db:g} dB": Column(f"{snr_db:g} dB", 1) for snr_db in snrs},
    }
    known = np.isfinite(rates["noisy"])
    rows = []
    for system, values in rates.items():
        differences = 100 * (values - rates["noisy"])[known]
        interval = [float(differences.mean()), *map(float, bootstrap_interval(differences))]
        row: dict[str, Any] = {"system": system, "all": 100 * float(values[known].mean()), "difference": interval}
        for snr_db in snrs:
            chosen = known & np.array([pair.snr_db == snr_db for pair in pairs])
            if chosen.any():
                row[f"{snr_db:g} dB"] = 100 * float(values[chosen].mean())
        rows.append(row)
    return Numbers.measured(f"{len(pairs)} recordings", columns, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of pairs, from hushwork mixtures")
    parser.add_argument("--model", help="as for hushwork denoise")
    parser.add_argument("--recogniser", choices=RECOGNISERS, default="moonshine", help="default: %(default)s")
    parser.add_argument("--files", type=int, metavar="N", help="measure N pairs spread over the manifest (all)")
    result = Path("runs/benchmarks/recogniser.json")
    parser.add_argument("--out", type=Path, default=result, help="results (default: %(default)s)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        recognise = RECOGNISERS[options.recogniser]()
        model = load_pretrained(options.model)
        manifest = load_manifest(options.manifest, RATE)
        pairs = english_pairs(manifest, options.files)

        def denoised(audio: np.ndarray, strength: Strength) -> np.ndarray:
            return denoise(audio, RATE, model, strength)

        rates = error_rates(pairs, Reader(manifest), denoised, recognise, console)
    except ValueError as error:
        console.print(f"benchmark_asr: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    numbers = summary(rates, pairs)
    numbers.write(options.out)
    print(f"{numbers.markdown([f'{key}[]' for key in numbers.columns])}\n{numbers.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
