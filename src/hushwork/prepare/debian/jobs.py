"""Jobs that make audio files from unpacked packages, and their results, which later runs reuse."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hushwork.audio.io import write_audio
from hushwork.data.recordings import Recording
from hushwork.prepare.debian.packages import Place

RECIPE = 1  # raised when processing changes, so that finished work of an older recipe is done again
SILENT = 1e-3  # peak amplitude


@dataclass(frozen=True)
class Rejected:
    """A recording that is not in the corpus."""

    kind: str
    package: str
    path: str
    reason: str


@dataclass(frozen=True)
class Product:
    """A recording of the corpus with what the manifest does not hold."""

    recording: Recording
    package: str
    original: str
    tier: str | None = None
    active_s: float | None = None
    fingerprint: str | None = None


@dataclass
class Outcome:
    """What a job made."""

    products: list[Product] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Outcome:
        products = [Product(**{**row, "recording": Recording(**row["recording"])}) for row in entry["products"]]
        return cls(products, [Rejected(**row) for row in entry["rejected"]])


@dataclass(frozen=True)
class SpeechJob:
    """The clips of one speaker."""

    speaker: str
    language: str
    split: str
    tier: str
    package: str
    version: str
    licence: str
    clips: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"speech/{self.speaker}"

    @property
    def effort(self) -> int:
        return len(self.clips)


@dataclass(frozen=True)
class NoiseItem:
    """A recording to make a noise file of."""

    path: str
    noise_class: str
    split: str
    source: str
    weight: float


@dataclass(frozen=True)
class NoiseJob:
    """Some recordings of one package; with ``typing`` they are key clicks to string together."""

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


def job_key(job: Job, place: Place) -> str:
    """Changes whenever the job's result would."""
    text = json.dumps([RECIPE, place.sample_rate, asdict(job)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def finished_outcome(job: Job, place: Place, marker: Path) -> Outcome | None:
    """What an earlier run made of ``job``, None if it did not, or did it otherwise, or its files are gone."""
    try:
        entry = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if entry["key"] != job_key(job, place):
        return None
    outcome = Outcome.from_json(entry["outcome"])
    paths = [product.recording.path for product in outcome.products]
    return outcome if all((place.out / path).is_file() or place.unused(path).is_file() for path in paths) else None


def write_flac(path: Path, audio: np.ndarray, sample_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, audio, sample_rate, subtype="PCM_16")
