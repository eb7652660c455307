#!/usr/bin/env python3
"""Coverage-guided fuzzing of the readers: find input that is neither accepted nor refused properly.

Needs ``pip install atheris`` (Linux; Python 3.11 to 3.13). The targets are those of ``tests/test_fuzz.py``.

    python scripts/fuzz/fuzz.py config runs/fuzz --seconds 3600

Input that reaches new code is saved in ``runs/fuzz/config/corpus``, where the next search starts. A finding ends the
search with its traceback and is saved as ``runs/fuzz/config/crash-*``, ``oom-*`` or ``timeout-*``; ``--again FILE``
repeats it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

MEMORY_MB = 2048  # of the process, including torch
TIMEOUT_S = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="config, weights, sums, manifest, arrow, audio or metadata")
    parser.add_argument("folder", type=Path, help="for the corpus and findings; created if missing")
    parser.add_argument("--seconds", type=int, default=600, help="duration of the search (default 600)")
    parser.add_argument("--again", type=Path, metavar="FILE", help="try this file only")
    options = parser.parse_args()
    try:
        import atheris
    except ModuleNotFoundError:
        sys.exit("fuzz.py needs atheris: pip install atheris (Linux; Python 3.11 to 3.13)")
    with atheris.instrument_imports(include=["hushwork"]):
        from fuzz_targets import TARGETS, make_seeds
    if options.target not in TARGETS:
        parser.error(f"target is {options.target!r}; choose from {', '.join(TARGETS)}")
    findings = options.folder / options.target
    corpus, scratch = findings / "corpus", findings / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # left by the last search: the fuzzer exits without clean-up
    corpus.mkdir(parents=True, exist_ok=True)
    scratch.mkdir()
    seeds, target = make_seeds(scratch)[options.target], TARGETS[options.target]
    if options.again:
        print("accepted" if target(scratch / options.target, options.again.read_bytes()) else "refused")
        return
    for number, seed in enumerate(seeds):
        (corpus / f"seed_{number}").write_bytes(seed)
    limits = [f"-max_total_time={options.seconds}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={TIMEOUT_S}"]
    command_line = [sys.argv[0], *limits, f"-artifact_prefix={findings}/", "-max_len=20000", str(corpus)]
    atheris.Setup(command_line, lambda content: target(scratch / options.target, content))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
