"""hushwork: speech enhancement with stacked, bidirectional and clockwork recurrent networks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hushwork.files.denoise import denoise as denoise
    from hushwork.files.denoise import denoise_file as denoise_file
    from hushwork.files.denoise import denoise_files as denoise_files
    from hushwork.models.clockwork import ClockworkRNN as ClockworkRNN
    from hushwork.models.clockwork import StackedClockworkRNN as StackedClockworkRNN
    from hushwork.models.denoiser import Denoiser as Denoiser
    from hushwork.models.export import export_model as export_model
    from hushwork.models.export import load_for_training as load_for_training
    from hushwork.models.export import pretrained as pretrained
    from hushwork.models.predictor import ClockworkPredictor as ClockworkPredictor
    from hushwork.models.predictor import SequencePredictor as SequencePredictor
    from hushwork.models.recurrence import StackedRNN as StackedRNN
    from hushwork.models.recurrence import register_cell as register_cell
    from hushwork.models.subband import SubbandRNN as SubbandRNN
    from hushwork.network.pretrained import PretrainedDenoiser as PretrainedDenoiser
    from hushwork.network.pretrained import load_pretrained as load_pretrained
    from hushwork.streaming.stream import DenoiserStream as DenoiserStream
    from hushwork.streaming.strength import Strength as Strength

__version__ = "0.1.0"

# Imported on first access: denoising needs no torch, and `--help` no numpy.
_HOMES = {
    "ClockworkPredictor": "models.predictor",
    "ClockworkRNN": "models.clockwork",
    "Denoiser": "models.denoiser",
    "DenoiserStream": "streaming.stream",
    "PretrainedDenoiser": "network.pretrained",
    "SequencePredictor": "models.predictor",
    "StackedClockworkRNN": "models.clockwork",
    "StackedRNN": "models.recurrence",
    "Strength": "streaming.strength",
    "SubbandRNN": "models.subband",
    "denoise": "files.denoise",
    "denoise_file": "files.denoise",
    "denoise_files": "files.denoise",
    "export_model": "models.export",
    "load_for_training": "models.export",
    "load_pretrained": "network.pretrained",
    "pretrained": "models.export",
    "register_cell": "models.recurrence",
}
# The purpose of optional packages, and their extra; all others are for training.
_EXTRAS = {
    "ray": ("Ray clusters", "ray"),
    "upath": ("URLs", "remote"),
    "fsspec": ("URLs", "remote"),
    "pipecat": ("Pipecat agents", "pipecat"),
    "livekit": ("LiveKit agents", "livekit"),
}
__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hushwork' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"hushwork.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "hushwork").startswith("hushwork"):
            raise
        raise ImportError(f"hushwork.{name} {missing(error)}") from None


def missing(error: ModuleNotFoundError) -> str:
    """The remedy for a missing package, as the end of a sentence."""
    purpose, extra = _EXTRAS.get((error.name or "").partition(".")[0], ("training", "train"))
    return f"needs {error.name}, which is installed for {purpose}: pip install 'hushwork[{extra}]'"


def __dir__() -> list[str]:
    return __all__
