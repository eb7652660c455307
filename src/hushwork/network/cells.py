"""The recurrent cells: all facts of a cell that programs need, in one table.

A cell is run by one of three *operators*, which torch and ONNX both have as fused kernels. Its gates are the
operator's, one for one, or fewer that are tied.

Shapes: I input features, u units.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Operator:
    """A fused recurrent kernel.

    Attributes:
        name: in ``torch.nn`` and in ONNX.
        onnx_order: for each of ONNX's gates, the index of the same gate in torch; its length is the number of gates.
        states: names of the states that are carried from frame to frame; the first is the output.
        has_inner_bias: the recurrent bias of the last gate, the candidate, lies inside the reset gate, so that it
            cannot be added to the other bias.
        onnx_attributes: with these ONNX's operator computes the same as torch's.
    """

    name: str
    onnx_order: tuple[int, ...]
    states: tuple[str, ...] = ("hidden",)
    has_inner_bias: bool = False
    onnx_attributes: Mapping[str, int] = field(default_factory=dict)


RNN = Operator("RNN", onnx_order=(0,))
LSTM = Operator("LSTM", onnx_order=(0, 3, 1, 2), states=("hidden", "cell"))
GRU = Operator("GRU", onnx_order=(1, 0, 2), has_inner_bias=True, onnx_attributes={"linear_before_reset": 1})


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell, its weights (gates·u, I) and (gates·u, u), its biases (gates·u,), gates one after another.

    Attributes:
        operator: runs the cell.
        gates: for each of the operator's gates, in torch's order, the index of the cell's gate and the sign of its
            weights: a sigmoid of -x is one minus the sigmoid of x.
        initial_bias: initial bias by gate; other biases are initialised like the weights.
    """

    operator: Operator
    gates: tuple[tuple[int, int], ...]
    initial_bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def num_gates(self) -> int:
        return 1 + max(gate for gate, _ in self.gates)

    @property
    def is_tied(self) -> bool:
        """Whether several gates of the operator share one gate of the cell."""
        return self.num_gates < len(self.gates)

    def untied(self, gates: Sequence[Any]) -> list[Any]:
        """The cell's gates, arrays or tensors, → the operator's, in torch's order."""
        return [gates[gate] if sign > 0 else -gates[gate] for gate, sign in self.gates]


def _as(operator: Operator, **more: Any) -> Cell:
    """The cell whose gates are those of the operator."""
    return Cell(operator, tuple((gate, 1) for gate in range(len(operator.onnx_order))), **more)


CELLS: dict[str, Cell] = {
    # h' = tanh(W x + U h + b)
    "rnn": _as(RNN),
    # Gates i f g o. The forget gate starts open, so that the cell remembers at first (Jozefowicz et al., "An empirical
    # exploration of recurrent network architectures", ICML 2015).
    "lstm": _as(LSTM, initial_bias={1: 1.0}),
    # Gates r z n: n = tanh(W x + b + r · (U h + c)), h' = (1 - z) · n + z · h
    "gru": _as(GRU),
    # Gates f n of the minimal gated unit: n = tanh(W x + b + f · (U h + c)), h' = (1 - f) · h + f · n; a GRU with r = f
    # and z = 1 - f (Zhou et al., "Minimal gated unit for recurrent neural networks", 2016; there f multiplies h before
    # U does).
    "mgu": Cell(GRU, gates=((0, 1), (0, -1), (1, 1))),
}

CUSTOM_CELLS: dict[str, Any] = {}
"""Cells registered with :func:`hushwork.register_cell`: for training only, not for inference."""


def known_cells() -> Collection[str]:
    """Valid values of ``cell``."""
    return [*CELLS, *CUSTOM_CELLS]
