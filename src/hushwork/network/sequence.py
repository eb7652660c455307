"""The program of many frames at once, for recordings: each module runs over its own ticks in one call.

Shapes: as in :mod:`hushwork.network.program`.
"""

from __future__ import annotations

import numpy as np

from hushwork.network.graph import Value
from hushwork.network.program import LAST, Program

BLOCK = 128


class SequenceProgram(Program):
    """Many frames, beginning at phase 0 of all clocks; of a causal network a whole number of cycles."""

    frames = "T"

    def _after_sound(self, silent: Value) -> Value:
        g = self.graph
        before = g("Greater", g("Slice", self.before["level"], [0], [1], [2]), 0.0)
        sounds = g("CumSum", g("Cast", g("Not", silent), to=1), np.int64(0))
        return g("Or", before, g("Greater", sounds, 0.5))

    def _leaky_sum(self, x: Value, skipped: Value, time_constant_s: float, state: str) -> Value:
        # Blocks of frames by one matrix product, then what each block inherits from those before it by another. Ages
        # are counted in frames that are not skipped. K blocks.
        g, log_decay = self.graph, self._log_decay(time_constant_s)
        counted = self._in_blocks(g("Cast", g("Not", skipped), to=1))  # (K, B, BLOCK, 1)
        number = g("CumSum", counted, np.int64(2))  # of counted frames in the block, up to each frame
        ages = number - g("Transpose", number, perm=[0, 1, 3, 2])
        earlier = g.constant(np.tri(BLOCK, dtype=np.float32))
        shares = (ages.clamp(min=0.0) * log_decay).exp() * g("Transpose", counted, perm=[0, 1, 3, 2]) * earlier
        within = g("MatMul", shares, self._in_blocks(x))  # (K, B, BLOCK, C)
        lasts = self._last(within)  # (B, K, C)
        total = g("CumSum", self._last(number), np.int64(1))  # (B, K, 1) of counted frames, up to the end of each block
        begun = total - self._last(number)
        gaps = begun - g("Transpose", total, perm=[0, 2, 1])  # (B, K, K), below 0 where a block is not an earlier one
        places = g("Unsqueeze", self._range(within), [1])
        before = g("Cast", g("Greater", places, g("Transpose", places, perm=[1, 0])), to=1)
        faded = (gaps.clamp(min=0.0) * log_decay).exp() * before
        start = (begun * log_decay).exp() * g("Transpose", self.before[state], perm=[1, 0, 2])
        inherited = g("MatMul", faded, lasts) + start  # (B, K, C)
        inherited = g("Unsqueeze", g("Transpose", inherited, perm=[1, 0, 2]), [2])
        sums = g("Transpose", within + (number * log_decay).exp() * inherited, perm=[0, 2, 1, 3])
        sums = g("Reshape", sums, g("Concat", [-1], g("Shape", x, start=1), axis=0))
        sums = g("Slice", sums, [0], g("Shape", x, start=0, end=1), [0])
        self.after[state] = g("Slice", sums, [-1], [LAST], [0])
        return sums

    def _in_blocks(self, x: Value) -> Value:
        """(T, B, C) → (K, B, BLOCK, C), zeros behind the end."""
        g = self.graph
        missing = g("Mod", g("Sub", [0], g("Shape", x, start=0, end=1)), [BLOCK])
        padded = g("Pad", x, g("Concat", [0, 0, 0], missing, [0, 0], axis=0))
        blocks = g("Reshape", padded, g("Concat", [-1, BLOCK], g("Shape", x, start=1), axis=0))
        return g("Transpose", blocks, perm=[0, 2, 1, 3])

    def _last(self, blocks: Value) -> Value:
        """(K, B, BLOCK, C) → the last frame of each block (B, K, C)."""
        return self.graph("Transpose", self.graph("Gather", blocks, np.int64(BLOCK - 1), axis=2), perm=[1, 0, 2])

    def _stack(self, x: Value) -> Value:
        if "phase" in self.before:
            self.after["phase"] = self.before["phase"]
        return super()._stack(x)

    def _layer(self, x: Value, name: str, layer: int) -> Value:
        g, network = self.graph, self.network
        frames = self._range(x)
        histories: dict[int, Value] = {}  # of each module its states (1 + n, B, u), the one before the run first
        held: dict[int, Value] = {}
        for module in reversed(network.modules) if network.slow_first else network.modules:
            period, offset = network.periods[module], network.offsets[module]
            inputs = self._input_at_ticks(x, name, layer, module)
            just_before = g("Add", g("Mul", self._range(inputs), [period]), [offset - 1])
            others = [self._at(histories[k], just_before, k) for k in network.sources(module)]
            names = [f"{state}.{layer}.{module}" for state in network.cell.operator.states]
            states = [self._state(each, x, network.module_sizes[module]) for each in names]
            read = self._joined([inputs, *others])
            if offset and not network.is_causal:  # one tick more, which nothing reads: a short recording may have none
                read = g("Pad", read, [0, 0, 0, 1, 0, 0])
            y, *last = self._cell(read, name, module, states, only_last=False)
            self.after |= dict(zip(names, last, strict=True))
            histories[module] = g("Concat", states[0], y, axis=0)
            held[module] = y if period == 1 else self._at(histories[module], frames, module)
        return self._joined([held[module] for module in network.modules])

    def _input_at_ticks(self, x: Value, name: str, layer: int, module: int) -> Value:
        """What a module reads of the input (T, B, I) at its ticks (n, B, I)."""
        g, network = self.graph, self.network
        period, offset = network.periods[module], network.offsets[module]
        if not network.pools(module):
            return x if period == 1 else g("Slice", x, [offset], [LAST], [0], [period])
        # Padded in front, window k of frames ends in tick k; padded behind, the last window is whole too.
        front, size = period - 1 - offset, network.input_size(layer) + 1
        length = g("Add", g("Shape", x, start=0, end=1), [front])
        behind = g("Mod", g("Sub", [0], length), [period])
        padded = g("Pad", self._with_ones(x), g("Concat", [front, 0, 0], behind, [0, 0], axis=0))
        streams = g("Shape", x, start=1, end=2)
        windows = g("Reshape", padded, g("Concat", [-1, period], g("Mul", streams, [size]), axis=0))
        sums = g("MatMul", network.pool_weights(name, module), windows)  # (n or n + 1, B·(I + 1))
        sums = g("Reshape", sums, g("Concat", [-1], streams, [size], axis=0))
        ticks = g("Div", length, [period])
        complete = g("Slice", sums, [0], ticks, [0])
        if (part := f"pending.{layer}.{module}") in self.before:
            head = g("Slice", complete, [0], [1], [0]) + self.before[part]
            complete = g("Concat", head, g("Slice", complete, [1], [LAST], [0]), axis=0)
            # Nothing waits if the last frame was a tick: a sum over no windows is 0.
            self.after[part] = g("ReduceSum", g("Slice", sums, ticks, [LAST], [0]), [0], keepdims=1)
        total, weight = g.several("Split", complete, [size - 1, 1], outputs=2, axis=2)
        return total / weight

    def _at(self, history: Value, frames: Value, module: int) -> Value:
        """The states of a module as they stand after each of ``frames``, which are -1 or later."""
        period = self.network.periods[module]
        ticks = self.graph("Div", self.graph("Add", frames, [period - self.network.offsets[module]]), [period])
        return self.graph("Gather", history, ticks, axis=0)

    def _state(self, part: str, x: Value, size: int) -> Value:
        if self.network.is_causal:
            return self.before[part]
        return self.graph(
            "Expand", 0.0, self.graph("Concat", [1], self.graph("Shape", x, start=1, end=2), [size], axis=0)
        )

    def _range(self, x: Value) -> Value:
        """0, 1, … for each entry of the first axis."""
        length = self.graph("Squeeze", self.graph("Shape", x, start=0, end=1), [0])
        return self.graph("Range", np.int64(0), length, np.int64(1))
