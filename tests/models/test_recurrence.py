"""Stacked plain networks against torch's own multi-layer, bidirectional and packed ones."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hushwork.models.recurrence import RecurrentStack, StackedRNN, build_cell, reverse_frames
from hushwork.network.specification import StackedRnnSettings

INPUT, HIDDEN = 3, 4
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def make(**options):
    torch.manual_seed(0)
    return StackedRNN(**({"input_size": INPUT, "hidden_size": HIDDEN} | options)).double()


def torch_twin(stack, **options):
    """torch's own network of the same cell and depth with the stack's weights."""
    twin = CELLS[stack.cell](
        INPUT, HIDDEN, num_layers=len(stack.forwards), bidirectional=not stack.is_causal, batch_first=True, **options
    ).double()
    weights = {}
    for number, layer in enumerate(stack.forwards):
        weights |= {name.replace("l0", f"l{number}"): value for name, value in layer.state_dict().items()}
    for number, layer in enumerate(stack.backwards):
        weights |= {name.replace("l0", f"l{number}_reverse"): value for name, value in layer.state_dict().items()}
    twin.load_state_dict(weights)
    return twin


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_one_direction_equals_torchs_stack(cell, num_layers):
    stack = make(cell=cell, num_layers=num_layers)
    x = torch.randn(2, 7, INPUT, dtype=torch.float64)
    y, _ = stack(x)
    torch.testing.assert_close(y, torch_twin(stack)(x)[0], rtol=0, atol=1e-12)
    assert stack.is_causal
    assert stack.output_size == y.shape[-1] == HIDDEN


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_both_directions_equal_torch_on_packed_sequences(cell, num_layers):
    stack = make(cell=cell, num_layers=num_layers, bidirectional=True)
    lengths = torch.tensor([5, 8, 1])
    x = torch.randn(3, 8, INPUT, dtype=torch.float64) * 5
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(torch_twin(stack)(packed)[0], batch_first=True)
    y, state = stack(x, lengths=lengths)
    for b, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(y[b, :n], expected[b, :n], rtol=0, atol=1e-12)
    assert state is None
    assert not stack.is_causal
    assert stack.output_size == y.shape[-1] == 2 * HIDDEN


def test_both_directions_without_lengths_read_every_frame():
    stack = make(bidirectional=True)
    x = torch.randn(2, 6, INPUT, dtype=torch.float64)
    torch.testing.assert_close(stack(x)[0], torch_twin(stack)(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_merge_by_sum_adds_the_directions_of_each_layer(cell):
    stack = make(cell=cell, num_layers=1, bidirectional=True, merge="sum")
    x = torch.randn(2, 6, INPUT, dtype=torch.float64)
    both, _ = torch_twin(stack)(x)
    torch.testing.assert_close(stack(x)[0], both[..., :HIDDEN] + both[..., HIDDEN:], rtol=0, atol=1e-12)
    deep = make(cell=cell, num_layers=2, bidirectional=True, merge="sum")
    assert deep.forwards[1].input_size == deep.backwards[1].input_size == deep.output_size == HIDDEN
    assert deep(x)[0].shape == (2, 6, HIDDEN)


@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_nothing_in_one_direction(cell):
    stack = make(cell=cell)
    x = torch.randn(1, 6, INPUT, dtype=torch.float64)
    padded = torch.cat([x, torch.full((1, 4, INPUT), 9.0, dtype=torch.float64)], dim=1)
    y, _ = stack(padded, lengths=torch.tensor([6]))
    torch.testing.assert_close(y[:, :6], stack(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_a_state_continues_the_stream(cell):
    stack = make(cell=cell, num_layers=3)
    x = torch.randn(2, 9, INPUT, dtype=torch.float64)
    whole, last = stack(x)
    pieces, state = [], None
    for block in x.split([1, 5, 3], dim=1):
        y, state = stack(block, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-12)


def test_dropout_acts_between_layers_and_in_training_only():
    x = torch.randn(2, 6, INPUT, dtype=torch.float64)
    dropping, plain = make(dropout=0.5), make()
    dropping.load_state_dict(plain.state_dict())
    assert not torch.equal(dropping(x)[0], dropping(x)[0])
    assert not torch.equal(dropping(x)[0], plain(x)[0])
    dropping.eval()
    assert torch.equal(dropping(x)[0], plain(x)[0])
    # A single layer has nothing between layers: neither its input nor its output is dropped.
    for bidirectional in (False, True):
        single = make(num_layers=1, dropout=0.9, bidirectional=bidirectional)
        assert torch.equal(single(x)[0], single(x)[0])


def test_dropout_between_layers_keeps_the_expectation():
    stack = make(num_layers=2, dropout=0.25, cell="rnn")
    seen = []
    stack.forwards[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    x = torch.randn(1, 400, INPUT, dtype=torch.float64)
    below, _ = stack.forwards[0](x)
    stack(x)
    dropped = seen[0] == 0
    torch.testing.assert_close(seen[0][~dropped], below[~dropped] / 0.75, rtol=1e-12, atol=0)
    assert 0.2 < float(dropped.double().mean()) < 0.3


def test_frames_are_reversed_within_each_length():
    x = torch.arange(12.0).reshape(2, 6, 1)
    backwards = reverse_frames(x, torch.tensor([4, 6]))
    assert backwards[..., 0].tolist() == [[3, 2, 1, 0, 4, 5], [11, 10, 9, 8, 7, 6]]
    assert reverse_frames(x, None)[..., 0].tolist() == [[5, 4, 3, 2, 1, 0], [11, 10, 9, 8, 7, 6]]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("fan", "bound"), [(None, 0.25), (64, 0.125)])
def test_a_cell_starts_within_its_bound(cell, fan, bound):
    torch.manual_seed(0)
    layer = build_cell(cell, 20, 16, fan)
    assert type(layer) is CELLS[cell]
    for name, parameter in layer.named_parameters():
        values = parameter.detach()
        if cell == "lstm" and name.startswith("bias"):
            assert values[16:32].unique().tolist() == [1.0 if name == "bias_ih_l0" else 0.0]
            values = torch.cat([values[:16], values[32:]])
        assert 0.75 * bound < float(values.abs().max()) <= bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "elman"}, "cell is 'elman'"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"merge": "mean"}, "merge is 'mean'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_invalid_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_bidirectional_stack_takes_no_state():
    stack = make(bidirectional=True)
    x = torch.zeros(1, 2, INPUT, dtype=torch.float64)
    with pytest.raises(ValueError, match="bidirectional"):
        stack(x, make()(x)[1])


def test_a_stack_without_layers_is_refused():
    with pytest.raises(TypeError, match="RecurrentStack must define build_layer"):
        RecurrentStack(StackedRnnSettings(hidden_size=1), input_size=1, layer_size=1)
