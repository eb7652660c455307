#!/usr/bin/env python3
"""Does denoising help a recogniser? Word error rates of noisy speech, denoised, and mixtures of both.

    pip install pocketsphinx
    python scripts/prepare_debian.py && python scripts/prepare_tts.py
    python scripts/benchmark_asr.py --model default

Speech with known text (``--speech``, English, of its split "test") is mixed with noise of the split "test" of another
corpus at several SNRs. The recogniser is PocketSphinx with the American English model of its package: it runs offline,
and like many recognisers it was not trained on what denoisers leave behind.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from torchmetrics.functional.text import word_error_rate

from hushwork.audio.mixing import fit_length, scale_to_snr
from hushwork.data.manifest import ManifestError, Recording, load_manifest
from hushwork.data.recordings import Pool, Reader, needed
from hushwork.inference.files import denoise
from hushwork.network.pretrained import load_pretrained
from hushwork.streaming.strength import Strength

RATE = 16_000
SNRS_DB = (0.0, 5.0, 10.0)
MIXES = (1.0, 0.85, 0.7, 0.5)


def pocketsphinx() -> Callable[[np.ndarray], str]:
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
        found = decoder.hyp()
        return found.hypstr if found else ""

    return recognise


def normal(text: str) -> str:
    """Words in small letters, without punctuation."""
    return " ".join(re.findall(r"[a-z']+", text.lower().replace("-", " ")))


def english(path: Path, count: int) -> list[tuple[Recording, Path]]:
    """English recordings with text, spread over the split "test"."""
    manifest = load_manifest(path, RATE)
    known = [r for r in needed(manifest, "speech", "test") if r.text and (r.language or "").startswith("en")]
    if not known:
        raise ManifestError(f"{path}: no English recording of the split 'test' has a text")
    places = np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)
    return [(known[place], manifest.file(known[place].path)) for place in places]


def error_rates(
    speech: Sequence[tuple[Recording, Path]],
    noise: Path,
    denoised: Callable[[np.ndarray, float], np.ndarray],
    recognise: Callable[[np.ndarray], str],
    console: Console,
) -> dict[str, dict[str, float]]:
    """System → condition → word error rate."""
    manifest = load_manifest(noise, RATE)
    reader = Reader(manifest)
    pool = Pool(needed(manifest, "noise", "test"), reader)
    texts: list[str] = []
    heard: dict[tuple[str, str], list[str]] = {}
    for number, (recording, path) in enumerate(track(speech, "recognising", console=console)):
        clean = reader.read(str(path.resolve()))
        texts.append(normal(recording.text or ""))
        heard.setdefault(("clean", "clean"), []).append(recognise(clean))
        heard.setdefault(("denoised", "clean"), []).append(recognise(denoised(clean, 1.0)))
        for snr_db in SNRS_DB:
            rng = np.random.default_rng([number, int(snr_db)])
            sound = pool.fill(pool.names[number % len(pool.names)], len(clean), RATE, rng)
            noisy = clean + scale_to_snr(clean, fit_length(sound, len(clean)), snr_db, RATE)
            condition = f"{snr_db:g} dB"
            heard.setdefault(("noisy", condition), []).append(recognise(noisy))
            for mix in MIXES:
                name = "denoised" if mix == 1 else f"mix {mix:g}"
                heard.setdefault((name, condition), []).append(recognise(denoised(noisy, mix)))
    rates: dict[str, dict[str, float]] = {}
    for (system, condition), found in heard.items():
        rates.setdefault(system, {})[condition] = float(word_error_rate([normal(text) for text in found], texts))
    return rates


def render(rates: dict[str, dict[str, float]]) -> str:
    """Markdown, in per cent."""
    conditions = ["clean", *(f"{snr_db:g} dB" for snr_db in SNRS_DB)]
    lines = [f"| WER % | {' | '.join(conditions)} |", "|---" * (len(conditions) + 1) + "|"]
    for system, by_condition in rates.items():
        cells = [f"{100 * by_condition[name]:.1f}" if name in by_condition else "" for name in conditions]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, default=Path("data/tts/manifest.jsonl"), help="manifest with texts")
    parser.add_argument("--noise", type=Path, default=Path("data/debian/manifest.jsonl"), help="manifest with noise")
    parser.add_argument("--model", help="as of hushwork denoise")
    parser.add_argument("--files", type=int, default=60, help="recordings (%(default)s)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        recognise = pocketsphinx()
        model = load_pretrained(options.model)
        speech = english(options.speech, options.files)

        def denoised(audio: np.ndarray, mix: float) -> np.ndarray:
            return denoise(audio, RATE, model, Strength(mix=mix))

        rates = error_rates(speech, options.noise, denoised, recognise, console)
    except ValueError as error:
        console.print(f"benchmark_asr: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    print(f"{len(speech)} recordings\n\n{render(rates)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
