"""Prepare a folder of clean speech and a folder of noise, to be mixed in training.

    SPEECH/anna/01.wav    (the first folder is the speaker)
    NOISE/rain/roof.wav   (the first folder is the class of noise)

Without speech, the noise is for trainings that take speech from another corpus: experiment=adapt.

Splits go by speaker and by noise file, so that none is in two of them. If the first folder level is train, valid and
test, these splits are kept, and speaker and class are one level further down.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hushwork.prepare.corpus import add_speaker_option, add_split_options, corpus_parser, run
from hushwork.prepare.items import Item, find_audio, noise_items, speaker_of


def main(argv: Sequence[str] | None = None) -> int:
    parser = corpus_parser(__doc__, "folders")
    parser.add_argument("--speech", type=Path, metavar="DIR", help="the clean speech")
    parser.add_argument("--noise", type=Path, required=True, metavar="DIR", help="the noise")
    parser.add_argument("--speech-licence", default="unknown", help="default: %(default)s")
    parser.add_argument("--noise-licence", default="unknown", help="default: %(default)s")
    add_speaker_option(parser)
    add_split_options(parser, 0.1)
    return run(parser.parse_args(argv), find_items)


def find_items(args: argparse.Namespace, skipped: list[str]) -> list[Item]:
    noise = noise_items(args.noise, args.noise_licence)
    if args.speech is None:
        return noise
    files = find_audio(args.speech, "speech")
    labels = {"kind": "speech", "source": args.speech.resolve().name, "licence": args.speech_licence}
    speech = [
        Item((file,), labels | {"split": file.split, "speaker": speaker_of(file, args.speaker_pattern)})
        for file in files
    ]
    return speech + noise
