"""The noises made on the spot: their spectra are those of what they are called after."""

import numpy as np
import pytest
from scipy import signal

from hushwork.audio.noises import coloured_noise, fan, hum, speech_shaped

RATE = 16_000


def spectrum(audio):
    return np.abs(np.fft.rfft(audio * np.hanning(len(audio))))


@pytest.mark.parametrize("make", [coloured_noise, hum, fan])
@pytest.mark.parametrize("num_samples", [1, 2, 999, 48_000])
def test_noises_have_the_length_and_are_drawn(make, num_samples):
    one, again, other = (make(num_samples, RATE, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.shape == (num_samples,)
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, again)
    assert num_samples < 999 or not np.array_equal(one, other)


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
