"""What a model folder describes, without torch: the network's parts, their weights, and the state of a stream.

Shapes: F bins, I input features, u units of a module, S numbers of state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from hushwork.audio.stft import WINDOWS
from hushwork.strict_json import shown

FORMAT = 1
"""Of ``config.json``, under the key ``format``; a folder without it is older. Raise it with every new setting, so that
an earlier hushwork asks for an upgrade."""

REQUIRED = object()
HYDRA_KEYS = ("_target_", "_partial_", "_convert_")
SETTINGS: dict[str, dict[str, Any]] = {
    "hushwork.models.denoiser.Denoiser": {
        "sample_rate": REQUIRED,
        "stft": REQUIRED,
        "masker": REQUIRED,
        "num_bands": None,
        "compression": "log",
        "level_time_constant_s": 3.0,
        "mean_time_constant_s": None,
        "output_compression": 0.3,
    },
    "hushwork.audio.stft.StftConfig": {"n_fft": REQUIRED, "hop_length": REQUIRED, "window": "sqrt_hann"},
    "hushwork.models.masker.RecurrentMasker": {
        "recurrence": REQUIRED,
        "head": "mask",
        "ceiling": 1.0,
        "projection_size": None,
        "dropout": 0.0,
    },
    "hushwork.models.recurrence.StackedRNN": {
        "hidden_size": REQUIRED,
        "cell": "lstm",
        "num_layers": 2,
        "bidirectional": False,
        "merge": "concat",
        "dropout": 0.0,
    },
    "hushwork.models.clockwork.StackedClockworkRNN": {
        "hidden_sizes": REQUIRED,
        "periods": REQUIRED,
        "cell": "rnn",
        "num_layers": 2,
        "bidirectional": False,
        "merge": "concat",
        "dropout": 0.0,
        "pool": "mean",
        "offsets": None,
        "connections": "slow_to_fast",
        "single_bias": False,
        "backend": "auto",
    },
}
"""The settings of each class that a configuration may name, and their values in folders that lack them."""

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
RECURRENCES = {
    "hushwork.models.recurrence.StackedRNN": False,
    "hushwork.models.clockwork.StackedClockworkRNN": True,
}
"""What a configuration may name, and whether it has clocks."""

LIMITS: dict[str, tuple[float, float]] = {
    "sample_rate": (1, 10**6),
    "n_fft": (4, 2**14),
    "hop_length": (1, 2**13),
    "num_bands": (1, 1024),
    "level_time_constant_s": (1e-6, 1e6),
    "mean_time_constant_s": (1e-6, 1e6),
    "output_compression": (1e-6, 1),
    "ceiling": (1e-6, 1e6),
    "projection_size": (1, 10**5),
    "num_layers": (1, 32),
    "hidden_size": (1, 10**5),
    "hidden_sizes": (1, 10**5),
    "periods": (1, 1000),
    "offsets": (0, 999),
}
"""What numbers of a configuration may be, the least and the most; more could only be an accident or an attack."""

OPTIONAL = ("num_bands", "mean_time_constant_s", "projection_size", "offsets")
LISTS = ("hidden_sizes", "periods", "offsets")
MAX_MODULES = 32
MAX_TEXT = 200
MAX_NUMBERS_PER_S = 2 * 10**6
"""Of the widest layer: frames a second times numbers a frame, which bounds the memory of a window of frames."""

Config = Mapping[str, Any]
Weights = Mapping[str, np.ndarray]


def with_defaults(settings: Config) -> dict[str, Any]:
    """The ``model`` node of a model folder, unchecked, with the settings that an older hushwork did not write."""

    def complete(node: Config, *parts: str) -> dict[str, Any]:
        target = node.get("_target_")
        known = SETTINGS.get(target, {}) if isinstance(target, str) else {}
        defaults = {key: value for key, value in known.items() if value is not REQUIRED}
        return {**defaults, **node, **{key: complete(node[key]) for key in parts if isinstance(node.get(key), Mapping)}}

    filled = complete(settings, "stft", "masker")
    if isinstance(filled.get("masker"), dict):
        filled["masker"] = complete(filled["masker"], "recurrence")
    return filled


class CellWeights(NamedTuple):
    """Of one of torch's cells, gates in torch's order: (gates·u, I), (gates·u, u), and two of (gates·u,)."""

    into: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    recurrent_bias: np.ndarray


class Network:
    """Configuration and weights, checked, and what follows from them.

    Args:
        config: the ``model`` node of a model folder, complete.
        weights: the folder's arrays by name.

    Attributes:
        layout: name → size of each part of a stream's state, in order.

    Raises:
        KeyError: a key is missing.
        ValueError: a value is unknown or out of range, or the arrays are not those of this configuration.
    """

    def __init__(self, config: Config, weights: Weights) -> None:
        _check(config)
        self.config, self.masker = config, config["masker"]
        self.recurrence = self.masker["recurrence"]
        self._weights = weights
        clockwork = RECURRENCES[self.recurrence["_target_"]]
        self.is_causal = not self.recurrence["bidirectional"]
        self.num_bins: int = config["stft"]["n_fft"] // 2 + 1
        self.num_features: int = config["num_bands"] or self.num_bins
        self.num_layers: int = self.recurrence["num_layers"]
        self.cell: str = self.recurrence["cell"]
        self.pool: str = self.recurrence["pool"] if clockwork else "sample"
        self.periods: tuple[int, ...] = tuple(self.recurrence["periods"]) if clockwork else ()
        self.offsets: tuple[int, ...] = tuple((clockwork and self.recurrence["offsets"]) or [0] * len(self.periods))
        sizes = self.recurrence["hidden_sizes"] if clockwork else [self.recurrence["hidden_size"]]
        self.module_sizes: list[int] = list(sizes)
        self.slow_first = not clockwork or self.recurrence["connections"] == "slow_to_fast"
        self.layout = self._state_layout()
        check_arrays(weights, dict(self._expected_shapes()))
        widest = max(self.num_bins, *(self.input_size(layer) for layer in range(self.num_layers + 1)))
        frames_per_s = config["sample_rate"] / config["stft"]["hop_length"]
        if frames_per_s * widest > MAX_NUMBERS_PER_S:
            raise ValueError(
                f"{frames_per_s:.0f} frames a second of {widest} numbers are too many to run; use a longer hop_length "
                "or a smaller network"
            )

    @property
    def state_size(self) -> int:
        """S."""
        return sum(self.layout.values())

    @property
    def min_frames(self) -> int:
        """How many frames it takes until every module has ticked."""
        return max(self.periods, default=1)

    def input_size(self, layer: int) -> int:
        """I of a layer."""
        if layer == 0:
            return int(self.masker["projection_size"] or self.num_features)
        directions = 1 if self.is_causal or self.recurrence["merge"] == "sum" else 2
        return directions * sum(self.module_sizes)

    def sources(self, module: int) -> range:
        """The modules that ``module`` reads besides itself."""
        return range(module + 1, len(self.module_sizes)) if self.slow_first else range(module)

    def pools(self, module: int) -> bool:
        """Whether a module reads the frames between its ticks too."""
        return self.pool != "sample" and self.periods[module] > 1

    def pool_weights(self, name: str, module: int) -> np.ndarray:
        """(period,) relative weights of the frames in a window, oldest first, in the layer called ``name``."""
        if self.pool == "mean":
            return np.ones(self.periods[module], np.float32)
        pooled = sum(other > 1 for other in self.periods[:module])
        logits = self.get(f"{name}.pool_logits.{pooled}")
        return np.exp(logits - logits.max())

    @property
    def num_parameters(self) -> int:
        """How many numbers were trained."""
        return sum(array.size for array in self._weights.values())

    def get(self, name: str) -> np.ndarray:
        """An array, float32."""
        return np.asarray(self._weights[name], np.float32)

    def cell_weights(self, name: str) -> CellWeights:
        """Those of the cell called ``name``; a bias that it has not is 0."""
        into, recurrent = self.get(f"{name}.weight_ih_l0"), self.get(f"{name}.weight_hh_l0")
        bias, second = self.get(f"{name}.bias_ih_l0"), f"{name}.bias_hh_l0"
        return CellWeights(into, recurrent, bias, self.get(second) if second in self._weights else np.zeros_like(bias))

    def parts(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """Views into a state (S,): level, mean, phases, and of each layer ``hidden.L``, ``cell.L``, ``pending.L``.

        The parts of a layer hold those of its modules one after the other.
        """
        spans: dict[str, tuple[int, int]] = {}
        start = 0
        for name, size in self.layout.items():
            whole = name if name.startswith("phase") else ".".join(name.split(".")[:2])
            spans[whole] = (spans.get(whole, (start,))[0], start + size)
            start += size
        return {name: state[first:last] for name, (first, last) in spans.items()}

    def _state_layout(self) -> dict[str, int]:
        layout = {"level": 2}
        if self.config["mean_time_constant_s"] is not None:
            layout["mean"] = self.num_features + 1
        if not self.is_causal:
            return layout
        for layer in range(self.num_layers):
            layout |= {f"hidden.{layer}.{k}": size for k, size in enumerate(self.module_sizes)}
            if self.cell == "lstm":
                layout |= {f"cell.{layer}.{k}": size for k, size in enumerate(self.module_sizes)}
            pooled = [k for k in range(len(self.periods)) if self.pools(k)]
            layout |= {f"pending.{layer}.{k}": self.input_size(layer) + 1 for k in pooled}
        # Frames since a module of offset 0 last ticked.
        return layout | {f"phase.{k}": 1 for k, period in enumerate(self.periods) if period > 1}

    def _expected_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        sizes, cell = self.module_sizes, self.cell
        gates = GATES[cell]
        shapes: list[tuple[str, tuple[int, ...]]] = []

        def dense(name: str, inputs: int, outputs: int) -> None:
            shapes.extend([(f"{name}.weight", (outputs, inputs)), (f"{name}.bias", (outputs,))])

        def recurrent(name: str, inputs: int, size: int) -> None:
            shapes.append((f"{name}.weight_ih_l0", (gates * size, inputs)))
            shapes.append((f"{name}.weight_hh_l0", (gates * size, size)))
            shapes.append((f"{name}.bias_ih_l0", (gates * size,)))
            if cell == "gru" or not self.recurrence.get("single_bias"):
                shapes.append((f"{name}.bias_hh_l0", (gates * size,)))

        if self.masker["projection_size"]:
            dense("masker.projection.0", self.num_features, self.masker["projection_size"])
        for layer in range(self.recurrence["num_layers"]):
            for direction in ("forwards",) if self.is_causal else ("forwards", "backwards"):
                name, inputs = f"masker.recurrence.{direction}.{layer}", self.input_size(layer)
                if not self.periods:
                    recurrent(name, inputs, sizes[0])
                    continue
                for module, size in enumerate(sizes):
                    heard = sum(sizes[k] for k in self.sources(module))
                    recurrent(f"{name}.clocked.{module}", inputs + heard, size)
                if self.pool == "learned":
                    slow = [period for period in self.periods if period > 1]
                    shapes.extend((f"{name}.pool_logits.{k}", (period,)) for k, period in enumerate(slow))
        dense("masker.output", self.input_size(self.recurrence["num_layers"]), self.num_features)
        return shapes


def check_limits(config: Config) -> None:
    """Refuse a configuration whose numbers lie outside ``LIMITS``, or that holds anything but a denoiser's parts.

    Keys that are missing are left to others; see :class:`Network` for a complete check.

    Args:
        config: the ``model`` node of a model folder.

    Raises:
        KeyError: a part is missing.
        ValueError: a value is out of range, too long, or of another type.
    """
    parts = _parts(config)
    for part in parts:
        for key, value in part.items():
            if not key.isidentifier() or max(len(key), len(value) if isinstance(value, str) else 0) > MAX_TEXT:
                raise ValueError(f"{shown(key)} is {shown(value)}; there is no such setting")
            if isinstance(value, Mapping | list) and key not in LISTS and not any(value is known for known in parts):
                raise ValueError(f"{key} is {shown(value)}; expected a number or a name")
            if key in LIMITS:
                _check_numbers(key, value)


def check_arrays(arrays: Weights, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays that are not those of a network.

    Args:
        arrays: by name.
        expected: their shapes.

    Raises:
        ValueError: one is missing, of another shape, not float32 or not finite, or there is one more.
    """
    for name, shape in expected.items():
        if name not in arrays:
            raise ValueError(f"the array {name} is missing")
        if arrays[name].shape != shape:
            raise ValueError(f"the array {name} has shape {arrays[name].shape}, expected {shape}")
        if arrays[name].dtype != np.float32:
            raise ValueError(f"the array {name} holds {arrays[name].dtype}, expected float32")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"the array {name} holds numbers that are NaN or infinite")
    if surplus := arrays.keys() - expected.keys():
        raise ValueError(f"the array {shown(min(surplus))} belongs to nothing in the configuration")


def _parts(config: Config) -> tuple[Config, Config, Config, Config]:
    """The configuration of a denoiser, its transform, its masker and its recurrence."""

    def part(of: Config, key: str) -> Config:
        if not isinstance(of[key], Mapping):
            raise ValueError(f"{key} is {shown(of[key])}; expected an object")
        return of[key]

    masker = part(config, "masker")
    return config, part(config, "stft"), masker, part(masker, "recurrence")


def _check(config: Config) -> None:
    """Refuse what no :class:`hushwork.Denoiser` would accept, and what would not fit into memory."""
    parts = _parts(config)
    _, stft, masker, recurrence = parts
    _check_choice("recurrence._target_", recurrence["_target_"], RECURRENCES)
    for part in parts:
        _check_choice("_target_", part["_target_"], SETTINGS)
        if unknown := part.keys() - SETTINGS[part["_target_"]].keys() - {*HYDRA_KEYS}:
            raise ValueError(
                f"{shown(min(unknown))} is no setting of {part['_target_']}; upgrade hushwork or remove it"
            )
    clockwork = RECURRENCES[recurrence["_target_"]]
    for part, keys in (
        (config, ("sample_rate", "num_bands", "level_time_constant_s", "mean_time_constant_s", "output_compression")),
        (stft, ("n_fft", "hop_length")),
        (masker, ("ceiling", "projection_size")),
        (recurrence, ("num_layers", *(LISTS if clockwork else ("hidden_size",)))),
    ):
        for key in keys:
            _check_numbers(key, part[key])
    _check_choice("window", stft["window"], WINDOWS)
    _check_choice("cell", recurrence["cell"], GATES)
    _check_choice("head", masker["head"], ("mask", "magnitude"))
    _check_choice("merge", recurrence["merge"], ("concat", "sum"))
    _check_choice("bidirectional", recurrence["bidirectional"], (False, True))
    if config["num_bands"] is not None:
        _check_choice("head with num_bands", masker["head"], ("mask",))
        _check_number("num_bands", config["num_bands"], 1, stft["n_fft"] // 2 + 1)
    if config["compression"] != "log":
        _check_number("compression", config["compression"], 1e-6, 1)
    if not clockwork:
        return
    _check_choice("single_bias", recurrence.get("single_bias", False), (False, True))
    _check_choice("pool", recurrence["pool"], ("sample", "mean", "learned"))
    _check_choice("connections", recurrence["connections"], ("slow_to_fast", "fast_to_slow"))
    periods, sizes = recurrence["periods"], recurrence["hidden_sizes"]
    offsets = recurrence["offsets"] or [0] * len(periods)
    if not periods or len(periods) != len(sizes) or len(periods) != len(offsets) or sorted({*periods}) != list(periods):
        raise ValueError(f"periods {periods}, hidden_sizes {sizes} and offsets {offsets} do not fit")
    for period, offset in zip(periods, offsets, strict=True):
        _check_number("an offset", offset, 0, period - 1)


def _check_choice(name: str, value: Any, known: Collection[object]) -> None:
    if not isinstance(value, str | bool) or value not in known:
        raise ValueError(f"{name} is {shown(value)}; choose one of {', '.join(map(str, known))}")


def _check_numbers(key: str, value: Any) -> None:
    """A value that ``LIMITS`` knows: one number, or a list of them, or none."""
    if value is None and key in OPTIONAL:
        return
    if key not in LISTS:
        _check_number(key, value, *LIMITS[key])
    elif not isinstance(value, list | tuple) or len(value) > MAX_MODULES:
        raise ValueError(f"{key} is {shown(value)}; expected a list of at most {MAX_MODULES} numbers")
    else:
        for each in value:
            _check_number(f"one of {key}", each, *LIMITS[key])


def _check_number(name: str, value: Any, least: float, most: float) -> None:
    whole = isinstance(least, int) and isinstance(most, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not least <= value <= most:
        raise ValueError(f"{name} is {shown(value)}; it must lie between {least} and {most}")
