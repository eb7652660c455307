"""Studies of Optuna in tests of sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

LR = "lr=tag(log,interval(1e-5,1e-1))"


def study(folder: Path) -> Any:
    optuna = pytest.importorskip("optuna")
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'runs/sweeps/search/study.db'}")
