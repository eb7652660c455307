"""Comparison of runs with one of them, mixture by mixture."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from hushwork.evaluation.metrics import bootstrap_interval
from hushwork.runs.record import Run


def against(runs: Iterable[Run], reference: str | Path) -> list[Run]:
    """The runs with the differences of their scores from those of the run in ``reference``, paired by mixture.

    Intervals are those of the mean difference. They are narrower than those of two means, as the mixtures are the same.

    Raises:
        ValueError: ``reference`` has no scores of a test split, or its mixtures differ from those of a run.
    """
    expected = _scores_by_mixture(Path(reference))
    if not expected:
        raise ValueError(
            f"--against {reference}: no metrics.csv there; name the folder of a run that has measured its test split"
        )
    compared = []
    for run in runs:
        scores = _scores_by_mixture(run.folder)
        if scores and scores.keys() != expected.keys():
            raise ValueError(f"{run.folder} was measured on other mixtures than {reference}; they cannot be compared")
        differences = {}
        for metric in run.scores if scores else ():
            values = np.array(
                [
                    float(line.get(metric, "nan")) - float(expected[name].get(metric, "nan"))
                    for name, line in scores.items()
                ]
            )
            if len(values := values[np.isfinite(values)]):
                differences[metric] = (float(values.mean()), *bootstrap_interval(values))
        compared.append(replace(run, scores=differences))
    return compared


def _scores_by_mixture(folder: Path) -> dict[str, dict[str, str]]:
    """The lines of ``metrics.csv`` for the denoised mixtures, by the mixture's name."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {line["name"]: line for line in csv.DictReader(file) if line["system"] == "denoised"}
