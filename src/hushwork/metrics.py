"""How good the result is, file by file: the field's own implementations behind one function.

Signals are float arrays (N,) of equal length; rates are in Hz.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from hushwork.audio.dnsmos import dnsmos

Metric = Callable[[np.ndarray, np.ndarray, int], float]

RESAMPLES = 1000


def si_sdr(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019), means removed."""
    _need_sound(estimate, reference)
    pair = torch.from_numpy(np.stack([estimate, reference]).astype(np.float64))
    return float(scale_invariant_signal_distortion_ratio(pair[0], pair[1], zero_mean=True))


def stoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility in [0, 1] (Taal et al., 2011)."""
    return _stoi(estimate, reference, sample_rate, extended=False)


def estoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Extended short-time objective intelligibility in [0, 1] (Jensen and Taal, 2016)."""
    return _stoi(estimate, reference, sample_rate, extended=True)


def pesq_wb(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2), 1.04 to 4.64; needs 16 kHz and the extra ``eval``."""
    from pesq import pesq

    if sample_rate != 16000:
        raise ValueError(f"wide-band PESQ is defined at 16000 Hz, not {sample_rate} Hz")
    return float(pesq(sample_rate, reference, estimate, "wb"))


def dnsmos_ovrl(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """DNSMOS P.835 overall, see :func:`hushwork.audio.dnsmos.dnsmos`; needs no reference."""
    return dnsmos(estimate, sample_rate)["ovrl"]


METRICS: dict[str, Metric] = {"si_sdr": si_sdr, "stoi": stoi, "estoi": estoi, "pesq_wb": pesq_wb, "dnsmos": dnsmos_ovrl}
NEEDS = {"pesq_wb": "pesq", "dnsmos": "speechmos"}
INSTALL = "pip install 'hushwork[eval]'"


def available_metrics() -> list[str]:
    """Names of the metrics whose packages are installed."""
    return [name for name in METRICS if name not in NEEDS or importlib.util.find_spec(NEEDS[name])]


def chosen_metrics(names: Iterable[str] | None) -> list[str]:
    """The metrics named, checked; None means all that are installed.

    Raises:
        ValueError: a name that is unknown or whose package is not installed.
    """
    available = available_metrics()
    chosen = available if names is None else list(names)
    for name in chosen:
        if name not in available:
            how = f"needs {INSTALL}" if name in METRICS else "is not known"
            raise ValueError(f"the metric {name!r} {how}; there are {', '.join(available)}")
    return chosen


def measure(
    estimate: np.ndarray, reference: np.ndarray, sample_rate: int, names: list[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """The named metrics of one file, and for those that failed (NaN) the reason.

    A metric fails where it is not defined: no speech in the reference, too short a signal, silence in the estimate.
    """
    values, failures = {}, {}
    for name in names:
        try:
            values[name] = METRICS[name](estimate, reference, sample_rate)
            if not np.isfinite(values[name]):
                failures[name] = f"is {values[name]}"
        except Exception as error:  # each implementation raises errors of its own
            failures[name] = f"{type(error).__name__}: {error}"
        if name in failures:
            values[name] = float("nan")
    return values, failures


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean (Efron, 1979): 1000 resamples of files, drawn by ``seed``."""
    picks = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _stoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int, extended: bool) -> float:
    from pystoi import stoi as pystoi

    _need_sound(estimate, reference)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pystoi returns 1e-5 with a warning where too little speech is left
        return float(pystoi(reference, estimate, sample_rate, extended=extended))


def _need_sound(estimate: np.ndarray, reference: np.ndarray) -> None:
    # Without this, silence gets an arbitrary finite score (SI-SDR 0 dB for a silent estimate).
    for name, signal in (("estimate", estimate), ("reference", reference)):
        if not signal.size or not np.ptp(signal):
            raise ValueError(f"the {name} is silent")
