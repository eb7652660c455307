"""Training runs side by side: the record that each keeps of itself, a table, and quality against cost.

A run's folder holds ``run.json``, written when training starts and when the run ends, in whatever way, and
``metrics.json`` once the test split is measured.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table

from hushwork.inference.files import denoise
from hushwork.network.model_folder import SUMS
from hushwork.network.pretrained import load_pretrained

RECORD = "run.json"
TIMED_S = 20.0
ROUNDS = 15
COST = "M MAC/s"
TIME = "ms per s of audio"


@dataclass(frozen=True)
class Run:
    """What is known of one run; None where nothing is.

    Attributes:
        folder: of the run.
        name: of the experiment.
        network: such as "clockwork gru"; "" of other trainings than denoisers', and of runs that failed before.
        overrides: what was typed, without the experiment's name.
        status: "running", "stopped" (to be continued), "failed", "pruned" (given up by a search) or "finished".
        seed, parameters, steps, hours: of training.
        macs_per_s: multiply-accumulates per second of audio.
        audio_s_per_s: seconds of audio trained in a second.
        best: of the watched figure of the validation split.
        scores: of the test split: mean, and the 95 % interval over files, by metric.
        error: that it ended with, in one line.
        ms_per_s: milliseconds that one core takes for a second of audio.
    """

    folder: Path
    name: str
    network: str
    overrides: str
    status: str
    seed: int | None
    parameters: int | None
    macs_per_s: float | None
    steps: int | None
    hours: float | None
    audio_s_per_s: float | None
    best: float | None
    scores: dict[str, tuple[float, float, float]]
    error: str | None = None
    ms_per_s: float | None = None


def write_record(folder: Path, about: dict[str, Any], status: str, **more: Any) -> None:
    """Say in ``run.json`` what a run is and how it stands."""
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{RECORD}.part"
    part.write_text(json.dumps({"status": status, **here, **more, **about}, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / RECORD)


def find_runs(folder: str | Path) -> list[Run]:
    """All runs below a folder, in the order of their paths.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [read_run(path.parent) for path in sorted(Path(folder).glob(f"**/{RECORD}"))]
    if not found:
        raise FileNotFoundError(f"{folder}: no run below it has left a {RECORD}; train one, or name another folder")
    return found


def read_run(folder: Path) -> Run:
    """The run of a folder that holds ``run.json``.

    Raises:
        ValueError: the file was not written by a run.
    """
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        training = record.get("training", {})
        words = shlex.split(record["command"] or "")[2:]  # after: python train.py
        return Run(
            folder=folder,
            name=record["name"],
            network=network_name(record["model"]) if "model" in record else "",
            overrides=" ".join(word for word in words if not word.startswith("experiment=")),
            status=_status(record),
            seed=record["seed"],
            parameters=record.get("parameters"),
            macs_per_s=record.get("macs_per_s"),
            steps=training.get("steps"),
            hours=training.get("hours"),
            audio_s_per_s=training.get("audio_s_per_s"),
            best=record.get("best"),
            scores=_scores(folder / "metrics.json"),
            error=" ".join(record["error"].split()) if "error" in record else None,
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder / RECORD}: not the record of a run ({error!r}); remove or replace it") from error


def network_name(settings: dict[str, Any]) -> str:
    """In words, from the settings of a denoiser: "gru", "bidirectional lstm", "clockwork gru", "clockwork gru,
    sampled"."""
    recurrence = settings["masker"]["recurrence"]
    clockwork = "Clockwork" in recurrence["_target_"]
    words = ["bidirectional"] * recurrence["bidirectional"] + ["clockwork"] * clockwork + [recurrence["cell"]]
    sampled = clockwork and recurrence["pool"] == "sample"
    return " ".join(words) + ", sampled" * sampled


def timed(runs: Iterable[Run], seconds: float = TIMED_S) -> list[Run]:
    """The same with ``ms_per_s`` of those that have exported a model, measured here and now; see :func:`ms_per_s`."""
    runs = list(runs)
    places = [place for place, run in enumerate(runs) if (run.folder / "model" / SUMS).is_file()]
    for place, measured in zip(
        places, ms_per_s([runs[place].folder / "model" for place in places], seconds), strict=True
    ):
        runs[place] = replace(runs[place], ms_per_s=measured)
    return runs


def ms_per_s(folders: Sequence[str | Path], seconds: float = TIMED_S) -> list[float]:
    """Milliseconds that models need for a second of audio on one core, the best of many rounds.

    In each round every model has its turn, so that a machine's good and bad moments fall to all.
    """
    models = [load_pretrained(folder) for folder in folders]
    noise = np.random.default_rng(0).standard_normal(round(seconds * 16_000)).astype(np.float32) * 0.01
    best = [float("inf")] * len(models)
    for _ in range(ROUNDS):
        for place, model in enumerate(models):
            started = time.perf_counter()
            denoise(noise, model.sample_rate, model)
            best[place] = min(best[place], time.perf_counter() - started)
    return [1000 * s * model.sample_rate / len(noise) for s, model in zip(best, models, strict=True)]


def against(runs: Iterable[Run], other: str | Path) -> list[Run]:
    """The same with, for scores, what they are more than those of the run in ``other``, mixture by mixture.

    An interval is that of the mean difference: narrower than of two means, as the mixtures are the same.

    Raises:
        ValueError: ``other`` has measured nothing, or other mixtures than a run.
    """
    from hushwork.metrics import bootstrap_interval  # torch with it, which nothing else here needs

    reference = _by_mixture(Path(other))
    if not reference:
        raise ValueError(
            f"--against {other}: no metrics.csv there; name the folder of a run that has measured its test split"
        )
    compared = []
    for run in runs:
        scores = _by_mixture(run.folder)
        if scores and scores.keys() != reference.keys():
            raise ValueError(f"{run.folder} was measured on other mixtures than {other}; they cannot be compared")
        differences = {}
        for metric in run.scores if scores else ():
            values = np.array(
                [float(scores[name].get(metric, "nan")) - float(reference[name].get(metric, "nan")) for name in scores]
            )
            if len(values := values[np.isfinite(values)]):
                differences[metric] = (float(values.mean()), *bootstrap_interval(values))
        compared.append(replace(run, scores=differences))
    return compared


def _by_mixture(folder: Path) -> dict[str, dict[str, str]]:
    """The lines of ``metrics.csv`` on what a run denoised, by the mixture's name."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {line["name"]: line for line in csv.DictReader(file) if line["system"] == "denoised"}


def columns(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """All that is known, by the name of its column; a score has a column for its mean and two for its interval."""
    table: dict[str, list[Any]] = {
        "run": [str(run.folder) for run in runs],
        "name": [run.name for run in runs],
        "network": [run.network for run in runs],
        "changed": [run.overrides for run in runs],
        "status": [run.status for run in runs],
        "seed": [run.seed for run in runs],
        "parameters": [run.parameters for run in runs],
        COST: [None if run.macs_per_s is None else round(run.macs_per_s / 1e6, 2) for run in runs],
        TIME: [None if run.ms_per_s is None else round(run.ms_per_s, 3) for run in runs],
        "steps": [run.steps for run in runs],
        "hours": [run.hours for run in runs],
        "audio s/s": [run.audio_s_per_s for run in runs],
        "validation": [run.best for run in runs],
    }
    for metric in metrics_of(runs):
        for place, part in enumerate((metric, f"{metric} low", f"{metric} high")):
            table[part] = [run.scores[metric][place] if metric in run.scores else None for run in runs]
    table["error"] = [run.error for run in runs]
    return table


def metrics_of(runs: Iterable[Run]) -> list[str]:
    """The metrics that any of them was measured by, gains left out."""
    return list(dict.fromkeys(name for run in runs for name in run.scores if not name.endswith("improvement")))


def sort_runs(runs: Sequence[Run], column: str) -> list[Run]:
    """By a column of :func:`columns`, the largest first if it is a metric of the test; without a value: last.

    Raises:
        ValueError: there is no such column.
    """
    table = columns(runs)
    if column not in table:
        raise ValueError(f"--sort {column} is no column; choose of {', '.join(table)}")
    known = [place for place, value in enumerate(table[column]) if value is not None]
    ordered = sorted(known, key=lambda place: table[column][place], reverse=column in metrics_of(runs))
    unknown = [place for place, value in enumerate(table[column]) if value is None]
    return [runs[place] for place in (*ordered, *unknown)]


def as_table(runs: Sequence[Run]) -> Table:
    """For a terminal: what fits."""
    table = Table()
    shown = columns(runs)
    shown["changed"] = _differences(runs)
    empty = {name for name, values in shown.items() if all(value in (None, "") for value in values)}
    hidden = {"name", "network", *(name for name in shown if name.endswith((" low", " high")))} | empty
    names = [name for name in shown if name not in hidden]
    for name in names:
        left = name in ("run", "changed", "status", "error")
        table.add_column(name, justify="left" if left else "right", overflow="fold" if left else "ellipsis")
    for place, run in enumerate(runs):
        cells = []
        for name in names:
            value = shown[name][place]
            if name in run.scores:
                cells.append(escape("{:.3f} [{:.3f}, {:.3f}]".format(*run.scores[name])))
            elif isinstance(value, int):
                cells.append(f"{value:,}")
            else:
                cells.append("" if value is None else f"{value:.3f}" if name == "validation" else escape(str(value)))
        table.add_row(*cells)
    return table


def write_csv(runs: Sequence[Run], path: str | Path) -> None:
    """A line for each run, with all columns."""
    table = columns(runs)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Of (cost, quality), the places of those that nothing cheaper equals or surpasses, by rising cost."""
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1])):
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front


def draw_quality_against_cost(runs: Sequence[Run]) -> Figure:
    """A panel for each metric of the test, over operations and, if measured, over time.

    Runs of one network and as many operations are seeds of the same: small dots, and a mark at their mean. The broad
    line is the front of these means that nothing cheaper surpasses.

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
        for axis, (label, cost_of) in zip(row, costs.items(), strict=True):
            _draw_panel(axis, runs, metric, cost_of)
            if metric == metrics[-1]:
                axis.set_xlabel(label)
    axes[0, 0].legend(fontsize="small")
    return figure


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
        x, y = np.reshape([point for same in seeds.values() for point in same], (-1, 2)).T
        axis.scatter(x, y, s=9, alpha=0.5, color=drawn.get_color())
        means += line
    front = [means[place] for place in pareto_front(means)]
    axis.plot(*np.reshape(front, (-1, 2)).T, color="0.6", lw=6, alpha=0.35, zorder=0)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("{x:g}")
    axis.grid(alpha=0.3, which="both")


def _differences(runs: Sequence[Run]) -> list[str]:
    """What was typed for each, less what was typed for all; keys by their last name."""
    words = [run.overrides.split() for run in runs]
    common = set.intersection(*map(set, words)) if len(runs) > 1 else set()
    return [" ".join(re.sub(r"^[^=]*\.", "", word) for word in each if word not in common) for each in words]


def is_running_here(record: dict[str, Any]) -> bool:
    """Whether another process of this machine is at work on a run, going by its record."""
    here = record["status"] == "running" and record["host"] == socket.gethostname()
    return here and record["pid"] != os.getpid() and is_alive(record["pid"])


def _status(record: dict[str, Any]) -> str:
    gone = record["host"] == socket.gethostname() and not is_alive(record["pid"])
    return "stopped" if record["status"] == "running" and gone else str(record["status"])


def is_alive(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _scores(path: Path) -> dict[str, tuple[float, float, float]]:
    if not path.is_file():
        return {}
    results = json.loads(path.read_text("utf-8"))
    if "summary" not in results:  # of another training than a denoiser's
        return {}
    denoised = results["summary"]["overall"]["denoised"]
    return {name: (s["mean"], s["low"], s["high"]) for name, s in denoised.items() if s["mean"] is not None}
