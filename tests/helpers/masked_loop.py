"""The clockwork layer as a literal loop: every unit in every frame, then a mask."""

import pytest
import torch

from hushwork.models.clockwork import ClockworkRNN

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
        recurrent = torch.einsum("bk,ghk->gbh", h, own) + bias_own[:, None]
        if layer.cell == "rnn":
            new = (fresh + slow + recurrent)[0].tanh()
        elif layer.cell == "lstm":
            i, f, g, o = fresh + slow + recurrent
            new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            new = o.sigmoid() * new_c.tanh()
            c = torch.where(mask, new_c, c)
        else:
            r, z = (fresh + slow + recurrent)[:2].sigmoid()
            n = (fresh[2] + slow[2] + r * recurrent[2]).tanh()
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
    inputs = [x, *layer.parameters()]
    found = torch.autograd.grad((y * weight).sum(), inputs, allow_unused=True, materialize_grads=True)
    return dict(zip(["x", *dict(layer.named_parameters())], found, strict=True))


def assert_gradients_equal(actual, expected):
    for name, reference in expected.items():
        atol = 1e-12 * max(1.0, float(reference.abs().max()))
        torch.testing.assert_close(actual[name], reference, rtol=0, atol=atol, msg=name)
    assert float(expected["x"].abs().max()) > 0
