"""``hushwork prepare``: write the manifest of a corpus."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

CORPORA = {
    "folders": "a folder of clean speech and one of noise",
    "paired": "a folder of clean and one of noisy files",
    "voicebank-demand": "VoiceBank-DEMAND",
    "dns": "Microsoft's DNS Challenge",
    "librispeech": "LibriSpeech, and a folder of noise",
    "lhotse": "lhotse CutSets, and a folder of noise",
    "debian": "speech and noise from Debian packages",
    "tts": "synthetic voices",
}


def add_parser(subparsers: Any) -> None:
    listed = "; ".join(f"{name}: {description}" for name, description in CORPORA.items())
    parser = subparsers.add_parser(
        "prepare",
        help="write the manifest of a corpus",
        description=f"Prepare a corpus to train on: {listed}. 'hushwork prepare CORPUS --help' lists its options.",
    )
    parser.add_argument("arguments", nargs="*", metavar="CORPUS", help="and its options")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    corpus, *arguments = options.arguments or [""]
    if corpus in ("", "-h", "--help"):
        options.parser.print_help()
        return 0
    if corpus not in CORPORA:
        options.parser.error(f"there is no corpus {corpus!r}; choose one of {', '.join(CORPORA)}")
    preparer = import_module(f"hushwork.prepare.{corpus.replace('-', '_')}")
    status: int = preparer.main(arguments)
    return status
