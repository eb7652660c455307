"""Recurrent layers stacked, in one direction or both.

Shapes: B batch, T frames, I input features, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
MERGES = ("concat", "sum")


class Recurrence(Protocol):
    """What a masker needs of its recurrent part: (B, T, I) → (B, T, ``output_size``), frame by frame.

    ``state`` continues a stream where an earlier call stopped (causal only); ``lengths`` (B,) counts the frames of each
    sequence that are not padding (needed only by recurrences that look ahead).
    """

    output_size: int
    is_causal: bool

    def __call__(self, x: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]: ...


def build_cell(
    cell: str, input_size: int, hidden_size: int, fan: int | None = None, *, batch_first: bool = True
) -> nn.RNNBase:
    """One layer of torch's own RNN (tanh), LSTM or GRU in one direction.

    Weights start uniform in ±1/√``fan`` (default ``hidden_size``, torch's rule). The forget gate of an LSTM starts with
    bias 1, so that it remembers at first (Jozefowicz et al., "An empirical exploration of recurrent network
    architectures", ICML 2015).

    Raises:
        ValueError: ``cell`` is not "rnn", "lstm" or "gru".
    """
    if cell not in CELLS:
        raise ValueError(f"cell is {cell!r}; choose one of {', '.join(CELLS)}")
    layer = CELLS[cell](input_size, hidden_size, batch_first=batch_first)
    bound = (fan or hidden_size) ** -0.5
    for name, parameter in layer.named_parameters():
        nn.init.uniform_(parameter, -bound, bound)
        if cell == "lstm" and name.startswith("bias"):
            forget = parameter.detach()[hidden_size : 2 * hidden_size]  # torch adds two biases: one of them stays 0
            forget.fill_(1.0 if name.startswith("bias_ih") else 0.0)
    return layer


def cell_weights(cell: nn.Module) -> int:
    """Weights in the matrix products of one step of a cell, biases not counted."""
    return sum(parameter.numel() for name, parameter in cell.named_parameters() if name.startswith("weight"))


def reverse_frames(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each sequence (B, T, …) played backwards from its own last frame; padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    frames = torch.arange(x.shape[1], device=x.device)
    last = lengths.to(x.device)[:, None] - 1
    index = torch.where(frames <= last, last - frames, frames)
    return x.gather(1, index[..., None].expand_as(x))


class RecurrentStack(nn.Module):
    """Layers on top of each other; each layer runs forwards and, if bidirectional, also backwards.

    Subclasses say in :meth:`build_layer` what one layer in one direction is: a module
    ``(x (B, T, I), state) → (y (B, T, H), state)``. The backward direction starts at each sequence's own last frame, so
    padding never reaches a valid frame, and a backward clock has its frame 0 there.

    Args:
        input_size: I.
        layer_size: H of one direction.
        num_layers: at least 1.
        bidirectional: also run backwards; then the stack is not causal and takes no state.
        merge: "concat" (output 2H) or "sum" (output H) of the two directions of each layer.
        dropout: probability between layers, in [0, 1).

    Raises:
        ValueError: a value outside the ranges above.
    """

    def __init__(
        self, *, input_size: int, layer_size: int, num_layers: int, bidirectional: bool, merge: str, dropout: float
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers is {num_layers}; at least 1 is needed")
        if merge not in MERGES:
            raise ValueError(f"merge is {merge!r}; choose one of {', '.join(MERGES)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; it must lie in [0, 1)")
        self.is_causal = not bidirectional
        self.merge = merge
        self.output_size = layer_size * (2 if bidirectional and merge == "concat" else 1)
        sizes = [input_size] + [self.output_size] * (num_layers - 1)
        self.forwards = nn.ModuleList(self.build_layer(size) for size in sizes)
        self.backwards = nn.ModuleList(self.build_layer(size) for size in sizes if bidirectional)
        self.dropout = nn.Dropout(dropout)

    def build_layer(self, input_size: int) -> nn.Module:
        raise TypeError(f"{type(self).__name__} must define build_layer")

    def forward(
        self, x: Tensor, state: tuple[Any, ...] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Any, ...] | None]:
        """(B, T, I) → (B, T, ``output_size``) and, if causal, the state after frame T (one entry a layer).

        Raises:
            ValueError: a state was given to a bidirectional stack.
        """
        if self.is_causal:
            return self._run_causal(x, state)
        if state is not None:
            raise ValueError("a bidirectional recurrence reads the whole sequence and cannot continue from a state")
        for number, (forward, backward) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            x = self.dropout(x) if number else x
            ahead, _ = forward(x, None)
            back, _ = backward(reverse_frames(x, lengths), None)
            back = reverse_frames(back, lengths)
            x = torch.cat([ahead, back], dim=-1) if self.merge == "concat" else ahead + back
        return x, None

    def _run_causal(self, x: Tensor, state: tuple[Any, ...] | None) -> tuple[Tensor, tuple[Any, ...]]:
        before = state or (None,) * len(self.forwards)
        after = []
        for number, (layer, layer_state) in enumerate(zip(self.forwards, before, strict=True)):
            x = self.dropout(x) if number else x
            x, layer_state = layer(x, layer_state)
            after.append(layer_state)
        return x, tuple(after)


class StackedRNN(RecurrentStack):
    """The plain recurrent networks: stacked tanh RNN, LSTM or GRU layers.

    Shapes: (B, T, I ``input_size``) → (B, T, ``output_size``).

    Args:
        input_size: I.
        hidden_size: H, units of each layer and direction.
        cell: "rnn" (tanh), "lstm" or "gru".
        num_layers, bidirectional, merge, dropout: see :class:`RecurrentStack`.

    Raises:
        ValueError: an unknown cell or merge, or a size or dropout out of range.
    """

    def __init__(
        self,
        *,
        input_size: int,
        hidden_size: int,
        cell: str = "lstm",
        num_layers: int = 2,
        bidirectional: bool = False,
        merge: str = "concat",
        dropout: float = 0.0,
    ) -> None:
        self.cell, self.hidden_size = cell, hidden_size
        super().__init__(
            input_size=input_size,
            layer_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            merge=merge,
            dropout=dropout,
        )

    def build_layer(self, input_size: int) -> nn.Module:
        return build_cell(self.cell, input_size, self.hidden_size)
