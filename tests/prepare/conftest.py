"""A tiny corpus of folders, and the rules of hushwork prepare debian."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hushwork.prepare.debian.rules import Rules
from preparers import make_audio


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Speech of four speakers, and three noises."""
    speech, noise = tmp_path / "speech", tmp_path / "noise"
    for name in ("anna/1.wav", "anna/sub/2.flac", "bert/1.wav", "cleo/1.ogg", "dora/1.wav"):
        make_audio(speech / name)
    for name in ("rain/roof.wav", "rain/tent.wav", "street.wav"):
        make_audio(noise / name, 48000, num_channels=2)
    return speech, noise


@pytest.fixture(scope="session")
def rules() -> Any:
    return Rules.load()
