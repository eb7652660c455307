"""``hushwork denoise``: clean files and folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hushwork import __version__
from hushwork.cli.common import add_model, add_strength, strength_of

if TYPE_CHECKING:
    from hushwork.files.denoise import Outcome
    from hushwork.streaming.strength import Strength

NOTED = 20
"""Files whose notes are printed below the summary."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "denoise",
        help="clean files and folders",
        description="Clean audio files, or all audio files in folders. Sample rate, channels, length and sample format "
        "stay as they are. A file that fails is named, the others go on, and the exit status is 1. Of folders, hidden "
        "files, trash and files of other types are left out, and counted. An output folder keeps account of what is "
        "done: the same command again, after an interruption or with new files, does the rest. With '-' as input and "
        "output, raw samples go from standard input to standard output as they come.",
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="audio files or folders, or URLs (s3://, gs://, …)")
    parser.add_argument("--manifest", metavar="FILE", help='a list of files instead, JSON lines: {"path": "a.wav"}')
    parser.add_argument(
        "-o", "--output", required=True, help="the file to write; for folders or several inputs, the folder"
    )
    add_model(parser)
    add_strength(parser)
    linking = "linked (default) and mid turn all channels down alike, by each or by their mean; independent each alone"
    parser.add_argument("--channels", choices=("linked", "independent", "mid"), default="linked", help=linking)
    above = "above what the network hears: mask (default) turns down as below, keep leaves, drop removes"
    parser.add_argument("--high-band", choices=("mask", "keep", "drop"), default="mask", help=above)
    passes = "standard (default), or best: two passes, one shifted by half a hop, averaged; takes twice the time"
    parser.add_argument("--quality", choices=("standard", "best"), default="standard", help=passes)
    parser.add_argument("--shard", metavar="I/N", help="only the I-th of N parts, for several machines on one folder")
    parser.add_argument("--jobs", type=int, metavar="N", help="batches of files at the same time (default: cores)")
    where = "who denoises folders: processes here (local, default), or a Ray cluster; see docs/scale.md"
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help=where)
    cluster = "HOST:PORT of a Ray cluster (default: $RAY_ADDRESS, or one of this machine)"
    parser.add_argument("--ray-address", metavar="ADDRESS", help=cluster)
    parser.add_argument(
        "--raw", metavar="FORMAT", default="s16", choices=("s16", "f32"), help="samples of a pipe: s16 (default) or f32"
    )
    parser.add_argument("--raw-rate", type=int, metavar="HZ", default=16000, help="of a pipe (default 16000)")
    parser.add_argument("--raw-channels", type=int, metavar="N", default=1, help="of a pipe (default 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    page = "write a web page with scores, players and spectrograms of all files, the worst first"
    parser.add_argument("--report", metavar="FILE", help=page)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from contextlib import ExitStack, closing
    from dataclasses import asdict

    from tqdm import tqdm

    from hushwork.atomic import file_sha256
    from hushwork.audio.folders import Skipped
    from hushwork.audio.remote import locate
    from hushwork.files.denoise import denoise_files
    from hushwork.files.engine import denoise_in_processes
    from hushwork.files.ledger import Ledger
    from hushwork.files.plan import plan_manifest, plan_targets, shard_of
    from hushwork.network.model_folder import SHIPPED, SUMS, find_model
    from hushwork.network.pretrained import load_pretrained

    strength = strength_of(options)
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
        from hushwork.files.report import check_page, files_folder

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
            from hushwork.files.cluster import Cluster

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

    from hushwork.files.report import write_report

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
