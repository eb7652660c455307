"""The network between features and mask: ranges, parts, state."""

from functools import partial

import pytest
import torch

from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN

BINS = 9
RNN = partial(StackedRNN, hidden_size=6, num_layers=2)
CLOCKWORK = partial(StackedClockworkRNN, hidden_sizes=[4, 2], periods=[1, 3], num_layers=2)


def make(recurrence=RNN, **options):
    torch.manual_seed(0)
    return RecurrentMasker(num_bins=BINS, recurrence=recurrence, **options).double()


@pytest.fixture
def features():
    return torch.randn(2, 11, BINS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("ceiling", [0.5, 1.0, 2.0])
def test_a_mask_fills_the_range_up_to_its_ceiling(features, ceiling):
    masker = make(ceiling=ceiling)
    with torch.no_grad():
        masker.output.weight.mul_(200)
        mask, _ = masker(features)
    assert mask.shape == features.shape
    assert 0 <= float(mask.min()) < 0.01 * ceiling
    assert 0.99 * ceiling < float(mask.max()) <= ceiling


@pytest.mark.parametrize("projection_size", [None, 5])
def test_the_parts_follow_one_another(features, projection_size):
    masker = make(projection_size=projection_size, ceiling=2.0)
    hidden = features
    if projection_size:
        linear = masker.projection[0]
        hidden = (features @ linear.weight.T + linear.bias).clamp(min=0)
    hidden, _ = masker.recurrence(hidden)
    expected = 2 / (1 + torch.exp(-(hidden @ masker.output.weight.T + masker.output.bias)))
    torch.testing.assert_close(masker(features)[0], expected, rtol=1e-12, atol=0)


def test_without_a_projection_none_is_paid_for():
    assert sum(p.numel() for p in make().projection.parameters()) == 0
    assert make(projection_size=5).recurrence.forwards[0].input_size == 5


@pytest.mark.parametrize("recurrence", [RNN, CLOCKWORK])
def test_a_state_continues_the_stream(features, recurrence):
    masker = make(recurrence)
    whole, _ = masker(features)
    first, state = masker(features[:, :4])
    second, _ = masker(features[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("recurrence", [RNN, CLOCKWORK])
def test_causality_is_that_of_the_recurrence(features, recurrence):
    for bidirectional in (False, True):
        masker = make(partial(recurrence, bidirectional=bidirectional))
        assert masker.is_causal is not bidirectional
        changed = features.clone()
        changed[:, 6:] += 1
        same = torch.isclose(masker(features)[0], masker(changed)[0], rtol=0, atol=1e-12).all(dim=(0, 2))
        assert bool(same[:6].all()) is not bidirectional
        assert not same[6:].any()


def test_lengths_reach_the_recurrence(features):
    masker = make(partial(RNN, bidirectional=True))
    lengths = torch.tensor([5, 11])
    mask, _ = masker(features, lengths=lengths)
    torch.testing.assert_close(mask[:1, :5], masker(features[:1, :5])[0], rtol=1e-12, atol=0)


def test_dropout_acts_before_the_last_layer_in_training_only(features):
    masker, plain = make(dropout=0.5), make()
    assert not torch.equal(masker(features)[0], plain(features)[0])
    seen = []
    masker.output.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    masker(features)
    assert 0.3 < float((seen[0] == 0).double().mean()) < 0.7
    assert torch.equal(masker.eval()(features)[0], plain(features)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "phase"}, "head is 'phase'"),
        ({"ceiling": 0.0}, "ceiling is 0.0"),
        ({"ceiling": -1.0}, "ceiling is -1.0"),
        ({"head": "magnitude", "ceiling": 2.0}, "ceiling is 2.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.5}, "dropout is -0.5"),
    ],
)
def test_invalid_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
