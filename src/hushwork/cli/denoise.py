"""``hushwork denoise``: denoise files and folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hushwork import __version__
from hushwork.cli.common import add_model, add_strength, strength_of

if TYPE_CHECKING:
    from hushwork.audio.folders import Skipped
    from hushwork.files.job import Outcome
    from hushwork.streaming.strength import Processing, Strength

MAX_NOTED = 20
"""Files whose notes are repeated below the summary."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "denoise",
        help="denoise files and folders",
        description="Denoise audio files, or all audio files in folders. Sample rate, channels, length and sample "
        "format are kept. A file that fails is reported, the others are still denoised, and the exit status is 1. "
        "In folders, hidden files, trash and files of other types are skipped and counted. An output folder records "
        "finished files in .hushwork/: the same command again, after an interruption or with new files, denoises the "
        "rest. With '-' as input and output, raw samples are streamed from standard input to standard output.",
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="audio files or folders, or URLs (s3://, gs://, …)")
    parser.add_argument("--manifest", metavar="FILE", help='a list of inputs, JSON lines: {"path": "a.wav"}')
    parser.add_argument(
        "-o", "--output", required=True, help="the file to write, or the folder for folders and several inputs"
    )
    add_model(parser)
    add_strength(parser)
    linking = "linked (default) and mid attenuate all channels alike, by each or by their mean; independent each alone"
    parser.add_argument("--channels", choices=("linked", "independent", "mid"), default="linked", help=linking)
    above = "frequencies above the network's band: mask (default) attenuates them like those below, keep leaves them, "
    above += "drop removes them"
    parser.add_argument("--high-band", choices=("mask", "keep", "drop"), default="mask", help=above)
    passes = "standard (default), or best: two passes, one shifted by half a hop, averaged; takes twice the time"
    parser.add_argument("--quality", choices=("standard", "best"), default="standard", help=passes)
    parser.add_argument("--shard", metavar="I/N", help="only the I-th of N parts, for several machines on one folder")
    parser.add_argument("--jobs", type=int, metavar="N", help="batches of files at the same time (default: cores)")
    where = "where folders are denoised: processes on this machine (local, default) or a Ray cluster, see docs/scale.md"
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help=where)
    cluster = "HOST:PORT of a Ray cluster (default: $RAY_ADDRESS, or a cluster on this machine)"
    parser.add_argument("--ray-address", metavar="ADDRESS", help=cluster)
    parser.add_argument(
        "--raw", metavar="FORMAT", default="s16", choices=("s16", "f32"), help="samples of a pipe: s16 (default) or f32"
    )
    parser.add_argument(
        "--raw-rate", type=int, metavar="HZ", default=16000, help="sample rate of a pipe (default 16000)"
    )
    parser.add_argument("--raw-channels", type=int, metavar="N", default=1, help="channels of a pipe (default 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    page = "write an HTML page with scores, players and spectrograms of all files, the worst first"
    parser.add_argument("--report", metavar="FILE", help=page)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from hushwork.audio.folders import Skipped
    from hushwork.network.model_folder import SHIPPED, find_model
    from hushwork.streaming.strength import Processing

    strength = strength_of(options)
    if "-" in (*options.inputs, options.output):
        return _denoise_pipe(options, strength)
    processing = Processing(strength, options.channels, options.high_band, options.quality)
    skipped = Skipped()
    plan = _plan(options, skipped)
    for reason in skipped.unreadable:
        print(reason, file=sys.stderr)
    model = find_model(options.model)
    outcomes = _denoise(options, plan, model, processing)
    num_failed = sum(bool(outcome.error) for outcome in outcomes)
    num_before = sum(outcome.skipped for outcome in outcomes)
    name = str(model.name if model.parent == SHIPPED else model)
    before = f", {num_before} were done before" if num_before else ""
    print(f"{len(plan) - num_failed - num_before} of {len(plan)} files written with {name}{before}")
    _print_notes(outcomes)
    if str(skipped):
        print(skipped)
    if options.report:
        _write_report(options, outcomes, name, processing, str(skipped))
    return 1 if num_failed or skipped.unreadable else 0


def _plan(options: argparse.Namespace, skipped: Skipped) -> list[tuple[Path, Path]]:
    """The (source, target) pairs that the command line names."""
    from hushwork.files.plan import plan_manifest, plan_targets, shard_of

    if bool(options.inputs) == bool(options.manifest):
        raise ValueError("name audio files or folders, or a list of them with --manifest")
    report_files = None
    if options.report:
        from hushwork.files.report import check_page, files_folder

        check_page(options.report, overwrite=options.overwrite)
        report_files = files_folder(options.report)
    if options.manifest:
        plan = plan_manifest(options.manifest, options.output)
    else:
        plan = plan_targets(options.inputs, options.output, skipped, report_files)
    return shard_of(plan, options.output, options.shard) if options.shard else plan


def _denoise(
    options: argparse.Namespace, plan: Sequence[tuple[Path, Path]], model: Path, processing: Processing
) -> list[Outcome]:
    """Denoise a single file in this process, several files in worker processes; errors are printed as they occur."""
    from contextlib import ExitStack, closing
    from dataclasses import asdict

    from tqdm import tqdm

    from hushwork.atomic import file_sha256
    from hushwork.audio.remote import locate
    from hushwork.files.denoise import denoise_files
    from hushwork.files.engine import denoise_in_processes
    from hushwork.files.ledger import Ledger
    from hushwork.network.model_folder import SUMS
    from hushwork.network.pretrained import load_pretrained

    denoiser = load_pretrained(model)  # an error of the model comes before any work
    columns = "denoising {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left, {postfix}"
    done: list[Outcome] = []
    with ExitStack() as stack:
        more: dict[str, Any] = {"overwrite": options.overwrite, "jobs": options.jobs}
        is_single = len(plan) == 1 and plan[0][1] == locate(options.output)
        if not is_single and options.engine == "ray":
            from hushwork.files.cluster import Cluster

            cluster = stack.enter_context(Cluster(options.ray_address))
            more |= {"new_worker": cluster.new_worker, "jobs": options.jobs or cluster.num_cpus}
        if not is_single:
            identity = {"model": file_sha256(model / SUMS), **asdict(processing)}
            more["ledger"] = stack.enter_context(Ledger(options.output, identity, options.shard))
        bar = stack.enter_context(tqdm(total=1.0, bar_format=columns, leave=False, disable=None))
        more["progress"] = bar.update
        more["on_note"] = lambda source, note: bar.write(f"{source}: {note}", file=sys.stderr)
        if is_single:
            outcomes = denoise_files(plan, denoiser, **vars(processing), **more)
        else:
            outcomes = denoise_in_processes(plan, model, processing, **more)
        for outcome in stack.enter_context(closing(outcomes)):
            done.append(outcome)
            rate = sum(not each.skipped for each in done) / max(bar.format_dict["elapsed"], 1e-3)
            bar.set_postfix_str(f"{len(done)}/{len(plan)} files, {rate:.1f} a second")
            if outcome.error:
                bar.write(outcome.error, file=sys.stderr)
            if outcome.repaired:
                repaired = f"{outcome.repaired} samples were NaN, infinite or beyond 1e12 and were set to 0"
                bar.write(f"{outcome.source}: {repaired}", file=sys.stderr)
            if outcome.limited:
                limited = f"{outcome.limited} samples were beyond full scale and were limited to it"
                bar.write(f"{outcome.target}: {limited}", file=sys.stderr)
    return done


def _print_notes(outcomes: Sequence[Outcome]) -> None:
    """Repeat the notes on files below the summary."""
    noted = [outcome for outcome in outcomes if outcome.notes]
    for outcome in noted[:MAX_NOTED]:
        print(f"  {outcome.source}: {'; '.join(outcome.notes)}")
    if len(noted) > MAX_NOTED:
        print(f"  and notes on {len(noted) - MAX_NOTED} more files: see above, the ledger or --report")


def _write_report(
    options: argparse.Namespace, outcomes: Sequence[Outcome], model: str, processing: Processing, skipped: str
) -> None:
    import shlex
    from dataclasses import asdict
    from datetime import datetime

    from tqdm import tqdm

    from hushwork.files.report import write_report

    settings = asdict(processing)
    settings = {**settings.pop("strength"), **settings}
    facts = {
        "model": model,
        "settings": ", ".join(f"{key} {value}" for key, value in settings.items() if value not in (None, False)),
        "hushwork": __version__,
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "command": shlex.join(["hushwork", *options.words]),
    }
    if skipped:
        facts["skipped"] = skipped
    columns = "report {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left"
    with tqdm(total=1.0, bar_format=columns, leave=False, disable=None) as bar:
        try:
            write_report(options.report, outcomes, facts, progress=bar.update)
        except OSError as error:
            raise OSError(f"{options.report}: the report cannot be written ({error})") from error
    print(f"report {options.report}")


def _denoise_pipe(options: argparse.Namespace, strength: Strength) -> int:
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.live import denoise_pipe

    if options.inputs != ["-"] or options.output != "-":
        raise ValueError("a pipe goes from standard input to standard output: hushwork denoise - -o -")
    if options.report:
        raise ValueError("--report describes files, and a pipe has none; denoise a file instead")
    if options.quality != "standard":
        raise ValueError(f"--quality {options.quality} is for files: two passes cannot stream in real time")
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
