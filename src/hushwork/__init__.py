"""hushwork: speech enhancement with stacked, bidirectional and clockwork recurrent networks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hushwork.inference.files import Strength as Strength
    from hushwork.inference.files import denoise as denoise
    from hushwork.inference.files import denoise_file as denoise_file
    from hushwork.inference.pretrained import load_pretrained as load_pretrained
    from hushwork.inference.stream import DenoiserStream as DenoiserStream
    from hushwork.models.clockwork import ClockworkRNN as ClockworkRNN
    from hushwork.models.clockwork import StackedClockworkRNN as StackedClockworkRNN
    from hushwork.models.denoiser import Denoiser as Denoiser
    from hushwork.models.predictor import ClockworkPredictor as ClockworkPredictor
    from hushwork.models.predictor import SequencePredictor as SequencePredictor
    from hushwork.models.recurrence import StackedRNN as StackedRNN
    from hushwork.models.recurrence import register_cell as register_cell

__version__ = "0.1.0"

# Imported when first asked for, so that `hushwork --help` does not wait for torch.
_HOMES = {
    "ClockworkPredictor": "models.predictor",
    "ClockworkRNN": "models.clockwork",
    "Denoiser": "models.denoiser",
    "DenoiserStream": "inference.stream",
    "SequencePredictor": "models.predictor",
    "StackedClockworkRNN": "models.clockwork",
    "StackedRNN": "models.recurrence",
    "Strength": "inference.files",
    "denoise": "inference.files",
    "denoise_file": "inference.files",
    "load_pretrained": "inference.pretrained",
    "register_cell": "models.recurrence",
}
__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hushwork' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hushwork.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
