"""What each command of :mod:`hushwork.cli` does. They import what they need when they run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hushwork import __version__

if TYPE_CHECKING:
    from hushwork.inference.files import Outcome
    from hushwork.streaming.strength import Strength

FIXED_MIXTURES = (  # settings that mixtures for validation and test follow from
    *("data", "data.manifest", "data.train_also", "data.eval_*", "data.cache*"),
    *("experiment", "paths.*"),
)
NOTED = 20
"""Files whose notes are printed below the summary."""


def denoise(options: argparse.Namespace) -> int:
    from contextlib import ExitStack, closing
    from dataclasses import asdict

    from tqdm import tqdm

    from hushwork.atomic import file_sha256
    from hushwork.audio.folders import Skipped
    from hushwork.audio.remote import locate
    from hushwork.inference.engine import denoise_in_processes
    from hushwork.inference.files import denoise_files
    from hushwork.inference.ledger import Ledger
    from hushwork.inference.plan import plan_manifest, plan_targets, shard_of
    from hushwork.network.model_folder import SHIPPED, SUMS, find_model
    from hushwork.network.pretrained import load_pretrained

    strength = _strength(options)
    if "-" in (*options.inputs, options.output):
        if options.inputs != ["-"] or options.output != "-":
            raise ValueError("a pipe goes from standard input to standard output: hushwork denoise - -o -")
        if options.report:
            raise ValueError("--report describes files, and a pipe leaves none; denoise a file instead")
        if options.quality != "standard":
            raise ValueError(f"--quality {options.quality} is for files: two passes do not go through a pipe in step")
        return _denoise_pipe(options, strength)
    if bool(options.inputs) == bool(options.manifest):
        raise ValueError("name audio files or folders, or a list of them with --manifest")
    report_files = None
    if options.report:
        from hushwork.inference.report import check_page, files_folder

        check_page(options.report, overwrite=options.overwrite)
        report_files = files_folder(options.report)
    left_out = Skipped()
    if options.manifest:
        plan = plan_manifest(options.manifest, options.output)
    else:
        plan = plan_targets(options.inputs, options.output, left_out, report_files)
    for reason in left_out.unreadable:
        print(reason, file=sys.stderr)
    if options.shard:
        plan = shard_of(plan, options.output, options.shard)
    model = find_model(options.model)
    denoiser = load_pretrained(model)
    settings = {"channels": options.channels, "high_band": options.high_band, "quality": options.quality}
    one = len(plan) == 1 and plan[0][1] == locate(options.output)
    identity = {"model": file_sha256(model / SUMS), "strength": asdict(strength), **settings}
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
        settings["on_note"] = lambda source, note: bar.write(f"{source}: {note}", file=sys.stderr)
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
    _print_notes(done)
    if str(left_out):
        print(left_out)
    if options.report:
        _write_report(options, done, str(name), strength, str(left_out))
    return 1 if failed or left_out.unreadable else 0


def _print_notes(outcomes: Sequence[Outcome]) -> None:
    """The notes on files once more, below the summary."""
    noted = [outcome for outcome in outcomes if outcome.notes]
    for outcome in noted[:NOTED]:
        print(f"  {outcome.source}: {'; '.join(outcome.notes)}")
    if len(noted) > NOTED:
        print(f"  and notes on {len(noted) - NOTED} more files: see above, the ledger or --report")


def _write_report(
    options: argparse.Namespace, outcomes: Sequence[Outcome], model: str, strength: Strength, left_out: str
) -> None:
    import shlex
    from dataclasses import asdict
    from datetime import datetime

    from tqdm import tqdm

    from hushwork.inference.report import write_report

    settings = {**asdict(strength), "channels": options.channels, "high_band": options.high_band}
    settings["quality"] = options.quality
    about = {
        "model": model,
        "settings": ", ".join(f"{key} {value}" for key, value in settings.items() if value not in (None, False)),
        "hushwork": __version__,
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "command": shlex.join(["hushwork", *options.words]),
    }
    if left_out:
        about["left out"] = left_out
    columns = "report {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left"
    with tqdm(total=1.0, bar_format=columns, leave=False, disable=None) as bar:
        try:
            write_report(options.report, outcomes, about, progress=bar.update)
        except OSError as error:
            raise OSError(f"{options.report}: the report cannot be written ({error})") from error
    print(f"report {options.report}")


def _strength(options: argparse.Namespace) -> Strength:
    from dataclasses import replace

    from hushwork.streaming.strength import PURPOSES

    given = {"mix": options.mix, "max_attenuation_db": options.max_attenuation_db, "gate_db": options.gate}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(PURPOSES[options.purpose], noise_only=options.noise_only, **given)


def _denoise_pipe(options: argparse.Namespace, strength: Strength) -> int:
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.live import denoise_pipe

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


def check(options: argparse.Namespace) -> int:
    from hushwork.inference.contract import check_pair

    promises = check_pair(options.source, options.target)
    for promise in promises:
        print(f"{'kept  ' if promise.kept else 'BROKEN'} {promise.name:18} {promise.found}")
    return 0 if all(promise.kept for promise in promises) else 1


def live(options: argparse.Namespace) -> int:
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.live import list_devices, run_live

    if options.devices:
        print(list_devices())
        return 0
    run_live(load_pretrained(options.model), _strength(options), options.input, options.output, options.block_ms / 1000)
    return 0


def export(options: argparse.Namespace) -> int:
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.onnx_export import write_graphs

    for path in write_graphs(load_pretrained(options.model), options.folder, sherpa=options.sherpa):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


def parity(options: argparse.Namespace) -> int:
    import importlib.util

    from hushwork.audio.io import audio_info, read_audio, resample
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.parity import WORST_DB, difference_db, run_all

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


def evaluate(options: argparse.Namespace) -> int:
    from pathlib import Path

    from hydra.utils import instantiate

    from hushwork.config import compose_config, refuse_unused
    from hushwork.evaluation import evaluate, print_tables, write_results
    from hushwork.export import load_for_training
    from hushwork.metrics import chosen_metrics
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
    of_a_run = model.name == "model"
    output = Path(options.output or (model.parent if of_a_run else Path("runs", model.name)) / "evaluation")
    metrics = chosen_metrics(options.metrics and options.metrics.split(","), denoiser.sample_rate)
    results = write_results(evaluate(denoiser, datamodule.fixed_dataset(options.split), metrics), output, metadata)
    print_tables(results["summary"])
    print(f"metrics {output / 'metrics.json'}")
    return 0


def mixtures(options: argparse.Namespace) -> int:
    from hydra.utils import instantiate

    from hushwork.config import compose_config, refuse_unused
    from hushwork.data.datasets import write_pairs

    refuse_unused(
        options.overrides, "hushwork mixtures", used=(*FIXED_MIXTURES, f"data.num_{options.split}", "sample_rate")
    )
    cfg = compose_config(options.overrides)
    datamodule = instantiate(cfg.data)
    datamodule.refuse_unused(options.overrides, [options.split])
    dataset = datamodule.fixed_dataset(options.split)
    manifest = write_pairs(dataset, options.output, options.split, cfg.sample_rate)
    print(f"{len(dataset)} pairs, {manifest}")
    return 0


def data_report(options: argparse.Namespace) -> int:
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


def runs(options: argparse.Namespace) -> int:
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


def summary(options: argparse.Namespace) -> int:
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
            raise SystemExit(f"hushwork summary: there is no experiment {name}; choose of {', '.join(known)}")
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


def doctor(options: argparse.Namespace) -> int:
    from hushwork.doctor import examine

    report = examine()
    print(report.as_json() if options.json else report.as_text())
    return 0 if report.works else 1
