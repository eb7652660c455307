#!/usr/bin/env python3
"""Synthesise the words that replace TIMIT in ``reproduce_clockwork_paper.py --task words``.

    python scripts/paper/make_spoken_words.py           # into scripts/paper/clockwork_paper/words

Seven English voices of the text-to-speech model Kokoro-82M (Apache-2.0) each say 25 words. Each voice has one Ogg file
with the words in a fixed order, one in each ``SLOT_S`` seconds. Needs espeak-ng, npm and the extras ``corpora`` and
``eval``; the model (about 100 MB) is downloaded into ``--work`` once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from clockwork_paper.words import FOLDER, SAMPLE_RATE, SLOT_S, VOICES, WORDS
from rich.console import Console

from hushwork.prepare.items import PrepareError
from hushwork.prepare.kokoro import Synthesiser, check_tools, fetch_model, phonemise
from hushwork.prepare.utterances import master_speech, seed_of

SPEEDS = (0.85, 1.1)


def speak(synthesiser: Synthesiser, voice: str, word: str) -> np.ndarray:
    """One word in its slot (``SLOT_S`` seconds), after 0.1 s of silence.

    Raises:
        PrepareError: the word does not fit.
    """
    low, high = SPEEDS
    speed = low + (high - low) * (seed_of(voice, word) % 1000) / 999
    language = "en-US" if voice.startswith("a") else "en-GB"
    audio = master_speech(synthesiser.speak(phonemise(f"{word}.", language), voice, speed))
    slot = np.zeros(round(SLOT_S * SAMPLE_RATE), np.float32)
    start = SAMPLE_RATE // 10
    if len(audio) > len(slot) - start:
        raise PrepareError(
            f"{word!r} of {voice} lasts {len(audio) / SAMPLE_RATE:.2f} s, too long for SLOT_S = {SLOT_S}"
        )
    slot[start : start + len(audio)] = audio
    return slot


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Synthesise the words of the clockwork paper's second task.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder (%(default)s)")
    parser.add_argument("--work", type=Path, default=Path("data/starter_work"), help="downloads (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        check_tools()
        synthesiser = Synthesiser(fetch_model(options.work))
        options.out.mkdir(parents=True, exist_ok=True)
        for voice in VOICES:
            spoken = np.concatenate([speak(synthesiser, voice, word) for word in WORDS])
            soundfile.write(options.out / f"{voice}.ogg", spoken, SAMPLE_RATE, format="OGG", subtype="OPUS")
    except PrepareError as error:
        Console(stderr=True).print(f"make_spoken_words: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    print(f"{len(VOICES)} voices, {len(WORDS)} words in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
