"""Write model folders, and read them as torch modules.

A folder holds ``model.safetensors``, ``config.json``, ``MODEL_CARD.md`` and ``SHA256SUMS``; there is no pickle in it.
"""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN
from hushwork.network.model_folder import (
    CONFIG,
    WEIGHTS,
    ModelError,
    find_model,
    read_config,
    read_weights,
    write_folder,
)
from hushwork.network.network import check_arrays
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.network.specification import ClockworkSettings, DenoiserSettings, StackedRnnSettings
from hushwork.settings import Settings

RECURRENCES = {StackedRnnSettings: StackedRNN, ClockworkSettings: StackedClockworkRNN}


def export_model(
    denoiser: Denoiser, metadata: dict[str, Any], card: str, folder: str | Path, *, half_precision: bool = False
) -> None:
    """Write a model folder; it appears at once and whole, in place of an earlier one.

    Args:
        denoiser: whose weights and settings are saved.
        metadata: of the training, as JSON takes it (versions, commit, data, metrics). ``config.json`` holds it, the
            number of its ``format``, and under ``model`` the settings.
        card: the text of the model card, Markdown.
        folder: to be made.
        half_precision: round the weights to float16, which halves the file; loading gives float32 again.

    Raises:
        ValueError: the folder holds something else than a model, or a weight is beyond the range of float16.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_model(load_for_training("small"), {"name": "mine"}, "# mine", Path(folder) / "model")
        ...     sorted(path.name for path in (Path(folder) / "model").iterdir())
        ['MODEL_CARD.md', 'SHA256SUMS', 'config.json', 'model.safetensors']
    """
    config = {**metadata, "model": denoiser.settings}
    write_folder(folder, _arrays(denoiser), config, card, half_precision=half_precision)


def pretrained(denoiser: Denoiser) -> PretrainedDenoiser:
    """A torch denoiser as it stands, for use: what :func:`load_pretrained` would give after an export.

    Example:
        >>> pretrained(load_for_training("small")).latency_samples
        511
    """
    return PretrainedDenoiser(denoiser.settings, _arrays(denoiser))


def load_for_training(folder: str | Path | None = None) -> Denoiser:
    """The torch module of a model folder, in evaluation mode on the CPU: to measure, study or train on.

    Args:
        folder: as written by :func:`hushwork.export_model`; or a name, as for :func:`hushwork.load_pretrained`.

    Raises:
        ModelError: files are missing or do not match their checksums, the configuration names anything but this
            project's own model classes, or the weights do not fit it exactly.

    Example:
        >>> denoiser = load_for_training("small")
        >>> sum(parameter.numel() for parameter in denoiser.parameters())
        249713
    """
    folder = find_model(folder)
    node, weights = read_config(folder)["model"], read_weights(folder)
    try:
        settings = DenoiserSettings.from_json(node)
        with torch.device("meta"):  # shapes without memory: an untrusted configuration may ask for any size
            shapes = {name: tuple(tensor.shape) for name, tensor in build(settings).state_dict().items()}
    except ValueError as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from error
    try:
        check_arrays(weights, shapes)
    except ValueError as error:
        raise ModelError(
            f"{folder / WEIGHTS}: the weights do not fit {CONFIG}: {error}; export the model again"
        ) from error
    denoiser = build(settings)
    denoiser.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return denoiser.eval()


def build(settings: DenoiserSettings) -> Denoiser:
    """The torch module of a specification, with random weights."""
    masker = settings.masker
    recurrence = partial(RECURRENCES[type(masker.recurrence)], **_arguments(masker.recurrence))
    return Denoiser(
        **_arguments(settings, "stft", "masker"),
        stft=settings.stft,
        masker=partial(RecurrentMasker, **_arguments(masker, "recurrence"), recurrence=recurrence),
    )


def _arrays(denoiser: Denoiser) -> dict[str, np.ndarray]:
    """The weights, by their names in the state dict."""
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in denoiser.state_dict().items()}


def _arguments(settings: Settings, *parts: str) -> dict[str, Any]:
    """Of a constructor, without those that are built themselves."""
    return {each.name: getattr(settings, each.name) for each in fields(settings) if each.name not in parts}
