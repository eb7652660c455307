"""``hushwork data-report``: describe a corpus in numbers."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "data-report",
        help="describe a corpus in numbers",
        description="Minutes, speakers, languages and licences of a corpus; levels, SNR and, with the extra eval, "
        "DNSMOS of recordings spread over it. Markdown.",
    )
    parser.add_argument("manifest", metavar="MANIFEST")
    parser.add_argument(
        "--sample-rate", type=int, metavar="HZ", default=16000, help="sample rate of the corpus (default 16000)"
    )
    parser.add_argument(
        "--files", type=int, metavar="N", default=100, help="files of each split to measure (default 100)"
    )
    parser.add_argument("-o", "--output", help="output file; default: standard output")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from hushwork.atomic import write_atomically
    from hushwork.data.manifest import load_manifest
    from hushwork.evaluation.data_report import describe

    if options.files < 1:
        raise ValueError(f"--files is {options.files}; it must be at least 1")
    report = describe(load_manifest(options.manifest, options.sample_rate), options.files)
    if options.output:
        with write_atomically(options.output) as part:
            part.write_text(report, encoding="utf-8")
    else:
        print(report)
    return 0
