"""Runs as a table: sorted, for a terminal, and as csv."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from hushwork.runs.record import Run

LEFT = ("run", "changed", "status", "error")  # columns of text


def columns(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Values of all runs by column; a score has a column for its mean and two for its interval."""
    table: dict[str, list[Any]] = {
        "run": [str(run.folder) for run in runs],
        "name": [run.name for run in runs],
        "network": [run.network for run in runs],
        "changed": [run.overrides for run in runs],
        "status": [run.status for run in runs],
        "seed": [run.seed for run in runs],
        "parameters": [run.parameters for run in runs],
        "M MAC/s": [None if run.macs_per_s is None else round(run.macs_per_s / 1e6, 2) for run in runs],
        "ms per s of audio": [None if run.ms_per_s is None else round(run.ms_per_s, 3) for run in runs],
        "steps": [run.steps for run in runs],
        "hours": [run.hours for run in runs],
        "audio s/s": [run.audio_s_per_s for run in runs],
        "validation": [run.best for run in runs],
    }
    for metric in metrics_of(runs):
        for place, name in enumerate((metric, f"{metric} low", f"{metric} high")):
            table[name] = [run.scores[metric][place] if metric in run.scores else None for run in runs]
    table["error"] = [run.error for run in runs]
    return table


def metrics_of(runs: Iterable[Run]) -> list[str]:
    """The metrics that any of the runs was measured by, except improvements over the input."""
    return list(dict.fromkeys(name for run in runs for name in run.scores if not name.endswith("improvement")))


def sort_runs(runs: Sequence[Run], column: str) -> list[Run]:
    """Sort by a column of :func:`columns`: metrics of the test split best first, others smallest first.

    Runs without a value come last.

    Raises:
        ValueError: there is no such column.
    """
    table = columns(runs)
    if column not in table:
        raise ValueError(f"--sort {column} is not a column; choose from {', '.join(table)}")
    values = table[column]
    known = [place for place, value in enumerate(values) if value is not None]
    unknown = [place for place, value in enumerate(values) if value is None]
    known.sort(key=values.__getitem__, reverse=column in metrics_of(runs))
    return [runs[place] for place in known + unknown]


def as_table(runs: Sequence[Run]) -> Table:
    """A table for terminals: without empty columns, with intervals of scores, and with the overrides that differ."""
    values = columns(runs) | {"changed": _differing_overrides(runs)}
    hidden = {"name", "network", *(name for name in values if name.endswith((" low", " high")))}
    names = [name for name in values if name not in hidden and any(value not in (None, "") for value in values[name])]
    table = Table()
    for name in names:
        left = name in LEFT
        table.add_column(name, justify="left" if left else "right", overflow="fold" if left else "ellipsis")
    for place, run in enumerate(runs):
        table.add_row(*(_cell(run, name, values[name][place]) for name in names))
    return table


def write_csv(runs: Sequence[Run], path: str | Path) -> None:
    """A line for each run, with all columns."""
    table = columns(runs)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def _cell(run: Run, name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in run.scores:
        return escape("{:.3f} [{:.3f}, {:.3f}]".format(*run.scores[name]))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if name == "validation" else escape(str(value))


def _differing_overrides(runs: Sequence[Run]) -> list[str]:
    """The overrides that not all runs have, with the last part of their keys."""
    words = [run.overrides.split() for run in runs]
    common = set.intersection(*map(set, words)) if len(runs) > 1 else set()
    return [" ".join(re.sub(r"^[^=]*\.", "", word) for word in each if word not in common) for each in words]
