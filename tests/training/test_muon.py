"""Muon: its steps are those of the papers, and of torch's optimisers where these agree."""

import copy

import pytest
import torch
from torch import nn

from hushwork.training.muon import Muon, orthogonalized


def gradients_of(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("shape", [(8, 8), (40, 12), (12, 40), (1, 5)])
def test_orthogonalized_keeps_directions_and_evens_out_sizes(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, sizes, v = torch.linalg.svd(matrix, full_matrices=False)
    evened = u.T @ orthogonalized(matrix) @ v.T
    assert sizes.min() > 0
    torch.testing.assert_close(evened, torch.diag(evened.diagonal()), atol=1e-4, rtol=0)
    assert evened.diagonal().min() > 0.65
    assert evened.diagonal().max() < 1.25


def test_zero_gradients_change_nothing():
    assert orthogonalized(torch.zeros(3, 4)).abs().max() == 0


def test_matrices_go_as_in_torch_and_vectors_as_in_adam():
    # torch's own works in bfloat16, of three digits.
    layer, copy_of_layer = (nn.Linear(24, 16) for _ in range(2))
    copy_of_layer.load_state_dict(layer.state_dict())
    before = layer.weight.detach().clone()
    settings = {"lr": 0.02, "weight_decay": 0.1}
    optimizer = Muon(layer.named_parameters(), **settings)
    references = [
        torch.optim.Muon([copy_of_layer.weight], adjust_lr_fn="match_rms_adamw", **settings),
        torch.optim.Adam([copy_of_layer.bias], lr=0.02),
    ]
    for seed in range(4):
        for module in (layer, copy_of_layer):
            gradients_of(module, seed)
        optimizer.step()
        for reference in references:
            reference.step()
    torch.testing.assert_close(layer.bias, copy_of_layer.bias)
    torch.testing.assert_close(layer.weight, copy_of_layer.weight, atol=0.004, rtol=0)
    assert (layer.weight - before).abs().max() > 0.02  # far more than the tolerance


@pytest.mark.parametrize(("cell", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_each_gate_is_made_orthogonal_by_itself(cell, gates):
    rnn = cell(10, 6)
    before = copy.deepcopy(rnn.state_dict())
    gradients_of(rnn, 0)
    Muon(rnn.named_parameters(), lr=0.1, weight_decay=0.0).step()
    for name in ("weight_ih_l0", "weight_hh_l0"):
        change = before[name] - rnn.state_dict()[name]
        for gradient, part in zip(getattr(rnn, name).grad.chunk(gates), change.chunk(gates), strict=True):
            expected = 0.1 * 0.2 * max(part.shape) ** 0.5 * orthogonalized(gradient)
            torch.testing.assert_close(part, expected, atol=1e-5, rtol=0)


def test_its_state_is_saved_and_restored():
    one, other = nn.GRU(5, 4), nn.GRU(5, 4)
    first = Muon(one.named_parameters())
    for seed in range(2):
        gradients_of(one, seed)
        first.step()
    other.load_state_dict(one.state_dict())
    second = Muon(other.named_parameters())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for module, optimizer in ((one, first), (other, second)):
        gradients_of(module, 2)
        optimizer.step()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], atol=0, rtol=0)


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"momentum": 1.0}, {"betas": (0.9, 1.0)}, {"weight_decay": -0.1}, {"steps": 0}]
)
def test_numbers_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))}"):
        Muon(nn.Linear(2, 2).named_parameters(), **wrong)
