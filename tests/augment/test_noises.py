"""Synthetic noises have the spectra that their names state."""

import numpy as np
import pytest
from scipy import signal

from hushwork.augment.noises import calls, coloured_noise, fan, gusts, hum, knocks, speech_shaped

RATE = 16_000


def spectrum(audio):
    return np.abs(np.fft.rfft(audio * np.hanning(len(audio))))


@pytest.mark.parametrize("make", [coloured_noise, hum, fan, knocks, calls, gusts])
@pytest.mark.parametrize("num_samples", [1, 2, 999, 48_000])
def test_noises_have_the_length_and_are_drawn(make, num_samples):
    one, again, other = (make(num_samples, RATE, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.shape == (num_samples,)
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, again)
    assert num_samples < 48_000 or not np.array_equal(one, other)


def test_hum_is_at_multiples_of_the_mains_frequency():
    for seed in range(10):
        audio = hum(2 * RATE, RATE, np.random.default_rng(seed))
        power = spectrum(audio) ** 2
        hz = np.arange(len(power)) / 2
        distances = [np.minimum(hz % mains, mains - hz % mains) for mains in (50, 60)]
        assert max(power[distance <= 1].sum() for distance in distances) > 0.999 * power.sum()


def test_speech_shaped_noise_has_the_spectrum_and_no_pauses():
    rng = np.random.default_rng(0)
    bursts = rng.standard_normal(4 * RATE) * (np.arange(4 * RATE) // 4000 % 2)
    speech = signal.lfilter([1], [1, -0.9], bursts).astype(np.float32)
    noise = speech_shaped(speech, rng)
    assert noise.dtype == np.float32
    decibels = 10 * np.log10(signal.welch(noise, RATE)[1][2:-2] / signal.welch(speech, RATE)[1][2:-2])
    assert abs(decibels.mean()) < 0.5
    assert np.abs(decibels).max() < 3
    levels = noise[:64000].reshape(-1, 2000).std(1)
    assert levels.min() > 0.5 * levels.max()


def test_a_fan_has_tones():
    sharp = 0
    for seed in range(20):
        power = signal.welch(fan(4 * RATE, RATE, np.random.default_rng(seed)), RATE, nperseg=8192)[1]
        around = signal.medfilt(power, 101)
        sharp += (power[50:-50] > 10 * around[50:-50]).any()
    assert sharp >= 8  # tones lie up to 20 dB above or below the rest


def test_knocks_start_at_once_and_die_away():
    for seed in range(10):
        audio = knocks(4 * RATE, RATE, np.random.default_rng(seed))
        levels = np.sqrt(np.mean(audio.reshape(-1, 80) ** 2, axis=1))  # of 5 ms
        loudest = int(levels.argmax())
        assert levels[loudest] > 3 * np.median(levels)
        assert levels[max(0, loudest - 4) : loudest + 2].max() > 2 * levels[max(0, loudest - 4) : loudest + 2].min()


def test_calls_are_tonal_and_glide():
    tonal = glides = 0
    for seed in range(10):
        audio = calls(4 * RATE, RATE, np.random.default_rng(seed))
        _, _, power = signal.spectrogram(audio, RATE, nperseg=512)
        loud = power[:, power.sum(0) > 0.1 * power.sum(0).max()]
        # Few of the 257 bins hold most of the power at a time, and not always the same; hoarse calls are broader.
        tonal += np.median(np.sort(loud, axis=0)[-25:].sum(0) / loud.sum(0)) > 0.7
        glides += np.ptp(loud.argmax(0)) >= 3
    assert tonal >= 6
    assert glides >= 7


def test_gusts_come_and_go():
    for seed in range(10):
        audio = gusts(4 * RATE, RATE, np.random.default_rng(seed))
        levels_db = 20 * np.log10(audio.reshape(-1, 800).std(1) + 1e-9)
        assert np.ptp(levels_db) > 6
        assert (
            np.ptp(20 * np.log10(coloured_noise(4 * RATE, RATE, np.random.default_rng(seed)).reshape(-1, 800).std(1)))
            < 6
        )
