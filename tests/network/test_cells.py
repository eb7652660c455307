"""Every cell of the table against its equations, written as a loop over frames: plain, and ticking at several rates."""

from functools import partial

import pytest
import torch

from hushwork.models.clockwork import ClockworkRNN
from hushwork.models.recurrence import build_cell
from hushwork.network.cells import CELLS

INPUT, UNITS, FRAMES = 3, 4, 23


def rnn(x, h, W, U, b, c):
    return (torch.tanh(x @ W.T + b + h @ U.T + c),)


def lstm(x, h, c, W, U, b, d):
    i, f, g, o = (x @ W.T + b + h @ U.T + d).chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru(x, h, W, U, b, c):
    (r, z, n), (hr, hz, hn) = (x @ W.T + b).chunk(3, dim=-1), (h @ U.T + c).chunk(3, dim=-1)
    n = torch.tanh(n + torch.sigmoid(r + hr) * hn)
    z = torch.sigmoid(z + hz)
    return ((1 - z) * n + z * h,)


def mgu(x, h, W, U, b, c):
    (f, n), (hf, hn) = (x @ W.T + b).chunk(2, dim=-1), (h @ U.T + c).chunk(2, dim=-1)
    f = torch.sigmoid(f + hf)
    return (h + f * (torch.tanh(n + f * hn) - h),)


EQUATIONS = {"rnn": rnn, "lstm": lstm, "gru": gru, "mgu": mgu}


@pytest.fixture(params=CELLS)
def cell(request):
    torch.manual_seed(0)
    return request.param


def step_of(cell, layer):
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return partial(
        EQUATIONS[cell],
        **dict(zip(("W", "U", "b", "d" if cell == "lstm" else "c"), map(layer.get_parameter, names), strict=True)),
    )


def num_states(cell):
    return len(CELLS[cell].operator.states)


def test_a_plain_layer_is_the_loop(cell):
    layer = build_cell(cell, INPUT, UNITS).double()
    x = torch.randn(2, FRAMES, INPUT, dtype=torch.float64)
    step, states, expected = step_of(cell, layer), [x.new_zeros(2, UNITS)] * num_states(cell), []
    for frame in x.unbind(1):
        states = step(frame, *states)
        expected.append(states[0])
    torch.testing.assert_close(layer(x)[0], torch.stack(expected, dim=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["cascade", "split"])
def test_a_clockwork_layer_is_the_loop_and_so_are_its_gradients(cell, backend):
    clock = {"periods": [1, 2, 3], "hidden_sizes": [4, 3, 2], "offsets": [0, 1, 2], "pool": "sample"}
    layer = ClockworkRNN(input_size=INPUT, cell=cell, backend=backend, **clock).double()
    x = torch.randn(2, FRAMES, INPUT, dtype=torch.float64, requires_grad=True)
    states = [[x.new_zeros(2, size)] * num_states(cell) for size in layer.hidden_sizes]
    expected = []
    for t, frame in enumerate(x.unbind(1)):
        before = [each[0] for each in states]
        for i, module in enumerate(layer.clocked):
            if t % layer.periods[i] == layer.offsets[i]:
                inputs = torch.cat([frame, *before[i + 1 :]], dim=-1)
                states[i] = step_of(cell, module)(inputs, *states[i])
        expected.append(torch.cat([each[0] for each in states], dim=-1))
    literal, actual = torch.stack(expected, dim=1), layer(x)[0]
    torch.testing.assert_close(actual, literal, rtol=0, atol=1e-12)
    weights = torch.randn_like(literal)
    inputs = [x, *layer.parameters()]
    gradients, found = (torch.autograd.grad((y * weights).sum(), inputs) for y in (literal, actual))
    torch.testing.assert_close(found, gradients, rtol=0, atol=1e-11)
