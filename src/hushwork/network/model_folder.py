"""Read and write model folders: configuration, weights, card and checksums, without pickle and without torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hushwork.atomic import file_sha256, write_atomically
from hushwork.network.specification import FORMAT
from hushwork.strict_json import parse_object, shown

WEIGHTS, CONFIG, CARD, SUMS = "model.safetensors", "config.json", "MODEL_CARD.md", "SHA256SUMS"
SHIPPED = Path(__file__).parents[1] / "weights"
MAX_CONFIG, MAX_WEIGHTS = 2**22, 2**30  # bytes, which bound the memory for untrusted folders


class ModelError(ValueError):
    """A folder is not a model of this project, or was changed after it was written."""


def read_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of a model folder: an object whose ``model`` is an object. Nothing else in it is checked.

    Raises:
        ModelError: it is missing, too large, leads out of the folder, does not match its checksum, is no such object,
            or was written by a newer hushwork.
    """
    path = Path(folder) / CONFIG
    content = _content(path, MAX_CONFIG)
    try:
        config = parse_object(content)
    except ValueError as error:
        raise ModelError(f"{path}: cannot be read: {error}; export or copy the model again") from error
    if not isinstance(config.get("model"), dict):
        raise ModelError(f"{path}: names no model; export it again")
    number = config.get("format", 0)
    if not isinstance(number, int) or isinstance(number, bool):
        raise ModelError(f"{path}: format is {shown(number)}, expected a number; export the model again")
    if number > FORMAT:
        raise ModelError(
            f"{path}: has format {shown(number)}, this hushwork reads formats up to {FORMAT}; "
            "upgrade it (pip install -U hushwork)"
        )
    return config


def read_weights(folder: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a model folder by name, of any shape; half precision is read as float32.

    Raises:
        ModelError: as :func:`read_config`.
    """
    path = Path(folder) / WEIGHTS
    content = _content(path, MAX_WEIGHTS)
    header = int.from_bytes(content[:8], "little")
    if header > MAX_CONFIG:
        raise ModelError(f"{path}: its header claims {header} bytes, at most {MAX_CONFIG} are read; export it again")
    try:
        arrays = load(content)
    except KeyError as error:
        raise ModelError(
            f"{path}: holds arrays of type {error}, expected float32 or float16; export it again"
        ) from error
    except (SafetensorError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {error}; export or copy the model again") from error
    return {name: a.astype(np.float32) if a.dtype == np.float16 else a for name, a in arrays.items()}


def read_card(folder: str | Path) -> str:
    """The model card, Markdown.

    Raises:
        ModelError: as :func:`read_config`.
    """
    return _content(Path(folder) / CARD, MAX_CONFIG).decode("utf-8", "replace")


def write_folder(
    folder: str | Path,
    weights: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    card: str,
    *,
    half_precision: bool = False,
) -> None:
    """Write a model folder; it appears at once and whole, in place of an earlier one.

    Args:
        folder: to be made.
        weights: float32 arrays of any shape by name.
        config: as JSON takes it; the number of its ``format`` is added.
        card: the text of the model card, Markdown.
        half_precision: round the weights to float16, which halves the file.

    Raises:
        ValueError: the folder holds something else than a model, or a weight is beyond the range of float16.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / SUMS).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder}: exists and is not a model folder; name a new folder")
    arrays = {name: _half(name, array) if half_precision else array for name, array in weights.items()}
    with write_atomically(folder) as part:
        part.mkdir()
        (part / WEIGHTS).write_bytes(save(arrays))
        (part / CONFIG).write_text(json.dumps({**config, "format": FORMAT}, indent=2) + "\n", encoding="utf-8")
        (part / CARD).write_text(card, encoding="utf-8")
        sums = "".join(f"{file_sha256(part / name)}  {name}\n" for name in (CARD, CONFIG, WEIGHTS))
        (part / SUMS).write_text(sums, encoding="utf-8")


def _half(name: str, array: np.ndarray) -> np.ndarray:
    largest, limit = float(np.abs(array).max(initial=0)), float(np.finfo(np.float16).max)
    if not largest <= limit:
        raise ValueError(f"the array {name} holds {largest:g}, half precision at most {limit:g}; keep float32")
    return array.astype(np.float16)


def _content(path: Path, most: int) -> bytes:
    """A file of a model folder, of limited size, checked by the folder's checksums."""
    folder, name = path.parent, path.name
    if not (folder / SUMS).is_file():
        raise ModelError(f"{folder}: not a model folder ({SUMS} is missing); export one by training")
    expected = _read_sums(folder / SUMS)
    if not path.is_file() or name not in expected:
        raise ModelError(f"{folder}: not a whole model folder ({name} or its checksum is missing)")
    content = _read(path, most)
    if hashlib.sha256(content).hexdigest() != expected[name]:
        raise ModelError(f"{path}: changed since it was exported (checksum differs); export or copy the model again")
    return content


def _read_sums(path: Path) -> dict[str, str]:
    found = {}
    for line in _read(path, MAX_CONFIG).decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  ([^/\\]+)", line)
        if not match:
            raise ModelError(
                f"{path}: {shown(line)} is not the checksum of a file in this folder; export or copy it again"
            )
        found[match[2]] = match[1]
    return found


def _read(path: Path, most: int) -> bytes:
    """A file inside its folder, of limited size."""
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise ModelError(f"{path}: leads out of the model folder, to {path.resolve()}; copy that file into it")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ModelError(
                f"{path}: takes {size} bytes, at most {most} are read; it does not belong to a model of hushwork"
            )
        return file.read(size)


def find_model(name: str | Path | None = None) -> Path:
    """The model folder of a name.

    Args:
        name: one of :func:`shipped_models` (default, small, offline), "last" (the newest export below ``./runs``)
            or a folder; None takes ``$HUSHWORK_MODEL``, which may be any of these, and without it "default".

    Raises:
        ModelError: "last", but there is no export.
    """
    name = name or os.environ.get("HUSHWORK_MODEL") or "default"
    if str(name) in shipped_models():
        return SHIPPED / name
    if str(name) != "last":
        return Path(name)
    exports = sorted(Path("runs").glob(f"**/model/{SUMS}"), key=lambda path: path.stat().st_mtime)
    if not exports:
        raise ModelError("last: there is no model below ./runs; train one (python train.py experiment=cwrnn)")
    return exports[-1].parent


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{SUMS}"))
