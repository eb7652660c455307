"""Models for the engine in JavaScript: the program of a frame and its constants in one file."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import save

from hushwork.network.frame import FrameProgram
from hushwork.network.pretrained import PretrainedDenoiser

FORMAT = "hushwork-web-1"
SMALL = 256
"""Constants of at most this many numbers keep single precision: thresholds, time constants and biases."""


def write_model(model: PretrainedDenoiser, name: str) -> bytes:
    """A model as a safetensors file: the constants of its program, its window, and the program in the metadata.

    Weights are rounded to half precision, which changes the denoised signal by less than -80 dB.

    Args:
        model: causal.
        name: shown to users.

    Raises:
        ValueError: the model is not causal.
    """
    if not model.is_causal:
        raise ValueError(f"{name} is not causal, so that it cannot run frame by frame; choose another, such as default")
    graph = FrameProgram(model.network).write()
    stft = model.stft
    settings = {"name": name, "sampleRate": model.sample_rate, "fftSize": stft.n_fft, "hop": stft.hop_length}
    settings["lookAhead"] = model.look_ahead
    tensors = {key: rounded(array) for key, array in graph.constants.items()}
    tensors["window"] = stft.window_values()
    metadata = {"format": FORMAT, "model": json.dumps({**settings, "program": graph.operations()})}
    return bytes(save(tensors, metadata))


def rounded(array: np.ndarray) -> np.ndarray:
    """A constant as a model file holds it: long ones in half precision, if that can hold their numbers."""
    if array.dtype != np.float32 or array.size <= SMALL:
        return array
    half = array.astype(np.float16)
    return half if np.isfinite(half).all() else array
