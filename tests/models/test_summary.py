"""Parameters and operations of denoisers, against sums by hand."""

from functools import partial

import pytest

from hushwork.audio.stft import StftConfig
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN
from hushwork.models.summary import cost

FRAMES_PER_S = 62.5
BINS = 257


def make(recurrence, **options):
    masker = partial(RecurrentMasker, recurrence=recurrence, **options)
    return Denoiser(sample_rate=16000, stft=StftConfig(), masker=masker)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_one_plain_layer(cell, gates):
    measured = cost(make(partial(StackedRNN, hidden_size=256, num_layers=1, cell=cell)))
    products = gates * 256 * (257 + 256)  # 525,312 for an LSTM
    assert measured.parameters == products + gates * 2 * 256 + 256 * BINS + BINS
    assert measured.macs_per_s == pytest.approx((products + 256 * BINS) * FRAMES_PER_S)


def test_projection_layers_and_directions_add_up():
    recurrence = partial(StackedRNN, hidden_size=10, num_layers=2, cell="gru", bidirectional=True)
    measured = cost(make(recurrence, projection_size=20))
    products = 257 * 20 + 2 * 3 * 10 * (20 + 10) + 2 * 3 * 10 * (20 + 10) + 20 * BINS
    assert measured.macs_per_s == pytest.approx(products * FRAMES_PER_S)
    assert measured.parameters == products + 20 + 4 * 3 * 2 * 10 + BINS


@pytest.mark.parametrize(("units", "modules", "macs"), [(256, 4, 223712), (512, 8, 360574)])
def test_a_clockwork_layer_counts_at_its_own_rates(units, modules, macs):
    recurrence = partial(
        StackedClockworkRNN,
        hidden_sizes=[units // modules] * modules,
        periods=[2**k for k in range(modules)],
        cell="lstm",
        num_layers=1,
    )
    measured = cost(make(recurrence))
    assert measured.macs_per_s == pytest.approx((macs + units * BINS) * FRAMES_PER_S, abs=FRAMES_PER_S)


def test_frozen_parameters_are_not_counted():
    denoiser = make(partial(StackedRNN, hidden_size=4, num_layers=1))
    before = cost(denoiser)
    denoiser.masker.output.bias.requires_grad_(False)
    after = cost(denoiser)
    assert before.parameters - after.parameters == BINS
    assert before.macs_per_s == after.macs_per_s
