"""``hushwork export``: write a model as ONNX graphs, or as a model folder of half the size."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hushwork.cli.common import MODEL_HELP


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "export",
        help="write a model as ONNX graphs, or with half the size",
        description="Write sequence.onnx (many frames) and, of a causal model, frame.onnx (one frame) with their "
        "metadata, after checking them against each other. spec is the spectrum as (streams, frames, bins, 2), state "
        "is zero at first and then fed back. With --half-precision, write a model folder instead.",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("folder", metavar="DIR", help="the output folder; is created")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--half-precision",
        action="store_true",
        help="write a model folder whose weights are rounded to float16: half the size, equal time, for all commands; "
        "prints how far its output differs",
    )
    kinds.add_argument("--sherpa", action="store_true", help="write sherpa.onnx too, for sherpa-onnx (type dpdfnet)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.onnx_export import write_graphs

    if options.half_precision:
        return write_half(options.model, Path(options.folder))
    for path in write_graphs(load_pretrained(options.model), options.folder, sherpa=options.sherpa):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


def write_half(name: str, folder: Path) -> int:
    import numpy as np

    from hushwork.network.model_folder import WEIGHTS, find_model, read_card, read_config, read_weights, write_folder
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.parity import difference_db, run_all

    source = find_model(name)
    model, config, card = load_pretrained(source), read_config(source), read_card(source)
    size = (source / WEIGHTS).stat().st_size
    config["weights"] = "float16"
    note = "Weights: rounded to half precision after training."
    card = card if note in card else f"{card.rstrip()}\n\n{note}\n"
    write_folder(folder, read_weights(source), config, card, half_precision=True)
    noise = np.random.default_rng(0).normal(0, 0.1, (1, model.sample_rate)).astype(np.float32)
    before, after = (run_all(each, noise)["sequence graph"] for each in (model, load_pretrained(folder)))
    change = difference_db(noise + (after - before), noise)
    sizes = f"{size / 1e6:.1f} → {(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB"
    print(f"{folder}  {sizes}; white noise comes out with a change of {change:.0f} dB relative to the input")
    return 0
