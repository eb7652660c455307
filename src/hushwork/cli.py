"""The command ``hushwork``. Commands import what they need when they run, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hushwork import __version__, missing

if TYPE_CHECKING:
    from hushwork.inference.files import Outcome
    from hushwork.inference.stream import Strength


MODEL_HELP = "default or small (both come with hushwork), last (the newest below ./runs), or a model folder"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 something failed, 2 wrong usage."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(words, argparse.Namespace(words=words))
    try:
        status: int = options.run(options)
    except ModuleNotFoundError as error:
        print(f"hushwork {options.command} {missing(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read our output has had enough
        sys.stdout = None
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
        "stay as they are. A file that fails is named, the others go on, and the exit status is 1. An output folder "
        "keeps account of what is done: the same command again, after an interruption or with new files, does the "
        "rest. With '-' as input and output, raw samples go from standard input to standard output as they come.",
    )
    denoise.add_argument("inputs", nargs="*", metavar="INPUT", help="audio files or folders, or URLs (s3://, gs://, …)")
    denoise.add_argument("--manifest", metavar="FILE", help='a list of files instead, JSON lines: {"path": "a.wav"}')
    denoise.add_argument(
        "-o", "--output", required=True, help="the file to write; for folders or several inputs, the folder"
    )
    _add_model(denoise)
    _add_strength(denoise)
    linking = "linked (default) and mid turn all channels down alike, by each or by their mean; independent each alone"
    denoise.add_argument("--channels", choices=("linked", "independent", "mid"), default="linked", help=linking)
    above = "above what the network hears: mask (default) turns down as below, keep leaves, drop removes"
    denoise.add_argument("--high-band", choices=("mask", "keep", "drop"), default="mask", help=above)
    denoise.add_argument("--shard", metavar="I/N", help="only the I-th of N parts, for several machines on one folder")
    denoise.add_argument("--jobs", type=int, metavar="N", help="batches of files at the same time (default: cores)")
    where = "who denoises folders: processes here (local, default), or a Ray cluster; see docs/scale.md"
    denoise.add_argument("--engine", choices=("local", "ray"), default="local", help=where)
    cluster = "HOST:PORT of a Ray cluster (default: $RAY_ADDRESS, or one of this machine)"
    denoise.add_argument("--ray-address", metavar="ADDRESS", help=cluster)
    denoise.add_argument(
        "--raw", metavar="FORMAT", default="s16", choices=("s16", "f32"), help="samples of a pipe: s16 (default) or f32"
    )
    denoise.add_argument("--raw-rate", type=int, metavar="HZ", default=16000, help="of a pipe (default 16000)")
    denoise.add_argument("--raw-channels", type=int, metavar="N", default=1, help="of a pipe (default 1)")
    denoise.add_argument("--overwrite", action="store_true", help="replace files that exist")
    page = "write a web page with scores, players and spectrograms of all files, the worst first"
    denoise.add_argument("--report", metavar="FILE", help=page)
    denoise.set_defaults(run=_denoise)

    check = commands.add_parser(
        "check",
        help="check what a denoised file has kept",
        description="Compare a denoised file with its source: rate, channels, length, format, tags, delay, level, "
        "clipping and silence must be as they were. Exit status 1 if one is not.",
    )
    check.add_argument("source", metavar="IN", help="what was denoised")
    check.add_argument("target", metavar="OUT", help="what came of it")
    check.set_defaults(run=_check)

    live = commands.add_parser(
        "live",
        help="clean the microphone",
        description="Denoise a microphone into a loudspeaker, headphones or a virtual cable, with a level meter. Enter "
        "switches between denoised and plain sound, q and Enter ends.",
    )
    _add_model(live)
    _add_strength(live)
    live.add_argument("--input", metavar="DEVICE", help="name or number of the microphone; see --devices")
    live.add_argument("--output", metavar="DEVICE", help="name or number of the output")
    live.add_argument("--block-ms", type=float, default=16.0, help="length of a block (default 16)")
    live.add_argument("--devices", action="store_true", help="list devices and end")
    live.set_defaults(run=_live)

    export = commands.add_parser(
        "export",
        help="write a model as ONNX graphs",
        description="Write sequence.onnx (many frames) and, of a causal model, frame.onnx (one frame) with their "
        "metadata, after checking them against each other. spec is the spectrum as (streams, frames, bins, 2), state "
        "is zero at first and handed on.",
    )
    export.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    export.add_argument("folder", metavar="DIR", help="where to write; is made")
    export.add_argument("--sherpa", action="store_true", help="write sherpa.onnx too, for sherpa-onnx (type dpdfnet)")
    export.set_defaults(run=_export)

    parity = commands.add_parser(
        "parity",
        help="compare all ways of running a model",
        description="Denoise a recording in every way (torch if installed, graphs, chunks, stream) and print how far "
        "they are apart, in dB relative to the signal. Exit status 1 if any is above -80 dB.",
    )
    parity.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parity.add_argument("audio", metavar="AUDIO", help="a recording; its first minute is used")
    parity.set_defaults(run=_parity)

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on a corpus",
        description="Measure a model on the fixed mixtures of a corpus, beside the noisy input and an oracle mask.",
    )
    evaluate.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the configuration, such as data=debian")
    _add_model(evaluate)
    evaluate.add_argument("--split", choices=("valid", "test"), default="test")
    evaluate.add_argument("--metrics", metavar="NAMES", help="separated by commas; default: all that are installed")
    where = "folder for metrics.json and metrics.csv; default: evaluation/ in the run, else in runs/MODEL"
    evaluate.add_argument("-o", "--output", help=where)
    evaluate.set_defaults(run=_evaluate)

    mixtures = commands.add_parser(
        "mixtures",
        help="write a corpus's fixed mixtures as files",
        description="Write the mixtures that a corpus is measured with, as clean/NAME.wav and noisy/NAME.wav (float), "
        "to measure other programs with, and a manifest of these pairs.",
    )
    mixtures.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the configuration, such as data=debian")
    mixtures.add_argument("--split", choices=("valid", "test"), default="test")
    mixtures.add_argument("-o", "--output", required=True, help="the folder; is made")
    mixtures.set_defaults(run=_mixtures)

    data_report = commands.add_parser(
        "data-report",
        help="describe a corpus in numbers",
        description="Minutes, speakers, languages and licences of a corpus; levels, SNR and, with the extra eval, "
        "DNSMOS of recordings spread over it. Markdown.",
    )
    data_report.add_argument("manifest", metavar="MANIFEST")
    data_report.add_argument(
        "--sample-rate", type=int, metavar="HZ", default=16000, help="of the corpus (default 16000)"
    )
    data_report.add_argument(
        "--files", type=int, metavar="N", default=100, help="to measure, of each split (default 100)"
    )
    data_report.add_argument("-o", "--output", help="a file to write it to; default: standard output")
    data_report.set_defaults(run=_data_report)

    runs = commands.add_parser(
        "runs",
        help="compare training runs",
        description="What was trained below a folder, a line for each run: what was changed, status, cost, and "
        "scores of the test split with 95 % intervals over files.",
    )
    runs.add_argument("folder", nargs="?", metavar="DIR", default="runs", help="default: runs")
    runs.add_argument("--sort", metavar="COLUMN", help="by a column of the csv file, such as pesq_wb")
    runs.add_argument("--time", action="store_true", help="measure how long each exported model takes, on one core")
    runs.add_argument("--csv", metavar="FILE", help="write all columns")
    runs.add_argument("--plot", metavar="FILE", help="draw quality against operations and time (png, svg or pdf)")
    runs.set_defaults(run=_runs)

    summary = commands.add_parser(
        "summary",
        help="parameters and operations of experiments",
        description="Parameters and multiply-accumulates per second of audio, by one rule for all models.",
    )
    summary.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="default: all in conf/experiment")
    summary.set_defaults(run=_summary)

    doctor = commands.add_parser(
        "doctor",
        help="say what is installed and whether it works",
        description="Packages, extras, programs, formats and models, each OK, missing or broken, and what to do; then "
        "a test of denoising. Exit status 1 if that does not work.",
    )
    doctor.add_argument("--json", action="store_true", help="for programs to read")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help=f"{MODEL_HELP}; default $HUSHWORK_MODEL, else default")


def _add_strength(parser: argparse.ArgumentParser) -> None:
    purposes = "listening (default), or asr: as a speech recogniser did best with; so far both are full strength"
    parser.add_argument("--for", dest="purpose", choices=("listening", "asr"), default="listening", help=purposes)
    parser.add_argument("--mix", type=float, help="share of the denoised signal, 0 to 1 (default: by --for; else 1)")
    parser.add_argument("--max-attenuation-db", type=float, metavar="DB", help="turn nothing down by more than this")
    gate = "fade out what stays below this level, relative to full scale, such as -50 (default: off)"
    parser.add_argument("--gate", type=float, metavar="DB", help=gate)
    parser.add_argument("--noise-only", action="store_true", help="give what is taken away instead of what stays")


def _denoise(options: argparse.Namespace) -> int:
    from contextlib import ExitStack, closing
    from dataclasses import asdict

    from tqdm import tqdm

    from hushwork.audio.remote import locate
    from hushwork.inference.engine import denoise_in_processes
    from hushwork.inference.files import denoise_files, plan_manifest, plan_targets, shard_of
    from hushwork.inference.ledger import Ledger
    from hushwork.inference.pretrained import SHIPPED, SUMS, find_model, load_pretrained, sha256

    strength = _strength(options)
    if "-" in (*options.inputs, options.output):
        if options.inputs != ["-"] or options.output != "-":
            raise ValueError("a pipe goes from standard input to standard output: hushwork denoise - -o -")
        if options.report:
            raise ValueError("--report describes files, and a pipe leaves none; denoise a file instead")
        return _denoise_pipe(options, strength)
    if bool(options.inputs) == bool(options.manifest):
        raise ValueError("name audio files or folders, or a list of them with --manifest")
    if options.report:
        from hushwork.inference.report import check_page

        check_page(options.report, overwrite=options.overwrite)
    if options.manifest:
        plan = plan_manifest(options.manifest, options.output)
    else:
        plan = plan_targets(options.inputs, options.output)
    if options.shard:
        plan = shard_of(plan, options.output, options.shard)
    model = find_model(options.model)
    denoiser = load_pretrained(model)
    settings = {"channels": options.channels, "high_band": options.high_band}
    one = len(plan) == 1 and plan[0][1] == locate(options.output)
    identity = {"model": sha256(model / SUMS), "strength": asdict(strength), **settings}
    settings |= {"strength": strength, "overwrite": options.overwrite, "jobs": options.jobs}
    done: list[Outcome] = []
    failed = skipped = 0
    columns = "denoising {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left, {postfix}"
    with ExitStack() as stack:
        if not one and options.engine == "ray":
            from hushwork.inference.cluster import Cluster

            cluster = stack.enter_context(Cluster(options.ray_address))
            settings |= {"new_worker": cluster.new_worker, "jobs": options.jobs or cluster.num_cpus}
        if not one:
            settings["ledger"] = stack.enter_context(Ledger(options.output, identity, options.shard))
        bar = stack.enter_context(tqdm(total=1.0, bar_format=columns, leave=False, disable=None))
        settings["progress"] = bar.update
        outcomes = denoise_files(plan, denoiser, **settings) if one else denoise_in_processes(plan, model, **settings)
        stack.enter_context(closing(outcomes))
        for outcome in outcomes:
            done.append(outcome)
            failed += bool(outcome.error)
            skipped += outcome.skipped
            rate = (len(done) - skipped) / max(bar.format_dict["elapsed"], 1e-3)
            bar.set_postfix_str(f"{len(done)}/{len(plan)} files, {rate:.1f} a second")
            if outcome.error:
                bar.write(outcome.error, file=sys.stderr)
            if outcome.repaired:
                repaired = f"{outcome.repaired} samples were NaN, infinite or beyond 1e12 and were set to 0"
                bar.write(f"{outcome.source}: {repaired}", file=sys.stderr)
            if outcome.limited:
                limited = f"{outcome.limited} samples were beyond full scale and were brought down to it"
                bar.write(f"{outcome.target}: {limited}", file=sys.stderr)
    name = model.name if model.parent == SHIPPED else model
    before = f", {skipped} were done before" if skipped else ""
    print(f"{len(plan) - failed - skipped} of {len(plan)} files written with {name}{before}")
    if options.report:
        _write_report(options, done, str(name), strength)
    return 1 if failed else 0


def _write_report(options: argparse.Namespace, outcomes: Sequence[Outcome], model: str, strength: Strength) -> None:
    import shlex
    from dataclasses import asdict
    from datetime import datetime

    from tqdm import tqdm

    from hushwork.inference.report import write_report

    settings = {**asdict(strength), "channels": options.channels, "high_band": options.high_band}
    about = {
        "model": model,
        "settings": ", ".join(f"{key} {value}" for key, value in settings.items() if value not in (None, False)),
        "hushwork": __version__,
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "command": shlex.join(["hushwork", *options.words]),
    }
    columns = "report {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left"
    with tqdm(total=1.0, bar_format=columns, leave=False, disable=None) as bar:
        try:
            write_report(options.report, outcomes, about, progress=bar.update)
        except OSError as error:
            raise OSError(f"{options.report}: the report cannot be written ({error})") from error
    print(f"report {options.report}")


def _strength(options: argparse.Namespace) -> Strength:
    from hushwork.inference.stream import PURPOSES, Strength

    mix = PURPOSES[options.purpose].mix if options.mix is None else options.mix
    limits = {"max_attenuation_db": options.max_attenuation_db, "gate_db": options.gate}
    return Strength(mix=mix, noise_only=options.noise_only, **limits)


def _denoise_pipe(options: argparse.Namespace, strength: Strength) -> int:
    from hushwork.inference.live import denoise_pipe
    from hushwork.inference.pretrained import load_pretrained

    kinds = {"s16": "<i2", "f32": "<f4"}
    denoise_pipe(
        sys.stdin.buffer,
        sys.stdout.buffer,
        load_pretrained(options.model),
        strength,
        dtype=kinds[options.raw],
        sample_rate=options.raw_rate,
        num_channels=options.raw_channels,
        channels=options.channels,
        high_band=options.high_band,
    )
    return 0


def _check(options: argparse.Namespace) -> int:
    from hushwork.inference.contract import check_pair

    promises = check_pair(options.source, options.target)
    for promise in promises:
        print(f"{'kept  ' if promise.kept else 'BROKEN'} {promise.name:18} {promise.found}")
    return 0 if all(promise.kept for promise in promises) else 1


def _live(options: argparse.Namespace) -> int:
    from hushwork.inference.live import list_devices, run_live
    from hushwork.inference.pretrained import load_pretrained

    if options.devices:
        print(list_devices())
        return 0
    run_live(load_pretrained(options.model), _strength(options), options.input, options.output, options.block_ms / 1000)
    return 0


def _export(options: argparse.Namespace) -> int:
    from hushwork.inference.parity import write_graphs
    from hushwork.inference.pretrained import load_pretrained

    for path in write_graphs(load_pretrained(options.model), options.folder, sherpa=options.sherpa):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _parity(options: argparse.Namespace) -> int:
    import importlib.util

    from hushwork.audio.io import audio_info, read_audio, resample
    from hushwork.inference.parity import WORST_DB, difference_db, run_all
    from hushwork.inference.pretrained import load_pretrained

    model = load_pretrained(options.model)
    audio, rate = read_audio(options.audio, num_samples=60 * audio_info(options.audio).sample_rate)
    audio = resample(audio, rate, model.sample_rate)
    results = run_all(model, audio)
    if importlib.util.find_spec("torch"):
        import torch

        from hushwork.export import load_for_training

        with torch.inference_mode():
            results = {"torch": load_for_training(options.model)(torch.from_numpy(audio)).numpy(), **results}
    reference = next(iter(results))
    worst = float("-inf")
    for name in list(results)[1:]:
        decibels = difference_db(results[name], results[reference])
        worst = max(worst, decibels)
        print(f"{name:15} {decibels:7.1f} dB from {reference}")
    return 1 if worst > WORST_DB else 0


def _evaluate(options: argparse.Namespace) -> int:
    from pathlib import Path

    from hydra.utils import instantiate

    from hushwork.config import compose_config
    from hushwork.evaluation import evaluate, print_tables, write_results
    from hushwork.export import load_for_training
    from hushwork.inference.pretrained import find_model, read_config
    from hushwork.metrics import chosen_metrics

    model = find_model(options.model)
    denoiser = load_for_training(model)
    cfg = compose_config([*options.overrides, f"sample_rate={denoiser.sample_rate}"])
    datamodule = instantiate(cfg.data)
    about = {
        "model": str(model),
        "trained": {key: value for key, value in read_config(model).items() if key != "summary"},
        "data": {"manifest": cfg.data.manifest, "sha256": datamodule.manifest.sha256, "split": options.split},
    }
    in_a_run = model.name == "model"
    output = Path(options.output or (model.parent if in_a_run else Path("runs", model.name)) / "evaluation")
    metrics = chosen_metrics(options.metrics and options.metrics.split(","))
    results = write_results(evaluate(denoiser, datamodule.fixed_dataset(options.split), metrics), output, about)
    print_tables(results["summary"])
    print(f"metrics {output / 'metrics.json'}")
    return 0


def _mixtures(options: argparse.Namespace) -> int:
    from hydra.utils import instantiate

    from hushwork.config import compose_config
    from hushwork.data.datasets import write_pairs

    cfg = compose_config(options.overrides)
    dataset = instantiate(cfg.data).fixed_dataset(options.split)
    manifest = write_pairs(dataset, options.output, options.split, cfg.sample_rate)
    print(f"{len(dataset)} pairs, {manifest}")
    return 0


def _data_report(options: argparse.Namespace) -> int:
    from pathlib import Path

    from hushwork.data.manifest import load_manifest
    from hushwork.data_report import describe

    if options.files < 1:
        raise ValueError(f"--files is {options.files}; it must be at least 1")
    report = describe(load_manifest(options.manifest, options.sample_rate), options.files)
    if options.output:
        Path(options.output).write_text(report, encoding="utf-8")
    else:
        print(report)
    return 0


def _runs(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hushwork.runs import as_table, draw_quality_against_cost, find_runs, sort_runs, timed, write_csv

    runs = find_runs(options.folder)
    if options.time:
        runs = timed(runs)
    if options.sort:
        runs = sort_runs(runs, options.sort)
    Console(width=None if sys.stdout.isatty() else 200).print(as_table(runs))
    if options.csv:
        write_csv(runs, options.csv)
    if options.plot:
        draw_quality_against_cost(runs).savefig(options.plot, dpi=110)
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


def _doctor(options: argparse.Namespace) -> int:
    from hushwork.doctor import examine

    report = examine()
    print(report.as_json() if options.json else report.as_text())
    return 0 if report.works else 1


if __name__ == "__main__":
    sys.exit(main())
