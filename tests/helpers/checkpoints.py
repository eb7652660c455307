"""Checkpoints of runs in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from kill_training import first_difference


def last(run_dir: Path) -> dict[str, Any]:
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)


def identical(one: Any, other: Any) -> bool:
    return first_difference(one, other) is None
