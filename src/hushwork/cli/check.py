"""``hushwork check``: compare a denoised file with its source."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "check",
        help="compare a denoised file with its source",
        description="Compare a denoised file with its source: rate, channels, length, format, tags, delay, level, "
        "clipping and silence must be unchanged. Exit status 1 if one is not.",
    )
    parser.add_argument("source", metavar="IN", help="the input of hushwork denoise")
    parser.add_argument("target", metavar="OUT", help="its output")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from hushwork.files.check import check_pair

    promises = check_pair(options.source, options.target)
    for promise in promises:
        print(f"{'kept  ' if promise.kept else 'BROKEN'} {promise.name:18} {promise.found}")
    return 0 if all(promise.kept for promise in promises) else 1
