#!/usr/bin/env python3
"""Task 4.1 of "A Clockwork RNN" (Koutník et al., ICML 2014): learn to generate 320 samples of audio from nothing.

    python scripts/reproduce_clockwork_paper.py              # the whole table
    python scripts/reproduce_clockwork_paper.py --quick      # one size, few steps: does it run here?
    python scripts/reproduce_clockwork_paper.py --audio music.wav

A simple recurrent network (SRN), an LSTM and a clockwork network (CW-RNN) with equally many parameters each learn five
snippets by heart, without any input. For every model and size the learning rate is chosen from one grid, by networks
whose random seeds are not among the measured ones. The results go to ``--out``: ``results.json``, a table in
``results.md``, and the generated waveforms in ``waveforms.png``.

Networks of one kind and size are trained together, as one batch of independent networks. This is the paper's masked
full-matrix form, written out here; ``hushwork.ClockworkRNN`` computes the same (see the tests).

Shapes: N networks, H hidden units, T samples of a snippet.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from hushwork.audio.io import AudioError, read_audio
from hushwork.config import PACKAGE

SNIPPETS, SAMPLES = 5, 320
PERIODS = tuple(2**k for k in range(9))
# Parameters by the paper's count, then hidden units of each model (table 2 of the paper).
SIZES = {
    100: {"srn": 9, "lstm": 4, "cw": 11},
    250: {"srn": 15, "lstm": 7, "cw": 19},
    500: {"srn": 22, "lstm": 10, "cw": 27},
    1000: {"srn": 31, "lstm": 15, "cw": 40},
}
PAPER = {"srn": (0.46, 0.08), "lstm": (0.04, 0.01), "cw": (0.007, 0.004)}  # table 3: NMSE of the largest, mean and sd
NAMES = {"srn": "SRN", "lstm": "LSTM", "cw": "CW-RNN"}
LEARNING_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
EPOCHS = 2000
MOMENTUM = 0.95
WEIGHT_SD = 0.1
FORGET_BIAS = 5.0
CLIP_NORM = 10.0  # not in the paper; without it most networks end in NaN at these rates
SEARCH_SEEDS = 3


class Bank:
    """N independent networks of one kind: weights as tensors (N, …), run side by side."""

    def __init__(self, kind: str, hidden: int, seeds: Sequence[int]) -> None:
        self.kind, self.hidden = kind, hidden
        gates = 4 if kind == "lstm" else 1
        shapes = {
            "recurrent": (hidden, gates * hidden),
            "bias": (1, gates * hidden),
            "out": (hidden, 1),
            "level": (1, 1),
        }
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.weights = {
            name: torch.stack([WEIGHT_SD * torch.randn(*shape, generator=g) for g in generators]).requires_grad_()
            for name, shape in shapes.items()
        }
        if kind == "lstm":
            with torch.no_grad():
                self.weights["bias"][..., hidden : 2 * hidden] += FORGET_BIAS
        self.sizes = module_sizes(hidden)
        mask = torch.ones(hidden, hidden)
        start = 0
        for size in self.sizes:  # a unit reads its own module and slower ones: row = from, column = to
            mask[:start, start : start + size] = 0
            start += size
        self.mask = mask

    def generate(self, num_samples: int) -> Tensor:
        """What the networks say (N, ``num_samples``), from a state of zero and without input."""
        run: Callable[[int], list[Tensor]] = getattr(self, f"_{self.kind}")
        states = torch.cat(run(num_samples), dim=1)  # (N, T, H)
        return (states @ self.weights["out"] + self.weights["level"]).squeeze(-1)

    def _start(self) -> Tensor:
        return torch.zeros(len(self.weights["out"]), 1, self.hidden)

    def _srn(self, num_samples: int) -> list[Tensor]:
        h, states = self._start(), []
        for _ in range(num_samples):
            h = torch.baddbmm(self.weights["bias"], h, self.weights["recurrent"]).tanh()
            states.append(h)
        return states

    def _lstm(self, num_samples: int) -> list[Tensor]:
        h = c = self._start()
        states = []
        for _ in range(num_samples):
            i, f, o, g = torch.baddbmm(self.weights["bias"], h, self.weights["recurrent"]).split(self.hidden, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return states

    def _cw(self, num_samples: int) -> list[Tensor]:
        h, states = self._start(), []
        masked = self.weights["recurrent"] * self.mask
        # Modules are sorted by period, each period a multiple of the one before: those that tick are the first ones.
        ends = np.cumsum(self.sizes)
        upto = [int(max(e for e, p in zip(ends, PERIODS, strict=True) if t % p == 0)) for t in range(num_samples)]
        blocks = {end: (masked[..., :end].contiguous(), self.weights["bias"][..., :end]) for end in set(upto)}
        for end in upto:
            weight, bias = blocks[end]
            h = torch.cat([torch.baddbmm(bias, h, weight).tanh(), h[..., end:]], dim=-1)
            states.append(h)
        return states


def module_sizes(hidden: int) -> list[int]:
    """Units of the nine modules, fastest first; what does not divide evenly goes to the fastest."""
    each, left = divmod(hidden, len(PERIODS))
    return [each + (i < left) for i in range(len(PERIODS))]


def count_parameters(kind: str, hidden: int) -> int:
    """Trained numbers of one network; the paper counts the periods of a CW-RNN among them, and so does this."""
    if kind == "lstm":
        return 4 * hidden * (hidden + 1) + hidden + 1
    if kind == "srn":
        return hidden * (hidden + 1) + hidden + 1
    return int(Bank("cw", hidden, [0]).mask.sum()) + hidden + hidden + 1 + len(PERIODS)


def train(bank: Bank, targets: Tensor, rates: Tensor, epochs: int) -> Tensor:
    """Momentum SGD on the squared error, each network with its own rate; returns what each generates at its best.

    Args:
        bank: N networks.
        targets: (N, T).
        rates: (N,) learning rates.
        epochs: updates.
    """
    weights = list(bank.weights.values())
    speeds = [torch.zeros_like(weight) for weight in weights]
    rates = rates[:, None, None]
    best = torch.full_like(rates[:, 0, 0], torch.inf)
    outputs = torch.zeros_like(targets)
    for epoch in range(epochs + 1):
        generated = bank.generate(targets.shape[1])
        errors = (generated - targets).square().sum(1)
        better = errors.detach() < best
        best = torch.where(better, errors.detach(), best)
        outputs[better] = generated.detach()[better]
        if epoch == epochs:
            break
        gradients = torch.autograd.grad(errors.sum(), weights)
        norms = sum(gradient.square().sum((1, 2), keepdim=True) for gradient in gradients) ** 0.5
        scale = rates * (CLIP_NORM / norms.clamp(min=CLIP_NORM))
        with torch.no_grad():
            for weight, speed, gradient in zip(weights, speeds, gradients, strict=True):
                step = scale * gradient.nan_to_num(0.0, 0.0, 0.0)
                speed.mul_(MOMENTUM).sub_(step)
                weight.add_(MOMENTUM * speed - step)  # Nesterov
    return outputs


@dataclass
class Outcome:
    """One model at one of the paper's sizes: rate chosen, NMSE of each network, what one of them says."""

    kind: str
    size: int
    parameters: int
    hidden: int
    rate: float
    search: dict[str, float]
    nmse: list[float]
    seconds: float
    waveforms: list[list[float]]


def run(kind: str, size: int, targets: np.ndarray, epochs: int, num_seeds: int) -> Outcome:
    """Choose the learning rate with seeds of its own, then measure."""
    torch.set_num_threads(1)
    hidden = SIZES[size][kind]
    started = time.perf_counter()
    snippets = torch.from_numpy(targets)

    def nmse_of(seeds: Sequence[int], rates: Sequence[float]) -> tuple[Tensor, Tensor]:
        plan = [(rate, seed, snippet) for rate in rates for seed in seeds for snippet in range(len(snippets))]
        wanted = snippets[[snippet for _, _, snippet in plan]]
        bank = Bank(kind, hidden, [seed * len(snippets) + snippet for _, seed, snippet in plan])
        generated = train(bank, wanted, torch.tensor([rate for rate, _, _ in plan]), epochs)
        error = (generated - wanted).square().mean(1) / wanted.var(1, correction=0)
        return error.view(len(rates), len(seeds), len(snippets)), generated.view(
            len(seeds) * len(rates), len(snippets), -1
        )

    searched, _ = nmse_of(range(10_000, 10_000 + SEARCH_SEEDS), LEARNING_RATES)
    search = dict(zip(LEARNING_RATES, searched.mean((1, 2)).tolist(), strict=True))
    rate = min(search, key=lambda each: search[each])
    nmse, generated = nmse_of(range(num_seeds), [rate])
    return Outcome(
        kind=kind,
        size=size,
        parameters=count_parameters(kind, hidden),
        hidden=hidden,
        rate=rate,
        search={f"{key:g}": value for key, value in search.items()},
        nmse=nmse.flatten().tolist(),
        seconds=round(time.perf_counter() - started, 1),
        waveforms=generated[0].tolist(),
    )


def read_snippets(path: Path) -> np.ndarray:
    """Five stretches of 320 samples (5, 320) in [-1, 1], spread over a recording, from its louder parts.

    Raises:
        AudioError: the file cannot be read, or is too short or silent.
    """
    audio, _ = read_audio(path)
    audio = audio.mean(axis=0)
    count = len(audio) // SAMPLES
    blocks = audio[: count * SAMPLES].reshape(count, SAMPLES)
    loud = np.flatnonzero(blocks.std(axis=1) > 0.5 * blocks.std()) if count else np.zeros(0, int)
    if len(loud) < SNIPPETS or not np.isfinite(blocks).all():
        raise AudioError(f"{path}: needs {SNIPPETS} stretches of {SAMPLES} finite samples that are not silent")
    chosen = blocks[loud[np.linspace(0, len(loud) - 1, SNIPPETS).round().astype(int)]]
    return (chosen / np.abs(chosen).max(axis=1, keepdims=True)).astype(np.float32)


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: NMSE by model and size, beside the paper's."""
    sizes = sorted({outcome.size for outcome in outcomes})
    lines = [
        "| about … parameters | " + " | ".join(f"{NAMES[kind]}" for kind in PAPER) + " |",
        "|---|---|---|---|",
    ]
    for size in sizes:
        cells = []
        for kind in PAPER:
            found = next((o for o in outcomes if (o.kind, o.size) == (kind, size)), None)
            cells.append(
                "" if found is None else f"{np.mean(found.nmse):.3f} ± {np.std(found.nmse):.3f} (rate {found.rate:g})"
            )
        lines.append(f"| {size} | {' | '.join(cells)} |")
    lines.append("| paper, 1000 | " + " | ".join(f"{mean} ± {sd}" for mean, sd in PAPER.values()) + " |")
    return "\n".join(lines) + "\n"


def draw(outcomes: Sequence[Outcome], targets: np.ndarray, path: Path) -> None:
    """The first snippet's target and what the largest network of each kind generates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    largest = {kind: max((o for o in outcomes if o.kind == kind), key=lambda o: o.hidden) for kind in PAPER}
    axes = figure.subplots(len(largest), 2, sharex=True, sharey=True)
    for row, outcome in zip(axes, largest.values(), strict=True):
        for axis, snippet in zip(row, (0, SNIPPETS // 2), strict=True):
            axis.plot(targets[snippet], color="0.7", linewidth=3, label="target")
            axis.plot(outcome.waveforms[snippet], color="C3", linewidth=1, label=NAMES[outcome.kind])
            axis.legend(loc="upper right")
    for axis in axes[-1]:
        axis.set_xlabel("sample")
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description='Task 4.1 of "A Clockwork RNN": audio generation.')
    parser.add_argument("--audio", type=Path, default=PACKAGE / "data" / "example.flac", help="any recording")
    parser.add_argument("--out", type=Path, default=Path("runs/clockwork_paper"), help="folder (%(default)s)")
    parser.add_argument("--seeds", type=int, default=10, help="networks measured on each snippet (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one size, 2 seeds, 100 epochs instead of 2000")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        targets = read_snippets(options.audio)
    except AudioError as error:
        console.print(f"reproduce_clockwork_paper: {error}", style="red", markup=False)
        return 1
    sizes = [250] if options.quick else list(SIZES)
    epochs, seeds = (100, 2) if options.quick else (EPOCHS, options.seeds)
    started = time.perf_counter()
    outcomes = []
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        # The longest first, so that no core waits at the end.
        jobs = [
            pool.submit(run, kind, size, targets, epochs, seeds)
            for kind in ("lstm", "cw", "srn")
            for size in reversed(sizes)
        ]
        for job in as_completed(jobs):
            outcome = job.result()
            outcomes.append(outcome)
            console.print(
                f"{NAMES[outcome.kind]} {outcome.hidden} units: NMSE {np.mean(outcome.nmse):.3f} "
                f"(rate {outcome.rate:g}, {outcome.seconds:.0f} s)"
            )
    options.out.mkdir(parents=True, exist_ok=True)
    minutes = (time.perf_counter() - started) / 60
    about = {"audio": str(options.audio), "epochs": epochs, "seeds": seeds, "minutes": round(minutes, 1)}
    results = {**about, "outcomes": [asdict(outcome) for outcome in outcomes]}
    (options.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    text = table(outcomes)
    (options.out / "results.md").write_text(text, encoding="utf-8")
    draw(outcomes, targets, options.out / "waveforms.png")
    print(f"{text}\n{minutes:.1f} min; {options.out / 'results.json'}, {options.out / 'waveforms.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
