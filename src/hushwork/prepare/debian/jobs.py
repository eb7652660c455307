"""Jobs that turn unpacked packages into audio files, and their outcomes, which later runs reuse."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hushwork.audio.io import write_audio
from hushwork.data.recordings import Recording
from hushwork.prepare.debian.packages import Workspace

RECIPE = 1  # raise it when processing changes: finished jobs of a lower number are then run again
SILENT = 1e-3  # peak amplitude


@dataclass(frozen=True)
class Rejected:
    """A recording that is not used, and why."""

    kind: str
    package: str
    path: str
    reason: str


@dataclass(frozen=True)
class Product:
    """A recording of the corpus, and properties that are not in the manifest."""

    recording: Recording
    package: str
    original: str
    tier: str | None = None
    active_s: float | None = None
    fingerprint: str | None = None


@dataclass
class Outcome:
    """The recordings that a job has made, and those it has rejected."""

    products: list[Product] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Outcome:
        products = [Product(**{**row, "recording": Recording(**row["recording"])}) for row in entry["products"]]
        return cls(products, [Rejected(**row) for row in entry["rejected"]])


@dataclass(frozen=True)
class SpeechJob:
    """The clips of one speaker; ``restored``: to be cleaned."""

    speaker: str
    language: str
    split: str
    tier: str
    package: str
    version: str
    licence: str
    clips: tuple[str, ...]
    restored: bool = False

    @property
    def name(self) -> str:
        return f"speech/{self.speaker}"

    @property
    def effort(self) -> int:
        return len(self.clips)


@dataclass(frozen=True)
class NoiseItem:
    """A recording that becomes a noise file."""

    path: str
    noise_class: str
    split: str
    source: str
    weight: float


@dataclass(frozen=True)
class NoiseJob:
    """Some recordings of one package; with ``typing``, key clicks to be joined."""

    package: str
    version: str
    licence: str
    number: int
    items: tuple[NoiseItem, ...]
    typing: bool = False

    @property
    def name(self) -> str:
        return f"noise/{self.package}-{'typing' if self.typing else f'{self.number:03d}'}"

    @property
    def effort(self) -> int:
        return len(self.items)


Job = SpeechJob | NoiseJob


def job_key(job: Job, workspace: Workspace) -> str:
    """A hash of all that the result of the job depends on."""
    fields = asdict(job)
    if not fields.get("restored"):
        fields.pop("restored", None)  # so that finished jobs from before there was this field count
    text = json.dumps([RECIPE, workspace.sample_rate, fields], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def finished_outcome(job: Job, workspace: Workspace, marker: Path) -> Outcome | None:
    """The outcome of ``job`` in an earlier run; None if there is none, the job changed, or its files are missing."""
    try:
        entry = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if entry["key"] != job_key(job, workspace):
        return None
    outcome = Outcome.from_json(entry["outcome"])
    paths = [product.recording.path for product in outcome.products]
    return (
        outcome if all((workspace.out / path).is_file() or workspace.unused(path).is_file() for path in paths) else None
    )


def write_flac(path: Path, audio: np.ndarray, sample_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, audio, sample_rate, subtype="PCM_16")
