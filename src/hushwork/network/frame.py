"""The program of a single frame, for streams: modules that do not tick are skipped.

Shapes: as in :mod:`hushwork.network.program`.
"""

from __future__ import annotations

import math

import numpy as np

from hushwork.network.graph import Value
from hushwork.network.program import Program


class FrameProgram(Program):
    """One frame; all modules read each other as they stood one frame earlier."""

    frames = 1

    def _after_sound(self, silent: Value) -> Value:
        return self.graph("Greater", self.graph("Slice", self.before["level"], [0], [1], [2]), 0.0)

    def _leaky_sum(self, x: Value, skipped: Value, time_constant_s: float, state: str) -> Value:
        before = self.before[state]
        now = x + before * math.exp(self._log_decay(time_constant_s))
        self.after[state] = self.graph("Where", skipped, before, now)
        return self.after[state]

    def _stack(self, x: Value) -> Value:
        g, network = self.graph, self.network
        slow = [module for module in network.modules if network.periods[module] > 1]
        if slow:
            phases = self.before["phase"]
            one = np.array([network.periods[k] for k in slow], np.float32)
            self.after["phase"] = g("Mod", phases + 1.0, one, fmod=1)
            ticks = g("Equal", phases, np.array([network.offsets[k] for k in slow], np.float32))
            first = g("Gather", ticks, [0], axis=1)  # all streams keep the same time
            sizes = [1] * len(slow)
            self._ticks = dict(zip(slow, g.several("Split", first, sizes, outputs=len(slow), axis=2), strict=True))
            self._phases = dict(zip(slow, g.several("Split", phases, sizes, outputs=len(slow), axis=2), strict=True))
        return super()._stack(x)

    def _layer(self, x: Value, name: str, layer: int) -> Value:
        network = self.network
        hidden = []
        counted = self._with_ones(x) if any(map(network.pools, network.modules)) else x
        for module in network.modules:
            names = [f"{state}.{layer}.{module}" for state in network.cell.operator.states]
            if network.pools(module):
                names.append(f"pending.{layer}.{module}")
            now = self._module(x, counted, name, layer, module, [self.before[each] for each in names])
            self.after |= dict(zip(names, now, strict=True))
            hidden.append(now[0])
        return self._joined(hidden)

    def _module(self, x: Value, counted: Value, name: str, layer: int, module: int, before: list[Value]) -> list[Value]:
        """The states of a module, and the input that waits for its next tick if it pools."""
        g, network = self.graph, self.network
        others = [self.before[f"hidden.{layer}.{k}"] for k in network.sources(module)]
        states, pending = before, None
        if network.pools(module):
            *states, pending = before
            pending = pending + (counted if network.pool == "mean" else counted * self._pool_weight(name, module))

        def tick() -> list[Value]:
            if pending is None:
                return self._cell(self._joined([x, *others]), name, module, states, only_last=True)
            total, weight = g.several("Split", pending, [network.input_size(layer), 1], outputs=2, axis=2)
            inputs = self._joined([total / weight, *others])
            return [*self._cell(inputs, name, module, states, only_last=True), pending * 0.0]

        if network.periods[module] == 1:
            return tick()
        return g.choose(self._ticks[module], tick, states if pending is None else [*states, pending])

    def _pool_weight(self, name: str, module: int) -> Value:
        """Learned weight of the current frame in its window."""
        g, network = self.graph, self.network
        period = network.periods[module]
        since = g("Cast", self._phases[module], to=7)
        place = g("Mod", g("Add", since, [period - network.offsets[module] - 1]), [period])
        return g("Gather", network.pool_weights(name, module), place)
