#!/usr/bin/env python3
"""Does denoising help a recogniser? Word error rates of noisy speech, denoised at full strength, and by less.

    pip install -e '.[eval]' pocketsphinx
    python scripts/prepare_debian.py && python scripts/prepare_tts.py
    python scripts/benchmark_asr.py --model default --split valid

Speech with known text (``--speech``, English) is mixed with noise of the same split of another corpus at several SNRs.
The recogniser is Moonshine tiny-en, a network of 2024, or PocketSphinx with the American English model of its package,
which is twenty years older in kind; both run offline. Settings are to be chosen on the split "valid".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from torchmetrics.functional.text import word_error_rate

from hushwork.audio import recogniser
from hushwork.audio.mixing import fit_length, scale_to_snr
from hushwork.data.manifest import ManifestError, Recording, load_manifest
from hushwork.data.recordings import Pool, Reader, needed
from hushwork.inference.files import denoise
from hushwork.network.pretrained import load_pretrained
from hushwork.streaming.strength import Strength

RATE = 16_000
SNRS_DB = (0.0, 5.0, 10.0)
STRENGTHS = {
    "denoised": Strength(),
    **{f"mix {mix:g}": Strength(mix=mix) for mix in (0.9, 0.8, 0.7, 0.5)},
    **{f"at most {limit_db} dB": Strength(max_attenuation_db=limit_db) for limit_db in (20, 15, 12, 10)},
}


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


def moonshine() -> Callable[[np.ndarray], str]:
    """A recogniser: audio (N,) at 16 kHz → text."""
    return lambda audio: recogniser.recognise(audio, RATE)


RECOGNISERS = {"moonshine": moonshine, "pocketsphinx": pocketsphinx}


def normal(text: str) -> str:
    return " ".join(recogniser.words(text))


def english(path: Path, split: str, count: int) -> list[tuple[Recording, Path]]:
    """English recordings with text, spread over a split."""
    manifest = load_manifest(path, RATE)
    known = [r for r in needed(manifest, "speech", split) if r.text and (r.language or "").startswith("en")]
    if not known:
        raise ManifestError(f"{path}: no English recording of the split {split!r} has a text")
    places = np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)
    return [(known[place], manifest.file(known[place].path)) for place in places]


def error_rates(
    speech: Sequence[tuple[Recording, Path]],
    noise: Path,
    split: str,
    denoised: Callable[[np.ndarray, Strength], np.ndarray],
    recognise: Callable[[np.ndarray], str],
    console: Console,
) -> dict[str, dict[str, float]]:
    """System → condition → word error rate."""
    manifest = load_manifest(noise, RATE)
    reader = Reader(manifest)
    pool = Pool(needed(manifest, "noise", split), reader)
    texts: list[str] = []
    heard: dict[tuple[str, str], list[str]] = {}
    for number, (recording, path) in enumerate(track(speech, "recognising", console=console)):
        clean = reader.read(str(path.resolve()))
        texts.append(normal(recording.text or ""))
        heard.setdefault(("clean", "clean"), []).append(recognise(clean))
        for name, strength in STRENGTHS.items():
            heard.setdefault((name, "clean"), []).append(recognise(denoised(clean, strength)))
        for snr_db in SNRS_DB:
            rng = np.random.default_rng([number, int(snr_db)])
            sound = pool.fill(pool.names[number % len(pool.names)], len(clean), RATE, rng)
            noisy = clean + scale_to_snr(clean, fit_length(sound, len(clean)), snr_db, RATE)
            condition = f"{snr_db:g} dB"
            heard.setdefault(("noisy", condition), []).append(recognise(noisy))
            for name, strength in STRENGTHS.items():
                heard.setdefault((name, condition), []).append(recognise(denoised(noisy, strength)))
    rates: dict[str, dict[str, float]] = {}
    for (system, condition), found in heard.items():
        rates.setdefault(system, {})[condition] = float(word_error_rate([normal(text) for text in found], texts))
    return rates


def render(rates: dict[str, dict[str, float]]) -> str:
    """Markdown, in per cent; the last column is the mean over the SNRs."""
    snrs = [f"{snr_db:g} dB" for snr_db in SNRS_DB]
    lines = [f"| WER % | clean | {' | '.join(snrs)} | mean |", "|---" * (len(snrs) + 3) + "|"]
    for system, by_condition in rates.items():
        values = [by_condition.get(name, float("nan")) for name in ["clean", *snrs]]
        values.append(sum(values[1:]) / len(snrs))
        cells = [f"{100 * value:.1f}" if value == value else "" for value in values]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, default=Path("data/tts/manifest.jsonl"), help="manifest with texts")
    parser.add_argument("--noise", type=Path, default=Path("data/debian/manifest.jsonl"), help="manifest with noise")
    parser.add_argument("--model", help="as of hushwork denoise")
    parser.add_argument("--recogniser", choices=RECOGNISERS, default="moonshine", help="default: %(default)s")
    parser.add_argument("--split", choices=("valid", "test"), default="test", help="default: %(default)s")
    parser.add_argument("--files", type=int, default=60, help="recordings (%(default)s)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        recognise = RECOGNISERS[options.recogniser]()
        model = load_pretrained(options.model)
        speech = english(options.speech, options.split, options.files)

        def denoised(audio: np.ndarray, strength: Strength) -> np.ndarray:
            return denoise(audio, RATE, model, strength)

        rates = error_rates(speech, options.noise, options.split, denoised, recognise, console)
    except ValueError as error:
        console.print(f"benchmark_asr: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    print(f"{len(speech)} recordings\n\n{render(rates)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
