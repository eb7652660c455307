"""The cost of a training step, and of what surrounds it: data and Lightning."""

from __future__ import annotations

import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn
from turns import cpu_s, in_turns

from hushwork.config import compose_config
from hushwork.data.batch import NoisySpeechBatch
from hushwork.data.datamodule import NoisySpeechDataModule
from hushwork.runs.numbers import Column, Numbers
from hushwork.training.module import DenoisingModule

RATE = 16_000
EXPERIMENTS = ("gru", "cwgru", "lstm", "cwlstm")
SHIPPED = "default"


def benchmark_training(steps: int) -> Numbers:
    """CPU time of the training step, bare and under Lightning, and of the loader process that prepares its data.

    The shipped model trains on the corpora of its experiment if they exist; the others train on the starter corpus.
    """
    rows = []
    for name in (*EXPERIMENTS, SHIPPED):
        cfg = compose_config([f"experiment={name}", "paths.run_dir=unused"])
        if not all(Path(path).is_file() for path in (cfg.data.manifest, *cfg.data.train_also)):
            print(f"{name} is skipped: not all of its corpora are there, such as {cfg.data.manifest}", file=sys.stderr)
            continue
        torch.set_num_threads(1)
        bare, loader, audio_s = bare_loop(cfg, steps)
        lightning = lightning_loop(cfg, steps)
        rows.append(
            {
                "experiment": name,
                "audio": audio_s / bare,
                "step": 1000 * bare,
                "loader": 100 * loader / bare,
                "lightning": 100 * (lightning / bare - 1),
            }
        )
    columns = {
        "experiment": Column("experiment"),
        "audio": Column("audio s / s"),
        "step": Column("step, ms"),
        "loader": Column("loader process, % of the step"),
        "lightning": Column("Lightning adds, %", 1, signed=True),
    }
    return Numbers.measured(
        "CPU time of the whole training step, one thread, and of the loader process beside it", columns, rows
    )


def benchmark_step(rounds: int) -> Numbers:
    """Where the time of a training step goes, on one thread, with 8 segments of 4 s; and the same in bfloat16."""
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
    rows: list[dict[str, object]] = [
        {"part": name, "time": 1000 * value, "share": 100 * value / total} for name, value in medians.items()
    ]
    runs = {
        "float32": partial(train_once, module, batch),
        "bfloat16 autocast": torch.autocast("cpu", torch.bfloat16)(partial(train_once, module, batch)),
    }
    ways = in_turns(runs, rounds)
    rows += [{"part": f"whole step, {name}", "time": 1000 * value} for name, value in ways.items()]
    columns = {"part": Column("part of a step"), "time": Column("time, ms"), "share": Column("share, %")}
    return Numbers.measured(f"A training step of `{SHIPPED}`, 8 segments of 4 s, one thread", columns, rows)


class Laps:
    """CPU seconds by name; a lap is the time since the previous one."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.process_time()

    def lap(self, name: str) -> None:
        now = time.process_time()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now


def train_once(module: DenoisingModule, batch: NoisySpeechBatch) -> None:
    module.step(batch)[0].backward()


def bare_loop(cfg: DictConfig, steps: int) -> tuple[float, float, float]:
    """CPU seconds of a step (median), of the loader processes for a step (mean), and seconds of audio in a batch."""
    module, datamodule = build_training(cfg)
    optimizer = instantiate(cfg.optimizer)(module.denoiser.parameters())
    batches = iter(datamodule.train_dataloader())
    workers = [worker.pid for worker in getattr(batches, "_workers", [])]
    times, audio_s, loaded = [], 0.0, 0.0
    for step in range(steps):
        if step == steps // 2:  # by then the loader has decoded the recordings that it keeps
            loaded = sum(map(cpu_s, workers))
        started = time.process_time()
        batch = next(batches)
        optimizer.zero_grad()
        loss, _ = module.step(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(module.denoiser.parameters(), 1.0)
        optimizer.step()
        times.append(time.process_time() - started)
        audio_s = batch.noisy.numel() / RATE
    loaded = sum(map(cpu_s, workers)) - loaded
    return statistics.median(times[steps // 2 :]), loaded / (steps - steps // 2), audio_s


def lightning_loop(cfg: DictConfig, steps: int) -> float:
    """Median CPU seconds of a step under the trainer of the configuration."""
    import logging

    import pytorch_lightning as pl

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    module, datamodule = build_training(cfg)
    marks: list[float] = []

    class Marks(pl.Callback):
        def on_train_batch_start(self, *_: object) -> None:
            marks.append(time.process_time())

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
