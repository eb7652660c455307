"""Runs of the preparers on tiny files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hushwork import cli
from hushwork.audio.io import audio_info, write_audio
from hushwork.data.manifest import Manifest, load_manifest
from hushwork.data.recordings import Recording

CONF = Path(__file__).parents[2] / "conf"
DURATION_S = 0.25


def make_audio(path: Path, sample_rate: int = 16000, num_channels: int = 1, duration_s: float = DURATION_S) -> Path:
    """A tone whose pitch depends on the path, equal in all channels."""
    hz = 200 + hashlib.sha256(path.name.encode()).digest()[0]
    tone = 0.3 * np.sin(2 * np.pi * hz * np.arange(round(duration_s * sample_rate)) / sample_rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, np.tile(tone, (num_channels, 1)), sample_rate)
    return path


def prepare(corpus: str, *words: str | Path) -> int:
    return cli.main(["prepare", corpus, *map(str, words)])


def prepared(out: Path, sample_rate: int = 16000) -> Manifest:
    """The manifest, which load_manifest has found valid, after a look at what is in the files."""
    manifest = load_manifest(out / "manifest.jsonl", sample_rate)
    for recording in manifest.recordings:
        for path in filter(None, (recording.path, recording.noisy_path)):
            info = audio_info(manifest.file(path))
            assert (info.num_channels, info.sample_rate) == (1, sample_rate)
            assert info.num_samples == round(DURATION_S * sample_rate)
    return manifest


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*.flac")}


def splits_of(manifest: Manifest, name: Callable[[Recording], str | None]) -> dict[str | None, set[str]]:
    found: dict[str | None, set[str]] = {}
    for recording in manifest.recordings:
        found.setdefault(name(recording), set()).add(recording.split)
    return found


def silent(path: Path) -> None:
    write_audio(path, np.zeros(16000), 16000)
