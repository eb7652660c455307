"""Recurrent layers stacked, in one direction or both.

Shapes: B batch, T frames, I input features, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hushwork.network.cells import CELLS, CUSTOM_CELLS, Cell, known_cells
from hushwork.network.specification import StackedRnnSettings, StackSettings

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


class Recurrence(Protocol):
    """What a masker needs of its recurrent part: (B, T, I) → (B, T, ``output_size``), frame by frame.

    ``settings`` is the configuration that builds it, see :class:`hushwork.Denoiser`.
    ``state`` continues a stream where an earlier call stopped (causal only); ``lengths`` (B,) counts the frames of each
    sequence that are not padding (needed only by recurrences that look ahead).
    """

    output_size: int
    is_causal: bool
    settings: dict[str, Any]

    def __call__(self, x: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]: ...


class CustomCell(NamedTuple):
    """A registered cell: the function that builds its step, and whether its state is a pair, as an LSTM's."""

    build_step: Callable[[int, int], nn.Module]
    has_cell_state: bool


def register_cell(name: str, build_step: Callable[[int, int], nn.Module], *, has_cell_state: bool = False) -> None:
    """Let ``cell=name`` mean a custom cell in every recurrent layer; for training alone.

    Args:
        name: not one of the table of cells; a second registration replaces the first.
        build_step: called with input size I and units u, gives a module for one step, such as ``nn.GRUCell``:
            ``(x (B, I), hidden (B, u)) → hidden (B, u)``, or with pairs ``(hidden, cell)`` instead of ``hidden``.
        has_cell_state: whether it is pairs.

    Raises:
        ValueError: the name is taken.

    Example:
        >>> register_cell("gru_step", nn.GRUCell)
        >>> layer = build_cell("gru_step", 3, 4)
        >>> y, _ = layer(torch.zeros(2, 7, 3))
        >>> y.shape
        torch.Size([2, 7, 4])
    """
    if name in CELLS:
        raise ValueError(f"{name!r} is the name of a built-in cell; choose another")
    CUSTOM_CELLS[name] = CustomCell(build_step, has_cell_state)


class StepLoop(nn.Module):
    """One step over time, called as torch's layers are: the layer of a registered cell."""

    def __init__(self, step: nn.Module, hidden_size: int, *, has_cell_state: bool, batch_first: bool) -> None:
        super().__init__()
        self.step = step
        self.hidden_size = hidden_size
        self.has_cell_state = has_cell_state
        self.batch_first = batch_first

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(T, B, I), or (B, T, I) if batch first, → y in the same order, and the state (1, B, u) or a pair of them."""
        frames = x.unbind(1 if self.batch_first else 0)
        if state is None:
            zeros = frames[0].new_zeros(len(frames[0]), self.hidden_size)
            now: Any = (zeros, zeros) if self.has_cell_state else zeros
        else:
            now = tuple(part[0] for part in state) if self.has_cell_state else state[0]
        outputs = []
        for frame in frames:
            now = self.step(frame, now)
            outputs.append(now[0] if self.has_cell_state else now)
        after = tuple(part[None] for part in now) if self.has_cell_state else now[None]
        return torch.stack(outputs, dim=1 if self.batch_first else 0), after


class TiedLayer(nn.Module):
    """A recurrent layer of a cell that has fewer gates than the operator that runs it, called as torch's layers are."""

    def __init__(self, cell: Cell, input_size: int, hidden_size: int, *, batch_first: bool) -> None:
        super().__init__()
        self.cell, self.hidden_size, self.batch_first = cell, hidden_size, batch_first
        rows = cell.num_gates * hidden_size
        for name, shape in zip(WEIGHTS, ((rows, input_size), (rows, hidden_size), (rows,), (rows,)), strict=True):
            setattr(self, name, nn.Parameter(torch.empty(shape)))
        self._run: Any = {"RNN": torch.rnn_tanh, "GRU": torch.gru, "LSTM": torch.lstm}[cell.operator.name]

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(T, B, I), or (B, T, I) if batch first, → y in the same order, and the state (1, B, u) or a pair of them."""
        if state is None:
            zeros = x.new_zeros(1, x.shape[0 if self.batch_first else 1], self.hidden_size)
            state = zeros if len(self.cell.operator.states) == 1 else (zeros, zeros)
        weights = operator_weights(self, self.cell)
        y, *after = self._run(x, state, weights, True, 1, 0.0, self.training, False, self.batch_first)
        return y, after[0] if len(after) == 1 else tuple(after)


def operator_weights(layer: nn.Module, cell: Cell) -> list[Tensor]:
    """Weights of a layer for the cell's operator: from input, recurrent, and the two biases, gates in torch's order."""
    weights = [getattr(layer, name) for name in WEIGHTS]
    if not cell.is_tied:
        return weights
    return [torch.cat(cell.untied(weight.chunk(cell.num_gates))) for weight in weights]


def build_cell(
    name: str,
    input_size: int,
    hidden_size: int,
    fan: int | None = None,
    *,
    batch_first: bool = True,
    single_bias: bool = False,
) -> nn.Module:
    """One layer in one direction.

    Weights start uniform in ±1/√``fan`` (default ``hidden_size``, torch's rule), biases as in the table of cells, if
    it states them; a registered cell initialises itself.

    Args:
        name: of a cell, in :data:`hushwork.network.cells.CELLS` or given to :func:`register_cell`.
        input_size, hidden_size: I and u.
        fan: see above.
        batch_first: whether x is (B, T, I) or (T, B, I).
        single_bias: without the second of torch's two biases, unless it lies inside a reset gate.

    Raises:
        ValueError: an unknown cell, or ``single_bias`` of a registered one.
    """
    if name in CUSTOM_CELLS:
        if single_bias:
            raise ValueError(f"single_bias is for built-in cells; {name!r} has the biases that it was registered with")
        custom = CUSTOM_CELLS[name]
        step = custom.build_step(input_size, hidden_size)
        return StepLoop(step, hidden_size, has_cell_state=custom.has_cell_state, batch_first=batch_first)
    if name not in CELLS:
        raise ValueError(f"cell is {name!r}; choose one of {', '.join(known_cells())}, or register_cell it first")
    cell = CELLS[name]
    layer: Any
    if cell.is_tied:
        layer = TiedLayer(cell, input_size, hidden_size, batch_first=batch_first)
    else:
        layer = getattr(nn, cell.operator.name)(input_size, hidden_size, batch_first=batch_first)
    bound = (fan or hidden_size) ** -0.5
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound)
    for gate, value in cell.initial_bias.items():  # torch adds two biases: one of them stays 0
        layer.bias_ih_l0.detach().chunk(cell.num_gates)[gate].fill_(value)
        layer.bias_hh_l0.detach().chunk(cell.num_gates)[gate].zero_()
    if single_bias and not cell.operator.has_inner_bias:
        _drop_second_bias(layer)
    return layer


def has_cell_state(name: str) -> bool:
    """Whether the state of a cell is a pair (hidden, cell), as an LSTM's."""
    if name in CUSTOM_CELLS:
        return bool(CUSTOM_CELLS[name].has_cell_state)
    return len(CELLS[name].operator.states) == 2


def _drop_second_bias(layer: Any) -> None:
    # torch's kernels want both biases or none: the second becomes a constant 0 that is neither trained nor saved.
    zeros = torch.zeros_like(layer.bias_ih_l0)
    del layer.bias_hh_l0
    layer.register_buffer("bias_hh_l0", zeros, persistent=False)
    if isinstance(layer, nn.RNNBase):
        layer._flat_weights = [getattr(layer, name) for name in layer._flat_weights_names]


def cell_weights(cell: nn.Module) -> int:
    """Weights in the matrix products of one step of a cell, biases not counted."""
    return sum(parameter.numel() for parameter in cell.parameters() if parameter.ndim == 2)


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

    Subclasses build one layer in one direction in :meth:`build_layer`: a module
    ``(x (B, T, I), state) → (y (B, T, H), state)``. The backward direction starts at each sequence's own last frame, so
    padding never reaches a valid frame, and a backward clock has its frame 0 there.

    Args:
        settings: layers, directions, merging and dropout; see :class:`hushwork.network.specification.StackSettings`.
        input_size: I.
        layer_size: H of one direction.
    """

    def __init__(self, settings: StackSettings, *, input_size: int, layer_size: int) -> None:
        super().__init__()
        self.settings = settings.to_json()
        self.is_causal = not settings.bidirectional
        self.merge = settings.merge
        self.output_size = layer_size * (2 if settings.bidirectional and settings.merge == "concat" else 1)
        sizes = [input_size] + [self.output_size] * (settings.num_layers - 1)
        self.forwards = nn.ModuleList(self.build_layer(size) for size in sizes)
        self.backwards = nn.ModuleList(self.build_layer(size) for size in sizes if settings.bidirectional)
        self.dropout = nn.Dropout(settings.dropout)

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
        cell: "rnn" (tanh), "lstm", "gru", …: see :data:`hushwork.network.cells.CELLS` and :func:`register_cell`.
        num_layers: layers on top of each other.
        bidirectional: also run backwards; then the stack is not causal and takes no state.
        merge: "concat" (output 2H) or "sum" (output H) of the two directions of each layer.
        dropout: probability between layers, in [0, 1).

    Raises:
        ValueError: a value outside its range.

    Example:
        >>> stack = StackedRNN(input_size=257, hidden_size=64, cell="lstm", num_layers=2)
        >>> y, state = stack(torch.zeros(8, 100, 257))
        >>> y.shape
        torch.Size([8, 100, 64])
    """

    def __init__(
        self,
        *,
        input_size: int,
        hidden_size: int,
        cell: str = StackedRnnSettings.cell,
        num_layers: int = StackedRnnSettings.num_layers,
        bidirectional: bool = StackedRnnSettings.bidirectional,
        merge: str = StackedRnnSettings.merge,
        dropout: float = StackedRnnSettings.dropout,
    ) -> None:
        settings = StackedRnnSettings(
            num_layers=num_layers,
            bidirectional=bidirectional,
            merge=merge,
            dropout=dropout,
            hidden_size=hidden_size,
            cell=cell,
        )
        self.cell, self.hidden_size = cell, hidden_size
        super().__init__(settings, input_size=input_size, layer_size=hidden_size)

    def build_layer(self, input_size: int) -> nn.Module:
        return build_cell(self.cell, input_size, self.hidden_size)
