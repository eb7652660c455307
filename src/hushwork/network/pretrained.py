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
        is_causal: whether a frame depends on no later frame, but for ``look_ahead``.
        look_ahead: how many later frames the mask of a frame depends on.

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
        self.look_ahead = specification.look_ahead

    @property
    def latency_samples(self) -> int:
        """Delay of the output in samples, at least."""
        return self.stft.n_fft - 1 + self.look_ahead * self.stft.hop_length

    def initial_state(self, num_channels: int) -> np.ndarray:
        """(C, S), before the first frame."""
        return np.zeros((num_channels, self.network.state_size), np.float32)

    def run(self, spectrum: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Noisy spectrum, complex64 (C, T, F), and state (C, S) → clean spectrum (C, T, F), ``look_ahead`` frames late,
        and the state after it.

        A causal denoiser continues from any state and takes any number of frames.

        Raises:
            ModelError: onnxruntime fails, for example because there is not enough memory.
        """
        stream = NetworkStream(self, state)
        return stream(spectrum).copy(), stream.state

    def run_whole(self, spectrum: np.ndarray) -> np.ndarray:
        """Noisy spectrum of whole recordings, complex64 (C, T, F) → clean spectrum (C, T, F).

        Raises:
            ModelError: see :meth:`run`.
        """
        padded = np.pad(spectrum, ((0, 0), (0, self.look_ahead), (0, 0)))
        return self.run(padded, self.initial_state(len(spectrum)))[0][:, self.look_ahead :]

    @cached_property
    def sequence_session(self) -> Any:
        """Runs many frames at once."""
        return open_session(encode(SequenceProgram(self.network).write("C")))

    @cached_property
    def frame_session(self) -> Any:
        """Runs one frame."""
        return open_session(encode(FrameProgram(self.network).write("C", split_state=True)))


class NetworkStream:
    """A denoiser over the consecutive frames of C streams.

    Whole cycles of its clocks are computed at once, the frames around them one by one.

    Args:
        model: of the network.
        state: (C, S), before the first frame.
    """

    def __init__(self, model: PretrainedDenoiser, state: np.ndarray) -> None:
        self._model, self._state = model, state
        self._frames: BoundFrames | None = None

    @property
    def state(self) -> np.ndarray:
        """(C, S), after the last frame."""
        return self._state if self._frames is None else self._frames.state

    def __call__(self, spectrum: np.ndarray) -> np.ndarray:
        """Noisy spectrum, complex64 (C, T, F) → clean spectrum (C, T, F), ``look_ahead`` frames late, which is valid
        until the next call.

        Raises:
            ModelError: onnxruntime fails, for example because there is not enough memory.
        """
        try:
            if not self._model.is_causal:
                return self._sequence(spectrum)
            if spectrum.shape[1] == 1:
                return self._frame(spectrum)
            return self._mixed(spectrum)
        except Exception as error:  # onnxruntime's exceptions have no narrower base class
            raise ModelError(f"onnxruntime failed on a spectrum of shape {spectrum.shape}: {error}") from error

    def _mixed(self, spectrum: np.ndarray) -> np.ndarray:
        network, num_frames, start = self._model.network, spectrum.shape[1], 0
        clean = np.empty_like(spectrum)
        while start < num_frames:
            count = min(num_frames - start, MAX_FRAMES) // network.cycle * network.cycle
            if count < FEW_FRAMES or network.is_amid_cycle(self.state):
                count = 1
            part = slice(start, start + count)
            clean[:, part] = (self._frame if count == 1 else self._sequence)(spectrum[:, part])
            start += count
        return clean

    def _frame(self, spectrum: np.ndarray) -> np.ndarray:
        if self._frames is None:
            self._frames = BoundFrames(self._model, self._state)
        return self._frames(spectrum)

    def _sequence(self, spectrum: np.ndarray) -> np.ndarray:
        inputs = {"spec": as_pairs(spectrum), "state": self.state}
        clean, self._state = self._model.sequence_session.run(None, inputs)
        self._frames = None
        return clean.view(np.complex64)[..., 0]


class BoundFrames:
    """Single frames of C streams, by arrays that are bound to the session once.

    The states before and after a frame lie in two sets of arrays, which swap with every frame.

    Args:
        model: of the network.
        state: (C, S), before the first frame.
    """

    def __init__(self, model: PretrainedDenoiser, state: np.ndarray) -> None:
        self._session = model.frame_session
        self._spectrum = np.zeros((len(state), 1, model.network.num_bins), np.complex64)
        self._clean = np.zeros_like(self._spectrum)
        layout = model.network.layout
        parts = np.split(state[None], np.cumsum([*layout.values()])[:-1], axis=2)
        self._before = {name: part.copy() for name, part in zip(layout, parts, strict=True)}
        self._after = {name: np.zeros_like(part) for name, part in self._before.items()}
        self._binding = self._bound(self._before, self._after)
        self._next_binding = self._bound(self._after, self._before)

    def _bound(self, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> Any:
        binding = self._session.io_binding()
        for name, array in {"spec": as_pairs(self._spectrum), **before}.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in {"spec_e": as_pairs(self._clean), **{f"{name}_out": after[name] for name in after}}.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return binding

    @property
    def state(self) -> np.ndarray:
        """(C, S), after the last frame."""
        return np.concatenate([*self._before.values()], axis=2)[0]

    def __call__(self, spectrum: np.ndarray) -> np.ndarray:
        """The next frame, complex64 (C, 1, F) → the clean frame, which is valid until the next call."""
        self._spectrum[...] = spectrum
        self._session.run_with_iobinding(self._binding)
        self._binding, self._next_binding = self._next_binding, self._binding
        self._before, self._after = self._after, self._before
        return self._clean


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
    """The denoiser of a model folder, for use; :func:`hushwork.load_for_training` gives the torch module.

    Args:
        folder: as written by :func:`hushwork.export_model`; or "default", "small" or "offline", which are part of the
            package, or "last", the newest below ``./runs``. Default: ``$HUSHWORK_MODEL``, else "default".

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
