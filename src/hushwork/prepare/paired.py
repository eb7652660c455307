"""Prepare a folder of clean speech and a folder of the same speech with noise.

Files form a pair if their paths below the two folders differ by suffix only:

    CLEAN/anna/01.wav    NOISY/anna/01.flac

The first folder is the speaker. Splits are by speaker, so that none is in two of them. If the first folder level is
train, valid and test, these splits are kept, and the speaker is one level further down.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hushwork.prepare.corpus import add_speaker_option, add_split_options, corpus_parser, run
from hushwork.prepare.items import Item, find_audio, match_pairs, speaker_of


def main(argv: Sequence[str] | None = None) -> int:
    parser = corpus_parser(__doc__, "paired")
    parser.add_argument("--clean", type=Path, required=True, metavar="DIR", help="the clean speech")
    parser.add_argument("--noisy", type=Path, required=True, metavar="DIR", help="the noisy speech")
    parser.add_argument("--licence", default="unknown", help="of the recordings (default: %(default)s)")
    add_speaker_option(parser)
    add_split_options(parser, 0.1)
    return run(parser.parse_args(argv), find_items)


def find_items(args: argparse.Namespace, skipped: list[str]) -> list[Item]:
    pairs = match_pairs(find_audio(args.clean, "clean"), find_audio(args.noisy, "noisy"), skipped)
    labels = {"kind": "pair", "source": args.clean.resolve().name, "licence": args.licence}
    return [
        Item((clean, noisy), labels | {"split": clean.split, "speaker": speaker_of(clean, args.speaker_pattern)})
        for clean, noisy in pairs
    ]
