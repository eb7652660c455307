"""Metrics of one estimate against its reference: the published implementations behind one function.

Signals are float arrays (N,) of equal length; rates are in Hz.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio
from torchmetrics.functional.text import word_error_rate

from hushwork.audio.io import resample
from hushwork.judges.distill_mos import distill_mos
from hushwork.judges.dnsmos import dnsmos
from hushwork.judges.recogniser import recognise, words

Metric = Callable[[np.ndarray, np.ndarray, int], float]

RESAMPLES = 1000
NARROW_BAND, WIDE_BAND = 8000, 16000  # Hz


def si_sdr(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019), means removed."""
    _refuse_silence(estimate, reference)
    pair = torch.from_numpy(np.stack([estimate, reference]).astype(np.float64))
    return float(scale_invariant_signal_distortion_ratio(pair[0], pair[1], zero_mean=True))


def stoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility in [0, 1] (Taal et al., 2011), of the band below 4.3 kHz, at any rate."""
    return _stoi(estimate, reference, sample_rate, extended=False)


def estoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Extended short-time objective intelligibility in [0, 1] (Jensen and Taal, 2016), of the same band at any rate."""
    return _stoi(estimate, reference, sample_rate, extended=True)


def pesq_wb(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2), 1.04 to 4.64, of the band below 8 kHz; needs the extra ``eval``.

    Raises:
        ValueError: a sample rate below 16 kHz.
    """
    return _pesq(estimate, reference, sample_rate, "wb", WIDE_BAND)


def pesq_nb(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Narrow-band PESQ (ITU-T P.862.1), 1.02 to 4.55, of the band below 4 kHz; needs the extra ``eval``.

    Raises:
        ValueError: a sample rate below 8 kHz.
    """
    return _pesq(estimate, reference, sample_rate, "nb", NARROW_BAND)


def dnsmos_ovrl(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """DNSMOS P.835 overall of the band below 8 kHz, see :func:`hushwork.judges.dnsmos.dnsmos`; needs no reference.

    Raises:
        ValueError: a sample rate below 16 kHz.
    """
    return _dnsmos(np.asarray(estimate, np.float32).tobytes(), sample_rate)["ovrl"]


def dnsmos_bak(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """DNSMOS P.835 of the background, as :func:`dnsmos_ovrl`: 5 where no noise disturbs.

    Raises:
        ValueError: a sample rate below 16 kHz.
    """
    return _dnsmos(np.asarray(estimate, np.float32).tobytes(), sample_rate)["bak"]


def listener_mos(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """DistillMOS, see :func:`hushwork.judges.distill_mos.distill_mos`; needs no reference."""
    return distill_mos(estimate, sample_rate)


def wer(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Word error rate of a recogniser, see :func:`hushwork.judges.recogniser.recognise`: 0 is best, 1 may be exceeded.

    The recogniser's transcript of the reference is taken as correct, so that none is needed. English only.

    Raises:
        ValueError: the recogniser finds no words in the reference.
    """
    transcript = _transcript(np.asarray(reference, np.float32).tobytes(), sample_rate)
    if not transcript:
        raise ValueError("the recogniser finds no words in the reference")
    return float(word_error_rate(" ".join(words(recognise(estimate, sample_rate))), transcript))


METRICS: dict[str, Metric] = {
    "si_sdr": si_sdr,
    "stoi": stoi,
    "estoi": estoi,
    "pesq_wb": pesq_wb,
    "pesq_nb": pesq_nb,
    "dnsmos": dnsmos_ovrl,
    "dnsmos_bak": dnsmos_bak,
    "distill_mos": listener_mos,
    "wer": wer,
}
LOWEST_RATES = {
    "pesq_wb": WIDE_BAND,
    "pesq_nb": NARROW_BAND,
    "dnsmos": WIDE_BAND,
    "dnsmos_bak": WIDE_BAND,
    "distill_mos": WIDE_BAND,
}
NEEDS = {
    "pesq_wb": "pesq",
    "pesq_nb": "pesq",
    "dnsmos": "speechmos",
    "dnsmos_bak": "speechmos",
    "distill_mos": "distillmos",
    "wer": "moonshine_voice",
}
JUDGES = ("dnsmos", "dnsmos_bak", "distill_mos", "wer")
"""Networks, which take some hundred times as long as the other metrics."""
INSTALL = "pip install 'hushwork[eval]'"


def is_installed(name: str) -> bool:
    """Whether the package that computes this metric is installed."""
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


def available_metrics(sample_rate: int = WIDE_BAND) -> list[str]:
    """Names of the metrics reported by default: those defined at this rate whose packages are installed.

    Narrow-band PESQ is among them only where wide-band PESQ is not defined.
    """
    omitted = "pesq_nb" if sample_rate >= WIDE_BAND else None
    defined = [name for name in METRICS if sample_rate >= LOWEST_RATES.get(name, 0)]
    return [name for name in defined if name != omitted and is_installed(name)]


def chosen_metrics(names: Iterable[str] | str | None, sample_rate: int = WIDE_BAND) -> list[str]:
    """The metrics of these names, checked; for "all" or None :func:`available_metrics`, for "quick" these but judges.

    Args:
        names: a list, or a text with commas between them.
        sample_rate: Hz.

    Raises:
        ValueError: a name that is unknown, whose package is not installed, or that is not defined at this rate.
    """
    if names in ("all", "quick", None):
        return [name for name in available_metrics(sample_rate) if names != "quick" or name not in JUDGES]
    chosen = names.split(",") if isinstance(names, str) else list(names or ())
    for name in chosen:
        if name not in METRICS:
            problem = "does not exist"
        elif not is_installed(name):
            problem = f"is not installed: {INSTALL}"
        elif sample_rate < LOWEST_RATES.get(name, 0):
            problem = f"is defined from {LOWEST_RATES[name]} Hz on, not at {sample_rate} Hz"
        else:
            continue
        raise ValueError(f"metric {name!r} {problem}; choose from {', '.join(available_metrics(sample_rate))}")
    return chosen


def measure(
    estimate: np.ndarray, reference: np.ndarray, sample_rate: int, names: list[str], language: str | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores of one file by metric, and the reasons for those that failed, which are NaN.

    A metric fails where it is not defined: the reference holds no speech, the signal is too short, the estimate is
    silent. The word error rate also fails if ``language``, a BCP 47 tag, is not English.
    """
    values, failures = {}, {}
    for name in names:
        try:
            if name == "wer" and (language or "").split("-")[0] != "en":
                raise ValueError(f"needs English speech; the language is {language or 'unknown'}")
            values[name] = METRICS[name](estimate, reference, sample_rate)
            if not np.isfinite(values[name]):
                failures[name] = f"is {values[name]}"
        except Exception as error:  # each implementation raises its own errors
            failures[name] = f"{type(error).__name__}: {error}"
        if name in failures:
            values[name] = float("nan")
    return values, failures


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean (Efron, 1979): 1000 resamples of files, drawn by ``seed``."""
    picks = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _pesq(estimate: np.ndarray, reference: np.ndarray, sample_rate: int, mode: str, rate: int) -> float:
    from pesq import pesq

    if sample_rate < rate:
        raise ValueError(f"PESQ {mode} is defined from {rate} Hz on, not at {sample_rate} Hz")
    return float(pesq(rate, *(resample(signal, sample_rate, rate) for signal in (reference, estimate)), mode))


@lru_cache(maxsize=8)  # all systems are compared with one reference
def _transcript(audio: bytes, sample_rate: int) -> str:
    return " ".join(words(recognise(np.frombuffer(audio, np.float32), sample_rate)))


@lru_cache(maxsize=1)  # one run gives the overall score and that of the background
def _dnsmos(audio: bytes, sample_rate: int) -> dict[str, float]:
    return dnsmos(np.frombuffer(audio, np.float32), sample_rate)


def _stoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int, extended: bool) -> float:
    from pystoi import stoi as pystoi

    _refuse_silence(estimate, reference)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pystoi returns 1e-5 with a warning where too little speech is left
        return float(pystoi(reference, estimate, sample_rate, extended=extended))


def _refuse_silence(estimate: np.ndarray, reference: np.ndarray) -> None:
    # Without this, silence gets an arbitrary finite score (SI-SDR 0 dB for a silent estimate).
    for name, signal in (("estimate", estimate), ("reference", reference)):
        if not signal.size or not np.ptp(signal):
            raise ValueError(f"the {name} is silent")
