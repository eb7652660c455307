"""The heads: how the outputs of the last layer become a filter for the noisy spectrum.

Formulas take torch tensors, or values of a :class:`hushwork.network.graph.Graph`, which have the same methods.

Shapes: (B, T, K) of K bins or bands, D lowest bins; the first two axes may come in either order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hushwork.network.features import PEAK_DB, SILENT_POWER


class NoisyFrames(NamedTuple):
    """What a head may use of the noisy frames that it masks: running level (B, T, 1), magnitude of the bins (B, T, F),
    None if it masks bands, and the exponent by which a head that predicts magnitudes compresses them."""

    level: Any
    magnitude: Any
    output_compression: float


Mask = tuple[Any, Any | None]
"""The real and the imaginary part (B, T, K); None where the mask is real."""


@dataclass(frozen=True)
class Head:
    """The clean frame is the noisy frame times a mask, plus, in the lowest bins, a complex filter over time.

    The filter is the sum over its taps, each times a noisy frame: the last tap the current one, the others those
    before.

    Attributes:
        outputs: of the last layer, for each bin or band.
        activation: "sigmoid" or "tanh", which bounds them; ``ceiling`` times that goes to ``mask``.
        mask: makes the mask of these outputs, a list of (B, T, K).
        taps: of the filter, at least 2; 0: there is none.
        filtered_bins: how many of the lowest bins are filtered, at most K. The last layer has 2·taps more outputs for
            each; real and imaginary parts lie in [-ceiling, ceiling].
        has_ceiling: whether ``ceiling`` may be other than 1.
        takes_bands: whether outputs may stand for bands.
    """

    outputs: int
    activation: str
    mask: Callable[[Sequence[Any], NoisyFrames], Mask]
    taps: int = 0
    filtered_bins: int = 0
    has_ceiling: bool = True
    takes_bands: bool = True

    def sizes(self, num_features: int) -> list[int]:
        """Of the last layer's outputs, for K features: ``outputs`` times K, then the filter's as (2, taps, D).

        The oldest tap is first.
        """
        filtered = [2 * self.taps * self.num_filtered(num_features)] if self.taps else []
        return [num_features] * self.outputs + filtered

    def num_filtered(self, num_features: int) -> int:
        """D."""
        return min(self.filtered_bins, num_features)

    def activate(self, pieces: Sequence[Any], ceiling: float) -> list[Any]:
        """The last layer's outputs, split into :meth:`sizes`, bounded."""
        bounds = [self.activation] * self.outputs + ["tanh"] * (len(pieces) - self.outputs)
        return [getattr(piece, bound)() * ceiling for piece, bound in zip(pieces, bounds, strict=True)]


def _gain(outputs: Sequence[Any], noisy: NoisyFrames) -> Mask:
    return outputs[0], None


def _magnitude(outputs: Sequence[Any], noisy: NoisyFrames) -> Mask:
    unit = outputs[0] ** (1 / noisy.output_compression)
    return noisy.level * 10 ** (PEAK_DB / 20) * unit / noisy.magnitude.clamp(min=SILENT_POWER**0.5), None


HEADS: dict[str, Head] = {
    # A gain in [0, ceiling].
    "mask": Head(1, "sigmoid", _gain),
    # The clean magnitude itself: 1 means PEAK_DB above the running level.
    "magnitude": Head(1, "sigmoid", _magnitude, has_ceiling=False, takes_bands=False),
    # A complex gain whose real and imaginary parts lie in [-ceiling, ceiling], so that phases change too (Williamson et
    # al., "Complex ratio masking for monaural speech separation", 2016, eq. 10 with K = ceiling).
    "complex": Head(2, "tanh", lambda outputs, noisy: (outputs[0], outputs[1])),
    # A gain, and in the lowest bins, where harmonics lie, a deep filter added to it: 5 complex taps, which resolve what
    # lies between two bins and turn phases. They start at 0, so that training starts with the mask. Here without
    # look-ahead (Mack and Habets, "Deep filtering: signal extraction and reconstruction using complex time-frequency
    # filters", 2020; Schröter et al., "DeepFilterNet: a low complexity speech enhancement framework for full-band audio
    # based on deep filtering", 2022).
    "deep_filter": Head(1, "sigmoid", _gain, taps=5, filtered_bins=64),
}
