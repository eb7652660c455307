"""Cells of clockwork layers: registered ones, biases, initialisation, autocast."""

import copy
import pickle

import pytest
import torch
from torch import nn

from hushwork.models.clockwork import ClockworkRNN
from hushwork.models.recurrence import register_cell
from hushwork.network.cells import CUSTOM_CELLS
from masked_loop import BACKENDS, CELLS, CLOCKS, FRAMES, INPUT, RAGGED, make, run_chunks


class LeakyCell(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.of_input, self.of_hidden = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x, hidden):
        return 0.3 * hidden + (self.of_input(x) * self.of_hidden(hidden)).tanh()


@pytest.mark.parametrize("connections", ["slow_to_fast", "fast_to_slow"])
@pytest.mark.parametrize(("periods", "sizes", "offsets"), CLOCKS)
def test_a_registered_cell_ticks_like_a_built_in_one(periods, sizes, offsets, connections, monkeypatch):
    monkeypatch.delitem(CUSTOM_CELLS, "leaky", raising=False)
    register_cell("leaky", LeakyCell)
    layer = make(periods, sizes, offsets, cell="leaky", connections=connections)
    x = torch.randn(2, FRAMES, INPUT, dtype=torch.float64)
    modules = list(zip(layer.clocked, layer.periods, layer.offsets, strict=True))
    h = [x.new_zeros(2, size) for size in sizes]
    expected = []
    for t in range(FRAMES):
        before = list(h)
        for i, (module, period, offset) in enumerate(modules):
            others = before[i + 1 :] if connections == "slow_to_fast" else before[:i]
            if t % period == offset:
                h[i] = module.step(torch.cat([x[:, t], *others], dim=1), before[i])
        expected.append(torch.cat(h, dim=1))
    torch.testing.assert_close(run_chunks(layer, x, RAGGED)[0], torch.stack(expected, dim=1), rtol=0, atol=1e-12)
    assert layer.macs_per_frame() > 0


@pytest.mark.parametrize(
    ("cell", "step", "pair"), [("rnn", nn.RNNCell, False), ("gru", nn.GRUCell, False), ("lstm", nn.LSTMCell, True)]
)
def test_registered_torch_cells_equal_the_fused_ones(cell, step, pair, monkeypatch):
    monkeypatch.delitem(CUSTOM_CELLS, "custom", raising=False)
    register_cell("custom", step, has_cell_state=pair)
    fused, own = make([1, 3], [2, 2], cell=cell), make([1, 3], [2, 2], cell="custom")
    names = [name.replace("_l0", "").replace("clocked.0.", "clocked.0.step.") for name in fused.state_dict()]
    names = [name.replace("clocked.1.", "clocked.1.step.") for name in names]
    own.load_state_dict(dict(zip(names, fused.state_dict().values(), strict=True)))
    x = torch.randn(2, FRAMES, INPUT, dtype=torch.float64)
    torch.testing.assert_close(run_chunks(own, x, RAGGED)[0], fused(x)[0], rtol=0, atol=1e-12)


def test_names_of_built_in_cells_are_reserved_and_registered_cells_use_the_cascade(monkeypatch):
    monkeypatch.delitem(CUSTOM_CELLS, "leaky", raising=False)
    with pytest.raises(ValueError, match="'gru' is the name"):
        register_cell("gru", LeakyCell)
    register_cell("leaky", LeakyCell)
    with pytest.raises(ValueError, match="backend is 'split'"):
        make([1, 2], [2, 2], cell="leaky", backend="split")
    with pytest.raises(ValueError, match="single_bias"):
        make([1, 2], [2, 2], cell="leaky", single_bias=True)


def test_a_single_bias_is_neither_saved_nor_trained_nor_lost():
    layer = make([1, 2], [2, 2], cell="lstm", single_bias=True)
    assert not any("bias_hh" in name for name in [*layer.state_dict(), *dict(layer.named_parameters())])
    x = torch.randn(1, 5, INPUT, dtype=torch.float64)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer).float().double()):
        torch.testing.assert_close(other(x)[0], layer(x)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_weights_start_within_the_bound_of_the_whole_layer(cell):
    torch.manual_seed(0)
    layer = ClockworkRNN(input_size=20, hidden_sizes=[16, 16, 32], periods=[1, 2, 4], cell=cell)
    bound = 1 / 8  # 64 units in all
    for module, size in zip(layer.clocked, [16, 16, 32], strict=True):
        for name, parameter in module.named_parameters():
            values = parameter.detach().clone()
            if cell == "lstm" and name.startswith("bias"):
                forget = values[size : 2 * size]
                assert torch.equal(forget, torch.full_like(forget, 1.0 if name == "bias_ih_l0" else 0.0))
                values = torch.cat([values[:size], values[2 * size :]])
            assert float(values.abs().max()) <= bound
            assert float(values.abs().max()) > 0.75 * bound
            assert abs(float(values.mean())) < 0.5 * bound


@pytest.mark.parametrize("cell", CELLS)
def test_auto_takes_the_quicker_form_on_the_cpu(cell, monkeypatch):
    layer = make([1, 2], [2, 2], cell=cell).float()
    x = torch.randn(2, 6, INPUT)
    ran = []
    for name in ("_run_split", "_run_cascade"):
        run = getattr(layer, name)
        monkeypatch.setattr(layer, name, lambda *args, run=run, name=name: (ran.append(name), run(*args))[1])
    trained = layer(x)[0]
    with torch.no_grad():
        used = layer(x)[0]
    layer.requires_grad_(False)(x)
    assert ran == ["_run_split"] * 2 + ["_run_cascade" if cell == "lstm" else "_run_split"] * 4
    torch.testing.assert_close(trained, used, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_autocast_rounds_products_where_the_cpu_multiplies_bfloat16(cell, rounds, monkeypatch):
    monkeypatch.setattr("hushwork.models.loops.multiplies_bfloat16", lambda: rounds)
    layer = make([1, 2], [2, 2], cell=cell).float()
    x = torch.randn(2, 6, INPUT, requires_grad=True)

    def outputs_and_gradients():
        y = layer(x)[0]
        return [y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])]

    exact = outputs_and_gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = outputs_and_gradients()
    for ours, theirs in zip(actual, exact, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs) != rounds
        assert (ours - theirs).norm() < 0.03 * theirs.norm()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_agree_with_finite_differences(cell, backend):
    layer = make([1, 2], [2, 1], cell=cell, pool="learned", backend=backend)
    names, values = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(2, 5, INPUT, dtype=torch.float64, requires_grad=True)

    def run(x, *values):
        y, state = torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))
        return y, *state.cell

    assert torch.autograd.gradcheck(run, (x, *values), fast_mode=True)
