"""``hushwork evaluate``: measure a model on a corpus."""

from __future__ import annotations

import argparse
from typing import Any

from hushwork.cli.common import FIXED_MIXTURES, add_model


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on a corpus",
        description="Measure a model, the noisy input and an oracle mask on the fixed mixtures of a corpus.",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings of the configuration, such as data=debian"
    )
    add_model(parser)
    parser.add_argument("--split", choices=("valid", "test"), default="test", help="default: test")
    names = "separated by commas, or quick: without the networks that judge; default: all that are installed"
    parser.add_argument("--metrics", metavar="NAMES", help=names)
    where = "folder for metrics.json and metrics.csv; default: evaluation/ in the run, else in runs/MODEL"
    parser.add_argument("-o", "--output", help=where)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from pathlib import Path

    from hydra.utils import instantiate

    from hushwork.config import compose_config
    from hushwork.config_checks import refuse_unused
    from hushwork.evaluation.evaluate import evaluate, print_tables, write_results
    from hushwork.evaluation.metrics import chosen_metrics
    from hushwork.models.export import load_for_training
    from hushwork.network.model_folder import find_model, read_config

    model = find_model(options.model)
    denoiser = load_for_training(model)
    refuse_unused(options.overrides, "hushwork evaluate", used=(*FIXED_MIXTURES, f"data.num_{options.split}"))
    cfg = compose_config([*options.overrides, f"sample_rate={denoiser.sample_rate}"])
    datamodule = instantiate(cfg.data)
    datamodule.refuse_unused(options.overrides, [options.split])
    metadata = {
        "model": str(model),
        "trained": {key: value for key, value in read_config(model).items() if key != "summary"},
        "data": {"manifest": cfg.data.manifest, "sha256": datamodule.manifest.sha256, "split": options.split},
    }
    is_of_run = model.name == "model"
    output = Path(options.output or (model.parent if is_of_run else Path("runs", model.name)) / "evaluation")
    metrics = chosen_metrics(options.metrics, denoiser.sample_rate)
    results = write_results(evaluate(denoiser, datamodule.fixed_dataset(options.split), metrics), output, metadata)
    print_tables(results["summary"])
    print(f"metrics {output / 'metrics.json'}")
    return 0
