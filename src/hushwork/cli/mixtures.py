"""``hushwork mixtures``: write the fixed mixtures of a corpus as files."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from hushwork.cli.common import FIXED_MIXTURES


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "mixtures",
        help="write the fixed mixtures of a corpus as files",
        description="Write the mixtures that models are evaluated on, as clean/NAME.wav and noisy/NAME.wav (float), "
        "to evaluate other programs on, and a manifest of these pairs.",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings of the configuration, such as data=debian"
    )
    parser.add_argument("--split", choices=("valid", "test"), default="test", help="default: test")
    parser.add_argument(
        "--listening",
        action="store_true",
        help="write the 40 locked mixtures of the listening set, from the test split of data=debian, and verify them; "
        "hushwork denoise DIR/noisy -o DIR/denoised --report DIR/listen.html plays them on one page",
    )
    parser.add_argument("-o", "--output", required=True, help="the output folder; is created")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from hydra.utils import instantiate

    from hushwork.config import compose_config
    from hushwork.config_checks import refuse_unused
    from hushwork.data.datasets import write_pairs
    from hushwork.evaluation.listening import ListeningSet, differences

    if options.listening:
        if options.split != "test":
            raise ValueError("--listening is a part of the test split; leave --split valid out")
        refuse_unused(options.overrides, "--listening", unused=("data.eval_*", "data.num_test", "sample_rate"))
    refuse_unused(
        options.overrides, "hushwork mixtures", used=(*FIXED_MIXTURES, f"data.num_{options.split}", "sample_rate")
    )
    cfg = compose_config(options.overrides)
    datamodule = instantiate(cfg.data)
    datamodule.refuse_unused(options.overrides, [options.split])
    dataset = datamodule.fixed_dataset(options.split)
    if options.listening:
        dataset = ListeningSet(dataset)
    manifest = write_pairs(dataset, options.output, options.split, cfg.sample_rate)
    print(f"{len(dataset)} pairs, {manifest}")
    if options.listening and (changed := differences(dataset)):
        print(
            f"hushwork mixtures: {changed[0]} and {len(changed) - 1} more are not the locked mixtures; compare what "
            "you hear with this corpus alone, or take data=debian as hushwork prepare debian writes it",
            file=sys.stderr,
        )
        return 1
    return 0
