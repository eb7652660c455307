"""A network for inference: its specification and its weights, checked, and facts derived from them.

Shapes: F bins, K bins or bands, I input features, u units of a module, S numbers of state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import lcm
from typing import NamedTuple

import numpy as np

from hushwork.network.cells import CELLS, Cell
from hushwork.network.features import NEIGHBOURS, SUBBAND_INPUTS
from hushwork.network.heads import HEADS
from hushwork.network.specification import ClockworkSettings, DenoiserSettings, StackedRnnSettings
from hushwork.strict_json import shown

MAX_NUMBERS_PER_S = 2 * 10**6
"""Of the widest layer: frames a second times numbers a frame, which bounds the memory of a run."""

Weights = Mapping[str, np.ndarray]

SUBBAND_CELL = CELLS["gru"]


class CellWeights(NamedTuple):
    """Of an operator, gates in torch's order: (gates·u, I), (gates·u, u), and two of (gates·u,)."""

    input: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    recurrent_bias: np.ndarray


class Network:
    """Specification and weights of a denoiser.

    A plain recurrent layer is treated as a clockwork layer of one module that ticks in every frame.

    Args:
        settings: the specification.
        weights: arrays by their names in torch's state dict.

    Attributes:
        cycle: frames after which all clocks stand as before.
        layout: name → size of each part of a stream's state, in order.

    Raises:
        ValueError: the arrays are not those of this specification, or the network is too large to run.
    """

    def __init__(self, settings: DenoiserSettings, weights: Weights) -> None:
        self.settings, self.masker, self.recurrence = settings, settings.masker, settings.masker.recurrence
        if self.recurrence.cell not in CELLS:
            raise ValueError(f"cell is {shown(self.recurrence.cell)}; choose one of {', '.join(CELLS)}")
        self._weights = weights
        self.cell: Cell = CELLS[self.recurrence.cell]
        self.head = HEADS[self.masker.head]
        self.is_causal = not self.recurrence.bidirectional
        self.num_bins: int = settings.stft.num_bins
        self.num_features: int = settings.num_bands or self.num_bins
        self.num_filtered = self.head.num_filtered(self.num_features)
        self.num_layers = self.recurrence.num_layers
        if isinstance(self.recurrence, ClockworkSettings):
            self.has_clock, self.pool = True, self.recurrence.pool
            self.periods, self.module_sizes = self.recurrence.periods, self.recurrence.hidden_sizes
            self.offsets = self.recurrence.offsets or (0,) * len(self.periods)
            self.slow_first = self.recurrence.connections == "slow_to_fast"
        else:
            assert isinstance(self.recurrence, StackedRnnSettings)
            self.has_clock, self.pool = False, "sample"
            self.periods, self.module_sizes, self.offsets = (1,), (self.recurrence.hidden_size,), (0,)
            self.slow_first = True
        self.cycle = lcm(*self.periods)
        self.layout = dict(self._state_layout())
        check_arrays(weights, expected_shapes(self))
        widest = max(self.num_bins, *(self.input_size(layer) for layer in range(self.num_layers + 1)))
        if self.masker.subband_size:
            widest = max(widest, self.num_features * self.masker.subband_size)
        frames_per_s = settings.sample_rate / settings.stft.hop_length
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
    def modules(self) -> range:
        return range(len(self.periods))

    @property
    def num_parameters(self) -> int:
        """How many numbers were trained."""
        return sum(array.size for array in self._weights.values())

    def is_amid_cycle(self, state: np.ndarray) -> bool:
        """Whether the clocks of streams with this state (C, S) do not all stand at 0. They keep the same time."""
        return self.cycle > 1 and bool(state[0, -self.layout["phase"] :].any())

    def input_size(self, layer: int) -> int:
        """I of a layer; of the one after the last, the width of the stack's output."""
        if layer == 0:
            return self.masker.projection_size or self.num_features
        directions = 1 if self.is_causal or self.recurrence.merge == "sum" else 2
        return directions * sum(self.module_sizes)

    def sources(self, module: int) -> range:
        """The modules that ``module`` reads besides itself."""
        return range(module + 1, len(self.module_sizes)) if self.slow_first else range(module)

    def pools(self, module: int) -> bool:
        """Whether a module reads the frames between its ticks too."""
        return self.pool != "sample" and self.periods[module] > 1

    def pool_weights(self, layer: str, module: int) -> np.ndarray:
        """(period,) relative weights of the frames in a window, oldest first, in the layer of this name."""
        if self.pool == "mean":
            return np.ones(self.periods[module], np.float32)
        number = sum(period > 1 for period in self.periods[:module])
        logits = self.get(f"{layer}.pool_logits.{number}")
        return np.exp(logits - logits.max())

    def get(self, name: str) -> np.ndarray:
        """An array, float32."""
        return np.asarray(self._weights[name], np.float32)

    def cell_name(self, layer: str, module: int) -> str:
        """Of a module's weights."""
        return f"{layer}.clocked.{module}" if self.has_clock else layer

    def cell_weights(self, name: str, cell: Cell) -> CellWeights:
        """Weights for a cell's operator; a bias that they lack is 0."""
        arrays = [self.get(f"{name}.{kind}_l0") for kind in ("weight_ih", "weight_hh", "bias_ih")]
        second = f"{name}.bias_hh_l0"
        arrays.append(self.get(second) if second in self._weights else np.zeros_like(arrays[-1]))
        return CellWeights(*(np.concatenate(cell.untied(np.split(array, cell.num_gates))) for array in arrays))

    def _state_layout(self) -> Iterator[tuple[str, int]]:
        yield "level", 2
        if self.settings.mean_time_constant_s is not None:
            yield "mean", self.num_features + 1
        if self.head.taps:
            yield "past", (self.head.taps - 1) * self.num_filtered * 2
        if self.settings.look_ahead:
            yield "waiting", self.settings.look_ahead * self.num_bins * 2
        if not self.is_causal:
            return
        for layer in range(self.num_layers):
            for state in self.cell.operator.states:
                for module, size in enumerate(self.module_sizes):
                    yield f"{state}.{layer}.{module}", size
            for module in self.modules:
                if self.pools(module):
                    yield f"pending.{layer}.{module}", self.input_size(layer) + 1
        if self.masker.subband_size:
            for layer in range(self.masker.subband_layers):
                yield f"subband.{layer}", self.num_features * self.masker.subband_size
        if num_slow := sum(period > 1 for period in self.periods):
            yield "phase", num_slow  # of each slower module the frame within its period, from 0


def expected_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Of the arrays that a network needs, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    masker, single_bias = network.masker, getattr(network.recurrence, "single_bias", False)

    def dense(name: str, inputs: int, outputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    def recurrent(name: str, cell: Cell, inputs: int, size: int, *, single_bias: bool = False) -> None:
        rows = cell.num_gates * size
        shapes.update({f"{name}.weight_ih_l0": (rows, inputs), f"{name}.weight_hh_l0": (rows, size)})
        shapes[f"{name}.bias_ih_l0"] = (rows,)
        if cell.operator.has_inner_bias or not single_bias:
            shapes[f"{name}.bias_hh_l0"] = (rows,)

    if masker.projection_size:
        dense("masker.projection.0", network.num_features, masker.projection_size)
    for layer in range(network.num_layers):
        for direction in ("forwards",) if network.is_causal else ("forwards", "backwards"):
            name, inputs = f"masker.recurrence.{direction}.{layer}", network.input_size(layer)
            if not network.has_clock:
                recurrent(name, network.cell, inputs, network.module_sizes[0])
                continue
            for module, size in enumerate(network.module_sizes):
                others = sum(network.module_sizes[k] for k in network.sources(module))
                recurrent(network.cell_name(name, module), network.cell, inputs + others, size, single_bias=single_bias)
            if network.pool == "learned":
                slow = [period for period in network.periods if period > 1]
                shapes |= {f"{name}.pool_logits.{k}": (period,) for k, period in enumerate(slow)}
    dense("masker.output", network.input_size(network.num_layers), sum(network.head.sizes(network.num_features)))
    if units := masker.subband_size:
        directions = 1 if network.is_causal else 2
        shapes["masker.subband.position"] = (network.num_features, units)
        for layer in range(masker.subband_layers):
            name = f"masker.subband.layers.{layer}"
            dense(f"{name}.across", (2 * NEIGHBOURS + 1) * (directions * units if layer else SUBBAND_INPUTS), units)
            for number in range(directions):
                recurrent(f"{name}.over_time.{number}", SUBBAND_CELL, units, units)
        dense("masker.subband.output", directions * units, 1)
    return shapes


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
