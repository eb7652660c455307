"""Forged model folders."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sign_again(folder: Path) -> None:
    """New checksums, as someone who forges a model would write them."""
    names = ("MODEL_CARD.md", "config.json", "model.safetensors")
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
