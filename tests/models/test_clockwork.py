"""The clockwork layer against the masked full-matrix form of the paper, written here frame by frame.

Shapes: B batch, T frames, I input features, H hidden units, G gates.
"""

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn

from hushwork.models.clockwork import ClockworkRNN, StackedClockworkRNN
from hushwork.models.recurrence import register_cell
from hushwork.network.cells import CUSTOM_CELLS

INPUT = 3
FRAMES = 17
CELLS = ["rnn", "lstm", "gru"]
BACKENDS = ["cascade", "split"]
POOLS = ["sample", "mean", "learned"]
# periods, sizes, offsets
CLOCKS = [
    pytest.param([1, 2, 4, 8], [3, 2, 2, 1], None, id="1-2-4-8"),
    pytest.param([1, 3, 7], [2, 3, 2], None, id="1-3-7"),
    pytest.param([2, 3, 4], [2, 1, 3], [1, 0, 3], id="2-3-4-offsets"),
    pytest.param([1, 2, 4], [2, 2, 2], [0, 1, 2], id="1-2-4-staggered"),
    pytest.param([1, 50], [3, 2], None, id="1-50"),
    pytest.param([5, 50], [2, 2], [4, 40], id="5-50-never"),
]
RAGGED = (1, 5, 0, 2, 4, 5)


def make(periods, sizes, offsets=None, cell="rnn", pool="sample", seed=0, **options):
    torch.manual_seed(seed)
    layer = ClockworkRNN(
        input_size=INPUT,
        hidden_sizes=sizes,
        periods=periods,
        cell=cell,
        pool=pool,
        offsets=offsets,
        **options,
    ).double()
    with torch.no_grad():
        for parameter in layer.parameters():  # large and different everywhere, so that no term is lost in the noise
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return layer


def block_matrices(layer):
    """Input weights (G, H, I), own and slower recurrent weights (G, H, H), input and hidden biases (G, H)."""
    hidden = sum(layer.hidden_sizes)
    rows = []
    start = 0
    for module, size in zip(layer.clocked, layer.hidden_sizes, strict=True):

        def gates(weight, size=size):
            return weight.reshape(-1, size, *weight.shape[1:])

        from_input, from_own = gates(module.weight_ih_l0), gates(module.weight_hh_l0)
        before = from_own.new_zeros(from_own.shape[0], size, start)
        behind = from_own.new_zeros(from_own.shape[0], size, hidden - start - size)
        own = torch.cat([before, from_own, behind], dim=2)
        others = from_input[:, :, layer.input_size :]
        if layer._slow_first:
            slower = torch.cat([before, torch.zeros_like(from_own), others], dim=2)
        else:
            slower = torch.cat([others, torch.zeros_like(from_own), behind], dim=2)
        rows.append(
            (from_input[:, :, : layer.input_size], own, slower, gates(module.bias_ih_l0), gates(module.bias_hh_l0))
        )
        start += size
    return [torch.cat(parts, dim=1) for parts in zip(*rows, strict=True)]


def literal_window(layer, x, frame, module):
    """What ``module`` sees at a tick: the weighted mean of the frames that exist since its last tick."""
    period = layer.periods[module]
    if layer.pool == "sample" or period == 1:
        return x[:, frame]
    weights = torch.ones(period, dtype=x.dtype)
    if layer.pool == "learned":
        slow = [p for p in layer.periods if p > 1]
        weights = layer.pool_logits[slow.index(period)].exp()
    total = mass = 0.0
    for back in range(period):
        if frame - back >= 0:
            total = total + weights[period - 1 - back] * x[:, frame - back]
            mass = mass + weights[period - 1 - back]
    return total / mass


def masked_loop(layer, x, start=0, h=None, c=None):
    """Every frame all H units by full matrices, then only those of active modules are taken: Koutník, eqs. 1-4."""
    into, own, slower, bias_in, bias_own = block_matrices(layer)
    hidden = sum(layer.hidden_sizes)
    module_of = [i for i, size in enumerate(layer.hidden_sizes) for _ in range(size)]
    h = x.new_zeros(len(x), hidden) if h is None else h
    c = x.new_zeros(len(x), hidden) if c is None else c
    outputs = []
    for t in range(x.shape[1]):
        active = [(start + t) % p == o for p, o in zip(layer.periods, layer.offsets, strict=True)]
        mask = torch.tensor([active[i] for i in module_of])
        seen = torch.stack([literal_window(layer, x, t, i) for i in range(len(layer.periods))], dim=1)[:, module_of]
        fresh = torch.einsum("bhi,ghi->gbh", seen, into) + bias_in[:, None]
        slow = torch.einsum("bk,ghk->gbh", h, slower)
        mine = torch.einsum("bk,ghk->gbh", h, own) + bias_own[:, None]
        if layer.cell == "rnn":
            new = (fresh + slow + mine)[0].tanh()
        elif layer.cell == "lstm":
            i, f, g, o = fresh + slow + mine
            new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            new = o.sigmoid() * new_c.tanh()
            c = torch.where(mask, new_c, c)
        else:
            r, z = (fresh + slow + mine)[:2].sigmoid()
            n = (fresh[2] + slow[2] + r * mine[2]).tanh()
            new = (1 - z) * n + z * h
        h = torch.where(mask, new, h)
        outputs.append(h)
    return torch.stack(outputs, dim=1), h, c


def run_chunks(layer, x, chunks, state=None):
    outputs = []
    for block in x.split(list(chunks), dim=1):
        y, state = layer(block, state)
        assert y.shape == (len(x), block.shape[1], layer.output_size)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def gradients(y, layer, x):
    """Of a weighted sum, by input and parameters."""
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    wanted = [x, *layer.parameters()]
    found = torch.autograd.grad((y * weight).sum(), wanted, allow_unused=True, materialize_grads=True)
    return dict(zip(["x", *dict(layer.named_parameters())], found, strict=True))


def assert_gradients_equal(actual, expected):
    for name, theirs in expected.items():
        atol = 1e-12 * max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(actual[name], theirs, rtol=0, atol=atol, msg=name)
    assert float(expected["x"].abs().max()) > 0


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("periods", "sizes", "offsets"), CLOCKS)
def test_equals_the_masked_loop(periods, sizes, offsets, cell, pool):
    x = torch.randn(2, FRAMES, INPUT, dtype=torch.float64, requires_grad=True)
    literal = make(periods, sizes, offsets, cell, pool)
    expected, last_h, last_c = masked_loop(literal, x)
    expected_gradients = gradients(expected, literal, x)
    for backend in BACKENDS:
        layer = make(periods, sizes, offsets, cell, pool, backend=backend)
        for chunks in ([FRAMES], RAGGED, [1] * FRAMES):
            with torch.set_grad_enabled(chunks is RAGGED):
                y, state = run_chunks(layer, x, chunks)
            torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
            torch.testing.assert_close(torch.cat(state.hidden, dim=1), last_h, rtol=0, atol=1e-12)
            if cell == "lstm":
                torch.testing.assert_close(torch.cat(state.cell, dim=1), last_c, rtol=0, atol=1e-12)
            assert state.frame == FRAMES
            if chunks is RAGGED:
                assert_gradients_equal(gradients(y, layer, x), expected_gradients)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("periods", "sizes", "offsets"), CLOCKS)
@pytest.mark.parametrize(
    "options", [{"connections": "fast_to_slow"}, {"single_bias": True}], ids=["fast-to-slow", "single-bias"]
)
def test_options_equal_the_masked_loop(periods, sizes, offsets, cell, options):
    x = torch.randn(2, FRAMES, INPUT, dtype=torch.float64, requires_grad=True)
    literal = make(periods, sizes, offsets, cell, **options)
    expected = masked_loop(literal, x)[0]
    expected_gradients = gradients(expected, literal, x)
    for backend in BACKENDS:
        layer = make(periods, sizes, offsets, cell, backend=backend, **options)
        actual = run_chunks(layer, x, RAGGED)[0]
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
        assert_gradients_equal(gradients(actual, layer, x), expected_gradients)


class LeakyCell(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.of_input, self.of_hidden = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x, hidden):
        return 0.3 * hidden + (self.of_input(x) * self.of_hidden(hidden)).tanh()


@pytest.mark.parametrize("connections", ["slow_to_fast", "fast_to_slow"])
@pytest.mark.parametrize(("periods", "sizes", "offsets"), CLOCKS)
def test_a_cell_of_one_s_own_ticks_like_any_other(periods, sizes, offsets, connections, monkeypatch):
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
def test_torch_s_cells_registered_as_one_s_own_equal_the_fused_ones(cell, step, pair, monkeypatch):
    monkeypatch.delitem(CUSTOM_CELLS, "custom", raising=False)
    register_cell("custom", step, has_cell_state=pair)
    fused, own = make([1, 3], [2, 2], cell=cell), make([1, 3], [2, 2], cell="custom")
    names = [name.replace("_l0", "").replace("clocked.0.", "clocked.0.step.") for name in fused.state_dict()]
    names = [name.replace("clocked.1.", "clocked.1.step.") for name in names]
    own.load_state_dict(dict(zip(names, fused.state_dict().values(), strict=True)))
    x = torch.randn(2, FRAMES, INPUT, dtype=torch.float64)
    torch.testing.assert_close(run_chunks(own, x, RAGGED)[0], fused(x)[0], rtol=0, atol=1e-12)


def test_names_of_torch_s_cells_are_taken_and_own_cells_keep_to_the_cascade(monkeypatch):
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


def test_one_size_means_all_modules():
    layer = ClockworkRNN(input_size=INPUT, hidden_sizes=3, periods=[1, 2])
    assert layer.hidden_sizes == (3, 3)
    assert StackedClockworkRNN(input_size=INPUT, hidden_sizes=3, periods=[1, 2]).output_size == 6


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("start", [1, 5])
def test_a_state_carries_the_clock(cell, pool, start):
    layer = make([1, 3, 7], [2, 2, 2], [0, 1, 0], cell, pool)
    x = torch.randn(2, 12, INPUT, dtype=torch.float64)
    h, c = torch.randn(2, 6, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    state = layer.initial_state(x)._replace(hidden=h.split(2, dim=1), frame=start)
    if cell == "lstm":
        state = state._replace(cell=c.split(2, dim=1))
    y, after = layer(x, state)
    torch.testing.assert_close(y, masked_loop(layer, x, start, h, c)[0], rtol=0, atol=1e-12)
    assert after.frame == start + 12


@pytest.mark.parametrize(("cell", "kind"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_period_one_is_the_plain_network(cell, kind):
    layer = make([1], [5], cell=cell)
    plain = kind(INPUT, 5, batch_first=True).double()
    plain.load_state_dict(layer.clocked[0].state_dict())
    x = torch.randn(2, 9, INPUT, dtype=torch.float64)
    torch.testing.assert_close(run_chunks(layer, x, (4, 5))[0], plain(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("cell", CELLS)
def test_fast_units_never_reach_slow_ones(cell, pool):
    periods, sizes = [1, 2, 4], [3, 2, 2]
    layer = make(periods, sizes, cell=cell, pool=pool)
    x = torch.randn(2, 16, INPUT, dtype=torch.float64)
    before, _ = layer(x)
    for module, columns in ((0, 3), (1, 5)):
        state = layer.initial_state(x)
        hidden = list(state.hidden)
        hidden[module] = hidden[module] + 0.5
        after, _ = layer(x, state._replace(hidden=tuple(hidden)))
        assert torch.equal(after[..., columns:], before[..., columns:])
        assert not torch.equal(after[..., :columns], before[..., :columns])
    with torch.no_grad():
        for parameter in layer.clocked[1].parameters():
            parameter.neg_()
    after, _ = layer(x)
    assert torch.equal(after[..., 5:], before[..., 5:])
    assert not torch.equal(after[..., :3], before[..., :3])


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_module_changes_at_its_ticks_alone(cell, pool):
    periods, offsets = [1, 3, 4], [0, 2, 1]
    layer = make(periods, [2, 2, 2], offsets, cell, pool)
    y, _ = layer(torch.randn(1, 15, INPUT, dtype=torch.float64))
    whole = torch.cat([torch.zeros(1, 1, 6, dtype=torch.float64), y], dim=1)
    changed = whole.diff(dim=1).abs().amax(dim=0) > 0
    for i, (period, offset) in enumerate(zip(periods, offsets, strict=True)):
        expected = torch.tensor([t % period == offset for t in range(15)])
        assert torch.equal(changed[:, 2 * i], expected)


def test_frames_between_ticks_reach_a_sampling_module_never_and_a_pooling_one_always():
    x = torch.randn(1, 9, INPUT, dtype=torch.float64, requires_grad=True)
    reached = {}
    for pool in POOLS:
        y, _ = make([4], [3], pool=pool)(x)
        reached[pool] = torch.autograd.grad(y.sum(), x)[0].abs().amax(dim=(0, 2)) > 0
    ticks = torch.tensor([t % 4 == 0 for t in range(9)])
    assert torch.equal(reached["sample"], ticks)
    assert reached["mean"].all()
    assert reached["learned"].all()


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


def test_learned_pooling_starts_as_the_mean():
    learned, mean = make([1, 4], [2, 2], pool="learned"), make([1, 4], [2, 2], pool="mean")
    mean.load_state_dict({k: v for k, v in learned.state_dict().items() if "pool" not in k})
    fresh = ClockworkRNN(input_size=INPUT, hidden_sizes=[2, 2], periods=[1, 4], pool="learned")
    learned.pool_logits.load_state_dict(fresh.pool_logits.state_dict())
    x = torch.randn(1, 10, INPUT, dtype=torch.float64)
    torch.testing.assert_close(learned(x)[0], mean(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("cell", "expected"), [("rnn", 2561), ("lstm", 10049), ("gru", 7553)])
def test_parameters_agree_with_the_keras_implementation(cell, expected):
    # Eight modules of eight units on one input and one output, two biases (CuDNN's layout).
    layer = ClockworkRNN(input_size=1, hidden_sizes=[8] * 8, periods=[2**k for k in range(8)], cell=cell)
    readout = nn.Linear(64, 1)
    assert sum(p.numel() for p in itertools.chain(layer.parameters(), readout.parameters())) == expected


@pytest.mark.parametrize(
    ("hidden", "modules", "expected"), [(256, 4, 223712), (256, 8, 122911), (512, 4, 648128), (512, 8, 360574)]
)
def test_macs_agree_with_theory(hidden, modules, expected):
    layer = ClockworkRNN(
        input_size=257, hidden_sizes=[hidden // modules] * modules, periods=[2**k for k in range(modules)], cell="lstm"
    )
    assert layer.macs_per_frame() == pytest.approx(expected, abs=1)


def test_learned_pooling_costs_its_products():
    clock = {"input_size": INPUT, "hidden_sizes": [2, 2, 2], "periods": [1, 2, 5]}
    plain, learned = ClockworkRNN(**clock, pool="mean"), ClockworkRNN(**clock, pool="learned")
    assert learned.macs_per_frame() - plain.macs_per_frame() == pytest.approx(2 * INPUT)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"periods": [1, 2, 2]}, r"periods are \[1, 2, 2\]"),
        ({"periods": [2, 1, 4]}, r"periods are \[2, 1, 4\]"),
        ({"periods": [0, 1, 2]}, r"periods are \[0, 1, 2\]"),
        ({"periods": [-1, 1, 2]}, r"periods are \[-1, 1, 2\]"),
        ({"periods": []}, r"periods are \[\]"),
        ({"hidden_sizes": [2, 2]}, r"hidden_sizes are \[2, 2\]"),
        ({"hidden_sizes": []}, r"hidden_sizes are \[\]"),
        ({"hidden_sizes": [2, 0, 2]}, r"hidden_sizes are \[2, 0, 2\]"),
        ({"offsets": [0, 0]}, r"offsets are \[0, 0\]"),
        ({"offsets": [0, 2, 0]}, r"offsets are \[0, 2, 0\]"),
        ({"offsets": [0, -1, 0]}, r"offsets are \[0, -1, 0\]"),
        ({"cell": "elman"}, "cell is 'elman'"),
        ({"pool": "max"}, "pool is 'max'"),
        ({"backend": "cuda"}, "backend is 'cuda'"),
        ({"connections": "all"}, "connections is 'all'"),
    ],
)
@pytest.mark.parametrize("kind", [ClockworkRNN, StackedClockworkRNN])
def test_what_does_not_fit_is_named(kind, changed, message):
    clock = {"input_size": INPUT, "hidden_sizes": [2, 2, 2], "periods": [1, 2, 4]}
    with pytest.raises(ValueError, match=message):
        kind(**(clock | changed))


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
