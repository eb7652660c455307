"""Exported models: a folder of weights, configuration, card and checksums, written and read without pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from hushwork.audio.stft import StftConfig
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN

WEIGHTS, CONFIG, CARD, SUMS = "model.safetensors", "config.json", "MODEL_CARD.md", "SHA256SUMS"
HYDRA_KEYS = ("_target_", "_partial_", "_convert_")
BUILDABLE = {
    f"{cls.__module__}.{cls.__qualname__}": cls
    for cls in (Denoiser, RecurrentMasker, StackedClockworkRNN, StackedRNN, StftConfig)
}


class ModelError(ValueError):
    """A folder that is no model of this project, or was changed after it was written."""


def export_model(denoiser: Denoiser, config: dict[str, Any], card: str, folder: str | Path) -> None:
    """Write a model folder; it appears at once and whole, in place of an earlier one.

    Args:
        denoiser: whose weights are saved.
        config: JSON-able; ``config["model"]`` is the resolved node from which ``denoiser`` was built. Whatever else
            stands there (sample rate, versions, commit, data, metrics) is kept for the reader.
        card: the text of the model card, Markdown.
        folder: to be made.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in denoiser.state_dict().items()}, part / WEIGHTS
        )
        (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (part / CARD).write_text(card, encoding="utf-8")
        sums = "".join(f"{_sha256(part / name)}  {name}\n" for name in (CARD, CONFIG, WEIGHTS))
        (part / SUMS).write_text(sums, encoding="utf-8")
        part.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def load_pretrained(folder: str | Path | None = None) -> Denoiser:
    """The denoiser of a model folder, ready for use on the CPU.

    Args:
        folder: as written by :func:`export_model`; None takes :func:`default_model`.

    Raises:
        ModelError: files are missing or do not match their checksums, the configuration names anything but this
            project's own model classes, or the weights do not fit it exactly.
    """
    folder = Path(folder or default_model())
    config = read_config(folder)
    denoiser = build(config["model"])
    if not isinstance(denoiser, Denoiser):
        raise ModelError(f"{folder / CONFIG}: its model is a {type(denoiser).__name__}, expected a Denoiser")
    try:
        denoiser.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    except RuntimeError as error:
        raise ModelError(f"{folder / WEIGHTS}: the weights do not fit {CONFIG}: {error}") from error
    return denoiser.eval()


def read_config(folder: str | Path) -> dict[str, Any]:
    """The checked configuration of a model folder. Raises :class:`ModelError` as :func:`load_pretrained`."""
    folder = Path(folder)
    sums = folder / SUMS
    if not sums.is_file():
        raise ModelError(f"{folder}: not a model folder ({SUMS} is missing); export one by training")
    expected = {}
    for line in sums.read_text("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        expected[name] = digest
    for name in (CONFIG, WEIGHTS):
        path = folder / name
        if not path.is_file() or name not in expected:
            raise ModelError(f"{folder}: not a whole model folder ({name} or its checksum is missing)")
        if _sha256(path) != expected[name]:
            raise ModelError(
                f"{path}: changed since it was exported (checksum differs); export or copy the model again"
            )
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
    if "model" not in config:
        raise ModelError(f"{folder / CONFIG}: names no model; export it again")
    return config


def build(node: Any) -> Any:
    """Build a model from a plain configuration node; only this project's own model classes can be named.

    Raises:
        ModelError: another ``_target_``, or arguments that the class does not take.
    """
    if isinstance(node, list):
        return [build(item) for item in node]
    if not isinstance(node, dict):
        return node
    arguments = {key: build(value) for key, value in node.items() if key not in HYDRA_KEYS}
    if "_target_" not in node:
        return arguments
    if node["_target_"] not in BUILDABLE:
        raise ModelError(f"the model names {node['_target_']!r}; allowed are {', '.join(sorted(BUILDABLE))}")
    build_class = partial(BUILDABLE[node["_target_"]], **arguments)
    if node.get("_partial_"):
        return build_class
    try:
        return build_class()
    except (TypeError, ValueError) as error:
        raise ModelError(f"{node['_target_']} cannot be built: {error}") from error


def default_model() -> Path:
    """The model used when none is named: ``$HUSHWORK_MODEL``, else the newest export below ``./runs``.

    Raises:
        ModelError: there is none.
    """
    if named := os.environ.get("HUSHWORK_MODEL"):
        return Path(named)
    exports = sorted(Path("runs").glob(f"**/model/{SUMS}"), key=lambda path: path.stat().st_mtime)
    if not exports:
        raise ModelError(
            "no model: train one (python train.py experiment=cwrnn), name one (--model FOLDER), or set HUSHWORK_MODEL"
        )
    return exports[-1].parent


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
