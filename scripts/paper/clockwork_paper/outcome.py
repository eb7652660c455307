"""The result of a task for one kind and size of network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clockwork_paper.networks import NAMES
from hushwork.runs.numbers import Column, Numbers


@dataclass
class Outcome:
    """One model at one of the paper's sizes.

    Attributes:
        kind, size, parameters, hidden: the network.
        rate: chosen learning rate.
        search: score by learning rate of the grid.
        scores: scores of the networks measured.
        waveforms: output of one network per snippet, in task 4.1.
        seconds: computing time.
    """

    kind: str
    size: int
    parameters: int
    hidden: int
    rate: float
    search: dict[str, float]
    scores: list[float]
    waveforms: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0


def table(outcomes: Sequence[Outcome], paper: Mapping[str, tuple[float, float]], digits: int, what: str) -> Numbers:
    """Mean and standard deviation by model and size, with the chosen rates, and the paper's result for its largest."""
    columns = {"size": Column("parameters, about")}
    columns |= {kind: Column(NAMES[kind], digits) for kind in paper}
    columns |= {f"{kind}_rate": Column(f"learning rate, {NAMES[kind]}", 5) for kind in paper}
    rows: list[dict[str, Any]] = []
    for size in sorted({outcome.size for outcome in outcomes}):
        found = [outcome for outcome in outcomes if outcome.size == size]
        row: dict[str, Any] = {"size": str(size)}
        row |= {outcome.kind: [float(np.mean(outcome.scores)), float(np.std(outcome.scores))] for outcome in found}
        rows.append(row | {f"{outcome.kind}_rate": outcome.rate for outcome in found})
    largest = max(outcome.size for outcome in outcomes)
    rows.append({"size": f"paper, {largest}"} | {kind: [*values] for kind, values in paper.items()})
    return Numbers.measured(what, columns, rows)
