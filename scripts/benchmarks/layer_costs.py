"""Cost of clockwork layers compared with plain layers and with a masked loop."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from turns import in_turns

from hushwork.models.clockwork import ClockworkRNN
from hushwork.runs.numbers import Column, Numbers

BATCH, FRAMES, INPUTS = 16, 400, 257
CLOCKS = {"256 units, periods 1-8": [1, 2, 4, 8], "512 units, periods 1-128": [2**k for k in range(8)]}
PLAIN = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


class MaskedLoop(nn.Module):
    """A clockwork layer as it is usually implemented: all units compute every frame, then a mask selects."""

    def __init__(self, cell: str, size: int, periods: Sequence[int]) -> None:
        super().__init__()
        self.cell, self.is_pair = CELLS[cell](INPUTS, size), cell == "lstm"
        self.size = size
        self.periods = torch.tensor(periods).repeat_interleave(size // len(periods))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        zeros = x.new_zeros(len(x), self.size)
        state: tuple[Tensor, ...] = (zeros, zeros) if self.is_pair else (zeros,)
        outputs = []
        for t, frame in enumerate(x.unbind(1)):
            new = self.cell(frame, state if self.is_pair else state[0])
            ticks = t % self.periods == 0
            pairs = zip(new if self.is_pair else (new,), state, strict=True)
            state = tuple(torch.where(ticks, after, before) for after, before in pairs)
            outputs.append(state[0])
        return torch.stack(outputs, 1), None


def benchmark_layer(rounds: int) -> Numbers:
    """Forward, and forward with backward, of clockwork layers over plain ones of the same width, on one thread."""
    torch.set_num_threads(1)
    x = torch.randn(BATCH, FRAMES, INPUTS)
    rows = []
    for cell, (label, periods) in itertools.product(PLAIN, CLOCKS.items()):
        size = int(label.split()[0])
        layers: dict[str, nn.Module] = {
            "plain": PLAIN[cell](INPUTS, size, batch_first=True),
            "clockwork": ClockworkRNN(input_size=INPUTS, hidden_sizes=size // len(periods), periods=periods, cell=cell),
            "masked": MaskedLoop(cell, size, periods),
        }

        ahead = in_turns({name: partial(run_forward, layer, x) for name, layer in layers.items()}, rounds)
        train = in_turns({name: partial(run_both, layer, x) for name, layer in layers.items()}, rounds)
        kept = {name: saved_bytes(layer, x) / 2**20 for name, layer in layers.items() if name != "masked"}
        rows.append(
            {
                "layer": f"{cell}, {label}",
                "plain": 1000 * train["plain"],
                "forward": ahead["clockwork"] / ahead["plain"],
                "forward_backward": train["clockwork"] / train["plain"],
                "masked_loop": train["masked"] / train["clockwork"],
                "kept": kept["clockwork"],
                "kept_plain": kept["plain"],
            }
        )
    columns = {
        "layer": Column("layer"),
        "plain": Column("plain, F+B, ms"),
        "forward": Column("forward / plain", 2),
        "forward_backward": Column("F+B / plain", 2),
        "masked_loop": Column("masked loop / ours", 1),
        "kept": Column("kept for backward, MiB"),
        "kept_plain": Column("by the plain layer, MiB"),
    }
    return Numbers.measured("Clockwork layers against plain layers of the same width", columns, rows)


@torch.no_grad()
def run_forward(layer: nn.Module, x: Tensor) -> None:
    layer(x)


def run_both(layer: nn.Module, x: Tensor) -> None:
    layer(x)[0].square().mean().backward()


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """Bytes that autograd keeps between forward and backward, without parameters and input."""
    outside = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
    outside.add(x.untyped_storage().data_ptr())
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in outside:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = layer(x)[0]  # kept alive until the sum, so that no storage is reused
        total = sum(found.values())
    del output
    return total
