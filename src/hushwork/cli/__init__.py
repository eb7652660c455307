"""The command ``hushwork``: one module a command, with its parser and its action."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from importlib import import_module

from hushwork import __version__, missing

COMMANDS = (
    *("denoise", "check", "live", "train", "prepare", "evaluate", "mixtures", "data_report"),
    *("runs", "summary", "export", "web", "parity", "doctor"),
)
PASS_ON = ("train", "prepare")
"""Commands that pass their arguments on, options included, to a program with a parser of its own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 something failed, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(words)
    try:
        status: int = options.run(options)
    except ModuleNotFoundError as error:
        print(f"hushwork {options.command} {missing(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reading end of the pipe was closed
        sys.stdout = None
        return 1
    except (ValueError, OSError) as error:
        print(f"hushwork {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The options of a command; ``words`` are kept under that name."""
    own = 1 if words and words[0] in PASS_ON else len(words)
    options = _parser().parse_args(words[:own], argparse.Namespace(words=words))
    if own < len(words):
        options.arguments = words[own:]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hushwork", description="Speech denoising with recurrent networks.")
    parser.add_argument("--version", action="version", version=f"hushwork {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        import_module(f"hushwork.cli.{name}").add_parser(subparsers)
    return parser
