"""Make a corpus of running speech by many voices: the text-to-speech model Kokoro-82M reads sentences.

    apt-get install espeak-ng npm
    pip install -e '.[corpora,eval]'
    hushwork prepare tts                 # data/tts: 54 voices, about 105 minutes of speech
    hushwork prepare tts --blends 260    # and 10 hours by 260 more training voices, each a blend of two

The speech is synthetic. It adds voices and running speech that recorded corpora lack, and is meant for training
together with recordings (``data=debian_tts``). The model, its voices and the checks that an utterance must pass are
those of the starter corpus, and so are the splits of voices; the sentences come from ``tts_grammar.toml``. The four
voices that the starter corpus excludes, one whispering, are in train here.

Model and voices (Apache-2.0, about 100 MB) are downloaded into ``OUT/.work`` on the first run. An utterance that is
already there, or failed, is not spoken again, so an interrupted run goes on where it was. It takes about an hour on two
cores.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from itertools import combinations, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from hushwork.audio.io import audio_info, write_audio
from hushwork.data.manifest import load_manifest, write_manifest
from hushwork.data.recordings import Recording
from hushwork.prepare.items import PrepareError
from hushwork.prepare.kokoro import (
    SPEEDS,
    VOICES,
    ModelFiles,
    check_tools,
    count_sounds,
    fetch_model,
    phonemise,
    synthesiser,
)
from hushwork.prepare.utterances import (
    MAX_PAUSE_S,
    SAMPLE_RATE,
    master_speech,
    predict_quality,
    seed_of,
    speech_problems,
)

GRAMMAR = Path(__file__).with_name("tts_grammar.toml")
LICENCE = "Apache-2.0"
SOURCE = "kokoro-82m"
# Excluded from the starter corpus: three Santas and a whispering woman.
FURTHER_VOICES = {"af_nicole": "en-US", "am_santa": "en-US", "em_santa": "es", "pm_santa": "pt-BR"}
MINUTES = {"train": 2.3, "valid": 1.0, "test": 1.0}  # of each voice
MIN_LETTERS = 64  # about 4 s
MAX_FAILURES = 60  # of a voice, before it is given up
MIN_DNSMOS_OVRL = 2.6  # a whisper scores lower than speech
PAUSES_S = {
    "af_nicole": 1.2
}  # a whisper is quiet between words; others may be silent for as long as in the starter corpus


def voices() -> dict[str, dict[str, str]]:
    """Language by voice by split, all 54."""
    return {**VOICES, "train": VOICES["train"] | FURTHER_VOICES}


def blends() -> dict[str, str]:
    """Language by name of the blends of two training voices, shuffled. The same on every machine."""
    parents = VOICES["train"]
    rng = np.random.default_rng(seed_of(SOURCE, "blends"))
    pairs = rng.permuted(rng.permutation(list(combinations(parents, 2))), axis=1)
    return {f"{first}+{second}": parents[str(first)] for first, second in pairs}


@cache
def grammar() -> dict[str, dict[str, list[str]]]:
    with GRAMMAR.open("rb") as file:
        return tomllib.load(file)


def sentence(language: str, rng: np.random.Generator) -> str:
    """A sentence in ``language`` ("en", "es", "fr", "it" or "pt")."""
    phrases = grammar()[language]
    text = re.sub(r"{(\w+)}", lambda slot: str(rng.choice(phrases[slot[1]])), str(rng.choice(phrases["patterns"])))
    if language == "fr":
        text = re.sub(r"\bque (?=[aeiou])", "qu'", text)
    return re.sub(r"\w", lambda first: first[0].upper(), text, count=1)


def utterances(voice: str, language: str) -> Iterator[tuple[int, str, float]]:
    """The utterances of a voice, endless: number, text and speed. The same on every machine."""
    number = 0
    while True:
        rng = np.random.default_rng(seed_of(SOURCE, voice, number))
        text = sentence(language[:2], rng)
        while len(text) < MIN_LETTERS:
            text += " " + sentence(language[:2], rng)
        yield number, text, float(rng.uniform(*SPEEDS))
        number += 1


def speak_voice(voice: str, split: str, language: str, seconds: float, files: ModelFiles, out: Path) -> list[Recording]:
    """Synthesise until ``seconds`` of utterances passed the checks, or too many failed; returns the good ones."""
    recordings: list[Recording] = []
    done = 0.0
    for number, text, speed in utterances(voice, language):
        if done >= seconds:
            return recordings
        if number - len(recordings) > MAX_FAILURES:
            return recordings
        name = f"speech/{split}/{voice}/{number:03d}.flac"
        failed = out / ".work" / "failed" / f"{voice}-{number:03d}"
        if failed.exists():
            continue
        if not (out / name).exists():
            phonemes = phonemise(text, language)
            audio = master_speech(synthesiser(files).speak(phonemes, voice, speed))
            problems = speech_problems(audio, count_sounds(phonemes), PAUSES_S.get(voice, MAX_PAUSE_S))
            if problems or predict_quality(audio) < MIN_DNSMOS_OVRL:
                failed.parent.mkdir(parents=True, exist_ok=True)
                failed.touch()
                continue
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_audio(out / name, audio, SAMPLE_RATE)
        duration_s = audio_info(out / name).duration_s
        done += duration_s
        labels: dict[str, Any] = {"speaker": f"kokoro-{voice}", "language": language, "text": text}
        labels |= {"kind": "speech", "split": split, "source": SOURCE, "licence": LICENCE}
        recordings.append(
            Recording(path=name, sample_rate=SAMPLE_RATE, duration_s=round(duration_s, 3), weight=1.0, **labels)
        )
    raise AssertionError("utterances end")


def speak_all(
    chosen: dict[str, dict[str, str]], minutes: float, files: ModelFiles, out: Path, jobs: int, console: Console
) -> list[Recording]:
    """The utterances of the chosen voices (language by voice by split), ``minutes`` times their usual duration, in
    ``jobs`` processes."""
    recordings = []
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn")
    ) as pool:  # the runtime's threads do not survive a fork
        futures = [
            pool.submit(speak_voice, voice, split, language, 60 * minutes * MINUTES[split], files, out)
            for split, group in chosen.items()
            for voice, language in group.items()
        ]
        try:
            for future in track(as_completed(futures), "speaking", total=len(futures), console=console):
                recordings += future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return recordings


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="hushwork prepare tts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/tts"), help="where to write (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the duration of each voice")
    parser.add_argument("--voices", help="names separated by commas (all)")
    blends_help = f"further training voices, each a blend of two (up to {len(blends())})"
    parser.add_argument("--blends", type=int, default=0, metavar="N", help=blends_help)
    parser.add_argument("--jobs", type=int, default=2, help="processes that speak (default: %(default)s)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    known = [voice for group in voices().values() for voice in group]
    names = set(options.voices.split(",") if options.voices else known)
    if unknown := names - set(known):
        raise PrepareError(f"--voices: {min(unknown)} does not exist; choose from {', '.join(known)}")
    if not 0 <= options.blends <= len(blends()):
        raise PrepareError(f"--blends is {options.blends}; choose a number from 0 to {len(blends())}")
    chosen = {split: {v: lang for v, lang in group.items() if v in names} for split, group in voices().items()}
    chosen["train"] |= dict(islice(blends().items(), options.blends))
    check_tools()
    files = fetch_model(options.out / ".work")
    recordings = speak_all(chosen, options.scale, files, options.out, options.jobs, console)
    write_manifest(options.out / "manifest.jsonl", recordings)
    load_manifest(options.out / "manifest.jsonl", SAMPLE_RATE)
    for split in VOICES:
        made = [recording for recording in recordings if recording.split == split]
        for voice in sorted(chosen[split]):
            seconds = sum(r.duration_s for r in made if r.speaker == f"kokoro-{voice}")
            if seconds < (planned := 60 * options.scale * MINUTES[split]):
                console.print(f"{voice}: {seconds:.0f} of {planned:.0f} s; {MAX_FAILURES} utterances failed the checks")
        speakers = len({recording.speaker for recording in made})
        console.print(f"{split}: {sum(r.duration_s for r in made) / 60:.1f} min, {speakers} voices, {len(made)} files")
    return 0
