"""``hushwork live``: denoise the microphone."""

from __future__ import annotations

import argparse
from typing import Any

from hushwork.cli.common import add_model, add_strength, strength_of


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "live",
        help="denoise the microphone",
        description="Denoise a microphone into a loudspeaker, headphones or a virtual cable, with a level meter. Enter "
        "switches between denoised and unchanged sound, q and Enter quits.",
    )
    add_model(parser)
    add_strength(parser)
    parser.add_argument("--input", metavar="DEVICE", help="name or number of the microphone; see --devices")
    parser.add_argument("--output", metavar="DEVICE", help="name or number of the output")
    parser.add_argument("--block-ms", type=float, default=16.0, help="length of a block (default 16)")
    parser.add_argument("--devices", action="store_true", help="list devices and exit")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.live import list_devices, run_live

    if options.devices:
        print(list_devices())
        return 0
    run_live(
        load_pretrained(options.model), strength_of(options), options.input, options.output, options.block_ms / 1000
    )
    return 0
