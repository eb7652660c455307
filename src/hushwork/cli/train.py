"""``hushwork train``: train a denoiser, configured by Hydra; the same as ``python train.py`` in a checkout."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a denoiser",
        description="Train a denoiser: hushwork train experiment=cwrnn. 'hushwork train --help' lists the settings.",
    )
    parser.add_argument("arguments", nargs="*", metavar="KEY=VALUE", help="of the configuration")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    sys.argv = [__file__, *options.arguments]  # further processes of a training are started with it, too
    main()
    return 0


def main() -> None:
    """Run what the command line configures; with ``-m`` every combination."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from hydra.utils import instantiate
    from omegaconf import DictConfig

    from hushwork.config import config_dir, quieten_other_ranks, refuse_renamed, register_resolvers
    from hushwork.data.recordings import ManifestError

    try:
        refuse_renamed(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
    register_resolvers()
    quieten_other_ranks(sys.argv)

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
    def train(cfg: DictConfig) -> Any:
        try:
            return instantiate(cfg.run)(cfg)
        except ManifestError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # the sweeper continues with the next trial
                raise
            sys.exit(f"error: {error}")

    train()


if __name__ == "__main__":
    main()
