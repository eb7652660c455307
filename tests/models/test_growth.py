"""A larger network initialised with a smaller one computes the same, and its new units can learn."""

from functools import partial

import pytest
import torch

from hushwork.audio.stft import StftConfig
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.growth import start_as
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN

CLOCKWORK = partial(StackedClockworkRNN, periods=[1, 2, 4], cell="gru", pool="mean", offsets=[0, 1, 2])
FEW, MANY = {"hidden_sizes": [5, 4, 3]}, {"hidden_sizes": [8, 4, 6]}
BOTH = {"bidirectional": True}


def denoiser(recurrence, seed, *, num_bands=None, **masker):
    torch.manual_seed(seed)
    network = partial(RecurrentMasker, recurrence=recurrence, **masker)
    stft = StftConfig(n_fft=64, hop_length=32, window="sqrt_hann")
    return Denoiser(sample_rate=8000, stft=stft, masker=network, num_bands=num_bands).eval()


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (partial(StackedRNN, hidden_size=5, cell="gru"), partial(StackedRNN, hidden_size=9, cell="gru")),
        (partial(StackedRNN, hidden_size=5), partial(StackedRNN, hidden_size=9, **BOTH)),
        (partial(CLOCKWORK, **FEW), partial(CLOCKWORK, **MANY)),
        (partial(CLOCKWORK, **FEW), partial(CLOCKWORK, **FEW, **BOTH)),
        (partial(CLOCKWORK, **FEW), partial(CLOCKWORK, **MANY, **BOTH)),
        (partial(CLOCKWORK, **FEW, **BOTH), partial(CLOCKWORK, **MANY, **BOTH)),
        (partial(CLOCKWORK, merge="sum", **FEW, **BOTH), partial(CLOCKWORK, merge="sum", **MANY, **BOTH)),
        (partial(CLOCKWORK, connections="fast_to_slow", **FEW), partial(CLOCKWORK, connections="fast_to_slow", **MANY)),
        (
            partial(CLOCKWORK, cell="lstm", pool="learned", num_layers=3, **FEW),
            partial(CLOCKWORK, cell="lstm", pool="learned", num_layers=3, **MANY),
        ),
    ],
)
def test_a_grown_network_computes_the_same(few, many):
    small, large = denoiser(few, 0, projection_size=12), denoiser(many, 1, projection_size=12)
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            if "pool_logits" in name:
                parameter.normal_()
    start_as(large, small)
    noisy = torch.randn(2, 2000, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(large(noisy), small(noisy), atol=1e-6, rtol=1e-5)
    # Nothing new is dead: once the mask may hear all units, all of their weights count.
    torch.nn.init.normal_(large.masker.output.weight)
    large(noisy).square().sum().backward()
    for name, parameter in large.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("num_bands", [None, 16])
@pytest.mark.parametrize("many", [FEW, MANY, FEW | BOTH], ids=str)
def test_a_filter_starts_as_the_mask_that_it_is_added_to(many, num_bands):
    small = denoiser(partial(CLOCKWORK, **FEW), 0, num_bands=num_bands)
    large = denoiser(partial(CLOCKWORK, **many), 1, num_bands=num_bands, head="deep_filter")
    start_as(large, small)
    noisy = torch.randn(2, 2000, generator=torch.Generator().manual_seed(2))
    before = large(noisy)
    torch.testing.assert_close(before, small(noisy), atol=1e-6, rtol=1e-5)
    before.square().sum().backward()
    filtered = large.masker.output.weight.grad[large.masker.sizes[0] :, :5]  # of units that are in use already
    assert (filtered.abs().sum(1) > 0).float().mean() > 0.9


def test_layers_for_each_band_start_without_effect():
    small = denoiser(partial(CLOCKWORK, **FEW), 0, num_bands=16)
    large = denoiser(partial(CLOCKWORK, **FEW), 1, num_bands=16, subband_size=4)
    start_as(large, small)
    noisy = torch.randn(2, 2000, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(large(noisy), small(noisy))
    large(noisy).square().sum().backward()
    assert (large.masker.subband.output.weight.grad.abs() > 0).all()
    again = denoiser(partial(CLOCKWORK, **FEW), 2, num_bands=16, subband_size=4)
    torch.nn.init.ones_(large.masker.subband.output.weight)
    start_as(again, large)
    torch.testing.assert_close(again(noisy), large(noisy))


def test_layers_for_each_band_are_not_taken_away():
    with pytest.raises(ValueError, match="do not fit this network"):
        start_as(denoiser(partial(CLOCKWORK, **MANY), 1), denoiser(partial(CLOCKWORK, **FEW), 0, subband_size=4))


def test_a_filter_is_not_taken_away():
    with pytest.raises(ValueError, match="do not fit this network"):
        start_as(denoiser(partial(CLOCKWORK, **MANY), 1), denoiser(partial(CLOCKWORK, **FEW), 0, head="deep_filter"))


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (partial(CLOCKWORK, **MANY), partial(CLOCKWORK, **FEW)),
        (partial(CLOCKWORK, **FEW, **BOTH), partial(CLOCKWORK, **MANY)),
        (partial(CLOCKWORK, **FEW), partial(CLOCKWORK, merge="sum", **MANY, **BOTH)),
        (partial(CLOCKWORK, **FEW), partial(CLOCKWORK, hidden_sizes=[8, 4, 6], periods=[1, 2, 8])),
        (partial(CLOCKWORK, **FEW), partial(CLOCKWORK, **MANY, cell="lstm")),
        (partial(CLOCKWORK, **FEW), partial(CLOCKWORK, **MANY, num_layers=3)),
        (partial(CLOCKWORK, **FEW), partial(StackedRNN, hidden_size=30, cell="gru")),
    ],
)
def test_networks_that_cannot_grow_are_refused(few, many):
    small, large = denoiser(few, 0), denoiser(many, 1)
    before = {name: value.clone() for name, value in large.state_dict().items()}
    with pytest.raises(ValueError, match=r"weights \([\d,]+ numbers\) that do not fit this network \([\d,]+\)"):
        start_as(large, small)
    for name, value in large.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


def test_other_features_are_refused():
    few, many = partial(CLOCKWORK, **FEW), partial(CLOCKWORK, **MANY)
    with pytest.raises(ValueError, match="do not fit this network"):
        start_as(denoiser(many, 1, num_bands=16), denoiser(few, 0))
