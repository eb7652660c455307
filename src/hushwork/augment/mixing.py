"""Mixing speech with noise, and effects on recordings: pure functions of arrays and random numbers.

Random functions take an explicit ``numpy.random.Generator``. Signals are float32 arrays (N,); rates are in Hz.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.signal import ShortTimeFFT, oaconvolve
from scipy.signal.windows import hann

from hushwork.audio.io import resample

ACTIVE_RANGE_DB = 30.0
FRAME_S = 0.02
EARLY_S = 0.05


def rms(audio: np.ndarray) -> float:
    """Root mean square, 0 for an empty signal."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if audio.size else 0.0


def active_rms(speech: np.ndarray, sample_rate: int) -> float:
    """Root mean square over the frames (20 ms) at most 30 dB below the 95th percentile: pauses do not count."""
    size = max(1, round(FRAME_S * sample_rate))
    if len(speech) < size:
        return rms(speech)
    frames = speech[: len(speech) // size * size].reshape(-1, size)
    powers = np.mean(np.square(frames, dtype=np.float64), axis=1)
    active = powers >= np.percentile(powers, 95) * 10 ** (-ACTIVE_RANGE_DB / 10)
    return float(np.sqrt(powers[active].mean()))


def scale_to_snr(speech: np.ndarray, noise: np.ndarray, snr_db: float, sample_rate: int) -> np.ndarray:
    """The noise, scaled so that active speech lies ``snr_db`` above it; silence on either side gives silence."""
    noise_rms = rms(noise)
    if noise_rms == 0:
        return np.zeros_like(noise)
    return noise * np.float32(active_rms(speech, sample_rate) / noise_rms * 10 ** (-snr_db / 20))


def change_speed(audio: np.ndarray, factor: float, sample_rate: int) -> np.ndarray:
    """Played ``factor`` times as fast, pitch and length with it."""
    return resample(audio, round(sample_rate * factor), sample_rate)


def shift_formants(audio: np.ndarray, factor: float, sample_rate: int) -> np.ndarray:
    """Formants at ``factor`` times their frequency; pitch, phase and length stay.

    In each frame (32 ms) the spectral envelope, from the cepstrum up to 3 ms, is stretched over frequency. No bin
    changes by more than 24 dB. The result has the level of the input.

    Source: Röbel and Rodet, "Efficient spectral envelope estimation and its application to pitch shifting and envelope
    preservation", 2005, section 2 (cepstral envelopes).
    """
    if factor == 1 or not audio.any():
        return audio
    size = 2 * round(0.016 * sample_rate)
    stft = ShortTimeFFT(hann(size, sym=False), size // 4, fs=sample_rate)
    length = max(len(audio), size)
    spectrum = stft.stft(fit_length(audio, length))
    log = np.log(np.abs(spectrum) + 1e-5 * rms(audio) * size)
    quefrency_ms = np.arange(size // 2 + 1) / sample_rate * 1000
    lifter = 0.5 + 0.5 * np.cos(np.pi * (quefrency_ms - 2).clip(0, 1))  # 3 ms: the period of a pitch of 330 Hz
    cepstrum = fft.irfft(log, size, axis=0)
    cepstrum[: len(lifter)] *= lifter[:, None]
    cepstrum[len(lifter) :] *= lifter[-2:0:-1, None]
    envelope = fft.rfft(cepstrum, axis=0).real
    place = (np.arange(len(envelope)) / factor).clip(max=len(envelope) - 1)
    below = place.astype(int).clip(max=len(envelope) - 2)
    share = (place - below)[:, None]
    moved = envelope[below] * (1 - share) + envelope[below + 1] * share
    most = 24 / 20 * np.log(10)
    shifted = stft.istft(spectrum * np.exp((moved - envelope).clip(-most, most)), k1=length)[: len(audio)]
    return (shifted * (rms(audio) / max(rms(shifted), 1e-9))).astype(np.float32)


def equalize(audio: np.ndarray, gains_db: np.ndarray) -> np.ndarray:
    """Zero-phase equaliser: ``gains_db`` at points evenly spaced in frequency from 0 to Nyquist, linear in between."""
    size = fft.next_fast_len(len(audio), real=True)
    spectrum = fft.rfft(audio.astype(np.float32, copy=False), size)
    points = np.linspace(0, 1, len(gains_db))
    gains = np.interp(np.linspace(0, 1, len(spectrum)), points, gains_db).astype(np.float32)
    return fft.irfft(spectrum * 10 ** (gains / 20), size)[: len(audio)]


def limit_band(audio: np.ndarray, cutoff_hz: float, sample_rate: int) -> np.ndarray:
    """Low-pass at ``cutoff_hz`` as a codec or telephone does, by resampling down and up."""
    return fit_length(
        resample(resample(audio, sample_rate, round(2 * cutoff_hz)), round(2 * cutoff_hz), sample_rate), len(audio)
    )


def fit_length(audio: np.ndarray, num_samples: int) -> np.ndarray:
    """Cut or zero-padded at the end to ``num_samples``."""
    return np.pad(audio[:num_samples], (0, max(0, num_samples - len(audio))))


def with_pause(audio: np.ndarray, start: int, length: int, sample_rate: int, fade_s: float = 0.02) -> np.ndarray:
    """Replace ``length`` samples from ``start`` on by silence, with fades inside them."""
    fade = min(round(fade_s * sample_rate), length // 2)
    gain = np.zeros(length, np.float32)
    gain[:fade] = np.linspace(1, 0, fade, dtype=np.float32)
    gain[length - fade :] = gain[:fade][::-1]
    audio = audio.copy()
    audio[start : start + length] *= gain
    return audio


def first_sound(speech: np.ndarray, sample_rate: int) -> int:
    """The sample where speech begins: the first frame (20 ms) at most 30 dB below the 95th percentile."""
    size = max(1, round(FRAME_S * sample_rate))
    powers = np.mean(np.square(speech[: len(speech) // size * size].reshape(-1, size), dtype=np.float64), axis=1)
    if not powers.any():
        return 0
    return int(np.argmax(powers >= np.percentile(powers, 95) * 10 ** (-ACTIVE_RANGE_DB / 10))) * size


def with_lead(
    noisy: np.ndarray, clean: np.ndarray, kind: str, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Replace the first ``length`` samples by a lead without speech, whose noise is given by ``kind``.

    Args:
        noisy, clean: (N,).
        kind: "zeros" (digital silence), "dither" (samples of -1, 0 and 1 in 16 bits) or "quiet" (the noise,
            attenuated by 20 to 40 dB).
        length: samples.
        rng: of the dither and the level.
    """
    noisy, noise, clean = noisy.copy(), noisy[:length] - clean[:length], clean.copy()
    clean[:length] = 0
    if kind == "quiet":
        noisy[:length] = noise * 10 ** (-rng.uniform(20, 40) / 20)
    else:
        noisy[:length] = rng.integers(-1, 2, length) / 2**15 if kind == "dither" else 0
    return noisy, clean


@lru_cache(maxsize=256)
def simulate_room(seed: int, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The impulse response of a random shoebox room, and its early part (50 ms), the direct path at sample 0.

    Sides 3-8 m by 3-6 m by 2.4-3.5 m, nominal reverberation time 0.1-0.7 s, talker and microphone 0.3 m or more from
    each wall. Reflections to the 12th order: the longest tails end after about 0.3 s. The direct path has gain 1.

    Source: Allen and Berkley, "Image method for efficiently simulating small-room acoustics", 1979, by pyroomacoustics.
    """
    import pyroomacoustics

    rng = np.random.default_rng(seed)
    size = rng.uniform([3.0, 3.0, 2.4], [8.0, 6.0, 3.5])
    absorption, order = pyroomacoustics.inverse_sabine(_reachable_rt60(rng.uniform(0.1, 0.7), size), size)
    room = pyroomacoustics.ShoeBox(
        size, fs=sample_rate, materials=pyroomacoustics.Material(absorption), max_order=min(order, 12)
    )
    talker, microphone = rng.uniform(0.3, size - 0.3), rng.uniform(0.3, size - 0.3)
    room.add_source(talker)
    room.add_microphone(microphone)
    room.compute_rir()
    response = np.asarray(room.rir[0][0], dtype=np.float32)
    # Found by distance, not by level: coinciding reflections can be louder than the direct path.
    arrival = np.linalg.norm(talker - microphone) / room.c * sample_rate
    around = round(arrival) + pyroomacoustics.constants.get("frac_delay_length") // 2 - 2
    direct = around + int(np.argmax(np.abs(response[around : around + 5])))
    response = response[direct:] / response[direct]
    response.setflags(write=False)  # one array for all calls with this room
    return response, response[: round(EARLY_S * sample_rate)]


def _reachable_rt60(rt60: float, size: np.ndarray) -> float:
    # Sabine's formula at full absorption: no shorter reverberation exists in this room.
    volume, walls = np.prod(size), 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    return max(rt60, 1.05 * 24 * np.log(10) / 343.0 * volume / walls)


def convolve(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """``audio`` convolved with a room response, cut to its own length."""
    return oaconvolve(audio, response)[: len(audio)].astype(np.float32)
