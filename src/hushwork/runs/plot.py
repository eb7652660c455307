"""Quality of runs against their cost, as a figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hushwork.runs.record import Run
from hushwork.runs.table import metrics_of


def draw_quality_against_cost(runs: Sequence[Run]) -> Figure:
    """A panel for each metric of the test split, over operations and, if measured, over time.

    Runs with the same network and number of operations are seeds of one configuration: small dots, and a mark at their
    mean. The broad line is the Pareto front of these means.

    Raises:
        ValueError: no run has test scores.
    """
    metrics = metrics_of(runs)
    if not metrics:
        raise ValueError("no run has test scores to draw; train with test=true (the default)")
    costs: dict[str, Callable[[Run], float | None]] = {
        "multiply-accumulates, M per second of audio": lambda run: run.macs_per_s and run.macs_per_s / 1e6
    }
    if any(run.ms_per_s for run in runs):
        costs["time on one core, ms per second of audio"] = lambda run: run.ms_per_s
    figure = Figure(figsize=(5.2 * len(costs) + 1.5, 2.9 * len(metrics) + 0.6), layout="constrained")
    axes = figure.subplots(len(metrics), len(costs), sharex="col", sharey="row", squeeze=False)
    for row, metric in zip(axes, metrics, strict=True):
        row[0].set_ylabel(metric)
        for axis, cost_of in zip(row, costs.values(), strict=True):
            _draw_panel(axis, runs, metric, cost_of)
    for axis, label in zip(axes[-1], costs, strict=True):
        axis.set_xlabel(label)
    axes[0, 0].legend(fontsize="small")
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, quality) that have more quality than every cheaper one, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or quality > front[-1][1]:
            front.append((cost, quality))
    return front


def _draw_panel(axis: Axes, runs: Sequence[Run], metric: str, cost_of: Callable[[Run], float | None]) -> None:
    means: list[tuple[float, float]] = []
    for network, mark in zip(sorted({run.network for run in runs}), cycle("os^Dv<>pP*"), strict=False):
        seeds: dict[float | None, list[tuple[float, float]]] = defaultdict(list)
        for run in runs:
            cost = cost_of(run)
            if run.network == network and metric in run.scores and cost:
                seeds[run.macs_per_s].append((cost, run.scores[metric][0]))
        line = sorted(tuple(np.mean(points, axis=0).tolist()) for points in seeds.values())
        (drawn,) = axis.plot(*np.reshape(line, (-1, 2)).T, mark + ":", label=network)
        x, y = np.reshape([point for points in seeds.values() for point in points], (-1, 2)).T
        axis.scatter(x, y, s=9, alpha=0.5, color=drawn.get_color())
        means += line
    axis.plot(*np.reshape(pareto_front(means), (-1, 2)).T, color="0.6", lw=6, alpha=0.35, zorder=0)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("{x:g}")
    axis.grid(alpha=0.3, which="both")
