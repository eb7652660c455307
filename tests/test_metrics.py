"""Metrics against values computed by hand and against other packages, and the errors where they are not defined."""

import math
import re
import sys
import warnings
from functools import cache

import numpy as np
import pytest

from hushwork.audio.io import read_audio, resample
from hushwork.config import PACKAGE
from hushwork.evaluation import metrics
from hushwork.evaluation.metrics import (
    INSTALL,
    JUDGES,
    METRICS,
    available_metrics,
    chosen_metrics,
    dnsmos_bak,
    dnsmos_ovrl,
    estoi,
    listener_mos,
    measure,
    pesq_nb,
    pesq_wb,
    si_sdr,
    stoi,
    wer,
)
from hushwork.judges.recogniser import recognise

RATE = 16000


@pytest.fixture(scope="module")
def speech():
    """1.5 s of a gliding voice in syllables: enough for intelligibility models to find frames."""
    t = np.arange(round(1.5 * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(120 * (1 + 0.1 * np.sin(2 * np.pi * 3 * t))) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 30))
    return (0.1 * voice * (0.1 + np.sin(2 * np.pi * 2 * t) ** 2)).astype(np.float32)


@pytest.fixture(scope="module")
def noise(speech):
    return (0.1 * np.random.default_rng(0).standard_normal(len(speech))).astype(np.float32)


@pytest.mark.parametrize("gain", [1.0, -3.0, 1e-3])
@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_si_sdr_by_hand(gain, offset):
    # Error orthogonal to the reference with a hundredth of its power: 20 dB, for any gain and mean.
    reference = np.tile([1.0, -1.0, 1.0, -1.0], 100)
    error = 0.1 * np.tile([1.0, 1.0, -1.0, -1.0], 100)
    assert si_sdr(gain * (reference + error) + offset, reference, RATE) == pytest.approx(20, abs=1e-6)


def test_si_sdr_ignores_errors_along_the_reference():
    reference = np.tile([1.0, -1.0], 200)
    assert si_sdr(1.1 * reference, reference, RATE) > 100


@pytest.mark.parametrize(("metric", "extended"), [(stoi, False), (estoi, True)])
def test_intelligibility_equals_pystoi_and_falls_with_noise(speech, noise, metric, extended):
    from pystoi import stoi as pystoi

    scores = [metric(speech + gain * noise, speech, RATE) for gain in (0.03, 0.3, 3)]
    assert scores[0] > scores[1] > scores[2]
    assert scores[0] > 0.9
    expected = pystoi(speech, speech + np.float32(0.3) * noise, RATE, extended=extended)
    assert scores[1] == pytest.approx(expected, abs=1e-6)


def test_pesq_is_that_of_the_package_and_falls_with_noise(speech, noise):
    pesq = pytest.importorskip("pesq")
    scores = [pesq_wb(speech + gain * noise, speech, RATE) for gain in (0, 0.03, 1)]
    assert scores[0] > scores[1] > scores[2] > 1
    assert scores[0] == pytest.approx(4.64, abs=0.01)  # the scale's end
    assert scores[1] == pytest.approx(pesq.pesq(RATE, speech, speech + np.float32(0.03) * noise, "wb"))


def test_dnsmos_is_on_its_scale(speech, noise):
    pytest.importorskip("speechmos")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert 1 <= dnsmos_ovrl(20 * (speech + noise), speech, RATE) <= 5  # too loud is clipped, not refused


@pytest.mark.filterwarnings("ignore")  # of the package's dependencies
def test_dnsmos_gives_the_scores_of_the_package(speech, noise):
    package = pytest.importorskip("speechmos.dnsmos")
    noisy = speech + np.float32(0.03) * noise
    expected = package.run(noisy, RATE)
    assert dnsmos_ovrl(noisy, speech, RATE) == pytest.approx(expected["ovrl_mos"])
    assert dnsmos_bak(noisy, speech, RATE) == pytest.approx(expected["bak_mos"])
    assert dnsmos_bak(speech, speech, RATE) > dnsmos_bak(noisy, speech, RATE)


@pytest.mark.parametrize(
    ("metric", "name", "low"),
    [
        (pesq_wb, "pesq", 8000),
        (pesq_nb, "pesq", 7999),
        (dnsmos_ovrl, "speechmos", 8000),
        (listener_mos, "distillmos", 8000),
    ],
)
def test_a_lower_rate_is_refused_where_the_metric_is_not_defined(speech, metric, name, low):
    pytest.importorskip(name)
    with pytest.raises(ValueError, match=f"is defined from (16000|8000) Hz on, not at {low} Hz"):
        metric(speech, speech, low)


@pytest.mark.parametrize(
    ("metric", "name"), [(pesq_wb, "pesq"), (pesq_nb, "pesq"), (dnsmos_ovrl, "speechmos"), (estoi, "pystoi")]
)
def test_a_higher_rate_changes_no_score(speech, noise, metric, name):
    pytest.importorskip(name)
    pair = [resample(signal, 15000, RATE) for signal in (speech + 0.1 * noise, speech)]  # nothing near half the rate
    scores = [metric(*(resample(signal, RATE, to) for signal in pair), to) for to in (RATE, 48000)]
    assert scores[1] == pytest.approx(scores[0], abs=0.03)


def test_narrow_band_pesq_is_that_of_the_package(speech, noise):
    pesq = pytest.importorskip("pesq")
    noisy = speech + np.float32(0.03) * noise
    assert pesq_nb(noisy, speech, 8000) == pytest.approx(pesq.pesq(8000, speech, noisy, "nb"))


@pytest.mark.parametrize(
    ("rate", "names"),
    [
        (4000, ["si_sdr", "stoi", "estoi", "wer"]),
        (8000, ["si_sdr", "stoi", "estoi", "pesq_nb", "wer"]),
        (16000, ["si_sdr", "stoi", "estoi", "pesq_wb", "dnsmos", "dnsmos_bak", "distill_mos", "wer"]),
        (48000, ["si_sdr", "stoi", "estoi", "pesq_wb", "dnsmos", "dnsmos_bak", "distill_mos", "wer"]),
    ],
)
def test_by_default_the_metrics_defined_at_the_rate_are_measured(rate, names, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: sys)
    assert chosen_metrics(None, rate) == chosen_metrics("all", rate) == names
    assert chosen_metrics("quick", rate) == [name for name in names if name not in JUDGES]
    assert chosen_metrics("si_sdr,wer", rate) == ["si_sdr", "wer"]
    assert chosen_metrics(["pesq_nb"], 16000) == ["pesq_nb"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pesq", "metric 'pesq' does not exist; choose from si_sdr, stoi, estoi, pesq_nb"),
        ("pesq_wb", "metric 'pesq_wb' is defined from 16000 Hz on, not at 8000 Hz; choose from si_sdr"),
    ],
)
def test_a_metric_that_cannot_be_measured_is_refused(name, message, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: sys)
    with pytest.raises(ValueError, match=message):
        chosen_metrics(["si_sdr", name], 8000)


@pytest.mark.filterwarnings("ignore")  # of the package's dependencies
def test_distill_mos_gives_recorded_scores_at_any_level():
    pytest.importorskip("distillmos")
    audio, rate = read_audio(PACKAGE / "data" / "example.flac")
    noisy = audio[0] + np.random.default_rng(0).normal(0, 0.02, audio[0].shape).astype(np.float32)
    assert listener_mos(audio[0], audio[0], rate) == pytest.approx(3.862, abs=0.02)
    assert listener_mos(noisy, audio[0], rate) == pytest.approx(2.378, abs=0.02)
    assert listener_mos(0.01 * noisy, audio[0], rate) == pytest.approx(2.378, abs=0.02)


@pytest.fixture(scope="module")
def beckett():
    """Ten seconds of English speech from the recogniser's package, at 16 kHz."""
    package = pytest.importorskip("moonshine_voice")
    audio, rate = read_audio(package.get_assets_path() / "beckett.wav")
    assert rate == RATE
    return audio[0]


@pytest.mark.filterwarnings("ignore")  # of the package's dependencies
def test_word_errors_are_those_of_the_recogniser(beckett, monkeypatch):
    texts = cache(lambda audio: recognise(np.frombuffer(audio, np.float32), RATE))  # each takes a second
    monkeypatch.setattr(metrics, "recognise", lambda audio, rate: texts(np.asarray(audio, np.float32).tobytes()))
    noisy = beckett + np.random.default_rng(0).normal(0, 0.03, beckett.shape).astype(np.float32)
    spoken = "Ever tried, ever failed, no matter, try again, fail again, fail better."
    assert metrics.recognise(beckett, RATE) == spoken
    transcript = metrics.recognise(noisy, RATE)
    assert transcript == recognise(0.1 * noisy, RATE)  # neither level nor earlier audio changes what is read
    expected, found = (text.lower().replace(",", "").replace(".", "").split() for text in (spoken, transcript))
    assert len(expected) == len(found) == 12
    wrong = sum(a != b for a, b in zip(expected, found, strict=True))
    assert wrong > 0
    assert wer(noisy, beckett, RATE) == pytest.approx(wrong / 12)
    assert wer(beckett, beckett, RATE) == 0


@pytest.mark.parametrize("language", [None, "", "fr", "enm"])
def test_word_errors_need_english(speech, language, monkeypatch):
    monkeypatch.setitem(METRICS, "wer", lambda *_: 0.25)
    values, failures = measure(speech, speech, RATE, ["wer"], language)
    assert math.isnan(values["wer"])
    assert "needs English speech" in failures["wer"]
    for tag in ("en", "en-GB"):
        assert measure(speech, speech, RATE, ["wer"], tag) == ({"wer": 0.25}, {})


def test_measure_returns_the_named_metrics(speech, noise):
    values, failures = measure(speech + noise, speech, RATE, ["stoi", "si_sdr"])
    assert list(values) == ["stoi", "si_sdr"]
    assert values["si_sdr"] == si_sdr(speech + noise, speech, RATE)
    assert values["stoi"] == stoi(speech + noise, speech, RATE)
    assert failures == {}


@pytest.mark.parametrize("silent", ["estimate", "reference"])
def test_silence_is_named(speech, silent):
    signals = {"estimate": speech, "reference": speech, silent: np.zeros_like(speech)}
    values, failures = measure(**signals, sample_rate=RATE, names=["si_sdr", "stoi", "estoi"])
    assert all(math.isnan(value) for value in values.values())
    assert values.keys() == failures.keys() == {"si_sdr", "stoi", "estoi"}
    for reason in failures.values():
        assert f"the {silent} is silent" in reason


def test_pesq_is_not_defined_for_silence(speech):
    pytest.importorskip("pesq")
    values, failures = measure(speech, np.zeros_like(speech), RATE, ["pesq_wb"])
    assert math.isnan(values["pesq_wb"])
    assert "NoUtterances" in failures["pesq_wb"]


@pytest.mark.parametrize("length", [0, 1, 1600])
def test_too_short_is_named(speech, length):
    values, failures = measure(speech[8000 : 8000 + length], speech[8000 : 8000 + length], RATE, ["stoi", "estoi"])
    assert all(math.isnan(value) for value in values.values())
    assert all(failures[name] for name in ("stoi", "estoi"))


def test_a_broken_estimate_is_named(speech):
    broken = speech.copy()
    broken[5] = np.nan
    values, failures = measure(broken, speech, RATE, ["si_sdr"])
    assert math.isnan(values["si_sdr"])
    assert failures == {"si_sdr": "is nan"}


def test_one_failure_does_not_stop_the_others(speech, monkeypatch):
    def fail(*_):
        raise RuntimeError("no luck")

    monkeypatch.setitem(METRICS, "stoi", fail)
    values, failures = measure(2 * speech, speech, RATE, ["stoi", "si_sdr"])
    assert failures == {"stoi": "RuntimeError: no luck"}
    assert math.isnan(values["stoi"])
    assert values["si_sdr"] > 60


def test_metrics_without_their_package_are_left_out(monkeypatch):
    assert set(available_metrics()) >= {"si_sdr", "stoi", "estoi"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert available_metrics() == ["si_sdr", "stoi", "estoi"]
    with pytest.raises(ValueError, match=re.escape(f"'pesq_wb' is not installed: {INSTALL}")):
        chosen_metrics(["pesq_wb"])
    assert "hushwork[eval]" in INSTALL
