"""How much of the noise is removed, and how channels and bands are treated.

Shapes: spectra and signals of any shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How much of the noise is removed.

    Args:
        mix: share of the denoised signal in the output, in [0, 1]; the rest is the input, 0 gives the input unchanged.
        max_attenuation_db: no frequency is attenuated by more than this many dB; None sets no limit.
        gate_db: what remains is faded out where it stays below this level, in dB relative to full scale (of a sine),
            for 0.2 s; None leaves it.
        noise_only: output what is removed instead of what remains.

    Raises:
        ValueError: a value outside its range.

    Example:
        >>> Strength(mix=0.8, max_attenuation_db=20).mix
        0.8
    """

    mix: float = 1.0
    max_attenuation_db: float | None = None
    gate_db: float | None = None
    noise_only: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.mix <= 1:
            raise ValueError(f"mix is {self.mix}; it must lie between 0 (the input) and 1 (fully denoised)")
        if self.max_attenuation_db is not None and not self.max_attenuation_db >= 0:
            raise ValueError(f"max_attenuation_db is {self.max_attenuation_db}; it must be 0 or more")
        if self.gate_db is not None and not self.gate_db < 0:
            raise ValueError(f"gate_db is {self.gate_db}; it must be below 0, which is full scale")

    def limit(self, noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """Noisy and clean spectra, complex and of one shape → the clean one, attenuated no more than is allowed."""
        if self.max_attenuation_db is None:
            return clean
        floor = noisy * np.float32(10 ** (-self.max_attenuation_db / 20))
        return np.where(np.abs(clean) < np.abs(floor), floor, clean)

    def blend(self, noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """Noisy and clean signals or spectra of one shape → their mix, or what the mix lacks of the noisy one."""
        if self.mix != 1:
            share = noisy.dtype.type(self.mix) if noisy.dtype.kind == "f" else np.float32(self.mix)
            clean = noisy * (1 - share) + clean * share
        return noisy - clean if self.noise_only else clean

    def without_blend(self) -> Strength:
        """The part that acts on the spectrum, for a caller that blends the signals itself."""
        return replace(self, mix=1.0, noise_only=False)


PURPOSES = {"listening": Strength(), "asr": Strength(mix=0.8)}
"""The best strength by purpose; for recognisers see ``scripts/benchmarks/benchmark_asr.py`` (docs/laboratory.md)."""
CHANNEL_MODES = ("linked", "independent", "mid")
HIGH_BANDS = ("mask", "keep", "drop")
QUALITIES = ("standard", "best")


@dataclass(frozen=True)
class Processing:
    """How recordings are denoised; the options are those of :func:`hushwork.denoise`.

    Raises:
        ValueError: an unknown value of an option.
    """

    strength: Strength = Strength()
    channels: str = "linked"
    high_band: str = "mask"
    quality: str = "standard"

    def __post_init__(self) -> None:
        check_choice("channels", self.channels, CHANNEL_MODES)
        check_choice("high_band", self.high_band, HIGH_BANDS)
        check_choice("quality", self.quality, QUALITIES)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Processing:
        """The inverse of :func:`dataclasses.asdict`."""
        return cls(**{**values, "strength": Strength(**values["strength"])})


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError if an option has none of the allowed values."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
