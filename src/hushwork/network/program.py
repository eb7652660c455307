"""The denoiser as a program of array operations: the part of :class:`hushwork.Denoiser` between analysis and synthesis.

:class:`Program` states what is computed; its two subclasses state how time passes:

- :class:`hushwork.network.frame.FrameProgram` computes one frame; modules that do not tick are skipped;
- :class:`hushwork.network.sequence.SequenceProgram` computes many frames at once, from clock phase 0 on: every module
  of a clockwork layer runs over its own ticks in one call.

Both take and give the state of a stream in the same layout, so a stream may use either, frame programs at any time.

Shapes: B streams, T frames, F bins, K bins or bands, D filtered bins, S numbers of state, I input features, u
units of a module, n ticks of a module. Inside, time comes first: (T, B, …), and each part of the state is (1, B, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from hushwork.network.cells import Cell
from hushwork.network.features import NEIGHBOURS, SILENT_POWER, band_weights, bounded, compress
from hushwork.network.graph import Graph, Shape, Value
from hushwork.network.heads import NoisyFrames
from hushwork.network.network import SUBBAND_CELL, Network

LAST = np.iinfo(np.int64).max


class Program:
    """Base of the two programs of a network."""

    frames: int | str
    """How many there are in a run: 1, or a name."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.graph = Graph()
        self.before: dict[str, Value] = {}  # the parts of the state
        self.after: dict[str, Value] = {}

    def write(self, streams: int | str | None = None, *, delay: int = 0, split_state: bool = False) -> Graph:
        """``spec`` (B, T, F, 2) and ``state`` (B, S) → ``spec_e`` (B, T, F, 2), ``look_ahead`` frames late, and
        ``state_out`` (B, S).

        Args:
            streams: B, a number or a name; None: one stream, whose state is (S,).
            delay: further frames by which the output is late; the frames on their way are part of the state.
            split_state: instead of ``state`` and ``state_out`` an input and an output for each part of the layout,
                ``NAME`` and ``NAME_out`` (1, B, size).
        """
        g, network = self.graph, self.network
        layout = {**network.layout, **{f"delayed.{k}": 2 * network.num_bins for k in range(delay)}}
        size = sum(layout.values())
        num_streams = 1 if streams is None else streams
        shape: Shape = (num_streams, self.frames, network.num_bins, 2)
        state_shape: Shape = (size,) if streams is None else (streams, size)
        spectrum = g.input("spec", shape)
        if split_state:
            parts = [g.input(name, (1, num_streams, size)) for name, size in layout.items()]
        else:
            state = g("Unsqueeze", g.input("state", state_shape), [0, 1] if streams is None else [0])
            parts = g.several("Split", state, [*layout.values()], outputs=len(layout), axis=2)
        self.before, self.after = dict(zip(layout, parts, strict=True)), {}
        clean = self._denoise(spectrum)
        if delay:
            for k in range(delay):
                now = g("Reshape", clean, [1, 1, -1])
                self.after[f"delayed.{k}"] = self.before[f"delayed.{k + 1}"] if k + 1 < delay else now
            clean = g("Reshape", self.before["delayed.0"], [1, 1, network.num_bins, 2])
        g.output("spec_e", clean, shape)
        if split_state:
            for name, size in layout.items():
                g.output(f"{name}_out", self.after[name], (1, num_streams, size))
        else:
            joined = g("Concat", *(self.after[name] for name in layout), axis=2)
            g.output("state_out", g("Squeeze", joined, [0, 1] if streams is None else [0]), state_shape)
        return g

    # ------------------------------------------------------------------------------------------ the network

    def _denoise(self, spectrum: Value) -> Value:
        """Noisy spectrum (B, T, F, 2) → clean spectrum."""
        g, network, settings = self.graph, self.network, self.network.settings
        power = self._power(spectrum)
        mean_power = g("ReduceMean", power, axes=[2])
        silent = g("Less", mean_power, SILENT_POWER)  # (T, B, 1), bool
        skipped = g("And", silent, self._after_sound(silent))
        level = self._level(mean_power, skipped)
        to_bins: np.ndarray | None = None
        if settings.num_bands:
            to_bands, to_bins = band_weights(network.num_bins, settings.num_bands, settings.sample_rate)
            power = g("MatMul", power, to_bands)
        features = levels = compress(g("Where", silent, 1.0, power.sqrt() / level), settings.compression)
        if settings.mean_time_constant_s is not None:
            features = g("Where", silent, 0.0, levels - self._mean(levels, skipped))
        hidden = features
        if network.masker.projection_size:
            hidden = self._dense(hidden, "masker.projection.0").relu()
        hidden = self._stack(hidden)
        outputs, head = self._dense(hidden, "masker.output"), network.head
        sizes = head.sizes(network.num_features)
        pieces = g.several("Split", outputs, sizes, outputs=len(sizes), axis=2) if len(sizes) > 1 else [outputs]
        if network.masker.subband_size:
            pieces[0] = pieces[0] + self._subband(features, levels, pieces[0])
        pieces = head.activate(pieces, network.masker.ceiling)
        if settings.look_ahead:
            spectrum = self._masked_frames(spectrum)
        magnitude = None if settings.num_bands else self._power(spectrum).sqrt()
        mask = head.mask(pieces[: head.outputs], NoisyFrames(level, magnitude, settings.output_compression))
        if to_bins is not None:
            mask = g("MatMul", mask[0], to_bins), None if mask[1] is None else g("MatMul", mask[1], to_bins)
        clean = self._times(spectrum, *mask)
        return clean + self._filtered(spectrum, pieces[-1]) if head.taps else clean

    def _power(self, spectrum: Value) -> Value:
        """Spectrum (B, T, F, 2) → power of its bins (T, B, F)."""
        g = self.graph
        return g("Transpose", g("ReduceSumSquare", spectrum, axes=[3], keepdims=0), perm=[1, 0, 2])

    def _masked_frames(self, spectrum: Value) -> Value:
        """The frames (B, T, F, 2) that are masked once these have come, ``look_ahead`` earlier."""
        g, count, num_bins = self.graph, self.network.settings.look_ahead, self.network.num_bins
        frames = g("Concat", g("Reshape", self.before["waiting"], [-1, count, num_bins, 2]), spectrum, axis=1)
        self.after["waiting"] = g("Reshape", g("Slice", frames, [-count], [LAST], [1]), [1, -1, count * num_bins * 2])
        return g("Slice", frames, [0], [-count], [1])

    def _filtered(self, spectrum: Value, outputs: Value) -> Value:
        """The filter over time: noisy spectrum (B, T, F, 2) and outputs (T, B, 2·taps·D) → (B, T, F, 2)."""
        g, taps, count, num_bins = self.graph, self.network.head.taps, self.network.num_filtered, self.network.num_bins
        parts = g.several("Split", outputs, [taps * count] * 2, outputs=2, axis=2)
        products = self._times(self._windows(g("Slice", spectrum, [0], [count], [2])), *parts)
        total = reduce(add, g.several("Split", products, [count] * taps, outputs=taps, axis=2))
        return g("Pad", total, [0, 0, 0, 0, 0, 0, num_bins - count, 0], 0.0)

    def _level(self, mean_power: Value, skipped: Value) -> Value:
        """Mean power of the bins (T, B, 1) → running level (T, B, 1)."""
        sums = self._leaky_sum(
            self._with_ones(mean_power), skipped, self.network.settings.level_time_constant_s, "level"
        )
        power, weight = self.graph.several("Split", sums, [1, 1], outputs=2, axis=2)
        return (power / weight).clamp(min=SILENT_POWER).sqrt()

    def _mean(self, features: Value, skipped: Value) -> Value:
        """Features (T, B, K) → their running mean."""
        time_constant_s = self.network.settings.mean_time_constant_s
        assert time_constant_s is not None
        sums = self._leaky_sum(self._with_ones(features), skipped, time_constant_s, "mean")
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

    def _subband(self, features: Value, levels: Value, predicted: Value) -> Value:
        """Features, with their running mean too, and prediction (T, B, K) → what is added to the prediction."""
        g, network = self.graph, self.network
        size, layers = network.masker.subband_size, range(network.masker.subband_layers)
        assert size is not None
        x = g("Concat", *(g("Unsqueeze", each, [3]) for each in (features, levels, bounded(predicted))), axis=3)
        results = []
        for layer in layers:
            name = f"masker.subband.layers.{layer}"
            read = self._dense(self._neighbours(x), f"{name}.across")
            if not layer:
                read = read + network.get("masker.subband.position")
            read = g("Reshape", read.relu(), [self._num_frames, -1, size])
            x = self._over_time(read, f"{name}.over_time.0", f"subband.{layer}")
            if not network.is_causal:
                back = self._reversed(self._over_time(self._reversed(read), f"{name}.over_time.1", f"subband.{layer}"))
                x = g("Concat", x, back, axis=3)
            results.append(x)
        return g("Squeeze", self._dense(reduce(add, results), "masker.subband.output"), [3])

    @property
    def _num_frames(self) -> int:
        """In a Reshape: 1, or 0, which keeps the size as it is."""
        return 1 if self.frames == 1 else 0

    def _neighbours(self, x: Value) -> Value:
        """(T, B, K, C) → each band and those around it, (T, B, K, 5·C)."""
        g, count = self.graph, self.network.num_features
        padded = g("Pad", x, [0, 0, NEIGHBOURS, 0, 0, 0, NEIGHBOURS, 0], 0.0)
        return g("Concat", *(g("Slice", padded, [k], [k + count], [2]) for k in range(2 * NEIGHBOURS + 1)), axis=3)

    def _over_time(self, read: Value, name: str, state: str) -> Value:
        """(T, B·K, H) → (T, B, K, H)."""
        g, network = self.graph, self.network
        size, count = network.masker.subband_size, network.num_features
        assert size is not None
        if network.is_causal:
            before = g("Reshape", self.before[state], [1, -1, size])
        else:
            streams = g("Shape", read, start=1, end=2)
            before = g("Expand", 0.0, g("Concat", [1], streams, [size], axis=0))
        results = self._run_cell(SUBBAND_CELL, read, name, [before], only_last=self.frames == 1)
        if network.is_causal:
            self.after[state] = g("Reshape", results[-1], [1, -1, count * size])
        return g("Reshape", results[0], [self._num_frames, -1, count, size])

    def _windows(self, spectrum: Value) -> Value:
        """Filtered bins (B, T, D, 2) → what the filter reads for each frame, oldest first (B, T, taps·D, 2)."""
        g, taps, count = self.graph, self.network.head.taps, self.network.num_filtered
        frames = g("Concat", g("Reshape", self.before["past"], [-1, taps - 1, count, 2]), spectrum, axis=1)
        self.after["past"] = g("Reshape", g("Slice", frames, [1 - taps], [LAST], [1]), [1, -1, (taps - 1) * count * 2])
        if self.frames == 1:
            return g("Reshape", frames, [-1, 1, taps * count, 2])
        ends = [*range(1 - taps, 0), LAST]
        return g("Concat", *(g("Slice", frames, [k], [ends[k]], [1]) for k in range(taps)), axis=2)

    def _cell(self, x: Value, name: str, module: int, states: Sequence[Value], *, only_last: bool) -> list[Value]:
        """A module over frames (n, B, I) → outputs (n, B, u), unless ``only_last``, and the last states (1, B, u)."""
        network = self.network
        return self._run_cell(network.cell, x, network.cell_name(name, module), states, only_last=only_last)

    def _run_cell(self, cell: Cell, x: Value, name: str, states: Sequence[Value], *, only_last: bool) -> list[Value]:
        weights, operator = self.network.cell_weights(name, cell), cell.operator
        units = weights.recurrent.shape[1]
        arranged = [
            np.concatenate([np.split(array, len(operator.onnx_order))[k] for k in operator.onnx_order])
            for array in weights
        ]
        constants = [arranged[0][None], arranged[1][None], np.concatenate(arranged[2:])[None]]
        selected = [not only_last, *[True] * len(operator.states)]
        results = self.graph.several(
            operator.name, x, *constants, None, *states, outputs=selected, hidden_size=units, **operator.onnx_attributes
        )
        return results if only_last else [self.graph("Squeeze", results[0], [1]), *results[1:]]

    def _dense(self, x: Value, name: str) -> Value:
        weight = np.ascontiguousarray(self.network.get(f"{name}.weight").T)
        return self.graph("Add", self.graph("MatMul", x, weight), self.network.get(f"{name}.bias"))

    # ------------------------------------------------------------------------------------------------- time

    def _after_sound(self, silent: Value) -> Value:
        """Whether a frame that is not digital silence came before (T, B, 1), bool."""
        raise NotImplementedError

    def _leaky_sum(self, x: Value, skipped: Value, time_constant_s: float, state: str) -> Value:
        """Sums over the past (T, B, C), each frame's share falling with age, continued from a part of the state.

        Frames that are ``skipped`` (T, B, 1) neither enter the sums nor let them fall.
        """
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

    def _times(self, spectrum: Value, real: Value, imaginary: Value | None) -> Value:
        """A spectrum (B, T, F, 2) times numbers whose parts are (T, B, F)."""
        g = self.graph
        product = spectrum * g("Unsqueeze", g("Transpose", real, perm=[1, 0, 2]), [3])
        if imaginary is None:
            return product
        parts = g.several("Split", spectrum, [1, 1], outputs=2, axis=3)
        turned = g("Concat", -parts[1], parts[0], axis=3)  # times the imaginary unit
        return product + turned * g("Unsqueeze", g("Transpose", imaginary, perm=[1, 0, 2]), [3])

    def _joined(self, values: Sequence[Value]) -> Value:
        return self.graph("Concat", *values, axis=2) if len(values) > 1 else values[0]
