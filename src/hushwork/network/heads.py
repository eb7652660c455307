"""The heads: how the last layer's outputs become a filter that turns the noisy spectrum into the clean one.

Formulas take whatever has the methods of a tensor: torch's, or values of a :class:`hushwork.network.graph.Graph`.

Shapes: (B, T, K) of K bins or bands; torch and graphs order the first two axes as they like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hushwork.network.features import PEAK_DB, SILENT_POWER


class NoisyFrames(NamedTuple):
    """What a head may know of the noisy speech: running level (B, T, 1), magnitude (B, T, K), and the exponent by which
    a head that predicts magnitudes compresses them."""

    level: Any
    magnitude: Any
    output_compression: float


Filter = list[tuple[Any, Any | None]]
"""Of each tap the real and the imaginary part (B, T, K); None where all filters are real."""


@dataclass(frozen=True)
class Head:
    """The clean frame t is the sum over taps k of filter k times the noisy frame t - k.

    Attributes:
        outputs: of the last layer, for each bin or band.
        activation: "sigmoid" or "tanh", which bounds them; ``ceiling`` times that goes to ``filter``.
        filter: makes of these outputs, a list of (B, T, K), the filter of each tap.
        taps: frames that the filter reads, the current one included.
        has_ceiling: whether ``ceiling`` may be other than 1.
        takes_bands: whether outputs may stand for bands.
    """

    outputs: int
    activation: str
    filter: Callable[[Sequence[Any], NoisyFrames], Filter]
    taps: int = 1
    has_ceiling: bool = True
    takes_bands: bool = True

    def activate(self, x: Any, ceiling: float) -> Any:
        """The last layer's outputs (B, T, outputs·K), bounded."""
        return getattr(x, self.activation)() * ceiling


def _magnitude(outputs: Sequence[Any], noisy: NoisyFrames) -> Filter:
    unit = outputs[0] ** (1 / noisy.output_compression)
    return [(noisy.level * 10 ** (PEAK_DB / 20) * unit / noisy.magnitude.clamp(min=SILENT_POWER**0.5), None)]


HEADS: dict[str, Head] = {
    # A gain in [0, ceiling].
    "mask": Head(1, "sigmoid", lambda outputs, noisy: [(outputs[0], None)]),
    # The clean magnitude itself: 1 means PEAK_DB above the running level.
    "magnitude": Head(1, "sigmoid", _magnitude, has_ceiling=False, takes_bands=False),
    # A complex gain whose real and imaginary parts lie in [-ceiling, ceiling], so that phases change too (Williamson et
    # al., "Complex ratio masking for monaural speech separation", 2016, eq. 10 with K = ceiling).
    "complex": Head(2, "tanh", lambda outputs, noisy: [(outputs[0], outputs[1])]),
}
