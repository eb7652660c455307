"""The engine in node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed: the engine in JavaScript was not run")


def run_engine(folder: Path, command: str, model: bytes, samples: np.ndarray, **options: Any) -> np.ndarray:
    """``engine.mjs`` on float32 numbers; as many come back, in the same shape."""
    (folder / "model").write_bytes(model)
    np.ascontiguousarray(samples, "<f4").tofile(folder / "input")
    arguments = [command, *(folder / name for name in ("model", "input", "output")), json.dumps(options)]
    assert NODE is not None
    done = subprocess.run([NODE, Path(__file__).with_name("engine.mjs"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.fromfile(folder / "output", "<f4").reshape(samples.shape)
