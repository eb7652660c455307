"""The command ``hushwork``. Commands import what they need when they run, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hushwork import __version__, missing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 something failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except ModuleNotFoundError as error:
        print(f"hushwork {options.command} {missing(error)}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"hushwork {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hushwork", description="Speech denoising with recurrent networks.")
    parser.add_argument("--version", action="version", version=f"hushwork {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    denoise = commands.add_parser(
        "denoise",
        help="clean files and folders",
        description="Clean audio files, or all audio files in folders. Sample rate, channels, length and sample format "
        "stay as they are. A file that fails is named, the others go on, and the exit status is 1.",
    )
    denoise.add_argument("inputs", nargs="+", metavar="INPUT", help="audio files or folders")
    denoise.add_argument(
        "-o", "--output", required=True, help="the file to write; for folders or several inputs, the folder"
    )
    denoise.add_argument("--model", help="model folder; default $HUSHWORK_MODEL, else the newest below ./runs")
    denoise.add_argument("--mix", type=float, default=1.0, help="share of the denoised signal, 0 to 1 (default 1)")
    denoise.add_argument("--max-attenuation-db", type=float, metavar="DB", help="turn nothing down by more than this")
    denoise.add_argument("--jobs", type=int, metavar="N", help="batches of files at the same time (default: cores)")
    denoise.add_argument("--overwrite", action="store_true", help="replace files that exist")
    denoise.set_defaults(run=_denoise)

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on a corpus",
        description="Measure a model on the fixed mixtures of a corpus, beside the noisy input and an oracle mask.",
    )
    evaluate.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the configuration, such as data=debian")
    evaluate.add_argument("--model", help="model folder; default $HUSHWORK_MODEL, else the newest below ./runs")
    evaluate.add_argument("--split", choices=("valid", "test"), default="test")
    evaluate.add_argument("-o", "--output", help="folder for metrics.json and metrics.csv; default MODEL/../evaluation")
    evaluate.set_defaults(run=_evaluate)

    summary = commands.add_parser(
        "summary",
        help="parameters and operations of experiments",
        description="Parameters and multiply-accumulates per second of audio, by one rule for all models.",
    )
    summary.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="default: all in conf/experiment")
    summary.set_defaults(run=_summary)
    return parser


def _denoise(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from hushwork.inference.files import denoise_files, plan_targets
    from hushwork.inference.pretrained import default_model, load_pretrained
    from hushwork.inference.stream import Strength

    strength = Strength(mix=options.mix, max_attenuation_db=options.max_attenuation_db)
    plan = plan_targets(options.inputs, options.output)
    model = options.model or default_model()
    denoiser = load_pretrained(model)
    failed = 0
    with tqdm(total=None, unit=" s", desc="denoising", leave=False, disable=None) as bar:
        outcomes = denoise_files(
            plan, denoiser, strength, overwrite=options.overwrite, jobs=options.jobs, progress=bar.update
        )
        for done, outcome in enumerate(outcomes, 1):
            bar.set_postfix_str(f"{done}/{len(plan)} files")
            if outcome.error:
                failed += 1
                bar.write(outcome.error, file=sys.stderr)
            elif outcome.repaired:
                repaired = f"{outcome.repaired} samples were NaN or infinite and were set to 0"
                bar.write(f"{outcome.source}: {repaired}", file=sys.stderr)
    print(f"{len(plan) - failed} of {len(plan)} files written with {model}")
    return 1 if failed else 0


def _evaluate(options: argparse.Namespace) -> int:
    from pathlib import Path

    from hydra.utils import instantiate

    from hushwork.config import compose_config
    from hushwork.evaluation import evaluate, print_tables, write_results
    from hushwork.export import load_for_training
    from hushwork.inference.pretrained import default_model, read_config

    model = Path(options.model or default_model())
    denoiser = load_for_training(model)
    cfg = compose_config([*options.overrides, f"sample_rate={denoiser.sample_rate}"])
    datamodule = instantiate(cfg.data)
    about = {
        "model": str(model),
        "trained": {key: value for key, value in read_config(model).items() if key != "summary"},
        "data": {"manifest": cfg.data.manifest, "sha256": datamodule.manifest.sha256, "split": options.split},
    }
    output = Path(options.output or model.parent / "evaluation")
    results = write_results(evaluate(denoiser, datamodule.fixed_dataset(options.split)), output, about)
    print_tables(results["summary"])
    print(f"metrics {output / 'metrics.json'}")
    return 0


def _summary(options: argparse.Namespace) -> int:
    from hydra.utils import instantiate
    from rich.console import Console
    from rich.table import Table

    from hushwork.config import compose_config, config_dir
    from hushwork.models.summary import cost

    table = Table()
    for column in ("experiment", "parameters", "M MAC/s", "causal"):
        table.add_column(column, justify="left" if column == "experiment" else "right")
    for name in options.experiments or sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml")):
        model = compose_config([f"experiment={name}"]).get("model")
        if model is None and not options.experiments:
            continue
        if model is None:
            raise SystemExit(f"hushwork summary: the experiment {name} trains no denoiser")
        denoiser = instantiate(model)
        what = cost(denoiser)
        causal = "yes" if denoiser.is_causal else "no"
        table.add_row(name, f"{what.parameters:,}", f"{what.macs_per_s / 1e6:.1f}", causal)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
