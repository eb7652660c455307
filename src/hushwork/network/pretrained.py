"""A trained denoiser for use, without torch.

Shapes: C channels, T frames, F bins, S numbers of state.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from hushwork.network.frame import FrameProgram
from hushwork.network.model_folder import ModelError, find_model, read_config, read_weights
from hushwork.network.network import Network
from hushwork.network.onnx import encode
from hushwork.network.sequence import SequenceProgram
from hushwork.network.specification import DenoiserSettings

MAX_FRAMES = 512  # of one run, which bounds its memory
FEW_FRAMES = 4  # fewer are quicker one by one


class PretrainedDenoiser:
    """A trained denoiser for use, run by onnxruntime on one core: numpy in, numpy out.

    :class:`hushwork.DenoiserStream` and :func:`hushwork.denoise` denoise audio with it.

    Args:
        settings: the specification, as the ``model`` node of a ``config.json``.
        weights: the arrays of the torch module's ``state_dict``.

    Attributes:
        sample_rate: Hz.
        stft: the transform.
        is_causal: whether a frame depends on no later frame.

    Raises:
        ModelError: they do not describe a denoiser of this project.

    Example:
        >>> denoiser = load_pretrained("small")
        >>> denoiser.sample_rate, denoiser.latency_samples, denoiser.is_causal
        (16000, 511, True)
    """

    def __init__(self, settings: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> None:
        try:
            specification = DenoiserSettings.from_json(settings)
            self.network = Network(specification, weights)
        except ValueError as error:
            raise ModelError(str(error)) from error
        self.sample_rate = specification.sample_rate
        self.stft = specification.stft
        self.is_causal = self.network.is_causal

    @property
    def latency_samples(self) -> int:
        """How many samples pass at least until a sample that came in is given out."""
        return self.stft.n_fft - 1

    def initial_state(self, num_channels: int) -> np.ndarray:
        """(C, S), before the first frame."""
        return np.zeros((num_channels, self.network.state_size), np.float32)

    def run(self, spectrum: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Noisy spectrum, complex64 (C, T, F), and state (C, S) → clean spectrum (C, T, F) and the state after it.

        A causal denoiser continues from any state and takes any number of frames. Whole cycles of its clocks are
        computed at once, the frames around them one by one.

        Raises:
            ModelError: onnxruntime fails, for example because there is not enough memory.
        """
        if not self.is_causal:
            return self._run(self._sequence, spectrum, state)
        num_frames, start, parts = spectrum.shape[1], 0, []
        while start < num_frames:
            count = min(num_frames - start, MAX_FRAMES) // self.network.cycle * self.network.cycle
            if count < FEW_FRAMES or self.network.is_amid_cycle(state):
                count = 1
            session = self._frame if count == 1 else self._sequence
            clean, state = self._run(session, spectrum[:, start : start + count], state)
            parts.append(clean)
            start += count
        return parts[0] if len(parts) == 1 else np.concatenate([spectrum[:, :0], *parts], axis=1), state

    def _run(self, session: Any, spectrum: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            clean, state = session.run(None, {"spec": as_pairs(spectrum), "state": state})
        except Exception as error:  # onnxruntime's have no other class in common
            raise ModelError(f"onnxruntime failed on a spectrum of shape {spectrum.shape}: {error}") from error
        return clean.view(np.complex64)[..., 0], state

    @cached_property
    def _sequence(self) -> Any:
        return open_session(encode(SequenceProgram(self.network).write("C")))

    @cached_property
    def _frame(self) -> Any:
        return open_session(encode(FrameProgram(self.network).write("C")))


def open_session(model: bytes) -> Any:
    """An ONNX model, ready to run on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # small products; recordings share the cores
    options.log_severity_level = 4  # errors are raised as exceptions
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def as_pairs(spectrum: np.ndarray) -> np.ndarray:
    """Complex (…) → float (…, 2), without a copy."""
    return np.ascontiguousarray(spectrum)[..., None].view(np.float32)


def load_pretrained(folder: str | Path | None = None) -> PretrainedDenoiser:
    """The denoiser of a model folder, for use; :func:`hushwork.models.export.load_for_training` gives the torch module.

    Args:
        folder: as written by :func:`hushwork.models.export.export_model`; or a name; see :func:`find_model`.

    Raises:
        ModelError: files are missing or do not match their checksums, or do not describe a denoiser of this project.

    Example:
        >>> load_pretrained("offline").is_causal
        False
    """
    folder = find_model(folder)
    config, weights = read_config(folder), read_weights(folder)
    try:
        return PretrainedDenoiser(config["model"], weights)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
