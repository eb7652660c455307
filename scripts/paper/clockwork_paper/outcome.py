"""The result of a task for one kind and size of network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clockwork_paper.networks import NAMES
from hushwork.markdown import markdown_table


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


def table(outcomes: Sequence[Outcome], paper: Mapping[str, tuple[float, float]], digits: int) -> str:
    """A Markdown table of mean and standard deviation by model and size, and those of the paper's largest size."""
    rows: list[list[object]] = []
    for size in sorted({outcome.size for outcome in outcomes}):
        cells = []
        for kind in paper:
            found = next((o for o in outcomes if (o.kind, o.size) == (kind, size)), None)
            if found is None:
                cells.append("")
                continue
            mean, sd = np.mean(found.scores), np.std(found.scores)
            cells.append(f"{mean:.{digits}f} ± {sd:.{digits}f} (rate {found.rate:g})")
        rows.append([size, *cells])
    largest = max(outcome.size for outcome in outcomes)
    rows.append([f"paper, {largest}", *(f"{mean} ± {sd}" for mean, sd in paper.values())])
    return markdown_table(["parameters, about", *(NAMES[kind] for kind in paper)], rows) + "\n"
