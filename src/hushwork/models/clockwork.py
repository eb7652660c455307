"""The clockwork recurrent network: one hidden layer whose parts tick at several rates.

Shapes: B batch, T frames, I input features, H hidden units in all, u_i units of module i, n_i ticks of module i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hushwork.models.loops import FAST_FORWARD, LOOPS, project
from hushwork.models.recurrence import RecurrentStack, build_cell, cell_weights, has_cell_state, operator_weights
from hushwork.network.cells import CELLS
from hushwork.network.specification import ClockworkSettings, StackSettings


class ClockworkState(NamedTuple):
    """The state of a layer after a frame, with which the next call continues.

    Attributes:
        hidden: (B, u_i) for each module.
        cell: the same for the LSTM's cells, else empty.
        pending: (B, I + 1) for each module: weighted sum of the input frames since its last tick, and of their weights.
        frame: number of frames so far; module i ticks when ``frame % period_i == offset_i``.
    """

    hidden: tuple[Tensor, ...]
    cell: tuple[Tensor, ...]
    pending: tuple[Tensor, ...]
    frame: int


class ClockworkRNN(nn.Module):
    """Recurrent layer whose hidden units tick at several fixed rates.

    The hidden vector is cut into one module per period. At frame ``t`` the module with period ``p`` is recomputed when
    ``t % p`` equals its offset, and holds its value otherwise. It reads the input, itself, and the slower modules as
    they stood one frame earlier; never a faster one. An LSTM module holds hidden and cell state and hands on the hidden
    state alone; a GRU module reads other modules as input, outside its reset gate.

    Computed as a cascade, which is exact: since nothing flows from fast to slow, the slowest module runs first over its
    own ticks as an ordinary recurrent layer, and its held output is input to the next faster one. No step is masked.
    With ``connections="fast_to_slow"`` all of this is the other way round.

    Shapes: (B, T, I ``input_size``) → (B, T, H ``sum(hidden_sizes)``), columns in the order of ``periods``.

    Args:
        input_size: features per frame, I.
        hidden_sizes: units of each module, fastest first; one number for all.
        periods: distinct positive periods in frames, fastest first; they need not divide one another. Without a
            period of 1 the output changes only at ticks.
        cell: "rnn" (tanh), "lstm", "gru", or a registered one, see :func:`hushwork.models.recurrence.register_cell`.
        pool: the input of a module at its tick: "sample" the current frame (the paper), "mean" the mean of
            the frames since its last tick, "learned" their weighted mean with learned weights.
        connections: "slow_to_fast" (the paper) or "fast_to_slow": which modules read which.
        single_bias: one bias for each unit and gate instead of torch's two; a GRU keeps its second, which lies inside
            the reset gate. Then parameters are those of Keras.
        backend: how it is computed, with equal results: "cascade", "split" (quicker on a CPU, but for an LSTM without
            gradients), or "auto", which takes the quicker one.
        offsets: for each module the frame of its first tick, in [0, period); default 0 (at frame 0 all tick).

    Raises:
        ValueError: periods not ascending or below 1, sizes or offsets that do not fit them, unknown cell, pool,
            connections or backend, or a backend or bias that a registered cell cannot have.

    Source: Koutník et al., "A Clockwork RNN", ICML 2014, eqs. 1-4 and figure 1. The paper leaves open: one period is
    held by one module; slower modules are read one frame late even where they tick; weights start uniform in ±1/√H.

    Example:
        >>> layer = ClockworkRNN(input_size=257, hidden_sizes=[64, 64], periods=[1, 4], cell="gru")
        >>> first, state = layer(torch.zeros(8, 100, 257))
        >>> rest, state = layer(torch.zeros(8, 30, 257), state)
        >>> first.shape, rest.shape, state.frame
        (torch.Size([8, 100, 128]), torch.Size([8, 30, 128]), 130)
    """

    def __init__(
        self,
        *,
        input_size: int,
        hidden_sizes: int | Sequence[int],
        periods: Sequence[int],
        cell: str = ClockworkSettings.cell,
        pool: str = "sample",
        offsets: Sequence[int] | None = None,
        connections: str = ClockworkSettings.connections,
        single_bias: bool = ClockworkSettings.single_bias,
        backend: str = ClockworkSettings.backend,
    ) -> None:
        super().__init__()
        hidden_sizes = _one_for_each(hidden_sizes, periods)
        ClockworkSettings(
            hidden_sizes=tuple(hidden_sizes),
            periods=tuple(periods),
            cell=cell,
            pool=pool,
            offsets=None if offsets is None else tuple(offsets),
            connections=connections,
            single_bias=single_bias,
            backend=backend,
        )
        if backend == "split" and cell not in CELLS:
            raise ValueError(
                f"backend is 'split', which supports {', '.join(CELLS)} but not the cell {cell!r}; choose cascade"
            )
        self.input_size = input_size
        self.hidden_sizes = tuple(hidden_sizes)
        self.periods = tuple(periods)
        self.offsets = tuple(offsets or [0] * len(periods))
        self.cell = cell
        self.pool = pool
        self.backend = backend
        self.output_size = sum(hidden_sizes)
        self._has_cell_state = has_cell_state(cell)
        self._slow_first = connections == "slow_to_fast"
        # Module i's input columns: the frame, then the modules that it reads in the order of periods.
        self.clocked = nn.ModuleList(
            build_cell(
                cell,
                input_size + sum(hidden_sizes[k] for k in self.sources(i)),
                size,
                self.output_size,
                batch_first=False,
                single_bias=single_bias,
            )
            for i, size in enumerate(hidden_sizes)
        )
        self.pool_logits = nn.ParameterList(
            nn.Parameter(torch.zeros(period)) for period in periods if pool == "learned" and period > 1
        )

    def initial_state(self, x: Tensor) -> ClockworkState:
        """The state before the first frame of ``x`` (B, T, I): all zero, clock at 0."""
        zeros = tuple(x.new_zeros(len(x), size) for size in self.hidden_sizes)
        pending = tuple(x.new_zeros(len(x), self.input_size + 1) for _ in self.periods)
        return ClockworkState(zeros, zeros if self._has_cell_state else (), pending, 0)

    def forward(self, x: Tensor, state: ClockworkState | None = None) -> tuple[Tensor, ClockworkState]:
        """(B, T, I) → (B, T, H) and the state after frame T. Any T is fine, also one without a tick."""
        state = state or self.initial_state(x)
        run = self._run_split if self._splits(x) else self._run_cascade
        num_frames = x.shape[1]
        x = x.transpose(0, 1).contiguous()
        frames = torch.arange(num_frames, device=x.device)
        counted = x if self.pool == "sample" else nn.functional.pad(x, (0, 1), value=1.0)
        firsts = [(offset - state.frame) % period for offset, period in zip(self.offsets, self.periods, strict=True)]
        histories = [h[None] for h in state.hidden]  # of each module: (1 + n_i, B, u_i), state first
        hidden, cells, pending = list(state.hidden), list(state.cell), list(state.pending)
        modules = range(len(self.periods))
        for i in reversed(modules) if self._slow_first else modules:
            num_ticks = max(0, -(-(num_frames - firsts[i]) // self.periods[i]))
            inputs, pending[i] = self._input_at_ticks(i, x, counted, firsts[i], num_ticks, state.pending[i])
            if num_ticks:
                just_before = frames[firsts[i] :: self.periods[i]] - 1
                others = [
                    (histories[k], _ticks_until(just_before, firsts[k], self.periods[k])) for k in self.sources(i)
                ]
                histories[i], cell = run(i, inputs, others, hidden[i], cells[i] if cells else None)
                hidden[i] = histories[i][-1]
                if cell is not None:
                    cells[i] = cell
        held = [histories[i].index_select(0, _ticks_until(frames, firsts[i], self.periods[i])) for i in modules]
        after = ClockworkState(tuple(hidden), tuple(cells), tuple(pending), state.frame + num_frames)
        return torch.cat(held, dim=-1).transpose(0, 1), after

    def sources(self, i: int) -> range:
        """The modules that module ``i`` reads besides itself."""
        return range(i + 1, len(self.periods)) if self._slow_first else range(i)

    def _splits(self, x: Tensor) -> bool:
        if self.backend != "auto":
            return self.backend == "split"
        if x.device.type != "cpu" or self.cell not in CELLS:
            return False
        trains = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        return trains or CELLS[self.cell].operator not in FAST_FORWARD

    def _run_cascade(
        self, i: int, inputs: Tensor, others: list[tuple[Tensor, Tensor]], hidden: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The states (1 + n_i, B, u_i) of module ``i`` by torch's layer, which reads all its input at that rate."""
        x = torch.cat([inputs, *(past.index_select(0, index) for past, index in others)], dim=-1)
        if cell is None:
            y, last_cell = self.clocked[i](x, hidden[None])[0], None
        else:
            y, (_, last_cell) = self.clocked[i](x, (hidden[None], cell[None]))
        return torch.cat([hidden[None], y]), None if last_cell is None else last_cell[0]

    def _run_split(
        self, i: int, inputs: Tensor, others: list[tuple[Tensor, Tensor]], hidden: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The same, with the input from another module multiplied by its weights at the lower of both rates."""
        kind, units = CELLS[self.cell], self.hidden_sizes[i]
        from_input, recurrent, bias, recurrent_bias = operator_weights(self.clocked[i], kind)
        weights = from_input.split([self.input_size, *(self.hidden_sizes[k] for k in self.sources(i))], dim=1)
        inner_bias = recurrent_bias[-units:]
        once = bias + recurrent_bias
        if kind.operator.has_inner_bias:
            once = torch.cat([once[:-units], bias[-units:]])
        a = project(inputs, weights[0], once)
        for (past, index), weight in zip(others, weights[1:], strict=True):
            if len(past) <= len(index):
                a = a + project(past, weight, None).index_select(0, index)
            else:
                a = a + project(past.index_select(0, index), weight, None)
        states = (hidden,) if cell is None else (hidden, cell)
        history, *last_cell = LOOPS[kind.operator](a, recurrent, inner_bias, *states)
        return history, last_cell[0] if last_cell else None

    def macs_per_frame(self) -> float:
        """Multiply-accumulates of the matrix products, averaged over frames: each module's weights by its rate."""
        macs = 0.0
        for module, period in zip(self.clocked, self.periods, strict=True):
            macs += cell_weights(module) / period
            macs += self.input_size if self.pool == "learned" and period > 1 else 0
        return macs

    def _input_at_ticks(
        self, i: int, x: Tensor, counted: Tensor, first: int, num_ticks: int, pending: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Input of module ``i`` at its ticks (n_i, B, I), and the pooled frames since its last tick."""
        period = self.periods[i]
        if self.pool == "sample" or period == 1:
            return x[first::period], pending
        weights = self._pool_weights(i, counted)
        # Padded in front, window k of frames ends in tick k; the frames before this chunk are in `pending`.
        aligned = nn.functional.pad(counted, (0, 0, 0, 0, period - 1 - first, 0))
        whole = num_ticks * period
        rest = torch.einsum("tbd,t->bd", aligned[whole:], weights[: len(aligned) - whole])
        if not num_ticks:
            return x[:0], pending + rest
        sums = torch.einsum("npbd,p->nbd", aligned[:whole].unflatten(0, (num_ticks, period)), weights)
        sums = torch.cat([sums[:1] + pending, sums[1:]])
        return sums[..., :-1] / sums[..., -1:], rest

    def _pool_weights(self, i: int, like: Tensor) -> Tensor:
        """(period,) positive weights, oldest frame first."""
        if self.pool == "mean":
            return like.new_full((self.periods[i],), 1 / self.periods[i])
        return self.pool_logits[i - len(self.periods)].softmax(0)


class StackedClockworkRNN(RecurrentStack):
    """Clockwork layers on top of each other, in one direction or both.

    Each layer reads the full-rate output of the one below. A backward layer's clock has its frame 0 at the last frame
    of each sequence.

    Shapes: (B, T, I ``input_size``) → (B, T, ``output_size``).

    Args:
        input_size: I.
        hidden_sizes, periods, cell, pool, offsets, connections, single_bias, backend: of each layer, see
            :class:`ClockworkRNN`.
        num_layers, bidirectional, merge, dropout: see :class:`RecurrentStack`.

    Raises:
        ValueError: as those two.

    Example:
        >>> sizes = {"hidden_sizes": [64, 32], "periods": [1, 4]}
        >>> stack = StackedClockworkRNN(input_size=257, cell="gru", bidirectional=True, **sizes)
        >>> y, _ = stack(torch.zeros(8, 100, 257), None, torch.full((8,), 100))
        >>> y.shape, stack.is_causal
        (torch.Size([8, 100, 192]), False)
    """

    def __init__(
        self,
        *,
        input_size: int,
        hidden_sizes: int | Sequence[int],
        periods: Sequence[int],
        cell: str = ClockworkSettings.cell,
        pool: str = ClockworkSettings.pool,
        offsets: Sequence[int] | None = ClockworkSettings.offsets,
        connections: str = ClockworkSettings.connections,
        single_bias: bool = ClockworkSettings.single_bias,
        backend: str = ClockworkSettings.backend,
        num_layers: int = ClockworkSettings.num_layers,
        bidirectional: bool = ClockworkSettings.bidirectional,
        merge: str = ClockworkSettings.merge,
        dropout: float = ClockworkSettings.dropout,
    ) -> None:
        settings = ClockworkSettings(
            num_layers=num_layers,
            bidirectional=bidirectional,
            merge=merge,
            dropout=dropout,
            hidden_sizes=tuple(_one_for_each(hidden_sizes, periods)),
            periods=tuple(periods),
            cell=cell,
            pool=pool,
            offsets=None if offsets is None else tuple(offsets),
            connections=connections,
            single_bias=single_bias,
            backend=backend,
        )
        of_stack = {each.name for each in fields(StackSettings)}
        self._clock = {key: value for key, value in vars(settings).items() if key not in of_stack}
        super().__init__(settings, input_size=input_size, layer_size=sum(settings.hidden_sizes))

    def build_layer(self, input_size: int) -> nn.Module:
        return ClockworkRNN(input_size=input_size, **self._clock)


def _ticks_until(frames: Tensor, first: int, period: int) -> Tensor:
    """How many ticks have happened up to and including each frame."""
    return torch.div(frames - first, period, rounding_mode="floor") + 1


def _one_for_each(hidden_sizes: int | Sequence[int], periods: Sequence[int]) -> Sequence[int]:
    return [hidden_sizes] * len(periods) if isinstance(hidden_sizes, int) else hidden_sizes
