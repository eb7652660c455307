"""``hushwork doctor``: check the installation."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="check the installation",
        description="Packages, extras, programs, formats and models, each OK, missing or broken, and what to do; then "
        "a test of denoising. Exit status 1 if that fails.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from hushwork.doctor import examine

    report = examine()
    print(report.as_json() if options.json else report.as_text())
    return 0 if report.works else 1
