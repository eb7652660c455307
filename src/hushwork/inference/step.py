"""One frame at a time: the network in numpy, for streams in which every frame is wanted at once.

For one frame a graph runtime spends more time between its operations than in them. Here everything is prepared once:
weights lie next to each other as they are used, biases are a column of them, results go into arrays made before.

Shapes: F bins, I input features, u units of a module, H of a layer, S numbers of state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hushwork.audio.features import FLOOR_DB, OFFSET_DB, PEAK_DB, SCALE_DB, SILENT_POWER, band_edges
from hushwork.inference.network import Network


class FrameStep:
    """Runs a causal network frame by frame.

    Args:
        network: which.
        state: (S,), of one stream; it is read and moves on with every frame.
    """

    def __init__(self, network: Network, state: np.ndarray) -> None:
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
        self._projection: np.ndarray | None = None
        if masker["projection_size"]:
            self._projection = _with_bias(
                network.get("masker.projection.0.weight"), network.get("masker.projection.0.bias")
            )
        # A sigmoid is half of one plus the hyperbolic tangent of half.
        output = _with_bias(network.get("masker.output.weight"), network.get("masker.output.bias"))
        self._output = output / 2
        self._counted = np.ones(network.num_features + 1, np.float32)
        self._layers = [_Layer(network, layer, self._parts) for layer in range(network.num_layers)]
        self._phases = [(self._parts[f"phase.{k}"], period) for k, period in enumerate(network.periods) if period > 1]

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


@dataclass
class _Module:
    """One module of one stream: weights of its input and of its own and the other modules' states, and room to work.

    The rows of the gates that are squashed by a sigmoid are halved, see :class:`FrameStep`.
    """

    from_input: np.ndarray  # (gates·u, I + 1), the last column is the bias
    from_hidden: np.ndarray  # (gates·u, units read)
    inner_bias: np.ndarray  # (u,), of a GRU
    read: np.ndarray  # the states that it reads, before the frame
    before: np.ndarray  # (u,) its own
    after: np.ndarray  # (u,) and after the frame
    cell: np.ndarray  # (u,) of an LSTM
    phase: np.ndarray  # (1,)
    offset: int
    pending: np.ndarray | None  # (I + 1,) if it pools
    pool_weights: np.ndarray  # (period,)
    a: np.ndarray
    b: np.ndarray


class _Layer:
    """One layer of one stream."""

    def __init__(self, network: Network, layer: int, parts: Mapping[str, np.ndarray]) -> None:
        self._cell = CELLS[network.cell]
        self._mean = network.pool == "mean"
        self._before = parts[f"hidden.{layer}"]
        self._counted = np.ones(len(self._before) + 1, np.float32)
        self._pending = parts.get(f"pending.{layer}", np.zeros(0, np.float32))
        self._pending = self._pending.reshape(-1, network.input_size(layer) + 1)
        name = f"masker.recurrence.forwards.{layer}"
        self._modules: list[_Module] = []
        row = 0
        for k in range(len(network.module_sizes)):
            pools = bool(network.periods) and network.pools(k)
            self._modules.append(self._prepare(network, name, k, layer, parts, self._pending[row] if pools else None))
            row += pools

    def _prepare(
        self,
        network: Network,
        name: str,
        k: int,
        layer: int,
        parts: Mapping[str, np.ndarray],
        pending: np.ndarray | None,
    ) -> _Module:
        weights = network.cell_weights(f"{name}.clocked.{k}" if network.periods else name)
        size = weights.recurrent.shape[1]
        start = sum(network.module_sizes[:k])
        own = slice(start, start + size)
        # The module's own units and the slower ones lie side by side, or the faster ones and its own.
        read = slice(start, len(self._before)) if network.slow_first else slice(0, own.stop)
        inputs = weights.into.shape[1] - (read.stop - read.start) + size
        others, recurrent = weights.into[:, inputs:], weights.recurrent
        bias: np.ndarray = weights.bias + weights.recurrent_bias
        inner_bias: np.ndarray = np.zeros(0, np.float32)
        if network.cell == "gru":
            # What lies inside the reset gate is kept apart: r, z, n by the others, n by the own units.
            bias = np.concatenate([bias[: 2 * size], weights.bias[2 * size :]])
            inner_bias = weights.recurrent_bias[2 * size :] / 2
            others = np.concatenate([others, np.zeros_like(others[:size])])
            zeros = np.zeros((size, size), np.float32)
            recurrent = np.concatenate([recurrent[: 2 * size], zeros, recurrent[2 * size :] / 2])
        from_input = _with_bias(weights.into[:, :inputs], bias)
        from_hidden = np.concatenate([recurrent, others] if network.slow_first else [others, recurrent], axis=1)
        for gate in SIGMOIDS[network.cell]:
            rows = slice(gate * size, (gate + 1) * size)
            from_input[rows] /= 2
            from_hidden[rows] /= 2
        return _Module(
            from_input,
            from_hidden,
            inner_bias,
            self._before[read],
            self._before[own],
            self._counted[own],
            parts.get(f"cell.{layer}", self._before)[own],
            parts.get(f"phase.{k}", np.zeros(1, np.float32)),
            network.offsets[k] if network.periods else 0,
            pending,
            network.pool_weights(name, k) if pending is not None else np.zeros(0, np.float32),
            np.zeros(len(from_input), np.float32),
            np.zeros(len(from_hidden), np.float32),
        )

    def run(self, x: np.ndarray) -> np.ndarray:
        """Input (I + 1,), the last of it 1 → hidden state (H + 1,), the last of it 1."""
        if self._mean:
            self._pending += x
        self._counted[:-1] = self._before
        for module in self._modules:
            pending = module.pending
            if pending is not None and not self._mean:
                since = int(module.phase[0]) - module.offset - 1  # frames since its last tick
                pending += x * module.pool_weights[since % len(module.pool_weights)]
            if module.phase[0] != module.offset:
                continue
            seen = x
            if pending is not None:
                seen = pending / pending[-1]
                pending[:] = 0
            np.dot(module.from_input, seen, out=module.a)
            np.dot(module.from_hidden, module.read, out=module.b)
            self._cell(module)
        self._before[:] = self._counted[:-1]
        return self._counted


def _rnn(module: _Module) -> None:
    module.a += module.b
    np.tanh(module.a, out=module.after)


def _gru(module: _Module) -> None:
    a, b, after = module.a, module.b, module.after
    size = len(after)
    a += b[: 3 * size]
    gates = a[: 2 * size]
    np.tanh(gates, out=gates)
    gates += 1
    inner = b[3 * size :]
    inner += module.inner_bias
    inner *= gates[:size]
    inner += a[2 * size :]
    np.tanh(inner, out=inner)
    np.subtract(module.before, inner, out=after)
    after *= gates[size:]
    after *= HALF
    after += inner


def _lstm(module: _Module) -> None:
    a, cell, after = module.a, module.cell, module.after
    size = len(after)
    a += module.b
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
SIGMOIDS: dict[str, tuple[int, ...]] = {"rnn": (), "gru": (0, 1), "lstm": (0, 1, 3)}
HALF = np.float32(0.5)
FLOOR = np.float32(10 ** (FLOOR_DB / 10))  # of powers
SCALE, OFFSET = np.float32(10 / math.log(10) / SCALE_DB), np.float32(OFFSET_DB / SCALE_DB)


def _with_bias(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.concatenate([weight, bias[:, None]], axis=1)
