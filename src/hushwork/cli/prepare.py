"""``hushwork prepare``: write the manifest of a corpus, or a corpus in another format."""

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
FORMATS = {
    "shards": "a corpus as tar shards with an Arrow manifest",
    "stft-arrays": "magnitudes as arrays, for data=stft_arrays",
}


def add_parser(subparsers: Any) -> None:
    corpora, formats = ("; ".join(f"{k}: {v}" for k, v in names.items()) for names in (CORPORA, FORMATS))
    parser = subparsers.add_parser(
        "prepare",
        help="write the manifest of a corpus, or tar shards",
        description=f"Prepare a corpus to train on ({corpora}), or write one in another format ({formats}). "
        "'hushwork prepare CORPUS --help' lists its options.",
    )
    parser.add_argument("arguments", nargs="*", metavar="CORPUS", help="corpus or format, and its options")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    corpus, *arguments = options.arguments or [""]
    if corpus in ("", "-h", "--help"):
        options.parser.print_help()
        return 0
    if corpus not in CORPORA | FORMATS:
        options.parser.error(f"corpus {corpus!r} does not exist; choose one of {', '.join(CORPORA | FORMATS)}")
    preparer = import_module(f"hushwork.prepare.{corpus.replace('-', '_')}")
    status: int = preparer.main(arguments)
    return status
