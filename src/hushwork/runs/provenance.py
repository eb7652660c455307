"""Which code, command and packages a run comes from."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

import hushwork
from hushwork.config import cli_overrides

PACKAGES = ("torch", "torchaudio", "pytorch-lightning", "numpy", "librosa")


def provenance() -> dict[str, Any]:
    """Metadata for a record; the command is None if Hydra did not start this process."""
    return {
        "commit": commit(),
        "command": shlex.join(["python", "train.py", *cli_overrides()]) if HydraConfig.initialized() else None,
        "hushwork": hushwork.__version__,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def commit() -> str | None:
    """The checkout's commit, with "+" if files have changed since; None outside a checkout."""
    root = Path(hushwork.__file__).parents[2]
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")) != root.resolve():
            return None
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", os.fspath(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
