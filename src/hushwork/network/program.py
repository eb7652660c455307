"""The denoiser as a program of array operations: what :class:`hushwork.Denoiser` computes on a spectrum.

:class:`Program` states what is computed; its two subclasses state how time passes:

- :class:`FrameProgram` computes one frame; modules that do not tick are skipped;
- :class:`SequenceProgram` computes many frames at once, from clock phase 0 on: every module of a clockwork layer runs
  over its own ticks in one call.

Both take and give the state of a stream in the same layout, so a stream may use either, frame programs at any time.

Shapes: B streams, T frames, F bins, K bins or bands, S numbers of state, I input features, u units of a module, n
ticks of a module. Inside, time comes first: (T, B, …), and each part of the state is (1, B, …).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np

from hushwork.network.features import SILENT_POWER, band_weights, compress
from hushwork.network.graph import Graph, Shape, Value
from hushwork.network.heads import NoisyFrames
from hushwork.network.network import Network

LAST = np.iinfo(np.int64).max
BLOCK = 128


class Program:
    """Base of the two programs of a network."""

    frames: int | str
    """How many there are in a run: 1, or a name."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.graph = Graph()
        self.before: dict[str, Value] = {}  # the parts of the state
        self.after: dict[str, Value] = {}

    def write(self, streams: int | str | None = None, *, delay: int = 0) -> Graph:
        """``spec`` (B, T, F, 2) and ``state`` (B, S) → ``spec_e`` (B, T, F, 2) and ``state_out`` (B, S).

        Args:
            streams: B, a number or a name; None: one stream, whose state is (S,).
            delay: frames by which the output is late; the frames on their way are part of the state.
        """
        g, network = self.graph, self.network
        layout = {**network.layout, **{f"delayed.{k}": 2 * network.num_bins for k in range(delay)}}
        size = sum(layout.values())
        shape: Shape = (1 if streams is None else streams, self.frames, network.num_bins, 2)
        state_shape: Shape = (size,) if streams is None else (streams, size)
        spectrum = g.input("spec", shape)
        state = g("Unsqueeze", g.input("state", state_shape), [0, 1] if streams is None else [0])
        parts = g.several("Split", state, [*layout.values()], outputs=len(layout), axis=2)
        self.before, self.after = dict(zip(layout, parts, strict=True)), {}
        clean = self._denoise(spectrum)
        if delay:
            for k in range(delay):
                now = g("Reshape", clean, [1, 1, -1])
                self.after[f"delayed.{k}"] = self.before[f"delayed.{k + 1}"] if k + 1 < delay else now
            clean = g("Reshape", self.before["delayed.0"], [1, 1, network.num_bins, 2])
        flat = g("Concat", *(self.after[name] for name in layout), axis=2)
        g.output("spec_e", clean, shape)
        g.output("state_out", g("Squeeze", flat, [0, 1] if streams is None else [0]), state_shape)
        return g

    # ------------------------------------------------------------------------------------------ the network

    def _denoise(self, spectrum: Value) -> Value:
        """Noisy spectrum (B, T, F, 2) → clean spectrum."""
        g, network, settings = self.graph, self.network, self.network.settings
        power = g("Transpose", g("ReduceSumSquare", spectrum, axes=[3], keepdims=0), perm=[1, 0, 2])
        level = self._level(power)
        to_bins: np.ndarray | None = None
        if settings.num_bands:
            to_bands, to_bins = band_weights(network.num_bins, settings.num_bands, settings.sample_rate)
            power = g("MatMul", power, to_bands)
        magnitude = power.sqrt()
        features = compress(magnitude / level, settings.compression)
        if settings.mean_time_constant_s is not None:
            features = features - self._mean(features)
        hidden = features
        if network.masker.projection_size:
            hidden = self._dense(hidden, "masker.projection.0").relu()
        hidden = self._stack(hidden)
        outputs = network.head.activate(self._dense(hidden, "masker.output"), network.masker.ceiling)
        each = [outputs]
        if network.head.outputs > 1:
            sizes = [network.num_features] * network.head.outputs
            each = g.several("Split", outputs, sizes, outputs=len(sizes), axis=2)
        taps = network.head.filter(each, NoisyFrames(level, magnitude, settings.output_compression))
        clean: Value | None = None
        for frames, factors in zip(self._history(spectrum), taps, strict=True):
            for factor, factored in zip(factors, (frames, None), strict=True):
                if factor is None:
                    continue
                factor = g("MatMul", factor, to_bins) if to_bins is not None else factor
                factor = g("Unsqueeze", g("Transpose", factor, perm=[1, 0, 2]), [3])  # (B, T, F, 1)
                product = (self._times_i(frames) if factored is None else factored) * factor
                clean = product if clean is None else clean + product
        assert clean is not None
        return clean

    def _level(self, power: Value) -> Value:
        """Power (T, B, F) → running level (T, B, 1)."""
        g = self.graph
        mean = g("ReduceMean", power, axes=[2])
        sums = self._leaky_sum(self._with_ones(mean), self.network.settings.level_time_constant_s, "level")
        power, weight = g.several("Split", sums, [1, 1], outputs=2, axis=2)
        return (power / weight).clamp(min=SILENT_POWER).sqrt()

    def _mean(self, features: Value) -> Value:
        """Features (T, B, K) → their running mean."""
        time_constant_s = self.network.settings.mean_time_constant_s
        assert time_constant_s is not None
        sums = self._leaky_sum(self._with_ones(features), time_constant_s, "mean")
        sums, weight = self.graph.several("Split", sums, [self.network.num_features, 1], outputs=2, axis=2)
        return sums / weight

    def _stack(self, x: Value) -> Value:
        """(T, B, I) → (T, B, H)."""
        for layer in range(self.network.num_layers):
            ahead = self._layer(x, f"masker.recurrence.forwards.{layer}", layer)
            if not self.network.is_causal:
                back = self._reversed(self._layer(self._reversed(x), f"masker.recurrence.backwards.{layer}", layer))
                concat = self.network.recurrence.merge == "concat"
                ahead = self.graph("Concat", ahead, back, axis=2) if concat else ahead + back
            x = ahead
        return x

    def _history(self, spectrum: Value) -> list[Value]:
        """The frames of a spectrum (B, T, F, 2), and those one frame earlier and so on, as far as the head reads them."""
        g, num_past = self.graph, self.network.head.taps - 1
        if not num_past:
            return [spectrum]
        past = g("Reshape", self.before["past"], [-1, num_past, self.network.num_bins, 2])
        frames = g("Concat", past, spectrum, axis=1)
        last = g("Slice", frames, [-num_past], [LAST], [1])
        self.after["past"] = g("Reshape", last, [1, -1, self.network.layout["past"]])
        ends = [LAST, *(-ago for ago in range(1, num_past + 1))]
        return [g("Slice", frames, [num_past - ago], [ends[ago]], [1]) for ago in range(num_past + 1)]

    def _cell(self, x: Value, name: str, module: int, states: Sequence[Value], *, only_last: bool) -> list[Value]:
        """A module over frames (n, B, I) → its outputs (n, B, u), unless ``only_last``, and its last states (1, B, u)."""
        cell = self.network.cell.operator
        weights = self.network.cell_weights(name, module)
        units = weights.recurrent.shape[1]
        arranged = [
            np.concatenate([np.split(array, len(cell.onnx_order))[k] for k in cell.onnx_order]) for array in weights
        ]
        constants = [arranged[0][None], arranged[1][None], np.concatenate(arranged[2:])[None]]
        wanted = [not only_last, *[True] * len(cell.states)]
        results = self.graph.several(
            cell.name, x, *constants, None, *states, outputs=wanted, hidden_size=units, **cell.onnx_attributes
        )
        return results if only_last else [self.graph("Squeeze", results[0], [1]), *results[1:]]

    def _dense(self, x: Value, name: str) -> Value:
        weight = np.ascontiguousarray(self.network.get(f"{name}.weight").T)
        return self.graph("Add", self.graph("MatMul", x, weight), self.network.get(f"{name}.bias"))

    # ------------------------------------------------------------------------------------------------- time

    def _leaky_sum(self, x: Value, time_constant_s: float, state: str) -> Value:
        """Sums over the past (T, B, C), each frame's share falling with age, continued from a part of the state."""
        raise NotImplementedError

    def _layer(self, x: Value, name: str, layer: int) -> Value:
        """One layer in one direction: (T, B, I) → (T, B, H)."""
        raise NotImplementedError

    def _log_decay(self, time_constant_s: float) -> float:
        settings = self.network.settings
        return -settings.stft.hop_length / settings.sample_rate / time_constant_s

    # ---------------------------------------------------------------------------------------------- helpers

    def _with_ones(self, x: Value) -> Value:
        """(…, C) → (…, C + 1), the last of them 1."""
        return self.graph("Pad", x, [0, 0, 0, 0, 0, 1], 1.0)

    def _reversed(self, x: Value) -> Value:
        return self.graph("Slice", x, [-1], [-LAST], [0], [-1])

    def _times_i(self, spectrum: Value) -> Value:
        """(…, F, 2) times the imaginary unit."""
        real, imaginary = self.graph.several("Split", spectrum, [1, 1], outputs=2, axis=3)
        return self.graph("Concat", -imaginary, real, axis=3)

    def _joined(self, values: Sequence[Value]) -> Value:
        return self.graph("Concat", *values, axis=2) if len(values) > 1 else values[0]


class FrameProgram(Program):
    """One frame; all modules read each other as they stood one frame earlier."""

    frames = 1

    def _leaky_sum(self, x: Value, time_constant_s: float, state: str) -> Value:
        self.after[state] = x + self.before[state] * math.exp(self._log_decay(time_constant_s))
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
            pending = pending + counted * self._pool_weight(name, module)

        def tick() -> list[Value]:
            if pending is None:
                return self._cell(self._joined([x, *others]), name, module, states, only_last=True)
            total, weight = g.several("Split", pending, [network.input_size(layer), 1], outputs=2, axis=2)
            inputs = self._joined([total / weight, *others])
            return [*self._cell(inputs, name, module, states, only_last=True), pending * 0.0]

        if network.periods[module] == 1:
            return tick()
        return g.choose(self._ticks[module], tick, states if pending is None else [*states, pending])

    def _pool_weight(self, name: str, module: int) -> Value | float:
        """Of the current frame in its window."""
        g, network = self.graph, self.network
        if network.pool == "mean":
            return 1.0
        period = network.periods[module]
        since = g("Cast", self._phases[module], to=7)
        place = g("Mod", g("Add", since, [period - network.offsets[module] - 1]), [period])
        return g("Gather", network.pool_weights(name, module), place)


class SequenceProgram(Program):
    """Many frames, beginning at phase 0 of all clocks; of a causal network a whole number of cycles."""

    frames = "T"

    def _leaky_sum(self, x: Value, time_constant_s: float, state: str) -> Value:
        # Blocks of frames by one matrix product, then what each block inherits from those before it by another.
        g, log_decay = self.graph, self._log_decay(time_constant_s)
        length = g("Shape", x, start=0, end=1)
        missing = g("Mod", g("Sub", [0], length), [BLOCK])
        padded = g("Pad", x, g("Concat", [0, 0, 0], missing, [0, 0], axis=0))
        size = g("Mul", g("Shape", x, start=1, end=2), g("Shape", x, start=2))
        blocks = g("Reshape", padded, g("Concat", [-1, BLOCK], size, axis=0))  # (K, BLOCK, B·C)
        ages = np.subtract.outer(np.arange(BLOCK), np.arange(BLOCK))
        shares = np.where(ages >= 0, np.exp(log_decay * ages.clip(0)), 0).astype(np.float32)
        within = g("MatMul", shares, blocks)
        lasts = g("Gather", within, np.int64(BLOCK - 1), axis=1)  # (K, B·C)
        column = g("Unsqueeze", g("Cast", self._range(lasts), to=1), [1])
        before = column - g("Transpose", column, perm=[1, 0]) - 1.0
        faded = (before.clamp(min=0.0) * (BLOCK * log_decay)).exp()
        faded = faded * g("Cast", g("GreaterOrEqual", before, 0.0), to=1)
        start = (column * (BLOCK * log_decay)).exp() * g("Reshape", self.before[state], [1, -1])
        inherited = g("Unsqueeze", g("MatMul", faded, lasts) + start, [1])
        fading = np.exp(log_decay * np.arange(1, BLOCK + 1))[:, None].astype(np.float32)
        sums = within + inherited * g.constant(fading)
        sums = g("Reshape", sums, g("Concat", [-1], g("Shape", x, start=1), axis=0))
        sums = g("Slice", sums, [0], length, [0])
        self.after[state] = g("Slice", sums, [-1], [LAST], [0])
        return sums

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
            seen = self._input_at_ticks(x, name, layer, module)
            just_before = g("Add", g("Mul", self._range(seen), [period]), [offset - 1])
            others = [self._at(histories[k], just_before, k) for k in network.sources(module)]
            names = [f"{state}.{layer}.{module}" for state in network.cell.operator.states]
            states = [self._state(each, x, network.module_sizes[module]) for each in names]
            y, *last = self._cell(self._joined([seen, *others]), name, module, states, only_last=False)
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


def metadata(network: Network) -> dict[str, str]:
    """What a user of the graphs has to know."""
    stft = network.settings.stft
    return {
        "model_type": "hushwork",
        "sample_rate": str(network.settings.sample_rate),
        "n_fft": str(stft.n_fft),
        "hop_length": str(stft.hop_length),
        "window_length": str(stft.n_fft),
        "window": stft.window,
        "latency_samples": str(stft.n_fft - 1),
        "periods": json.dumps(network.periods if network.has_clock else []),
        "offsets": json.dumps(network.offsets if network.has_clock else []),
        "cycle": str(network.cycle),
        "state_size": str(network.state_size),
        "state_layout": json.dumps(network.layout),
    }


def sherpa_graph(network: Network) -> tuple[Graph, dict[str, str]]:
    """The frame program as sherpa-onnx runs models of its type "dpdfnet", and the metadata that it needs.

    sherpa-onnx takes back a delay of two windows, so the graph makes one. Its own window is "vorbis", whatever the
    model was trained with.
    """
    stft = network.settings.stft
    if 2 * stft.n_fft % stft.hop_length:
        raise ValueError("sherpa-onnx needs a window of a whole or half number of hops")
    delay = 2 * stft.n_fft // stft.hop_length
    more = {
        "model_type": "dpdfnet",
        "profile": "dpdfnet_16khz",
        "window_type": "vorbis",
        "pad_mode": "constant",
        "center": "1",
        "normalized": "0",
        "freq_bins": str(network.num_bins),
        "erb_bins": "1",
        "spec_bins": "1",
        "state_size": str(network.state_size + delay * 2 * network.num_bins),
        "erb_norm_state_size": "1",  # sherpa-onnx wants a part of the state to begin with values of its own
        "spec_norm_state_size": "1",
        "erb_norm_init": "0",
        "spec_norm_init": "0",
    }
    return FrameProgram(network).write(delay=delay), {**metadata(network), **more}
