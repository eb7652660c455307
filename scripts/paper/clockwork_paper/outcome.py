"""What a task found for one kind and size of network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clockwork_paper.networks import NAMES


@dataclass
class Outcome:
    """One model at one of the paper's sizes.

    Attributes:
        kind, size, parameters, hidden: which.
        rate: the learning rate chosen.
        search: what each rate of the grid scored.
        scores: of each network measured.
        waveforms: what one network of each snippet says, in task 4.1.
        seconds: it took.
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
    """Markdown: mean and standard deviation by model and size, beside the paper's largest."""
    lines = ["| about … parameters | " + " | ".join(NAMES[kind] for kind in paper) + " |", "|---|---|---|---|"]
    for size in sorted({outcome.size for outcome in outcomes}):
        cells = []
        for kind in paper:
            found = next((o for o in outcomes if (o.kind, o.size) == (kind, size)), None)
            if found is None:
                cells.append("")
                continue
            mean, sd = np.mean(found.scores), np.std(found.scores)
            cells.append(f"{mean:.{digits}f} ± {sd:.{digits}f} (rate {found.rate:g})")
        lines.append(f"| {size} | {' | '.join(cells)} |")
    largest = max(outcome.size for outcome in outcomes)
    lines.append(f"| paper, {largest} | " + " | ".join(f"{mean} ± {sd}" for mean, sd in paper.values()) + " |")
    return "\n".join(lines) + "\n"
