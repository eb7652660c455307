"""Frames of voice agents: equal lengths, constant latency, the output of the whole recording."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soxr

from hushwork.audio.resampling import LowLatencyResampler
from hushwork.files.denoise import denoise
from hushwork.integrations.frames import FrameFilter
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained
from hushwork.streaming.strength import Strength

UNCHANGED = Strength(mix=0.0)


def speech_like(seconds: float, rate: int, num_channels: int = 1) -> np.ndarray:
    """Noise below 3 kHz, int16 (n, C): every rate can hold it."""
    noise = np.random.default_rng(0).normal(0, 0.1, (round(seconds * 8000), num_channels))
    spectrum = np.fft.rfft(noise, axis=0)
    spectrum[round(3000 * seconds) :] = 0
    wide = soxr.resample(np.fft.irfft(spectrum, len(noise), axis=0), 8000, rate)
    return np.round(wide * 32768).astype(np.int16)


def in_frames(filtered: FrameFilter, samples: np.ndarray, size: int) -> np.ndarray:
    parts = []
    for start in range(0, len(samples), size):
        frame = samples[start : start + size]
        parts.append(filtered.process(frame.tobytes()))
        assert parts[-1].dtype == np.int16
        assert parts[-1].size == frame.size
    return np.concatenate(parts).reshape(samples.shape)


def distance_db(actual: np.ndarray, expected: np.ndarray) -> float:
    difference = actual.astype(float) - expected
    return float(10 * np.log10(np.square(difference).sum() / np.square(expected.astype(float)).sum() + 1e-12))


@pytest.mark.parametrize("frame_ms", [10, 20])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000])
def test_the_latency_is_as_stated(rate: int, frame_ms: int, model: PretrainedDenoiser) -> None:
    samples = speech_like(0.6, rate)
    filtered = FrameFilter(rate, 1, model, UNCHANGED)
    output = in_frames(filtered, samples, rate * frame_ms // 1000)
    delay = filtered.latency_samples
    assert not np.abs(output[: delay - rate // 200]).max() > 5  # silence, then 5 ms into which the filters ring
    assert distance_db(output[delay:], samples[: len(samples) - delay]) < -55
    assert filtered.latency_ms == pytest.approx(1000 * delay / rate)
    assert filtered.latency_ms < 37


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_frames_give_what_the_whole_recording_gives(rate: int, model: PretrainedDenoiser) -> None:
    samples = speech_like(0.8, rate)
    filtered = FrameFilter(rate, 1, model)
    output = in_frames(filtered, samples, rate // 50)[filtered.latency_samples :, 0]
    whole = 32768 * denoise(samples[:, 0] / np.float32(32768), rate, model)[: len(output)]
    assert distance_db(output, whole) < -35  # both resamplers differ near their ends


def test_any_size_of_frame_gives_the_same(model: PretrainedDenoiser) -> None:
    samples = speech_like(0.5, 24000)
    expected = in_frames(FrameFilter(24000, 1, model), samples, 480)
    filtered, start, rng = FrameFilter(24000, 1, model), 0, np.random.default_rng(1)
    parts = []
    while start < len(samples):
        size = int(rng.choice([0, 1, 7, 240, 333, 2400]))
        parts.append(filtered.process(samples[start : start + size].tobytes()))
        assert parts[-1].size == len(samples[start : start + size])
        start += size
    np.testing.assert_allclose(np.concatenate(parts), expected[:, 0], rtol=0, atol=1)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_disabled_gives_the_input_and_stays_in_step(rate: int, model: PretrainedDenoiser) -> None:
    samples = speech_like(1.2, rate)
    size, delay = rate // 50, FrameFilter(rate, 1, model).latency_samples
    always = in_frames(FrameFilter(rate, 1, model), samples, size)
    filtered, parts = FrameFilter(rate, 1, model), []
    for number, start in enumerate(range(0, len(samples), size)):
        filtered.enabled = not 20 <= number < 40
        parts.append(filtered.process(samples[start : start + size].tobytes()))
    output = np.concatenate(parts)[:, None]
    late = np.pad(samples, ((delay, 0), (0, 0)))
    assert np.array_equal(output[21 * size : 40 * size], late[21 * size : 40 * size])
    assert np.array_equal(output[: 20 * size], always[: 20 * size])
    assert np.array_equal(output[41 * size :], always[41 * size :])
    between = output[20 * size : 21 * size] - always[20 * size : 21 * size].astype(int)
    whole_way = late[20 * size : 21 * size] - always[20 * size : 21 * size].astype(int)
    np.testing.assert_allclose(between, whole_way * (np.arange(1, size + 1) / size)[:, None], atol=1)


def test_participants_share_a_denoiser_and_nothing_else(model: PretrainedDenoiser) -> None:
    samples, others = speech_like(0.4, 16000), speech_like(0.8, 16000)[6400:]
    alone = in_frames(FrameFilter(16000, 1, model), samples, 320)
    one, two = FrameFilter(16000, 1, model), FrameFilter(16000, 1, model)
    parts = []
    for start in range(0, len(samples), 320):
        parts.append(one.process(samples[start : start + 320].tobytes()))
        two.process(others[start : start + 320].tobytes())
    assert np.array_equal(np.concatenate(parts), alone[:, 0])


def test_after_a_reset_it_is_as_new(model: PretrainedDenoiser) -> None:
    samples, filtered = speech_like(0.3, 48000), FrameFilter(48000, 1, model)
    first = in_frames(filtered, samples, 960)
    filtered.reset()
    assert np.array_equal(in_frames(filtered, samples, 960), first)


def test_two_channels_stay_apart(model: PretrainedDenoiser) -> None:
    samples = speech_like(0.4, 24000, 2)
    samples[:, 1] = 0
    output = in_frames(FrameFilter(24000, 2, model), samples, 480)
    assert output[:, 0].any()
    assert not output[:, 1].any()


def test_full_scale_does_not_wrap(model: PretrainedDenoiser) -> None:
    samples = np.where(np.arange(16000) // 40 % 2, 32767, -32768).astype(np.int16)[:, None]
    filtered = FrameFilter(16000, 1, model, UNCHANGED)
    output = in_frames(filtered, samples, 320)[filtered.latency_samples :].astype(int)
    assert np.abs(output - samples[: len(output)]).max() < 100


def test_memory_does_not_grow(model: PretrainedDenoiser) -> None:
    filtered, frame = FrameFilter(48000, 1, model), speech_like(0.02, 48000).tobytes()
    for _ in range(50):
        filtered.process(frame)
    tracemalloc.start()
    try:
        filtered.process(frame)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            filtered.process(frame)
        assert tracemalloc.get_traced_memory()[0] - before < 10_000  # a frame has 1,920 bytes
    finally:
        tracemalloc.stop()


def test_incomplete_frames_are_refused(model: PretrainedDenoiser) -> None:
    with pytest.raises(ValueError, match=r"3 bytes .* of 1 channels"):
        FrameFilter(16000, 1, model).process(b"abc")
    with pytest.raises(ValueError, match=r"rate \(0\)"):
        FrameFilter(0, 1, model)
    with pytest.raises(ValueError, match="not causal"):
        FrameFilter(16000, 1, load_pretrained("offline"))


@pytest.mark.parametrize(("from_rate", "to_rate"), [(8000, 16000), (48000, 16000), (16000, 44100), (16000, 16000)])
def test_the_resampler_agrees_with_soxr_and_lags_as_stated(from_rate: int, to_rate: int) -> None:
    audio = (speech_like(0.5, from_rate) / np.float32(32768)).T.astype(np.float32)
    resampler, parts = LowLatencyResampler(from_rate, to_rate, 1), []
    for start in range(0, audio.shape[1], 111):
        parts.append(resampler.push(audio[:, start : start + 111]))
        due = min(start + 111, audio.shape[1]) * to_rate / from_rate - resampler.lag_s * to_rate
        assert abs(sum(part.shape[1] for part in parts) - max(0, due)) <= 1 + to_rate / from_rate
    actual = np.concatenate(parts, axis=1)[0]
    expected = soxr.resample(audio[0], from_rate, to_rate)[: len(actual)]
    assert distance_db(actual, expected) < -50
