"""Model folders written, and read as torch modules.

A folder holds ``model.safetensors``, ``config.json``, ``MODEL_CARD.md`` and ``SHA256SUMS``; there is no pickle in it.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from hushwork.atomic import file_sha256, write_atomically
from hushwork.audio.stft import StftConfig
from hushwork.inference.network import check_arrays, check_limits
from hushwork.inference.pretrained import (
    CARD,
    CONFIG,
    SUMS,
    WEIGHTS,
    ModelError,
    PretrainedDenoiser,
    find_model,
    read_config,
    read_weights,
)
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN
from hushwork.strict_json import shown

HYDRA_KEYS = ("_target_", "_partial_", "_convert_")
BUILDABLE = {
    f"{cls.__module__}.{cls.__qualname__}": cls
    for cls in (Denoiser, RecurrentMasker, StackedClockworkRNN, StackedRNN, StftConfig)
}


def export_model(denoiser: Denoiser, about: dict[str, Any], card: str, folder: str | Path) -> None:
    """Write a model folder; it appears at once and whole, in place of an earlier one.

    Args:
        denoiser: whose weights and settings are saved.
        about: JSON-able; whatever the reader should know (versions, commit, data, metrics). ``config.json`` is this,
            and under ``model`` the settings.
        card: the text of the model card, Markdown.
        folder: to be made.
    """
    with write_atomically(folder) as part:
        part.mkdir()
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in denoiser.state_dict().items()}
        (part / WEIGHTS).write_bytes(save(weights))
        config = {**about, "model": denoiser.settings}
        (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (part / CARD).write_text(card, encoding="utf-8")
        sums = "".join(f"{file_sha256(part / name)}  {name}\n" for name in (CARD, CONFIG, WEIGHTS))
        (part / SUMS).write_text(sums, encoding="utf-8")


def pretrained(denoiser: Denoiser) -> PretrainedDenoiser:
    """A torch denoiser as it stands, for use: what :func:`load_pretrained` would give after an export."""
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in denoiser.state_dict().items()}
    return PretrainedDenoiser(denoiser.settings, weights)


def load_for_training(folder: str | Path | None = None) -> Denoiser:
    """The torch module of a model folder, in evaluation mode on the CPU: to measure, study or train on.

    Args:
        folder: as written by :func:`export_model`; or a name; see :func:`find_model`.

    Raises:
        ModelError: files are missing or do not match their checksums, the configuration names anything but this
            project's own model classes, or the weights do not fit it exactly.
    """
    folder = find_model(folder)
    settings, weights = read_config(folder)["model"], read_weights(folder)
    try:
        check_limits(settings)
        with torch.device("meta"):  # of the right shapes, but taking no memory: the file need not hold what it asks for
            shapes = {name: tuple(tensor.shape) for name, tensor in _build_denoiser(settings).state_dict().items()}
    except KeyError as error:
        raise ModelError(f"{folder / CONFIG}: the configuration lacks {error}; export the model again") from error
    except ValueError as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from error
    try:
        check_arrays(weights, shapes)
    except ValueError as error:
        raise ModelError(f"{folder / WEIGHTS}: the weights do not fit {CONFIG}: {error}") from error
    denoiser = _build_denoiser(settings)
    denoiser.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return denoiser.eval()


def _build_denoiser(settings: dict[str, Any]) -> Denoiser:
    denoiser = build(settings)
    if not isinstance(denoiser, Denoiser):
        raise ModelError(f"its model is a {type(denoiser).__name__}, expected a Denoiser")
    return denoiser


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
    target = node["_target_"]
    if not isinstance(target, str) or target not in BUILDABLE:
        raise ModelError(f"the model names {shown(target)}; allowed are {', '.join(sorted(BUILDABLE))}")
    build_class = partial(BUILDABLE[target], **arguments)
    if node.get("_partial_"):
        return build_class
    try:
        return build_class()
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{target} cannot be built: {error}") from error
