#!/usr/bin/env python3
"""Measure time and memory on this machine: layers, training, denoising, streams, start-up.

    python scripts/benchmarks/benchmark.py                        # all parts, about 15 min on two cores
    python scripts/benchmarks/benchmark.py layer stream           # some parts
    python scripts/benchmarks/benchmark.py memory --hours 10      # a recording of ten hours, made on the fly

Runs that are compared take turns, and medians are reported. Networks are untrained, which does not change their cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from layer_costs import benchmark_layer
from omegaconf import DictConfig
from torch import nn
from turns import in_turns

from hushwork.audio.io import AudioWriter, write_audio
from hushwork.config import compose_config
from hushwork.data.batch import NoisySpeechBatch
from hushwork.data.datamodule import NoisySpeechDataModule
from hushwork.files.denoise import denoise_file, denoise_files
from hushwork.markdown import markdown_table
from hushwork.models.export import export_model, pretrained
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.stream import DenoiserStream
from hushwork.training.module import DenoisingModule

RATE = 16_000
EXPERIMENTS = ("gru", "cwgru", "lstm", "cwlstm")
SHIPPED = "default"


def benchmark_training(steps: int) -> str:
    """Time of a training step with data loading on two cores, bare and under Lightning, and its wait for data.

    The shipped model trains on the corpora of its experiment if they exist; the others train on the starter corpus.
    """
    rows = []
    for name in (*EXPERIMENTS, SHIPPED):
        cfg = compose_config([f"experiment={name}", "paths.run_dir=unused"])
        if not all(Path(path).is_file() for path in (cfg.data.manifest, *cfg.data.train_also)):
            print(f"{name} is skipped: not all of its corpora are there, such as {cfg.data.manifest}", file=sys.stderr)
            continue
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - cfg.data.num_workers))
        bare, waited, audio_s = bare_loop(cfg, steps)
        lightning = lightning_loop(cfg, steps)
        speed, step = f"{audio_s / bare:.0f}", f"{1000 * bare:.0f} ms"
        rows.append([name, speed, step, f"{100 * waited / bare:.1f} %", f"{100 * (lightning / bare - 1):+.1f} %"])
    return markdown_table(["experiment", "audio s / s", "step", "waits for data", "Lightning adds"], rows)


def benchmark_step(rounds: int) -> str:
    """Time of the parts of a training step on one thread, with 8 segments of 4 s, and of the whole step in bfloat16."""
    torch.set_num_threads(1)
    cfg = compose_config([f"experiment={SHIPPED}", "data=starter", "paths.run_dir=unused"])
    num_samples = 4 * RATE
    noisy = torch.randn(8, num_samples) / 10
    lengths = torch.full((len(noisy),), num_samples)
    batch = NoisySpeechBatch(noisy=noisy, clean=noisy / 2, lengths=lengths, names=[""] * len(noisy))
    module, _ = build_training(cfg)
    optimizer = instantiate(cfg.optimizer)(module.denoiser.parameters())
    all_laps = []
    for _ in range(rounds + 1):
        clock = Laps()
        denoiser = module.denoiser
        spectrum = denoiser.analysis(batch.noisy)
        clock.lap("transforms")
        mask, _ = denoiser.estimate_mask(spectrum)
        clock.lap("network, forward")
        estimate = denoiser.synthesis(denoiser.apply_mask(spectrum, mask), num_samples)
        clock.lap("transforms")
        loss = module.loss(10 * estimate, 10 * batch.clean, batch.lengths)
        clock.lap("loss")
        (of_estimate,) = torch.autograd.grad(loss, estimate)
        clock.lap("loss")
        (of_mask,) = torch.autograd.grad(estimate, mask, of_estimate, retain_graph=True)
        clock.lap("transforms")
        mask.backward(of_mask)
        clock.lap("network, backward")
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.lap("clipping and optimiser")
        all_laps.append(clock.laps)
    medians = {name: statistics.median(laps[name] for laps in all_laps[1:]) for name in all_laps[0]}
    total = sum(medians.values())
    rows = [[name, f"{1000 * value:.0f} ms", f"{100 * value / total:.0f} %"] for name, value in medians.items()]
    runs = {
        "float32": partial(train_once, module, batch),
        "bfloat16 autocast": torch.autocast("cpu", torch.bfloat16)(partial(train_once, module, batch)),
    }
    rows += [[f"whole step, {name}", f"{1000 * s:.0f} ms", ""] for name, s in in_turns(runs, rounds).items()]
    return markdown_table(["part of a step", "time", "share"], rows)


class Laps:
    """Seconds by name; a lap is the time since the previous one."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now


def train_once(module: DenoisingModule, batch: NoisySpeechBatch) -> None:
    module.step(batch)[0].backward()


def bare_loop(cfg: DictConfig, steps: int) -> tuple[float, float, float]:
    """Median seconds of a step, mean seconds it waits for data, and seconds of audio in a batch."""
    module, datamodule = build_training(cfg)
    optimizer = instantiate(cfg.optimizer)(module.denoiser.parameters())
    batches = iter(datamodule.train_dataloader())
    times, waits, audio_s = [], [], 0.0
    for step in range(steps):
        started = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - started
        optimizer.zero_grad()
        loss, _ = module.step(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(module.denoiser.parameters(), 1.0)
        optimizer.step()
        if step >= steps // 2:  # by then the loader has decoded the recordings that it keeps
            times.append(time.perf_counter() - started)
            waits.append(waited)
            audio_s = batch.noisy.numel() / RATE
    return statistics.median(times), statistics.mean(waits), audio_s


def lightning_loop(cfg: DictConfig, steps: int) -> float:
    """Median seconds of a step under the trainer of the configuration."""
    import logging

    import pytorch_lightning as pl

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    module, datamodule = build_training(cfg)
    marks: list[float] = []

    class Marks(pl.Callback):
        def on_train_batch_start(self, *_: object) -> None:
            marks.append(time.perf_counter())

    trainer = instantiate(
        cfg.trainer,
        max_steps=steps,
        callbacks=[Marks()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=datamodule)
    return statistics.median(np.diff(marks)[steps // 2 :])


def build_training(cfg: DictConfig) -> tuple[DenoisingModule, NoisySpeechDataModule]:
    datamodule = instantiate(cfg.data)
    datamodule.setup()
    torch.manual_seed(0)
    module = DenoisingModule(
        denoiser=instantiate(cfg.model),
        loss=instantiate(cfg.loss),
        optimizer=instantiate(cfg.optimizer),
    )
    return module, datamodule


def benchmark_denoise(rounds: int) -> str:
    """Denoise a file of a minute on one core, with reading and writing, and a folder of 32 on one and on all cores."""
    cores = os.sched_getaffinity(0)
    rows = []
    with tempfile.TemporaryDirectory() as work:
        source = noisy_file(Path(work) / "minute.wav", 60)
        plan = [(noisy_file(Path(work) / f"{k}.wav", 60), Path(work) / "out" / f"{k}.wav") for k in range(32)]
        for name in (*EXPERIMENTS, SHIPPED):
            model = pretrained(instantiate(compose_config([f"experiment={name}"]).model))
            os.sched_setaffinity(0, {min(cores)})
            target = Path(work) / "out.wav"
            one = in_turns({"": lambda: denoise_file(source, target, model, overwrite=True)}, rounds)[""] / 60  # noqa: B023
            os.sched_setaffinity(0, cores)
            jobs = (1, len(cores))
            runs = {str(n): partial(denoise_all, plan, model, n) for n in jobs}
            folder = in_turns(runs, 3)
            gain = folder["1"] / folder[str(len(cores))]
            rows.append([name, f"{one:.4f}", f"{folder['1'] / 60 / 32:.4f}", f"{gain:.2f} x on {len(cores)}"])
    return markdown_table(
        ["experiment", "time / length, a file on one core", "a folder, one batch at a time", "all cores"], rows
    )


def denoise_all(plan: Sequence[tuple[Path, Path]], model: PretrainedDenoiser, jobs: int) -> None:
    list(denoise_files(plan, model, overwrite=True, jobs=jobs))


def benchmark_stream(seconds: int) -> str:
    """Microseconds of a block of one hop on one core: mean, and medians of slowest and fastest clock phase."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    for name in ("rnn", "cwrnn", *EXPERIMENTS, SHIPPED):
        model = pretrained(instantiate(compose_config([f"experiment={name}"]).model))
        stream = DenoiserStream(model)
        hop = model.stft.hop_length
        blocks = np.random.default_rng(0).normal(0, 0.1, (seconds * RATE // hop, hop)).astype(np.float32)
        times = []
        for block in blocks:
            started = time.perf_counter()
            stream.process(block)
            times.append(1e6 * (time.perf_counter() - started))
        kept = np.array(times[len(times) // 10 :])
        length = int(np.lcm.reduce(model.network.periods or [1]))
        phases = [np.median(kept[phase::length]) for phase in range(length)]
        costs = [f"{value:.0f}" for value in (kept.mean(), max(phases), min(phases))]
        rows.append([name, f"{model.network.num_parameters:,}", *costs])
    return markdown_table(["experiment", "parameters", "mean µs", "worst phase", "best phase"], rows)


def benchmark_memory(hours: float) -> str:
    """Peak memory of ``hushwork denoise``, for a minute and for ``hours``."""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        model = untrained(Path(work) / "model")
        for seconds in (60, round(3600 * hours)):
            source = noisy_file(Path(work) / "long.wav", seconds)
            words = ["denoise", str(source), "-o", f"{work}/out.wav", "--model", str(model), "--overwrite"]
            started = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", PEAK, *words], capture_output=True, text=True, check=True)
            wall = time.perf_counter() - started
            peak = int(done.stdout.split()[-2])
            rows.append([f"{seconds / 3600:.2f} h", f"{peak / 1024:.0f} MiB", f"{wall:.1f} s"])
    return markdown_table(["recording", "peak memory", "wall time"], rows)


def benchmark_start(rounds: int) -> str:
    """Wall time of whole processes."""
    with tempfile.TemporaryDirectory() as work:
        model, source = untrained(Path(work) / "model"), noisy_file(Path(work) / "second.wav", 1)
        denoise = ["denoise", str(source), "-o", f"{work}/out.wav", "--model", str(model), "--overwrite"]
        commands = {"hushwork --help": ["--help"], "hushwork denoise, a file of 1 s": denoise}
        runs = {name: partial(run_quietly, [*HUSHWORK, *words]) for name, words in commands.items()}
        times = in_turns(runs, rounds)
    return markdown_table(["command", "wall time"], [[name, f"{seconds:.2f} s"] for name, seconds in times.items()])


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


def untrained(folder: Path) -> Path:
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
    parts = ("layer", "step", "training", "denoise", "stream", "memory", "start")
    parser = argparse.ArgumentParser(description="Measure time and memory of hushwork on this machine.")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], metavar="PART", help=", ".join(parts))
    parser.add_argument("--rounds", type=int, default=7, help="turns (%(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="of training (%(default)s)")
    parser.add_argument("--hours", type=float, default=1.0, help="length of the long recording (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark.json"), help="results (%(default)s)")
    options = parser.parse_args(arguments)
    calls = {
        "layer": lambda: benchmark_layer(options.rounds),
        "step": lambda: benchmark_step(options.rounds),
        "training": lambda: benchmark_training(options.steps),
        "denoise": lambda: benchmark_denoise(options.rounds),
        "stream": lambda: benchmark_stream(60),
        "memory": lambda: benchmark_memory(options.hours),
        "start": lambda: benchmark_start(options.rounds),
    }
    results = {}
    cores = os.sched_getaffinity(0)
    for part in options.parts or parts:
        os.sched_setaffinity(0, cores)  # some parts use one core
        results[part] = calls[part]()
        print(f"## {part}\n\n{results[part]}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
