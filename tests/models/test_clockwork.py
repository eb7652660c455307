"""The clockwork layer against the masked full-matrix form of the paper, written here frame by frame.

Shapes: B batch, T frames, I input features, H hidden units, G gates.
"""

import itertools

import pytest
import torch
from torch import nn

from hushwork.models.clockwork import ClockworkRNN, StackedClockworkRNN
from masked_loop import (
    BACKENDS,
    CELLS,
    CLOCKS,
    FRAMES,
    INPUT,
    POOLS,
    RAGGED,
    assert_gradients_equal,
    gradients,
    make,
    masked_loop,
    run_chunks,
)


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
def test_invalid_arguments_are_named(kind, changed, message):
    clock = {"input_size": INPUT, "hidden_sizes": [2, 2, 2], "periods": [1, 2, 4]}
    with pytest.raises(ValueError, match=message):
        kind(**(clock | changed))
