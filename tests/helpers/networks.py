"""Small networks of every kind, and noisy spectra for them."""

from functools import partial

import numpy as np
import torch

from hushwork.audio.stft import StftConfig
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN
from hushwork.network.cells import CELLS

CLOCK = {"hidden_sizes": [4, 3, 2], "periods": [1, 2, 4], "num_layers": 2}
RECURRENCES = {
    **{cell: partial(StackedRNN, hidden_size=5, cell=cell) for cell in CELLS},
    **{f"cw{cell}": partial(StackedClockworkRNN, cell=cell, **CLOCK) for cell in CELLS},
    "sampled": partial(StackedClockworkRNN, cell="gru", pool="sample", **CLOCK),
    "learned": partial(StackedClockworkRNN, cell="lstm", pool="learned", **CLOCK),
    "staggered": partial(StackedClockworkRNN, cell="gru", offsets=[0, 1, 2], **CLOCK),
    "odd": partial(
        StackedClockworkRNN,
        cell="gru",
        pool="learned",
        hidden_sizes=[4, 3, 2],
        periods=[2, 3, 7],
        offsets=[1, 2, 5],
        num_layers=2,
    ),
    "fast_to_slow": partial(StackedClockworkRNN, cell="lstm", connections="fast_to_slow", **CLOCK),
    "single_bias": partial(StackedClockworkRNN, cell="rnn", single_bias=True, **CLOCK),
}
AHEAD = {
    **{cell: partial(StackedRNN, hidden_size=5, cell=cell, bidirectional=True) for cell in CELLS},
    "concat": partial(StackedRNN, hidden_size=5, cell="lstm", bidirectional=True),
    "sum": partial(StackedRNN, hidden_size=5, cell="gru", bidirectional=True, merge="sum"),
    "clockwork": partial(StackedClockworkRNN, cell="gru", bidirectional=True, **CLOCK),
    "learned": partial(StackedClockworkRNN, cell="rnn", bidirectional=True, pool="learned", **CLOCK),
    "staggered": partial(StackedClockworkRNN, cell="gru", bidirectional=True, offsets=[0, 1, 3], **CLOCK),
}
MASKERS = [
    {},
    {"head": "magnitude"},
    {"ceiling": 2.0},
    {"projection_size": 6},
    {"subband_size": 3, "subband_layers": 1},
    {"subband_size": 4, "ceiling": 2.0},
]
DENOISERS = [
    {"compression": "log", "mean_time_constant_s": 2.0},
    {"compression": 0.3, "mean_time_constant_s": None, "level_time_constant_s": 0.1},
    {"compression": 0.5, "mean_time_constant_s": 0.05, "output_compression": 0.5},
    {"mean_time_constant_s": 1.0, "look_ahead": 1},
    {"compression": 0.3, "look_ahead": 3},
]
BANDS = [
    {"mean_time_constant_s": 1.0, "num_bands": 6},
    {"compression": 0.3, "num_bands": 1},
    {"num_bands": 6, "look_ahead": 2},
]


def make(recurrence, masker=None, **options):
    torch.manual_seed(0)
    build = partial(RecurrentMasker, recurrence=recurrence, **(masker or {}))
    denoiser = Denoiser(sample_rate=1000, stft=StftConfig(n_fft=16, hop_length=8), masker=build, **options).eval()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.mul_(3)  # so that everything that is computed shows in the output
            parameter.add_((parameter == 0) * torch.randn(parameter.shape))
    return denoiser


def make_spectrum(num_channels, num_frames):
    rng = np.random.default_rng(0)
    real, imag = rng.standard_normal((2, num_channels, num_frames, 9)) * np.linspace(0.1, 2, num_frames)[:, None]
    return (real + 1j * imag).astype(np.complex64)
