"""The transform against windowed frames and numpy's FFT, and its inverse."""

import numpy as np
import pytest
import torch

from hushwork.audio.stft import StftConfig
from hushwork.models.stft import Stft

CONFIGS = [
    StftConfig(n_fft=512, hop_length=256),
    StftConfig(n_fft=512, hop_length=128, window="hann"),
    StftConfig(n_fft=384, hop_length=128),
    StftConfig(n_fft=320, hop_length=160, window="hann"),
    StftConfig(n_fft=512, hop_length=256, window="vorbis"),
]
LENGTHS = [1, 2, 100, 511, 512, 513, 16001]
ids = [f"{c.n_fft}-{c.hop_length}-{c.window}" for c in CONFIGS]


def literal_frames(audio, config):
    """Frames centred on multiples of the hop, zeros outside the signal, until none touches it any more."""
    n_fft, hop = config.n_fft, config.hop_length
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    if config.window == "sqrt_hann":
        window = np.sqrt(window)
    if config.window == "vorbis":
        window = np.array([np.sin(np.pi / 2 * np.sin(np.pi * (k + 0.5) / n_fft) ** 2) for k in range(n_fft)])
    frames = []
    centre = 0
    while centre - n_fft // 2 < len(audio):
        frame = np.zeros(n_fft)
        for k in range(n_fft):
            position = centre - n_fft // 2 + k
            if 0 <= position < len(audio):
                frame[k] = audio[position]
        frames.append(np.fft.rfft(frame * window))
        centre += hop
    return np.stack(frames)


@pytest.mark.parametrize("length", [1, 100, 384, 513, 1500])
@pytest.mark.parametrize("config", CONFIGS, ids=ids)
def test_frames_equal_numpys(config, length):
    audio = np.random.default_rng(0).standard_normal(length)
    expected = literal_frames(audio, config)
    spectrum = Stft(config).analysis(torch.from_numpy(audio)[None])
    assert spectrum.shape == (1, Stft(config).num_frames(length), config.num_bins)
    np.testing.assert_allclose(spectrum[0].numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("config", CONFIGS, ids=ids)
def test_round_trip(config, length):
    audio = torch.randn(2, length, generator=torch.Generator().manual_seed(0))
    stft = Stft(config)
    back = stft.synthesis(stft.analysis(audio), length)
    assert back.shape == audio.shape
    torch.testing.assert_close(back, audio, rtol=0, atol=2e-6 if length > 16000 else 1e-6)
    double = stft.synthesis(stft.analysis(audio.double()), length)
    torch.testing.assert_close(double, audio.double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", CONFIGS, ids=ids)
def test_a_padded_batch_gives_the_frames_of_singles(config):
    stft = Stft(config)
    audio = torch.randn(1, 700, generator=torch.Generator().manual_seed(0))
    alone = stft.analysis(audio)
    padded = stft.analysis(torch.nn.functional.pad(audio, (0, 900)))
    torch.testing.assert_close(padded[:, : stft.num_frames(700)], alone, rtol=0, atol=1e-5)
    assert float(padded[:, stft.num_frames(700) :].abs().max()) == 0


def test_synthesis_has_the_least_squared_error_to_the_spectrum():
    # Griffin and Lim, eq. 6: overlap-add of windowed frames over the sum of squared windows.
    config = StftConfig(n_fft=16, hop_length=4, window="hann")
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.randn(1, 9, 9, generator=generator, dtype=torch.complex128)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(16) / 16)
    total, weight = np.zeros(16 + 8 * 4), np.zeros(16 + 8 * 4)
    for t in range(9):
        total[4 * t : 4 * t + 16] += window * np.fft.irfft(spectrum[0, t].numpy(), 16)
        weight[4 * t : 4 * t + 16] += window**2
    audio = Stft(config).synthesis(spectrum, 30)
    np.testing.assert_allclose(audio[0].numpy(), (total[8:38] / weight[8:38]), atol=1e-6)


@pytest.mark.parametrize("window", ["sqrt_hann", "hann", "vorbis"])
def test_the_window_is_not_a_parameter(window):
    assert Stft(StftConfig(window=window)).state_dict() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 511}, "n_fft is 511"),
        ({"n_fft": 2, "hop_length": 1}, "n_fft is 2"),
        ({"hop_length": 0}, "hop_length is 0"),
        ({"hop_length": -256}, "hop_length is -256"),
        ({"hop_length": 512}, "hop_length is 512"),
        ({"hop_length": 200}, "hop_length is 200"),
        ({"window": "hamming"}, "window is 'hamming'"),
    ],
)
def test_invalid_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        StftConfig(**options)
