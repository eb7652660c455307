"""Mixing and effects, against measurements of the results."""

import librosa
import numpy as np
import pyroomacoustics
import pytest
from scipy.signal import lfilter

from hushwork.augment.mixing import (
    _reachable_rt60,
    active_rms,
    change_speed,
    convolve,
    equalize,
    fit_length,
    limit_band,
    rms,
    scale_to_snr,
    shift_formants,
    simulate_room,
    with_pause,
)

RATE = 16000


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def tone(frequency, seconds=1.0, rate=RATE):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def level_at(audio, frequency, rate=RATE):
    """Amplitude of the sinusoid of ``frequency``, by projection."""
    angle = 2 * np.pi * frequency * np.arange(len(audio)) / rate
    return 2 * abs(np.mean(audio * np.exp(-1j * angle)))


def speech_with_pauses(rng, level=0.1, pause_level=0.0):
    """Half a second of noise, half a second of pause, and so again: 25 frames of 20 ms each."""
    parts = [rng.standard_normal(RATE // 2) * gain for gain in (level, pause_level, level, pause_level)]
    return np.concatenate(parts).astype(np.float32)


def vowel(pitch_hz, formants_hz, bandwidth_hz=90):
    """A second of pulses through resonators."""
    audio = np.zeros(RATE)
    audio[(np.arange(pitch_hz) * RATE / pitch_hz).astype(int)] = 1
    for formant in formants_hz:
        radius, angle = np.exp(-np.pi * bandwidth_hz / RATE), 2 * np.pi * formant / RATE
        audio = lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], audio)
    return (0.1 * audio / np.std(audio)).astype(np.float32)


def formants_of(audio):
    """By linear prediction: frequencies of the sharp poles, ascending."""
    poles = np.roots(librosa.lpc(lfilter([1, -0.9], [1], audio.astype(np.float64)), order=10))
    sharp = poles[(poles.imag > 0) & (np.abs(poles) > 0.94)]
    return np.sort(np.angle(sharp)) * RATE / (2 * np.pi)


@pytest.mark.parametrize("factor", [0.87, 1.15])
def test_formants_move_and_pitch_stays(factor):
    formants = np.array([700.0, 1400.0, 2600.0])
    audio = vowel(110, formants)
    shifted = shift_formants(audio, factor, RATE)
    assert shifted.shape == audio.shape
    assert shifted.dtype == np.float32
    assert rms(shifted) == pytest.approx(rms(audio), rel=1e-3)
    np.testing.assert_allclose(formants_of(shifted)[1:3], formants_of(audio)[1:3] * factor, rtol=0.04)
    assert formants_of(shifted)[0] == pytest.approx(formants_of(audio)[0] * factor, rel=0.1)  # of few harmonics
    pitch, voiced, _ = librosa.pyin(shifted, fmin=60, fmax=300, sr=RATE)
    assert voiced.mean() > 0.9
    assert np.nanmedian(pitch) == pytest.approx(110, rel=0.01)


def test_formants_of_silence_and_factor_1(rng):
    silence, noise = np.zeros(5000, np.float32), rng.standard_normal(5001).astype(np.float32)
    np.testing.assert_array_equal(shift_formants(silence, 1.2, RATE), silence)
    np.testing.assert_array_equal(shift_formants(noise, 1.0, RATE), noise)
    assert len(shift_formants(noise[:100], 1.2, RATE)) == 100


def test_rms():
    assert rms(np.array([3.0, -4.0], dtype=np.float32)) == pytest.approx(12.5**0.5)
    assert rms(tone(100)) == pytest.approx(0.5**0.5, rel=1e-6)
    assert rms(np.zeros(0)) == 0
    # Not overwhelmed by a long float32 sum.
    assert rms(np.full(2**22, 0.1, dtype=np.float32)) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("pause_level", [0.0, 1e-3])
def test_pauses_do_not_count(rng, pause_level):
    speech = speech_with_pauses(rng, 0.1, pause_level)
    spoken = np.concatenate([speech[:8000], speech[16000:24000]])
    assert active_rms(speech, RATE) == pytest.approx(rms(spoken), rel=1e-6)
    assert rms(speech) < 0.75 * rms(spoken)


@pytest.mark.parametrize(("below_db", "counts"), [(29, True), (31, False)])
def test_frames_30_db_below_the_loudest_are_pauses(below_db, counts):
    loud, soft = tone(500), tone(500) * 10 ** (-below_db / 20)
    expected = rms(np.concatenate([loud, soft])) if counts else rms(loud)
    assert active_rms(np.concatenate([loud, soft]).astype(np.float32), RATE) == pytest.approx(expected, rel=1e-5)


def test_soft_speech_does_count(rng):
    speech = speech_with_pauses(rng, 0.1, 0.01)  # 20 dB below, within the range
    assert active_rms(speech, RATE) == pytest.approx(rms(speech), rel=1e-6)


@pytest.mark.parametrize("length", [0, 1, 319])
def test_shorter_than_a_frame_counts_whole(rng, length):
    speech = rng.standard_normal(length)
    assert active_rms(speech, RATE) == rms(speech)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_the_ratio_on_active_speech_is_met(rng, snr_db, rate):
    frame = rate // 50
    spoken = rng.standard_normal(20 * frame).astype(np.float32)
    speech = np.concatenate([spoken, np.zeros(30 * frame, np.float32)])
    noise = (rng.standard_normal(len(speech)) * 7).astype(np.float32)
    scaled = scale_to_snr(speech, noise, snr_db, rate)
    assert scaled.dtype == np.float32
    measured = 10 * np.log10(np.mean(spoken.astype(float) ** 2) / np.mean(scaled.astype(float) ** 2))
    assert measured == pytest.approx(snr_db, abs=1e-4)
    assert np.corrcoef(scaled, noise)[0, 1] == pytest.approx(1)


def test_silence_on_either_side_gives_silence(rng):
    signal, silence = rng.standard_normal(RATE).astype(np.float32), np.zeros(RATE, np.float32)
    assert not scale_to_snr(signal, silence, 0, RATE).any()
    assert not scale_to_snr(silence, signal, 0, RATE).any()


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch(factor):
    changed = change_speed(tone(1000), factor, RATE)
    assert len(changed) == pytest.approx(RATE / factor, abs=1)
    inner = changed[1000:-1000]
    peak = np.argmax(np.abs(np.fft.rfft(inner * np.hanning(len(inner))))) * RATE / len(inner)
    assert peak == pytest.approx(1000 * factor, abs=2)


@pytest.mark.parametrize("length", [1000, 1001])
def test_a_flat_equaliser_only_scales(rng, length):
    audio = rng.standard_normal(length).astype(np.float32)
    np.testing.assert_allclose(equalize(audio, np.zeros(5)), audio, atol=1e-6)
    np.testing.assert_allclose(equalize(audio, np.full(5, 6.0)), audio * 10**0.3, atol=1e-5)
    assert equalize(audio, np.zeros(5)).dtype == np.float32


def test_an_equaliser_has_its_gains_at_its_points_and_between():
    gains_db = np.array([0.0, 10.0, -10.0, 0.0, 20.0])  # at 0, 2, 4, 6 and 8 kHz
    audio = tone(2000) + tone(3000) + tone(4000) + tone(7000)
    shaped = equalize(audio, gains_db)
    for frequency, gain_db in ((2000, 10), (3000, 0), (4000, -10), (7000, 10)):
        assert level_at(shaped, frequency) == pytest.approx(10 ** (gain_db / 20), rel=1e-3)


@pytest.mark.parametrize("cutoff", [2000, 3400, 6000])
def test_a_limited_band_keeps_what_lies_below_and_nothing_above(cutoff):
    low, high = cutoff * 0.7, cutoff * 1.2
    audio = tone(low) + tone(high)
    limited = limit_band(audio, cutoff, RATE)
    assert limited.shape == audio.shape
    assert limited.dtype == np.float32
    inner = limited[2000:-2000]
    assert level_at(inner, low) == pytest.approx(1, rel=0.01)
    assert level_at(inner, high) < 1e-3
    # Aligned with what it was made from.
    np.testing.assert_allclose(inner, tone(low)[2000:-2000], atol=0.01)


@pytest.mark.parametrize("length", [3999, 4000, 4001])
def test_a_limited_band_keeps_the_length(rng, length):
    assert limit_band(rng.standard_normal(length).astype(np.float32), 3400, RATE).shape == (length,)


def test_fit_length():
    assert fit_length(np.array([1, 2, 3]), 2).tolist() == [1, 2]
    assert fit_length(np.array([1, 2, 3]), 5).tolist() == [1, 2, 3, 0, 0]
    assert fit_length(np.array([1, 2, 3]), 3).tolist() == [1, 2, 3]


@pytest.mark.parametrize(("start", "length"), [(0, 1000), (300, 700), (500, 10), (1, 0)])
def test_a_pause_is_silent_but_for_its_fades(start, length):
    audio = np.ones(1000, np.float32)
    paused = with_pause(audio, start, length, RATE, fade_s=0.005)
    fade = min(80, length // 2)
    assert not paused[start + fade : start + length - fade].any()
    assert (np.delete(paused, slice(start, start + length)) == 1).all()
    assert np.abs(np.diff(paused[start : start + fade])).max(initial=0) <= 1 / max(fade - 1, 1) + 1e-6
    assert (audio == 1).all()


def decay_60_s(response, rate=RATE):
    """Reverberation time by Schroeder's backward integration, from the slope between -5 and -25 dB."""
    energy = np.cumsum(response[::-1].astype(float) ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0])
    return 3 * (np.argmax(level < -25) - np.argmax(level < -5)) / rate


@pytest.mark.parametrize("seed", range(6))
def test_a_room_rings_and_dies_away(seed):
    response, early = simulate_room(seed, RATE)
    assert response.dtype == np.float32
    assert response[0] == 1
    assert np.abs(response).max() == 1
    np.testing.assert_array_equal(early, response[:800])  # 50 ms
    assert np.isfinite(response).all()
    assert 0.04 < decay_60_s(response) < 0.8
    assert np.abs(response[len(early) :]).max() < np.abs(early).max()


@pytest.mark.parametrize(
    "seed",
    [0, 1, 2, 20],  # 20: a reflection 11 ms later is louder than the direct path
)
def test_a_room_begins_with_the_direct_path(seed, monkeypatch):
    rooms = []

    class Watched(pyroomacoustics.ShoeBox):
        def compute_rir(self):
            super().compute_rir()
            rooms.append(self)

    monkeypatch.setattr(pyroomacoustics, "ShoeBox", Watched)
    simulate_room.cache_clear()
    response, _ = simulate_room(seed, RATE)
    (room,) = rooms
    distance = np.linalg.norm(room.sources[0].position - room.mic_array.R[:, 0])
    arrival = distance / room.c * RATE + pyroomacoustics.constants.get("frac_delay_length") // 2
    assert len(room.rir[0][0]) - len(response) == pytest.approx(arrival, abs=1)


@pytest.mark.parametrize("size", [(3.0, 3.0, 2.4), (8.0, 6.0, 3.5), (8.0, 3.0, 2.4)])
def test_the_reverberation_of_a_room_is_not_shorter_than_its_walls_allow(size):
    absorption, _ = pyroomacoustics.inverse_sabine(_reachable_rt60(0.01, np.array(size)), size)
    assert absorption == pytest.approx(1 / 1.05, rel=1e-2)
    assert _reachable_rt60(0.9, np.array(size)) == 0.9


def test_rooms_differ_in_how_long_they_ring():
    times = [decay_60_s(simulate_room(seed, RATE)[0]) for seed in range(12)]
    assert max(times) > 2 * min(times)


def test_a_room_follows_from_its_seed():
    first, _ = simulate_room(3, RATE)
    simulate_room.cache_clear()
    again, _ = simulate_room(3, RATE)
    assert again is not first
    np.testing.assert_array_equal(again, first)
    other, _ = simulate_room(4, RATE)
    assert len(other) != len(first) or not np.array_equal(other, first)


@pytest.mark.parametrize("length", [1, 50, 4000])
def test_convolution_equals_numpys_cut_to_length(rng, length):
    audio, response = rng.standard_normal(length).astype(np.float32), rng.standard_normal(700).astype(np.float32)
    wet = convolve(audio, response)
    assert wet.dtype == np.float32
    np.testing.assert_allclose(wet, np.convolve(audio, response)[:length], rtol=0, atol=1e-3)


def test_a_room_of_the_direct_path_alone_changes_nothing(rng):
    audio = rng.standard_normal(1000).astype(np.float32)
    np.testing.assert_allclose(convolve(audio, np.ones(1, np.float32)), audio, atol=1e-6)
