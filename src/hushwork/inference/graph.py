"""The denoiser as ONNX graphs: what :class:`hushwork.Denoiser` computes between analysis and synthesis.

Two graphs of one network, made from the configuration and weights of a model folder:

- the *sequence* graph, for many frames at once: every module of a clockwork layer runs over its own ticks in one call;
- the *frame* graph, for one frame: modules that do not tick are skipped.

Both take and give the state of a stream as one flat vector, in the same layout, so a stream may use either at any time.

Shapes: B streams, T frames, F bins, S numbers of state, I input features, u units of a module, n ticks of a module.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from hushwork.audio.features import FLOOR_DB, OFFSET_DB, PEAK_DB, SCALE_DB, SILENT_POWER, band_weights
from hushwork.inference.network import Network
from hushwork.inference.onnx import Graph

GATE_ORDER = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}  # of torch's gates, as ONNX has them
LAST = np.iinfo(np.int64).max
BLOCK = 128


class GraphWriter:
    """Writes the graphs of a network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def sequence_graph(self) -> bytes:
        """``spec`` (B, T, F, 2) and ``state`` (B, S) → ``spec_e`` (B, T, F, 2) and ``state_out`` (B, S)."""
        return self._graph(("B", "T", self._network.num_bins, 2), ("B", self._network.state_size), frame=False)

    def frame_graph(self) -> bytes:
        """``spec`` (1, 1, F, 2) and ``state`` (S,) → ``spec_e`` (1, 1, F, 2) and ``state_out`` (S,)."""
        return self._graph((1, 1, self._network.num_bins, 2), (self._network.state_size,), frame=True)

    def sherpa_graph(self) -> bytes:
        """The frame graph as sherpa-onnx runs models of its type "dpdfnet".

        It takes back a delay of two windows, so the graph makes one. Its own window is "vorbis", whatever the model was
        trained with.
        """
        stft = self._network.config["stft"]
        if 2 * stft["n_fft"] % stft["hop_length"]:
            raise ValueError("sherpa-onnx needs a window of a whole or half number of hops")
        delay = 2 * stft["n_fft"] // stft["hop_length"]
        size = self._network.state_size + delay * 2 * self._network.num_bins
        about = {
            "model_type": "dpdfnet",
            "profile": "dpdfnet_16khz",
            "window_type": "vorbis",
            "pad_mode": "constant",
            "center": "1",
            "normalized": "0",
            "freq_bins": str(self._network.num_bins),
            "erb_bins": "1",
            "spec_bins": "1",
            "state_size": str(size),
            "erb_norm_state_size": "1",  # sherpa-onnx wants a part of the state to begin with values of its own
            "spec_norm_state_size": "1",
            "erb_norm_init": "0",
            "spec_norm_init": "0",
        }
        return self._graph((1, 1, self._network.num_bins, 2), (size,), frame=True, delay=delay, about=about)

    # ------------------------------------------------------------------------------------------------------ whole

    def _graph(
        self,
        shape: Sequence[int | str],
        state_shape: Sequence[int | str],
        *,
        frame: bool,
        delay: int = 0,
        about: Mapping[str, str] | None = None,
    ) -> bytes:
        g = Graph()
        spec, state = g.input("spec", shape), g.input("state", state_shape)
        if frame:
            state = g("Unsqueeze", state, g.constant([0]))
        layout = {**self._network.layout, **{f"delayed.{k}": 2 * self._network.num_bins for k in range(delay)}}
        parts = g.several("Split", state, g.constant([*layout.values()]), outputs=len(layout), axis=1)
        before = dict(zip(layout, parts, strict=True))
        after: dict[str, str] = {}

        power = g("ReduceSumSquare", spec, axes=[3], keepdims=0)  # (B, T, F)
        level, after["level"] = self._level(g, power, before["level"], frame)
        if num_bands := self._network.config["num_bands"]:
            to_bands, to_bins = band_weights(self._network.num_bins, num_bands, self._network.config["sample_rate"])
            power = g("MatMul", power, g.constant(to_bands))
        magnitude = g("Sqrt", power)
        features = self._features(g, g("Div", magnitude, level))
        if "mean" in self._network.layout:
            features, after["mean"] = self._less_mean(g, features, before["mean"], frame)
        hidden = g("Transpose", features, perm=[1, 0, 2])  # (T, B, F)
        if self._network.masker["projection_size"]:
            hidden = g("Relu", self._dense(g, hidden, "masker.projection.0"))
        hidden = self._stack(g, hidden, before, after, frame)
        mask = g("Sigmoid", g("Transpose", self._dense(g, hidden, "masker.output"), perm=[1, 0, 2]))
        mask = g("Mul", mask, _float(g, self._network.masker["ceiling"]))
        if self._network.masker["head"] == "magnitude":
            unit = g("Pow", mask, _float(g, 1 / self._network.config["output_compression"]))
            clean = g("Mul", g("Mul", level, _float(g, 10 ** (PEAK_DB / 20))), unit)
            mask = g("Div", clean, g("Max", magnitude, _float(g, SILENT_POWER**0.5)))
        if num_bands:
            mask = g("MatMul", mask, g.constant(to_bins))
        cleaned = g("Mul", spec, g("Unsqueeze", mask, g.constant([3])))
        for k in range(delay):
            now = g("Reshape", cleaned, g.constant([1, -1]))
            after[f"delayed.{k}"] = before[f"delayed.{k + 1}"] if k + 1 < delay else now
        if delay:
            cleaned = g("Reshape", before["delayed.0"], g.constant(list(shape)))
        flat = g("Concat", *(after[name] for name in layout), axis=1)
        if frame:
            flat = g("Squeeze", flat, g.constant([0]))
        return g.model(
            {"spec_e": (cleaned, shape), "state_out": (flat, state_shape)}, {**self.metadata(), **(about or {})}
        )

    def metadata(self) -> dict[str, str]:
        """What a user of the graphs has to know."""
        stft = self._network.config["stft"]
        return {
            "model_type": "hushwork",
            "sample_rate": str(self._network.config["sample_rate"]),
            "n_fft": str(stft["n_fft"]),
            "hop_length": str(stft["hop_length"]),
            "window_length": str(stft["n_fft"]),
            "window": stft["window"],
            "latency_samples": str(stft["n_fft"] - 1),
            "periods": json.dumps(self._network.periods),
            "offsets": json.dumps(self._network.offsets),
            "state_size": str(self._network.state_size),
            "state_layout": json.dumps(self._network.layout),
        }

    # --------------------------------------------------------------------------------------------------- features

    def _level(self, g: Graph, power: str, state: str, frame: bool) -> tuple[str, str]:
        power = g("ReduceMean", power, axes=[2])
        both = _with_ones(g, power)
        sums, state = self._leaky_sum(g, both, self._network.config["level_time_constant_s"], state, frame)
        power, weight = g.several("Split", sums, g.constant([1, 1]), outputs=2, axis=2)
        return g("Sqrt", g("Max", g("Div", power, weight), _float(g, SILENT_POWER))), state

    def _features(self, g: Graph, relative: str) -> str:
        compression = self._network.config["compression"]
        if compression != "log":
            return g("Pow", relative, _float(g, compression))
        logarithm = g("Log", g("Max", relative, _float(g, 10 ** (FLOOR_DB / 20))))
        scaled = g("Mul", logarithm, _float(g, 20 / math.log(10) / SCALE_DB))
        return g("Add", scaled, _float(g, OFFSET_DB / SCALE_DB))

    def _less_mean(self, g: Graph, features: str, state: str, frame: bool) -> tuple[str, str]:
        time_constant_s = self._network.config["mean_time_constant_s"]
        sums, state = self._leaky_sum(g, _with_ones(g, features), time_constant_s, state, frame)
        sums, weight = g.several("Split", sums, g.constant([self._network.num_features, 1]), outputs=2, axis=2)
        return g("Sub", features, g("Div", sums, weight)), state

    def _leaky_sum(self, g: Graph, x: str, time_constant_s: float, state: str, frame: bool) -> tuple[str, str]:
        """Sums over the past (B, T, C), each frame's share falling by a factor, and the last of them (B, C)."""
        log_decay = -self._network.config["stft"]["hop_length"] / self._network.config["sample_rate"] / time_constant_s
        state = g("Unsqueeze", state, g.constant([1]))
        if frame:
            sums = g("Add", x, g("Mul", state, _float(g, math.exp(log_decay))))
            return sums, g("Squeeze", sums, g.constant([1]))
        # Blocks of frames by one matrix product, then what each block inherits from those before it by another.
        length = g("Shape", x, start=1, end=2)
        missing = g("Mod", g("Sub", g.constant([0]), length), g.constant([BLOCK]))
        padded = g("Pad", x, g("Concat", g.constant([0, 0, 0, 0]), missing, g.constant([0]), axis=0))
        blocks = g("Reshape", padded, g("Concat", g.constant([0, -1, BLOCK]), g("Shape", x, start=2), axis=0))
        ages = np.subtract.outer(np.arange(BLOCK), np.arange(BLOCK))
        shares = np.where(ages >= 0, np.exp(log_decay * ages.clip(0)), 0).astype(np.float32)
        within = g("MatMul", g.constant(shares), blocks)  # (B, K, BLOCK, C)
        lasts = g("Gather", within, g.constant(-1), axis=2)  # (B, K, C)
        number = g("Cast", _frames(g, lasts, axis=1), to=1)
        column = g("Unsqueeze", number, g.constant([1]))
        before = g("Sub", g("Sub", column, number), _float(g, 1))
        faded = g("Exp", g("Mul", g("Max", before, _float(g, 0)), _float(g, BLOCK * log_decay)))
        faded = g("Mul", faded, g("Cast", g("GreaterOrEqual", before, _float(g, 0)), to=1))
        start = g("Mul", g("Exp", g("Mul", column, _float(g, BLOCK * log_decay))), state)
        inherited = g("Unsqueeze", g("Add", g("MatMul", faded, lasts), start), g.constant([2]))
        fading = np.exp(log_decay * np.arange(1, BLOCK + 1))[:, None].astype(np.float32)
        sums = g("Add", within, g("Mul", inherited, g.constant(fading)))
        sums = g("Reshape", sums, g("Concat", g.constant([0, -1]), g("Shape", x, start=2), axis=0))
        sums = g("Slice", sums, g.constant([0]), length, g.constant([1]))
        return sums, g("Gather", sums, g.constant(-1), axis=1)

    # ------------------------------------------------------------------------------------------------- recurrence

    def _stack(self, g: Graph, x: str, before: Mapping[str, str], after: dict[str, str], frame: bool) -> str:
        run = self._clockwork_frame if frame and self._network.periods else self._layer
        before = before if self._network.is_causal else {}
        for layer in range(self._network.num_layers):
            ahead = run(g, x, f"masker.recurrence.forwards.{layer}", layer, before, after)
            if not self._network.is_causal:
                name = f"masker.recurrence.backwards.{layer}"
                back = _reversed(g, self._layer(g, _reversed(g, x), name, layer, {}, {}))
                if self._network.recurrence["merge"] == "concat":
                    ahead = g("Concat", ahead, back, axis=2)
                else:
                    ahead = g("Add", ahead, back)
            x = ahead
        for module, period in enumerate(self._network.periods if self._network.is_causal else ()):
            if period > 1:
                length = g("Cast", g("Shape", x, start=0, end=1), to=1)
                moved = g("Add", before[f"phase.{module}"], length)
                after[f"phase.{module}"] = g("Mod", moved, _float(g, period), fmod=1)
        return x

    def _layer(self, g: Graph, x: str, name: str, layer: int, before: Mapping[str, str], after: dict[str, str]) -> str:
        """One layer in one direction over many frames (T, B, I) → (T, B, H)."""
        if not self._network.periods:
            y, last = self._cell(g, x, name, self._before(g, x, layer, 0, before))
            after.update(self._named(layer, 0, last))
            return y
        frames = _frames(g, x, axis=0)
        histories: dict[int, str] = {}
        held: dict[int, str] = {}
        firsts = [self._first_tick(g, module, before) for module in range(len(self._network.periods))]
        for module in self._order():
            period, first = self._network.periods[module], firsts[module]
            state = self._before(g, x, layer, module, before)
            seen = self._seen(g, x, name, layer, module, first, before, after)
            ticks = g("Mul", _frames(g, seen, axis=0), g.constant(period))
            just_before = g("Add", ticks, g("Sub", first, g.constant(1)))
            heard = [
                g("Gather", histories[k], self._ticks_until(g, just_before, firsts[k], k), axis=0)
                for k in self._network.sources(module)
            ]
            inputs = g("Concat", seen, *heard, axis=2) if heard else seen
            y, last = self._cell(g, inputs, f"{name}.clocked.{module}", state)
            after.update(self._named(layer, module, last))
            start = g("Unsqueeze", state[0], g.constant([0]))
            histories[module] = g("Concat", start, y, axis=0)
            held[module] = g("Gather", histories[module], self._ticks_until(g, frames, first, module), axis=0)
        return g("Concat", *(held[module] for module in range(len(self._network.periods))), axis=2)

    def _clockwork_frame(
        self, g: Graph, x: str, name: str, layer: int, before: Mapping[str, str], after: dict[str, str]
    ) -> str:
        """One frame (1, 1, I) → (1, 1, H): all modules read each other as they stood one frame earlier."""
        hidden = []
        for module, period in enumerate(self._network.periods):
            state = self._before(g, x, layer, module, before)
            heard = [before[f"hidden.{layer}.{k}"] for k in self._network.sources(module)]
            pools = self._network.pools(module)
            pending = before.get(f"pending.{layer}.{module}", "")
            if pools:
                phase = g("Cast", before[f"phase.{module}"], to=7)
                shift = g.constant([period - self._network.offsets[module] - 1])
                place = g("Mod", g("Add", phase, shift), g.constant([period]))
                weight = g("Gather", g.constant(self._network.pool_weights(name, module)), place)
                counted = g("Squeeze", _with_ones(g, x), g.constant([0]))
                pending = g("Add", pending, g("Mul", counted, weight))

            def tick(
                b: Graph, module: int = module, state: tuple[str, ...] = state, pending: str = pending
            ) -> list[str]:
                seen, rest = x, []
                if self._network.pools(module):
                    size = self._network.input_size(layer)
                    total, weight = b.several("Split", pending, b.constant([size, 1]), outputs=2, axis=1)
                    seen = b("Unsqueeze", b("Div", total, weight), b.constant([0]))
                    rest = [b("Mul", pending, _float(b, 0))]
                others = [b("Unsqueeze", value, b.constant([0])) for value in heard]  # noqa: B023
                inputs = b("Concat", seen, *others, axis=2) if others else seen
                return [*self._cell(b, inputs, f"{name}.clocked.{module}", state)[1], *rest]

            waiting = [*state, *([pending] if pools else [])]
            if period == 1:
                now = tick(g)
            else:
                offset = _float(g, self._network.offsets[module])
                condition = g("Squeeze", g("Equal", before[f"phase.{module}"], offset), g.constant([0, 1]))
                then, other = g.branch(), g.branch()
                now = g.choose(condition, (then, tick(then)), (other, waiting))
            after.update(self._named(layer, module, now[: len(state)]))
            if pools:
                after[f"pending.{layer}.{module}"] = now[-1]
            hidden.append(now[0])
        return g("Unsqueeze", g("Concat", *hidden, axis=1), g.constant([0]))

    def _first_tick(self, g: Graph, module: int, before: Mapping[str, str]) -> str:
        """(1,) the frame of this run in which the module first ticks."""
        period, offset = self._network.periods[module], self._network.offsets[module]
        if period == 1:
            return g.constant([0])
        if f"phase.{module}" not in before:
            return g.constant([offset])
        # All streams of a batch keep the same time.
        phase = g("Cast", g("Gather", g("Squeeze", before[f"phase.{module}"], g.constant([1])), g.constant([0])), to=7)
        return g("Mod", g("Sub", g.constant([offset + period]), phase), g.constant([period]))

    def _ticks_until(self, g: Graph, frames: str, first: str, module: int) -> str:
        """How often a module has ticked up to and including each of ``frames``, which are -1 or later."""
        period = g.constant(self._network.periods[module])
        return g("Div", g("Add", g("Sub", frames, first), period), period)

    def _seen(
        self,
        g: Graph,
        x: str,
        name: str,
        layer: int,
        module: int,
        first: str,
        before: Mapping[str, str],
        after: dict[str, str],
    ) -> str:
        """What a module sees of the input (T, B, I) at its ticks (n, B, I)."""
        period = self._network.periods[module]
        if not self._network.pools(module):
            if period == 1:
                return x
            return g("Slice", x, first, g.constant([LAST]), g.constant([0]), g.constant([period]))
        counted = _with_ones(g, x)
        weights = g.constant(self._network.pool_weights(name, module))
        # Padded in front, window k of frames ends in tick k; padded behind, the last window is whole too.
        front = g("Sub", g.constant([period - 1]), first)
        length = g("Add", g("Shape", x, start=0, end=1), front)
        behind = g("Mod", g("Sub", g.constant([0]), length), g.constant([period]))
        zeros = g.constant([0, 0])
        padded = g("Pad", counted, g("Concat", front, zeros, behind, zeros, axis=0))
        size = self._network.input_size(layer) + 1
        streams = g("Shape", x, start=1, end=2)
        windows = g("Concat", g.constant([-1, period]), g("Mul", streams, g.constant([size])), axis=0)
        sums = g("MatMul", weights, g("Reshape", padded, windows))  # (n or n + 1, B·(I + 1))
        sums = g("Reshape", sums, g("Concat", g.constant([-1]), streams, g.constant([size]), axis=0))
        ticks = g("Div", length, g.constant([period]))
        complete = g("Slice", sums, g.constant([0]), ticks, g.constant([0]))
        if f"pending.{layer}.{module}" in before:
            pending = g("Unsqueeze", before[f"pending.{layer}.{module}"], g.constant([0]))
            head = g("Add", g("Slice", complete, g.constant([0]), g.constant([1]), g.constant([0])), pending)
            tail = g("Slice", complete, g.constant([1]), g.constant([LAST]), g.constant([0]))
            complete = g("Concat", head, tail, axis=0)
            # Nothing waits if the last tick was the last frame: a sum over no windows is 0.
            rest = g("Slice", sums, ticks, g.constant([LAST]), g.constant([0]))
            after[f"pending.{layer}.{module}"] = g("ReduceSum", rest, g.constant([0]), keepdims=0)
        total, weight = g.several("Split", complete, g.constant([size - 1, 1]), outputs=2, axis=2)
        return g("Div", total, weight)

    def _cell(self, g: Graph, x: str, name: str, state: tuple[str, ...]) -> tuple[str, list[str]]:
        """One of torch's cells over (n, B, I) → (n, B, u), and its last state (B, u) or two of them."""
        kind, weights = self._network.cell, self._network.cell_weights(name)
        size = weights.recurrent.shape[1]
        into, recurrent, *biases = (_arranged(array, kind) for array in weights)
        starts = [g("Unsqueeze", value, g.constant([0])) for value in state]
        options = {"linear_before_reset": 1} if kind == "gru" else {}
        constants = [g.constant(array[None]) for array in (into, recurrent, np.concatenate(biases))]
        y, *last = g.several(
            kind.upper(), x, *constants, "", *starts, outputs=1 + len(starts), hidden_size=size, **options
        )
        return g("Squeeze", y, g.constant([1])), [g("Squeeze", value, g.constant([0])) for value in last]

    def _before(self, g: Graph, x: str, layer: int, module: int, before: Mapping[str, str]) -> tuple[str, ...]:
        """The state (B, u) of a module before the first frame, or two of them."""
        names = self._named(layer, module, [""] * (2 if self._network.cell == "lstm" else 1))
        if not before:
            size = self._network.module_sizes[module]
            shape = g("Concat", g("Shape", x, start=1, end=2), g.constant([size]), axis=0)
            return (g("Expand", _float(g, 0), shape),) * len(names)
        return tuple(before[name] for name in names)

    def _named(self, layer: int, module: int, values: Sequence[str]) -> dict[str, str]:
        return {f"{part}.{layer}.{module}": value for part, value in zip(("hidden", "cell"), values, strict=False)}

    def _dense(self, g: Graph, x: str, name: str) -> str:
        product = g("MatMul", x, g.constant(np.ascontiguousarray(self._network.get(f"{name}.weight").T)))
        return g("Add", product, g.constant(self._network.get(f"{name}.bias")))

    def _order(self) -> list[int]:
        modules = list(range(len(self._network.periods)))
        return modules[::-1] if self._network.slow_first else modules


def _arranged(array: np.ndarray, cell: str) -> np.ndarray:
    gates = np.split(array, len(GATE_ORDER[cell]))
    return np.concatenate([gates[k] for k in GATE_ORDER[cell]])


def _float(g: Graph, value: float) -> str:
    return g.constant(np.float32(value))


def _frames(g: Graph, x: str, axis: int) -> str:
    """0, 1, … for each entry of an axis."""
    length = g("Squeeze", g("Shape", x, start=axis, end=axis + 1), g.constant([0]))
    return g("Range", g.constant(0), length, g.constant(1))


def _reversed(g: Graph, x: str) -> str:
    return g("Slice", x, g.constant([-1]), g.constant([-LAST]), g.constant([0]), g.constant([-1]))


def _with_ones(g: Graph, x: str) -> str:
    """(…, C) → (…, C + 1), the last of them 1."""
    return g("Pad", x, g.constant([0, 0, 0, 0, 0, 1]), _float(g, 1))
