#!/usr/bin/env python3
"""Measure and draw the figures and numbers of docs/recurrent.md.

    hushwork prepare stft-arrays data/stft_arrays
    python scripts/paper/draw_recurrent_figures.py            # about eight minutes on two cores

Writes ``docs/figures/*.png`` and, for the tables, ``docs/numbers/{gradients,clipping,networks}.json``.

Shapes: B batch, T frames, F bins, H hidden units.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor, nn

from hushwork.data.stft_arrays import ArrayError, ArrayPairs
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN, build_cell
from hushwork.runs.numbers import Column, Numbers

FRAMES, UNITS, STEPS = 100, 64, 300
WIDTH, BATCH = 128, 32
CLOCK: dict[str, Any] = {"hidden_sizes": [64, 32, 16, 16], "periods": [1, 2, 4, 8], "pool": "mean"}
NETWORKS: dict[str, Any] = {
    "RNN": partial(StackedRNN, cell="rnn", hidden_size=WIDTH),
    "GRU": partial(StackedRNN, cell="gru", hidden_size=WIDTH),
    "LSTM": partial(StackedRNN, cell="lstm", hidden_size=WIDTH),
    "GRU, both directions": partial(StackedRNN, cell="gru", hidden_size=WIDTH // 2, bidirectional=True),
    "clockwork RNN": partial(StackedClockworkRNN, cell="rnn", **CLOCK),
    "clockwork GRU": partial(StackedClockworkRNN, cell="gru", **CLOCK),
}


def gradient_by_distance(layer: nn.Module, seed: int) -> np.ndarray:
    """Norm of the gradient of the last frame's output with respect to the input 0 to T - 1 frames before it, (T,)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, FRAMES, UNITS, generator=generator, requires_grad=True)
    y = layer(x)[0]
    weight = torch.randn(8, y.shape[-1], generator=generator)
    (gradient,) = torch.autograd.grad((y[:, -1] * weight).sum(), x)
    return gradient.norm(dim=-1).mean(0).flip(0).numpy()


def scaled_rnn(radius: float) -> nn.Module:
    """A tanh layer whose recurrent matrix is ``radius`` times orthogonal, with input small enough not to saturate."""
    layer = build_cell("rnn", UNITS, UNITS)
    with torch.no_grad():
        nn.init.orthogonal_(layer.weight_hh_l0, gain=radius)  # type: ignore[arg-type]
        for name, parameter in layer.named_parameters():
            if name != "weight_hh_l0":
                parameter.mul_(1e-6)
    return layer


def draw_distances(path: Path) -> Numbers:
    """Gradients over time: tanh layers of three spectral radii, and each kind of cell at initialisation."""
    torch.manual_seed(0)
    layers = {f"tanh, recurrent matrix × {radius}": scaled_rnn(radius) for radius in (0.9, 1.0, 1.1)}
    layers |= {f"{name.upper()} as it starts": build_cell(name, UNITS, UNITS) for name in ("rnn", "gru", "lstm")}
    measured = {name: gradient_by_distance(layer, 0) for name, layer in layers.items()}
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, values in measured.items():
        axis.semilogy(np.maximum(values / values[0], 1e-12), label=name)
    axis.set(xlabel="frames back", ylabel="gradient relative to the last frame's", ylim=(1e-8, 1e5))
    axis.legend()
    figure.savefig(path, dpi=110)
    columns = {"layer": Column("layer")} | {f"after_{k}": Column(f"after {k} frames") for k in (10, 50, 99)}
    rows = [
        {"layer": name, **{f"after_{k}": f"{float(f'{values[k] / values[0]:.2g}'):g}" for k in (10, 50, 99)}}
        for name, values in measured.items()
    ]
    return Numbers.measured("Gradient relative to the last frame's, layers of 64 units", columns, rows)


def train_delayed_sum(clip: str, value: float, seed: int) -> tuple[list[float], list[float]]:
    """Loss and gradient norm (before clipping) while a tanh layer with exploding gradients learns a delayed sum."""
    torch.manual_seed(seed)
    layer, readout = build_cell("rnn", 1, UNITS), nn.Linear(UNITS, 1)
    with torch.no_grad():
        nn.init.orthogonal_(layer.weight_hh_l0, gain=1.5)  # type: ignore[arg-type]
    parameters = [*layer.parameters(), *readout.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    losses, norms = [], []
    for _ in range(STEPS):
        x = torch.randn(32, 60, 1)
        target = x.cumsum(1).tanh()
        loss = nn.functional.mse_loss(readout(layer(x)[0]), target)
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])))
        if clip == "norm":
            torch.nn.utils.clip_grad_norm_(parameters, value)
        elif clip == "value":
            torch.nn.utils.clip_grad_value_(parameters, value)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, norms


def draw_clipping(path: Path) -> Numbers:
    """One training without clipping, with clipping by norm, and by value."""
    runs = {
        "no clipping": train_delayed_sum("none", 0.0, 0),
        "by norm, 1.0": train_delayed_sum("norm", 1.0, 0),
        "by value, 0.1": train_delayed_sum("value", 0.1, 0),
    }
    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for name, (losses, norms) in runs.items():
        above.semilogy(losses, label=name)
        below.semilogy(norms, label=name)
    above.set(ylabel="loss")
    below.set(ylabel="gradient norm before clipping", xlabel="step")
    above.legend()
    figure.savefig(path, dpi=110)
    columns = {
        "clipping": Column("clipping"),
        "largest_loss": Column("largest loss", 2),
        "last_loss": Column("mean loss of the last 20 steps", 2),
        "largest_norm": Column("largest gradient norm, before clipping", 1),
    }
    rows = [
        {
            "clipping": name,
            "largest_loss": max(losses),
            "last_loss": float(np.mean(losses[-20:])),
            "largest_norm": max(norms),
        }
        for name, (losses, norms) in runs.items()
    ]
    return Numbers.measured("A tanh layer that starts out exploding learns a delayed sum", columns, rows)


def train_network(network: nn.Module, pairs: ArrayPairs, epochs: int, seed: int) -> list[float]:
    """Validation error (MSE) after each epoch, as in the tutorial: Adam, batches of 32, the last tenth validates."""
    first_valid = round(0.9 * len(pairs))
    optimizer = torch.optim.Adam(network.parameters())
    rng = np.random.default_rng(seed)

    def batch(indices: np.ndarray) -> tuple[Tensor, Tensor]:
        noisy, clean = zip(*(pairs[int(index)] for index in indices), strict=True)
        return torch.stack(noisy), torch.stack(clean)

    errors = []
    for _ in range(epochs):
        network.train()
        for indices in np.array_split(rng.permutation(first_valid), first_valid // BATCH):
            noisy, clean = batch(indices)
            optimizer.zero_grad()
            nn.functional.mse_loss(network(noisy)[0], clean).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        network.eval()
        with torch.inference_mode():
            blocks = np.array_split(np.arange(first_valid, len(pairs)), max(1, (len(pairs) - first_valid) // BATCH))
            losses = [nn.functional.mse_loss(network(noisy)[0], clean) for noisy, clean in map(batch, blocks)]
        errors.append(float(torch.stack(losses).mean()))
    return errors


def draw_networks(pairs: ArrayPairs, epochs: int, path: Path, console: Console) -> Numbers:
    """Train each kind of network on the same arrays; draw validation errors."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    rows = []
    for name, recurrence in NETWORKS.items():
        torch.manual_seed(0)
        bins = pairs.noisy.shape[-1]
        network = RecurrentMasker(num_bins=bins, recurrence=recurrence, head="magnitude", dropout=0.5)
        errors = train_network(network, pairs, epochs, seed=0)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        rows.append({"network": name, "parameters": parameters, "error": errors[-1]})
        axis.plot(range(1, epochs + 1), errors, label=f"{name}, {parameters:,}")
        console.print(f"{name}: {parameters:,} parameters, validation error {errors[-1]:.5f}")
    axis.set(xlabel="epoch", ylabel="validation error (MSE)")
    axis.legend()
    figure.savefig(path, dpi=110)
    columns = {
        "network": Column("network"),
        "parameters": Column("parameters"),
        "error": Column(f"validation error after {epochs} epochs", 5),
    }
    return Numbers.measured(f"Networks trained alike on {len(pairs):,} mixtures", columns, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure and draw the figures of docs/recurrent.md.")
    parser.add_argument("--arrays", type=Path, default=Path("data/stft_arrays"), help="folder (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of the networks (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="folder (default: %(default)s)")
    tables = Path("docs/numbers")
    parser.add_argument("--numbers", type=Path, default=tables, help="folder of the tables (default: %(default)s)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        pairs = ArrayPairs(options.arrays / "noisy.npy", options.arrays / "clean.npy")
    except ArrayError as error:
        console.print(f"draw_recurrent_figures: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    measured = {
        "gradients": draw_distances(options.out / "gradient_distance.png"),
        "clipping": draw_clipping(options.out / "gradient_clipping.png"),
        "networks": draw_networks(pairs, options.epochs, options.out / "networks.png", console),
    }
    for name, numbers in measured.items():
        numbers.write(options.numbers / f"{name}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
