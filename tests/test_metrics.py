"""Metrics against values worked out by hand and the packages they come from, and what is said where they fail."""

import math
import sys
import warnings

import numpy as np
import pytest

from hushwork.metrics import INSTALL, METRICS, available_metrics, dnsmos_ovrl, estoi, measure, pesq_wb, si_sdr, stoi

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
    # Error orthogonal to the reference with a hundredth of its power: 20 dB, whatever the gain or the mean.
    reference = np.tile([1.0, -1.0, 1.0, -1.0], 100)
    error = 0.1 * np.tile([1.0, 1.0, -1.0, -1.0], 100)
    assert si_sdr(gain * (reference + error) + offset, reference, RATE) == pytest.approx(20, abs=1e-6)


def test_si_sdr_of_an_error_along_the_reference_is_no_error():
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


@pytest.mark.parametrize(("metric", "package"), [(pesq_wb, "pesq"), (dnsmos_ovrl, "speechmos")])
def test_another_rate_is_refused_where_the_metric_is_not_defined(speech, metric, package):
    pytest.importorskip(package)
    with pytest.raises(ValueError, match="not 8000 Hz"):
        metric(speech, speech, 8000)


def test_measure_gives_what_was_asked_for(speech, noise):
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


def test_silence_is_no_utterance_to_pesq(speech):
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
    monkeypatch.setattr("importlib.util.find_spec", lambda name: sys)
    assert available_metrics() == list(METRICS)
    assert "hushwork[eval]" in INSTALL
