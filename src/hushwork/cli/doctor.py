"""``hushwork doctor``: say what is installed and whether it works."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="say what is installed and whether it works",
        description="Packages, extras, programs, formats and models, each OK, missing or broken, and what to do; then "
        "a test of denoising. Exit status 1 if that does not work.",
    )
    parser.add_argument("--json", action="store_true", help="for programs to read")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from hushwork.doctor import examine

    report = examine()
    print(report.as_json() if options.json else report.as_text())
    return 0 if report.works else 1
