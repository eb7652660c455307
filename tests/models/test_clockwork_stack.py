"""Stacks of clockwork layers: state, directions, padding."""

import pytest
import torch

from hushwork.models.clockwork import StackedClockworkRNN
from masked_loop import CELLS, INPUT, POOLS, masked_loop


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_causal_stack_continues_from_its_state(cell, pool):
    torch.manual_seed(0)
    stack = StackedClockworkRNN(
        input_size=INPUT, hidden_sizes=[2, 3], periods=[1, 3], cell=cell, pool=pool, offsets=[0, 1], num_layers=3
    ).double()
    x = torch.randn(2, 13, INPUT, dtype=torch.float64)
    whole, _ = stack(x)
    first, state = stack(x[:, :5])
    second, state = stack(x[:, 5:6], state)
    third, _ = stack(x[:, 6:], state)
    torch.testing.assert_close(torch.cat([first, second, third], dim=1), whole, rtol=0, atol=1e-12)
    layered = x
    for layer in stack.forwards:
        layered, _, _ = masked_loop(layer, layered)
    torch.testing.assert_close(layered, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_backward_clock_starts_at_each_sequences_own_last_frame(cell, merge):
    torch.manual_seed(0)
    stack = StackedClockworkRNN(
        input_size=INPUT, hidden_sizes=[2, 3], periods=[2, 4], cell=cell, num_layers=1, bidirectional=True, merge=merge
    ).double()
    lengths = torch.tensor([9, 14, 3])
    x = torch.randn(3, 14, INPUT, dtype=torch.float64)
    y, state = stack(x, lengths=lengths)
    assert state is None
    assert y.shape[-1] == stack.output_size == (10 if merge == "concat" else 5)
    for b, n in enumerate(lengths.tolist()):
        single = x[b : b + 1, :n]
        ahead = masked_loop(stack.forwards[0], single)[0]
        back = masked_loop(stack.backwards[0], single.flip(1))[0].flip(1)
        expected = torch.cat([ahead, back], dim=-1) if merge == "concat" else ahead + back
        torch.testing.assert_close(y[b : b + 1, :n], expected, rtol=0, atol=1e-12)


def test_a_padded_batch_of_a_deep_bidirectional_stack_equals_singles():
    torch.manual_seed(0)
    stack = StackedClockworkRNN(
        input_size=INPUT, hidden_sizes=[2, 3], periods=[1, 3], cell="gru", num_layers=2, bidirectional=True
    ).double()
    lengths = torch.tensor([4, 11, 1])
    x = torch.randn(3, 11, INPUT, dtype=torch.float64) * 10  # what stands in the padding must not matter
    y, _ = stack(x, lengths=lengths)
    for b, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(y[b : b + 1, :n], stack(x[b : b + 1, :n])[0], rtol=0, atol=1e-12)
