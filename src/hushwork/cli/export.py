"""``hushwork export``: write a model as ONNX graphs."""

from __future__ import annotations

import argparse
from typing import Any

from hushwork.cli.common import MODEL_HELP


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "export",
        help="write a model as ONNX graphs",
        description="Write sequence.onnx (many frames) and, of a causal model, frame.onnx (one frame) with their "
        "metadata, after checking them against each other. spec is the spectrum as (streams, frames, bins, 2), state "
        "is zero at first and then fed back.",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("folder", metavar="DIR", help="the output folder; is created")
    parser.add_argument("--sherpa", action="store_true", help="write sherpa.onnx too, for sherpa-onnx (type dpdfnet)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.onnx_export import write_graphs

    for path in write_graphs(load_pretrained(options.model), options.folder, sherpa=options.sherpa):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0
