"""``hushwork summary``: parameters and operations of experiments."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "summary",
        help="parameters and operations of experiments",
        description="Parameters and multiply-accumulates per second of audio, by one rule for all models.",
    )
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="default: all in conf/experiment")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from hydra.utils import instantiate
    from rich.console import Console
    from rich.table import Table

    from hushwork.config import compose_config, config_dir
    from hushwork.models.summary import cost

    table = Table()
    for column in ("experiment", "parameters", "M MAC/s", "causal"):
        table.add_column(column, justify="left" if column == "experiment" else "right")
    known = sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))
    for name in options.experiments or known:
        if name not in known:
            raise SystemExit(f"hushwork summary: experiment {name} does not exist; choose one of {', '.join(known)}")
        model = compose_config([f"experiment={name}"]).get("model")
        if model is None and not options.experiments:
            continue
        if model is None:
            raise SystemExit(f"hushwork summary: experiment {name} does not train a denoiser and has no summary")
        denoiser = instantiate(model)
        counted = cost(denoiser)
        causal = "yes" if denoiser.is_causal else "no"
        table.add_row(name, f"{counted.parameters:,}", f"{counted.macs_per_s / 1e6:.1f}", causal)
    Console().print(table)
    return 0
