"""The record of a training run: writing and reading.

A run's folder holds ``run.json``, written at the start of training and at the end of the run, even by an error, and
``metrics.json`` and ``metrics.csv`` once the test split is measured.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hushwork.atomic import write_atomically

RECORD = "run.json"


@dataclass(frozen=True)
class Run:
    """The record of one run; None for unknown values.

    Attributes:
        folder: of the run.
        name: of the experiment.
        network: such as "clockwork gru"; "" for trainings of anything but denoisers, and for runs that failed before.
        overrides: of the command line, without the experiment's name.
        status: "running", "stopped" (can be resumed), "failed", "pruned" (ended by a search) or "finished".
        seed, parameters, steps, hours: of training.
        macs_per_s: multiply-accumulates per second of audio.
        audio_s_per_s: seconds of audio trained in a second.
        best: of the monitored metric of the validation split.
        scores: of the test split: mean, and the 95 % interval over files, by metric.
        error: the error that ended the run, in one line.
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


def write_record(folder: Path, metadata: dict[str, Any], status: str) -> None:
    """Write ``run.json``: the metadata, the status, and the process that writes it."""
    process = {"status": status, "host": socket.gethostname(), "pid": os.getpid()}
    with write_atomically(folder / RECORD) as part:
        part.write_text(json.dumps(process | metadata | process, indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> dict[str, Any]:
    """The record that :func:`write_record` wrote. Raises FileNotFoundError if there is none."""
    return json.loads((folder / RECORD).read_text("utf-8"))


def find_runs(folder: str | Path) -> list[Run]:
    """All runs below a folder, in the order of their paths.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [read_run(path.parent) for path in sorted(Path(folder).glob(f"**/{RECORD}"))]
    if not found:
        raise FileNotFoundError(f"{folder}: has no run below it (no {RECORD}); train a model, or name another folder")
    return found


def read_run(folder: Path) -> Run:
    """The run of a folder that holds ``run.json``.

    Raises:
        ValueError: the file was not written by a run.
    """
    try:
        record = read_record(folder)
        training = record.get("training", {})
        overrides = shlex.split(record["command"] or "")[2:]  # after: python train.py
        return Run(
            folder=folder,
            name=record["name"],
            network=network_name(record["model"]) if "model" in record else "",
            overrides=" ".join(word for word in overrides if not word.startswith("experiment=")),
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
    """A denoiser's network in words, from its settings: "gru", "bidirectional lstm", "clockwork gru, sampled"."""
    recurrence = settings["masker"]["recurrence"]
    clockwork = "Clockwork" in recurrence["_target_"]
    words = ["bidirectional"] * recurrence["bidirectional"] + ["clockwork"] * clockwork + [recurrence["cell"]]
    sampled = clockwork and recurrence["pool"] == "sample"
    return " ".join(words) + ", sampled" * sampled


def is_running_elsewhere(record: dict[str, Any]) -> bool:
    """Whether another process of this machine trains the run of this record."""
    local = record["status"] == "running" and record["host"] == socket.gethostname()
    return local and record["pid"] != os.getpid() and process_exists(record["pid"])


def process_exists(pid: int) -> bool:
    """Whether a process with this number exists on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _status(record: dict[str, Any]) -> str:
    ended = record["host"] == socket.gethostname() and not process_exists(record["pid"])
    return "stopped" if record["status"] == "running" and ended else str(record["status"])


def _scores(path: Path) -> dict[str, tuple[float, float, float]]:
    if not path.is_file():
        return {}
    results = json.loads(path.read_text("utf-8"))
    if "summary" not in results:  # trainings of anything but denoisers
        return {}
    denoised = results["summary"]["overall"]["denoised"]
    return {name: (s["mean"], s["low"], s["high"]) for name, s in denoised.items() if s["mean"] is not None}
