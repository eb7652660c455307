"""Task 4.1: generate 320 memorised samples of audio, without input.

Shapes: N networks, T samples of a snippet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clockwork_paper.networks import NAMES, Bank, Momentum, count_parameters
from clockwork_paper.outcome import Outcome
from hushwork.audio.io import AudioError, read_audio

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
LEARNING_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
EPOCHS = 2000
MOMENTUM = 0.95
SEARCH_SEEDS = 3


def train(bank: Bank, targets: Tensor, rates: Tensor, epochs: int) -> Tensor:
    """Momentum SGD on the squared error, each network with its own rate; returns the best output of each.

    Args:
        bank: N networks.
        targets: (N, T).
        rates: (N,) learning rates.
        epochs: updates.
    """
    optimizer = Momentum(bank, rates, MOMENTUM)
    best = torch.full_like(rates, torch.inf)
    outputs = torch.zeros_like(targets)
    for epoch in range(epochs + 1):
        generated = bank.run(None, targets.shape[1])[:, 0, :, 0]
        errors = (generated - targets).square().sum(1)
        better = errors.detach() < best
        best = torch.where(better, errors.detach(), best)
        outputs[better] = generated.detach()[better]
        if epoch < epochs:
            optimizer.step(errors)
    return outputs


def run(kind: str, size: int, targets: np.ndarray, epochs: int, num_seeds: int) -> Outcome:
    """Choose the learning rate with separate seeds, then measure the NMSE of ``num_seeds`` networks per snippet."""
    hidden = SIZES[size][kind]
    snippets = torch.from_numpy(targets)

    def nmse_of(seeds: Sequence[int], rates: Sequence[float]) -> tuple[Tensor, Tensor]:
        plan = [(rate, seed, snippet) for rate in rates for seed in seeds for snippet in range(len(snippets))]
        target = snippets[[snippet for _, _, snippet in plan]]
        bank = Bank(kind, hidden, PERIODS, [seed * len(snippets) + snippet for _, seed, snippet in plan])
        generated = train(bank, target, torch.tensor([rate for rate, _, _ in plan]), epochs)
        error = (generated - target).square().mean(1) / target.var(1, correction=0)
        return error.view(len(rates), len(seeds), len(snippets)), generated.view(
            len(seeds) * len(rates), len(snippets), -1
        )

    searched, _ = nmse_of(range(10_000, 10_000 + SEARCH_SEEDS), LEARNING_RATES)
    search = dict(zip(LEARNING_RATES, searched.mean((1, 2)).tolist(), strict=True))
    rate = min(search, key=search.__getitem__)
    nmse, generated = nmse_of(range(num_seeds), [rate])
    return Outcome(
        kind=kind,
        size=size,
        parameters=count_parameters(kind, hidden, PERIODS),
        hidden=hidden,
        rate=rate,
        search={f"{key:g}": value for key, value in search.items()},
        scores=nmse.flatten().tolist(),
        waveforms=generated[0].tolist(),
    )


def read_snippets(path: Path) -> np.ndarray:
    """Five snippets of 320 samples (5, 320) in [-1, 1], spread over the louder parts of a recording.

    Raises:
        AudioError: the file cannot be read, or is too short or silent.
    """
    audio, _ = read_audio(path)
    audio = audio.mean(axis=0)
    count = len(audio) // SAMPLES
    blocks = audio[: count * SAMPLES].reshape(count, SAMPLES)
    loud = np.flatnonzero(blocks.std(axis=1) > 0.5 * blocks.std()) if count else np.zeros(0, int)
    if len(loud) < SNIPPETS or not np.isfinite(blocks).all():
        raise AudioError(f"{path}: needs {SNIPPETS} snippets of {SAMPLES} finite samples that are not silent")
    chosen = blocks[loud[np.linspace(0, len(loud) - 1, SNIPPETS).round().astype(int)]]
    return (chosen / np.abs(chosen).max(axis=1, keepdims=True)).astype(np.float32)


def draw(outcomes: Sequence[Outcome], targets: np.ndarray, path: Path) -> None:
    """Draw two targets, and the outputs of the largest network of each kind."""
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
