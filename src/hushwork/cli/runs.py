"""``hushwork runs``: compare training runs."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "runs",
        help="compare training runs",
        description="A table of the training runs below a folder: changed settings, status, cost, and scores of the "
        "test split with 95 % intervals over files.",
    )
    parser.add_argument("folder", nargs="?", metavar="DIR", default="runs", help="default: runs")
    parser.add_argument("--sort", metavar="COLUMN", help="sort by a column of the csv file, such as pesq_wb")
    parser.add_argument("--time", action="store_true", help="measure how long each exported model takes, on one core")
    parser.add_argument(
        "--against",
        metavar="RUN",
        help="show the scores minus those of the run in this folder, mixture by mixture",
    )
    parser.add_argument("--csv", metavar="FILE", help="write all columns")
    parser.add_argument("--plot", metavar="FILE", help="draw quality against operations and time (png, svg or pdf)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hushwork.runs.record import find_runs
    from hushwork.runs.table import as_table, sort_runs, write_csv

    runs = find_runs(options.folder)
    if options.against:
        from hushwork.runs.compare import against

        runs = against(runs, options.against)
    if options.time:
        from hushwork.runs.timing import with_time

        runs = with_time(runs)
    if options.sort:
        runs = sort_runs(runs, options.sort)
    Console(width=None if sys.stdout.isatty() else 200).print(as_table(runs))
    if options.csv:
        write_csv(runs, options.csv)
    if options.plot:
        from hushwork.runs.plot import draw_quality_against_cost

        draw_quality_against_cost(runs).savefig(options.plot, dpi=110)
    return 0
