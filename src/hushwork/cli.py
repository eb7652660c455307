"""The command ``hushwork``: what can be said to it. What it then does is in :mod:`hushwork.commands`."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from hushwork import __version__, commands, missing

MODEL_HELP = "default, small or offline (they come with hushwork), last (the newest below ./runs), or a model folder"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 something failed, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold what the terminal has no letters for
            stream.reconfigure(errors="backslashreplace")
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
    subparsers = parser.add_subparsers(dest="command", required=True)

    denoise = subparsers.add_parser(
        "denoise",
        help="clean files and folders",
        description="Clean audio files, or all audio files in folders. Sample rate, channels, length and sample format "
        "stay as they are. A file that fails is named, the others go on, and the exit status is 1. Of folders, hidden "
        "files, trash and files of other types are left out, and counted. An output folder keeps account of what is "
        "done: the same command again, after an interruption or with new files, does the rest. With '-' as input and "
        "output, raw samples go from standard input to standard output as they come.",
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
    passes = "standard (default), or best: two passes, one shifted by half a hop, averaged; takes twice the time"
    denoise.add_argument("--quality", choices=("standard", "best"), default="standard", help=passes)
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
    denoise.set_defaults(run=commands.denoise)

    check = subparsers.add_parser(
        "check",
        help="check what a denoised file has kept",
        description="Compare a denoised file with its source: rate, channels, length, format, tags, delay, level, "
        "clipping and silence must be as they were. Exit status 1 if one is not.",
    )
    check.add_argument("source", metavar="IN", help="what was denoised")
    check.add_argument("target", metavar="OUT", help="what came of it")
    check.set_defaults(run=commands.check)

    live = subparsers.add_parser(
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
    live.set_defaults(run=commands.live)

    export = subparsers.add_parser(
        "export",
        help="write a model as ONNX graphs",
        description="Write sequence.onnx (many frames) and, of a causal model, frame.onnx (one frame) with their "
        "metadata, after checking them against each other. spec is the spectrum as (streams, frames, bins, 2), state "
        "is zero at first and handed on.",
    )
    export.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    export.add_argument("folder", metavar="DIR", help="where to write; is made")
    export.add_argument("--sherpa", action="store_true", help="write sherpa.onnx too, for sherpa-onnx (type dpdfnet)")
    export.set_defaults(run=commands.export)

    parity = subparsers.add_parser(
        "parity",
        help="compare all ways of running a model",
        description="Denoise a recording in every way (torch if installed, graphs, chunks, stream) and print how far "
        "they are apart, in dB relative to the signal. Exit status 1 if any is above -80 dB.",
    )
    parity.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parity.add_argument("audio", metavar="AUDIO", help="a recording; its first minute is used")
    parity.set_defaults(run=commands.parity)

    evaluate = subparsers.add_parser(
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
    evaluate.set_defaults(run=commands.evaluate)

    mixtures = subparsers.add_parser(
        "mixtures",
        help="write a corpus's fixed mixtures as files",
        description="Write the mixtures that a corpus is measured with, as clean/NAME.wav and noisy/NAME.wav (float), "
        "to measure other programs with, and a manifest of these pairs.",
    )
    mixtures.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the configuration, such as data=debian")
    mixtures.add_argument("--split", choices=("valid", "test"), default="test")
    mixtures.add_argument("-o", "--output", required=True, help="the folder; is made")
    mixtures.set_defaults(run=commands.mixtures)

    data_report = subparsers.add_parser(
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
    data_report.set_defaults(run=commands.data_report)

    runs = subparsers.add_parser(
        "runs",
        help="compare training runs",
        description="What was trained below a folder, a line for each run: what was changed, status, cost, and "
        "scores of the test split with 95 % intervals over files.",
    )
    runs.add_argument("folder", nargs="?", metavar="DIR", default="runs", help="default: runs")
    runs.add_argument("--sort", metavar="COLUMN", help="by a column of the csv file, such as pesq_wb")
    runs.add_argument("--time", action="store_true", help="measure how long each exported model takes, on one core")
    runs.add_argument(
        "--against",
        metavar="RUN",
        help="show how much more than those of this run's folder scores are, mixture by mixture",
    )
    runs.add_argument("--csv", metavar="FILE", help="write all columns")
    runs.add_argument("--plot", metavar="FILE", help="draw quality against operations and time (png, svg or pdf)")
    runs.set_defaults(run=commands.runs)

    summary = subparsers.add_parser(
        "summary",
        help="parameters and operations of experiments",
        description="Parameters and multiply-accumulates per second of audio, by one rule for all models.",
    )
    summary.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="default: all in conf/experiment")
    summary.set_defaults(run=commands.summary)

    doctor = subparsers.add_parser(
        "doctor",
        help="say what is installed and whether it works",
        description="Packages, extras, programs, formats and models, each OK, missing or broken, and what to do; then "
        "a test of denoising. Exit status 1 if that does not work.",
    )
    doctor.add_argument("--json", action="store_true", help="for programs to read")
    doctor.set_defaults(run=commands.doctor)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help=f"{MODEL_HELP}; default $HUSHWORK_MODEL, else default")


def _add_strength(parser: argparse.ArgumentParser) -> None:
    purposes = "listening (default, full strength), or asr: for speech recognisers, --mix 0.8"
    parser.add_argument("--for", dest="purpose", choices=("listening", "asr"), default="listening", help=purposes)
    parser.add_argument("--mix", type=float, help="share of the denoised signal, 0 to 1 (default: by --for; else 1)")
    parser.add_argument("--max-attenuation-db", type=float, metavar="DB", help="turn nothing down by more than this")
    gate = "fade out what stays below this level, relative to full scale, such as -50 (default: off)"
    parser.add_argument("--gate", type=float, metavar="DB", help=gate)
    parser.add_argument("--noise-only", action="store_true", help="give what is taken away instead of what stays")


if __name__ == "__main__":
    sys.exit(main())
