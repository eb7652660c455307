"""Model folders read for use: weights, configuration, card and checksums, without pickle and without torch.

Shapes: C channels, T frames, F bins, S numbers of state.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from safetensors import SafetensorError
from safetensors.numpy import load

from hushwork.audio.stft import StftConfig
from hushwork.inference.graph import GraphWriter
from hushwork.inference.network import Network
from hushwork.inference.step import FrameWeights
from hushwork.strict_json import parse_object, shown

WEIGHTS, CONFIG, CARD, SUMS = "model.safetensors", "config.json", "MODEL_CARD.md", "SHA256SUMS"
SHIPPED = Path(__file__).parents[1] / "weights"
MAX_FRAMES = 512  # of one run, which bounds its memory
MAX_CONFIG, MAX_WEIGHTS = 2**22, 2**30  # bytes: whoever made a folder does not choose how much memory reading it takes


class ModelError(ValueError):
    """A folder that is no model of this project, or was changed after it was written."""


class PretrainedDenoiser:
    """A trained denoiser for use, run by onnxruntime on one core: numpy in, numpy out.

    :class:`hushwork.DenoiserStream` and :func:`hushwork.denoise` denoise audio with it.

    Args:
        settings: as of :class:`hushwork.Denoiser`: the complete ``model`` node of a ``config.json``.
        weights: the arrays of its ``state_dict``.

    Attributes:
        sample_rate: Hz.
        stft: the transform.
        is_causal: whether a frame depends on no later frame.

    Raises:
        ModelError: they do not describe a denoiser of this project.
    """

    def __init__(self, settings: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> None:
        try:
            self.network = Network(settings, weights)
            self.sample_rate: int = settings["sample_rate"]
            self.stft = StftConfig(**{key: settings["stft"][key] for key in ("n_fft", "hop_length", "window")})
        except KeyError as error:
            raise ModelError(f"the configuration lacks {error}; export the model again") from error
        except (TypeError, ValueError) as error:
            raise ModelError(f"weights and configuration do not fit: {error}") from error
        self.is_causal = self.network.is_causal

    @property
    def latency_samples(self) -> int:
        """How many samples later than it was heard a sample can be given, at the earliest."""
        return self.stft.n_fft - 1

    def initial_state(self, num_channels: int) -> np.ndarray:
        """(C, S), before the first frame."""
        return np.zeros((num_channels, self.network.state_size), np.float32)

    def run(self, spectrum: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Noisy spectrum, complex64 (C, T, F), and state (C, S) → clean spectrum (C, T, F) and the state after it.

        If a causal denoiser gets fewer frames than its slowest module needs for a tick (``network.min_frames``), the
        state after them is not to be used.

        Raises:
            ModelError: onnxruntime fails, for example because there is not enough memory.
        """
        num_frames = spectrum.shape[1]
        missing = max(0, self.network.min_frames - num_frames) if self.is_causal else 0
        if missing:
            spectrum = np.pad(spectrum, ((0, 0), (0, missing), (0, 0)))
        try:
            cleaned, state = self._sequence.run(None, {"spec": as_pairs(spectrum), "state": state})
        except Exception as error:  # onnxruntime's have no other class in common
            raise ModelError(f"onnxruntime failed on a spectrum of shape {spectrum.shape}: {error}") from error
        return cleaned.view(np.complex64)[..., 0][:, :num_frames], state

    @cached_property
    def frame_weights(self) -> FrameWeights:
        """What :class:`hushwork.inference.step.FrameStep` needs, prepared once for all streams."""
        return FrameWeights(self.network)

    @cached_property
    def _sequence(self) -> Any:
        return open_session(GraphWriter(self.network).sequence_graph())


def open_session(model: bytes) -> Any:
    """A graph of :class:`GraphWriter`, ready to run on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # small products; recordings share the cores
    options.log_severity_level = 4  # what goes wrong comes as an exception
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def as_pairs(spectrum: np.ndarray) -> np.ndarray:
    """Complex (…) → float (…, 2), without a copy."""
    return np.ascontiguousarray(spectrum)[..., None].view(np.float32)


def load_pretrained(folder: str | Path | None = None) -> PretrainedDenoiser:
    """The denoiser of a model folder, for use; :func:`hushwork.export.load_for_training` gives the torch module.

    Args:
        folder: as written by :func:`hushwork.export.export_model`; or a name; see :func:`find_model`.

    Raises:
        ModelError: files are missing or do not match their checksums, or do not describe a denoiser of this project.
    """
    folder = find_model(folder)
    config, weights = read_config(folder), read_weights(folder)
    try:
        return PretrainedDenoiser(config["model"], weights)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def read_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of a model folder: an object whose ``model`` is an object. Nothing else in it is checked.

    Raises:
        ModelError: it is missing, too large, leads out of the folder, does not match its checksum, or is no such
            object.
    """
    path = Path(folder) / CONFIG
    content = _content(path, MAX_CONFIG)
    try:
        config = parse_object(content)
    except ValueError as error:
        raise ModelError(f"{path}: cannot be read: {error}; export or copy the model again") from error
    if not isinstance(config.get("model"), dict):
        raise ModelError(f"{path}: names no model; export it again")
    return config


def read_weights(folder: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a model folder by name, of whatever shape and type.

    Raises:
        ModelError: as :func:`read_config`.
    """
    path = Path(folder) / WEIGHTS
    content = _content(path, MAX_WEIGHTS)
    header = int.from_bytes(content[:8], "little")
    if header > MAX_CONFIG:
        raise ModelError(f"{path}: its header claims {header} bytes, at most {MAX_CONFIG} are read; export it again")
    try:
        return dict(load(content))
    except KeyError as error:
        raise ModelError(f"{path}: holds arrays of type {error}, expected float32; export it again") from error
    except (SafetensorError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {error}; export or copy the model again") from error


def _content(path: Path, most: int) -> bytes:
    """A file of a model folder, of at most so many bytes, if it is what the folder's checksums say."""
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
            raise ModelError(f"{path}: {shown(line)} is no checksum of a file in this folder; export or copy it again")
        found[match[2]] = match[1]
    return found


def _read(path: Path, most: int) -> bytes:
    """A file inside its folder, of at most so many bytes."""
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise ModelError(f"{path}: leads out of the model folder, to {path.resolve()}; copy that file into it")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ModelError(f"{path}: takes {size} bytes, at most {most} are read; this is no model of hushwork")
        return file.read(size)


def find_model(name: str | Path | None = None) -> Path:
    """The model folder that is meant.

    Args:
        name: one of :func:`shipped_models` (default, small, offline), "last" (the newest export below ``./runs``)
            or a folder; None takes ``$HUSHWORK_MODEL``, which may be any of these, and without it "default".

    Raises:
        ModelError: "last", but there is none.
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
