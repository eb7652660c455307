#!/usr/bin/env python3
"""Measure time and memory on this machine: layers, training, denoising, streams, start-up.

    python scripts/benchmarks/benchmark.py                        # all parts, about 15 min on two cores
    python scripts/benchmarks/benchmark.py layer stream           # some parts
    python scripts/benchmarks/benchmark.py memory --hours 10      # a recording of ten hours, made on the fly
    python scripts/benchmarks/benchmark.py --out docs/numbers && python docs/tables.py      # into the documentation

Each part writes a table as JSON. Times on one core are CPU times, which other work on the machine changes little;
"cores", "memory" and "start" need an idle machine. Runs that are compared take turns, and the least time of
each is reported. Networks are untrained, which does not change their cost.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from layer_costs import benchmark_layer
from training_costs import EXPERIMENTS, RATE, SHIPPED, benchmark_step, benchmark_training
from turns import in_turns

from hushwork.audio.io import AudioWriter, write_audio
from hushwork.config import compose_config
from hushwork.files.denoise import denoise_file, denoise_files
from hushwork.models.export import export_model, pretrained
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.runs.numbers import Column, Numbers
from hushwork.streaming.stream import DenoiserStream


def benchmark_denoise(rounds: int) -> Numbers:
    """CPU time of a file of a minute, with reading and writing, and of a folder of 32 such files, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    with tempfile.TemporaryDirectory() as work:
        plan = folder_of_minutes(Path(work))
        source, target = plan[0][0], Path(work) / "out.wav"
        for name in (*EXPERIMENTS, SHIPPED):
            model = untrained(name)
            runs: dict[str, Callable[[], object]] = {
                "file": partial(denoise_file, source, target, model, overwrite=True),
                "folder": partial(denoise_all, plan, model, 1),
            }
            times = in_turns(runs, rounds)
            rows.append({"experiment": name, "file": times["file"] / 60, "folder": times["folder"] / 60 / len(plan)})
    columns = {
        "experiment": Column("experiment"),
        "file": Column("time / length, a file", 4),
        "folder": Column("a folder, one batch at a time", 4),
    }
    return Numbers.measured("CPU time of denoising a file of 60 s, and a folder of 32 such files", columns, rows)


def benchmark_cores(rounds: int) -> Numbers:
    """How many times as fast all cores denoise a folder as one does; on a machine that does nothing else."""
    cores = os.sched_getaffinity(0)
    rows = []
    with tempfile.TemporaryDirectory() as work:
        plan = folder_of_minutes(Path(work))
        for name in (*EXPERIMENTS, SHIPPED):
            runs = {jobs: partial(denoise_all, plan, untrained(name), int(jobs)) for jobs in ("1", str(len(cores)))}
            times = in_turns(runs, rounds, time.perf_counter)
            rows.append({"experiment": name, "cores": times["1"] / times[str(len(cores))]})
    columns = {"experiment": Column("experiment"), "cores": Column(f"{len(cores)} cores, times as fast", 2)}
    return Numbers.measured("A folder of 32 files of 60 s, denoised on one core and on all", columns, rows)


def folder_of_minutes(folder: Path) -> list[tuple[Path, Path]]:
    """32 files of a minute and what they become."""
    return [(noisy_file(folder / f"{k}.wav", 60), folder / "out" / f"{k}.wav") for k in range(32)]


def untrained(experiment: str) -> PretrainedDenoiser:
    return pretrained(instantiate(compose_config([f"experiment={experiment}"]).model))


def denoise_all(plan: Sequence[tuple[Path, Path]], model: PretrainedDenoiser, jobs: int) -> None:
    list(denoise_files(plan, model, overwrite=True, jobs=jobs))


def benchmark_stream(seconds: int) -> Numbers:
    """CPU time of a block of one hop in microseconds: mean, and medians of slowest and fastest clock phase."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    for name in ("rnn", "cwrnn", *EXPERIMENTS, SHIPPED):
        model = untrained(name)
        stream = DenoiserStream(model)
        hop = model.stft.hop_length
        blocks = np.random.default_rng(0).normal(0, 0.1, (seconds * RATE // hop, hop)).astype(np.float32)
        times = []
        for block in blocks:
            started = time.thread_time()
            stream.process(block)
            times.append(1e6 * (time.thread_time() - started))
        kept = np.array(times[len(times) // 10 :])
        length = int(np.lcm.reduce(model.network.periods or [1]))
        phases = [np.median(kept[phase::length]) for phase in range(length)]
        costs = {"mean": kept.mean(), "worst": max(phases), "best": min(phases)}
        rows.append({"experiment": name, "parameters": model.network.num_parameters, **costs})
    columns = {
        "experiment": Column("experiment"),
        "parameters": Column("parameters"),
        "mean": Column("mean, µs"),
        "worst": Column("worst phase, µs"),
        "best": Column("best phase, µs"),
    }
    return Numbers.measured("CPU time of one hop of a stream (16 ms, 256 samples) at a time", columns, rows)


def benchmark_memory(hours: float) -> Numbers:
    """Peak memory of ``hushwork denoise``, for a minute and for ``hours``."""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        model = untrained_folder(Path(work) / "model")
        for seconds in (60, round(3600 * hours)):
            source = noisy_file(Path(work) / "long.wav", seconds)
            words = ["denoise", str(source), "-o", f"{work}/out.wav", "--model", str(model), "--overwrite"]
            started = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", PEAK, *words], capture_output=True, text=True, check=True)
            wall = time.perf_counter() - started
            peak = int(done.stdout.split()[-2])
            length = f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"
            rows.append({"recording": length, "memory": peak / 1024, "time": wall})
    columns = {
        "recording": Column("recording"),
        "memory": Column("peak memory, MiB"),
        "time": Column("wall time, s", 1),
    }
    what = f"`hushwork denoise` as a whole process, untrained `{SHIPPED}`, mono at 16 kHz"
    return Numbers.measured(what, columns, rows)


def benchmark_start(rounds: int) -> Numbers:
    """Whole processes, from the shell."""
    with tempfile.TemporaryDirectory() as work:
        model, source = untrained_folder(Path(work) / "model"), noisy_file(Path(work) / "second.wav", 1)
        denoise = ["denoise", str(source), "-o", f"{work}/out.wav", "--model", str(model), "--overwrite"]
        commands = {"`hushwork --help`": ["--help"], "`hushwork denoise`, a file of 1 s": denoise}
        runs = {name: partial(run_quietly, [*HUSHWORK, *words]) for name, words in commands.items()}
        times = in_turns(runs, rounds, time.perf_counter)
    columns = {"command": Column("command"), "time": Column("wall time, s", 2)}
    rows = [{"command": name, "time": seconds} for name, seconds in times.items()]
    return Numbers.measured("Whole processes, started from the shell", columns, rows)


def run_quietly(command: Sequence[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


HUSHWORK = (sys.executable, "-m", "hushwork.cli")
# getrusage would not do: the peak of a child starts at that of its parent.
PEAK = """
import sys
from hushwork.cli import main
status = main(sys.argv[1:])
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
sys.exit(status)
"""


def untrained_folder(folder: Path) -> Path:
    cfg = compose_config([f"experiment={SHIPPED}"])
    export_model(instantiate(cfg.model), {"name": "untrained"}, "# untrained\n", folder)
    return folder


def noisy_file(path: Path, seconds: int) -> Path:
    """Noise at 16 kHz, written in blocks."""
    minute = np.random.default_rng(0).normal(0, 0.05, (1, 60 * RATE)).astype(np.float32)
    if seconds <= 60:
        write_audio(path, minute[:, : seconds * RATE], RATE)
        return path
    with AudioWriter(path, RATE, 1) as writer:
        for block in blocks_of(minute, seconds * RATE):
            writer.write(block)
    return path


def blocks_of(block: np.ndarray, count: int) -> Iterator[np.ndarray]:
    while count > 0:
        yield block[:, :count]
        count -= block.shape[1]


def main(arguments: Sequence[str] | None = None) -> int:
    parts = ("layer", "step", "training", "denoise", "cores", "stream", "memory", "start")
    parser = argparse.ArgumentParser(description="What hushwork costs on this machine.")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], metavar="PART", help=", ".join(parts))
    parser.add_argument("--rounds", type=int, default=7, help="turns (%(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="of training (%(default)s)")
    parser.add_argument("--hours", type=float, default=1.0, help="length of the long recording (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of results (%(default)s)")
    options = parser.parse_args(arguments)
    calls = {  # the file that a part writes, and its measurement
        "layer": ("layers", lambda: benchmark_layer(options.rounds)),
        "step": ("training_step", lambda: benchmark_step(options.rounds)),
        "training": ("training_speed", lambda: benchmark_training(options.steps)),
        "denoise": ("files", lambda: benchmark_denoise(options.rounds)),
        "cores": ("cores", lambda: benchmark_cores(options.rounds)),
        "stream": ("streams", lambda: benchmark_stream(60)),
        "memory": ("memory", lambda: benchmark_memory(options.hours)),
        "start": ("start", lambda: benchmark_start(options.rounds)),
    }
    cores = os.sched_getaffinity(0)
    for part in options.parts or parts:
        os.sched_setaffinity(0, cores)  # some parts keep to one
        name, measure = calls[part]
        numbers = measure()
        numbers.write(options.out / f"{name}.json")
        print(f"## {part}\n\n{numbers.markdown()}\n{numbers.source}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
