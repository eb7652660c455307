"""One frame at a time: the network in numpy, for streams in which every frame is wanted at once.

For one frame a graph runtime spends more time between its operations than in them. Here everything is prepared once:
weights lie next to each other as they are used, biases are a column of them, results go into arrays made before. What a
module tells the others and itself is computed when it has ticked, and then held: a slow module costs nothing while it
rests. The rows of gates that are squashed by a sigmoid are halved: a sigmoid is half of one plus the hyperbolic tangent
of half.

Shapes: F bins, K features, I input features, u units of a module, g gates, H units of a layer, S numbers of state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from hushwork.audio.features import FLOOR_DB, OFFSET_DB, PEAK_DB, SCALE_DB, SILENT_POWER, band_edges
from hushwork.inference.network import GATES, CellWeights, Network

SIGMOIDS: dict[str, tuple[int, ...]] = {"rnn": (), "gru": (0, 1), "lstm": (0, 1, 3)}  # which of torch's gates
HALF = np.float32(0.5)
FLOOR = np.float32(10 ** (FLOOR_DB / 10))  # of powers
SCALE, OFFSET = np.float32(10 / math.log(10) / SCALE_DB), np.float32(OFFSET_DB / SCALE_DB)


class FrameWeights:
    """The weights of a causal network as :class:`FrameStep` uses them, for any number of streams."""

    def __init__(self, network: Network) -> None:
        self.network = network
        masker = network.masker
        self.output = _with_bias(network.get("masker.output.weight"), network.get("masker.output.bias")) / 2
        self.projection: np.ndarray | None = None
        if masker["projection_size"]:
            name = "masker.projection.0"
            self.projection = _with_bias(network.get(f"{name}.weight"), network.get(f"{name}.bias"))
        self.layers = [
            [_ModuleWeights(network, layer, module) for module in range(len(network.module_sizes))]
            for layer in range(network.num_layers)
        ]


class _ModuleWeights:
    """Those of one module: ``from_input`` (g·u, I + 1), and ``onward`` from its units to all gates that hear them."""

    def __init__(self, network: Network, layer: int, module: int) -> None:
        sizes, gates = network.module_sizes, GATES[network.cell]
        starts = np.cumsum([0, *sizes])
        cells = [self._cell(network, layer, other) for other in range(len(sizes))]
        mine, size = cells[module], sizes[module]
        inputs = network.input_size(layer)
        bias = mine.bias.copy()
        self.inner_bias: np.ndarray | None = None
        if network.cell == "gru":  # what lies inside the reset gate, which is as a whole multiplied by twice that gate
            bias[: 2 * size] += mine.recurrent_bias[: 2 * size]
            self.inner_bias = mine.recurrent_bias[2 * size :] / 2
        else:
            bias += mine.recurrent_bias
        self.from_input = _with_bias(mine.into[:, :inputs], bias)
        _halve(self.from_input, network.cell, size)
        blocks = []
        hearing = [other for other in range(len(sizes)) if other == module or module in network.sources(other)]
        for other in hearing:
            if other == module:
                block = mine.recurrent.copy()
                if network.cell == "gru":
                    block[2 * size :] /= 2
            else:
                before = inputs + sum(sizes[source] for source in network.sources(other) if source < module)
                block = cells[other].into[:, before : before + size].copy()
            blocks.append(_halve(block, network.cell, sizes[other]))
        self.onward = np.ascontiguousarray(np.concatenate(blocks))
        # Those who hear a module lie side by side.
        self.heard_by = slice(gates * starts[hearing[0]], gates * (starts[hearing[-1]] + sizes[hearing[-1]]))
        self.rows = slice(gates * starts[module], gates * starts[module + 1])
        self.units = slice(int(starts[module]), int(starts[module + 1]))
        self.offset = network.offsets[module] if network.periods else 0
        self.pool_weights: np.ndarray | None = None
        if network.periods and network.pools(module):
            self.pool_weights = network.pool_weights(f"masker.recurrence.forwards.{layer}", module)

    @staticmethod
    def _cell(network: Network, layer: int, module: int) -> CellWeights:
        name = f"masker.recurrence.forwards.{layer}"
        return network.cell_weights(f"{name}.clocked.{module}" if network.periods else name)


class FrameStep:
    """Runs a causal network frame by frame.

    Args:
        weights: of the network.
        state: (S,), of one stream; it is read and moves on with every frame.
    """

    def __init__(self, weights: FrameWeights, state: np.ndarray) -> None:
        network = weights.network
        self._parts = network.parts(state)
        config, masker = network.config, network.masker
        frame_s = config["stft"]["hop_length"] / config["sample_rate"]
        self._level_decay = math.exp(-frame_s / config["level_time_constant_s"])
        self._mean_decay: np.float32 | None = None
        if config["mean_time_constant_s"] is not None:
            self._mean_decay = np.float32(math.exp(-frame_s / config["mean_time_constant_s"]))
        # The features are powers of bands, each the sum of squared real and imaginary parts from an index on.
        num_bins = network.num_bins
        edges = band_edges(num_bins, config["num_bands"] or num_bins, config["sample_rate"])
        widths = np.diff(edges, append=num_bins)
        self._starts = 2 * edges
        self._per_bin = (1 / widths).astype(np.float32)
        self._centres = edges + (widths - 1) / 2
        self._bins: np.ndarray | None = np.arange(num_bins) if config["num_bands"] else None
        self._squares = np.empty(2 * num_bins, np.float32)
        self._compression = config["compression"]
        self._ceiling = np.float32(masker["ceiling"])
        self._unit_exponent: float | None = None
        if masker["head"] == "magnitude":
            self._unit_exponent = 1 / config["output_compression"]
        self._projection, self._output = weights.projection, weights.output
        self._counted = np.ones(network.num_features + 1, np.float32)
        self._layers = [_Layer(weights, layer, self._parts) for layer in range(network.num_layers)]
        self._phases = [(self._parts[f"phase.{k}"], period) for k, period in enumerate(network.periods) if period > 1]

    def refresh(self) -> None:
        """To be called after the state was changed by others."""
        for layer in self._layers:
            layer.refresh()

    def __call__(self, spectrum: np.ndarray, out: np.ndarray) -> None:
        """Noisy frame, complex64 (F,) → clean frame (F,), into ``out``."""
        parts = self._parts
        squares = np.square(spectrum.view(np.float32), out=self._squares)
        level_state = parts["level"]
        power, weight = level_state.tolist()
        power = power * self._level_decay + float(squares.sum()) / len(spectrum)
        weight = weight * self._level_decay + 1
        level_state[0], level_state[1] = power, weight
        level_power = max(power / weight, SILENT_POWER)

        counted = self._counted
        features = counted[:-1]
        np.add.reduceat(squares, self._starts, out=features)
        features *= self._per_bin
        features *= np.float32(1 / level_power)
        if self._compression == "log":
            np.maximum(features, FLOOR, out=features)
            np.log(features, out=features)
            features *= SCALE
            features += OFFSET
        else:
            np.power(features, np.float32(self._compression / 2), out=features)
        if self._mean_decay is not None:
            mean = parts["mean"]
            mean *= self._mean_decay
            mean += counted
            features -= mean[:-1] / mean[-1]

        x = counted
        if self._projection is not None:
            x = np.append(np.maximum(self._projection @ x, 0), np.float32(1))
        for layer in self._layers:
            x = layer.run(x)
        for phase, period in self._phases:
            phase[0] = (phase[0] + 1) % period

        mask = np.tanh(self._output @ x)
        mask += 1
        mask *= self._ceiling / 2
        if self._unit_exponent is not None:
            clean = np.float32(math.sqrt(level_power) * 10 ** (PEAK_DB / 20)) * mask**self._unit_exponent
            mask = clean / np.maximum(np.abs(spectrum), np.float32(SILENT_POWER**0.5))
        if self._bins is not None:
            mask = np.interp(self._bins, self._centres, mask).astype(np.float32)
        np.multiply(spectrum, mask, out=out)


class _Module:
    """One module of one stream: views into the state, and room to work."""

    def __init__(
        self, weights: _ModuleWeights, layer: _Layer, parts: Mapping[str, np.ndarray], index: int, pending: np.ndarray
    ) -> None:
        self.from_input, self.onward, self.inner_bias = weights.from_input, weights.onward, weights.inner_bias
        self.pool_weights, self.offset = weights.pool_weights, weights.offset
        self.before = layer.before[weights.units]
        self.after = layer.counted[weights.units]
        self.cell = parts.get(f"cell.{layer.index}", layer.before)[weights.units]
        self.phase = parts.get(f"phase.{index}", np.zeros(1, np.float32))
        self.pending: np.ndarray | None = None if weights.pool_weights is None else pending
        self.total = layer.total[weights.rows]
        self.told = layer.told[index, weights.heard_by]
        self.own = layer.told[index, weights.rows][-len(self.before) :]  # of a GRU, what lies inside the reset gate
        self.gates = np.zeros(len(weights.from_input), np.float32)

    def tell(self, units: np.ndarray) -> None:
        """What the state ``units`` (u,) says to all that hear it, held until the next tick."""
        np.dot(self.onward, units, out=self.told)
        if self.inner_bias is not None:
            self.own += self.inner_bias


class _Layer:
    """One layer of one stream."""

    def __init__(self, weights: FrameWeights, index: int, parts: Mapping[str, np.ndarray]) -> None:
        network = weights.network
        modules = weights.layers[index]
        self.index = index
        self._cell = CELLS[network.cell]
        self.before = parts[f"hidden.{index}"]
        self.counted = np.ones(len(self.before) + 1, np.float32)
        # What modules tell (a row each) the gates of all, and its sum.
        self.told = np.zeros((len(modules), GATES[network.cell] * len(self.before)), np.float32)
        self.total = self.told[0] if len(modules) == 1 else np.zeros_like(self.told[0])
        self._pending = parts.get(f"pending.{index}", np.zeros(0, np.float32))
        self._pending = self._pending.reshape(-1, network.input_size(index) + 1)
        self._all_alike = network.pool == "mean"
        self._modules: list[_Module] = []
        row = 0
        for k, module in enumerate(modules):
            pools = module.pool_weights is not None
            self._modules.append(_Module(module, self, parts, k, self._pending[row] if pools else self._pending))
            row += pools
        self.refresh()

    def refresh(self) -> None:
        """Follow a state that was changed from outside."""
        for module in self._modules:
            module.tell(module.before)
        self._add_up()

    def _add_up(self) -> None:
        if len(self._modules) > 1:
            np.add.reduce(self.told, axis=0, out=self.total)

    def run(self, x: np.ndarray) -> np.ndarray:
        """Input (I + 1,), the last of it 1 → hidden state (H + 1,), the last of it 1."""
        if self._all_alike:
            self._pending += x
        self.counted[:-1] = self.before
        ticking = []
        for module in self._modules:
            pending = module.pending
            if pending is not None and not self._all_alike:
                assert module.pool_weights is not None
                since = int(module.phase[0]) - module.offset - 1  # frames since its last tick
                pending += x * module.pool_weights[since % len(module.pool_weights)]
            if module.phase[0] != module.offset:
                continue
            seen = x
            if pending is not None:
                seen = pending / pending[-1]
                pending[:] = 0
            np.dot(module.from_input, seen, out=module.gates)
            module.gates += module.total
            self._cell(module)
            ticking.append(module)
        for module in ticking:  # only now: all read what the others were one frame earlier
            module.tell(module.after)
        if ticking:
            self._add_up()
        self.before[:] = self.counted[:-1]
        return self.counted


def _rnn(module: _Module) -> None:
    np.tanh(module.gates, out=module.after)


def _gru(module: _Module) -> None:
    gates, own, after = module.gates, module.own, module.after
    size = len(after)
    squashed, candidate = gates[: 2 * size], gates[2 * size :]
    np.tanh(squashed, out=squashed)
    squashed += 1
    candidate -= own  # which is part of the total, but without its factor
    own *= squashed[:size]
    candidate += own
    np.tanh(candidate, out=candidate)
    np.subtract(module.before, candidate, out=after)
    after *= squashed[size:]
    after *= HALF
    after += candidate


def _lstm(module: _Module) -> None:
    a, cell, after = module.gates, module.cell, module.after
    size = len(after)
    np.tanh(a, out=a)
    entered, kept, new, shown = a[:size], a[size : 2 * size], a[2 * size : 3 * size], a[3 * size :]
    entered += 1
    kept += 1
    shown += 1
    cell *= kept
    entered *= new
    cell += entered
    cell *= HALF
    np.tanh(cell, out=after)
    after *= shown
    after *= HALF


CELLS: dict[str, Callable[[_Module], None]] = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}


def _halve(rows: np.ndarray, cell: str, size: int) -> np.ndarray:
    """The same array, with the rows of gates that a sigmoid squashes halved."""
    for gate in SIGMOIDS[cell]:
        rows[gate * size : (gate + 1) * size] /= 2
    return rows


def _with_bias(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.concatenate([weight, bias[:, None]], axis=1)
