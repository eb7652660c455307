"""The specification of a denoiser: every setting with its default, range and meaning.

It is the ``model`` node of a model folder's ``config.json`` and of the Hydra configuration, where ``_target_`` names
the torch module that is built of it. The modules check their arguments and take their defaults here; denoising reads
a folder by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hushwork.audio.stft import StftConfig
from hushwork.network.cells import known_cells
from hushwork.network.heads import HEADS
from hushwork.settings import Settings, part, setting

FORMAT = 1
"""Of ``config.json``; it rises when a program of today would misread a later folder."""
MERGES = ("concat", "sum")
POOLS = ("sample", "mean", "learned")
CONNECTIONS = ("slow_to_fast", "fast_to_slow")
BACKENDS = ("auto", "cascade", "split")
MAX_UNITS = 10**5
MAX_LOOK_AHEAD = 4
DROPOUT = (0.0, 0.99)


@dataclass(frozen=True, kw_only=True)
class StackSettings(Settings):
    """What all stacks of recurrent layers have."""

    is_partial: ClassVar[bool] = True
    num_layers: int = setting(2, between=(1, 32), doc="layers on top of each other")
    bidirectional: bool = setting(
        False, choices=(False, True), doc="whether each layer also runs backwards; then nothing streams"
    )
    merge: str = setting("concat", choices=MERGES, doc="how the outputs of the two directions are merged")
    dropout: float = setting(0.0, between=DROPOUT, doc="probability between layers, in training")


@dataclass(frozen=True, kw_only=True)
class StackedRnnSettings(StackSettings):
    """Of :class:`hushwork.StackedRNN`."""

    target = "hushwork.models.recurrence.StackedRNN"
    hidden_size: int = setting(between=(1, MAX_UNITS), doc="units of each layer and direction")
    cell: str = setting("lstm", choices=known_cells, doc="recurrent cell")


@dataclass(frozen=True, kw_only=True)
class ClockworkSettings(StackSettings):
    """Of :class:`hushwork.StackedClockworkRNN`."""

    target = "hushwork.models.clockwork.StackedClockworkRNN"
    hidden_sizes: tuple[int, ...] = setting(
        between=(1, MAX_UNITS), many=True, doc="units of each module, fastest first"
    )
    periods: tuple[int, ...] = setting(
        between=(1, 1000), many=True, doc="frames from tick to tick of each module; ascending, each only once"
    )
    cell: str = setting("rnn", choices=known_cells, doc="recurrent cell of each module")
    pool: str = setting(
        "mean",
        choices=POOLS,
        doc='input of a module at its tick: the current frame ("sample"), or the mean since its last tick, plain or '
        "with learned weights",
    )
    offsets: tuple[int, ...] | None = setting(
        None, between=(0, 999), many=True, doc="frame of each module's first tick, below its period; None: 0 for all"
    )
    connections: str = setting("slow_to_fast", choices=CONNECTIONS, doc="which modules read which")
    single_bias: bool = setting(False, choices=(False, True), doc="one bias of each unit and gate, as Keras has")
    backend: str = setting("auto", choices=BACKENDS, doc="how torch computes it, with equal results")

    def __post_init__(self) -> None:
        super().__post_init__()
        periods, sizes, offsets = self.periods, self.hidden_sizes, self.offsets
        if list(periods) != sorted(set(periods)):
            raise ValueError(f"periods are {list(periods)}; they must be ascending, each only once")
        if len(sizes) != len(periods):
            raise ValueError(f"hidden_sizes are {list(sizes)}; one is needed for each of the periods {list(periods)}")
        if offsets is not None and (
            len(offsets) != len(periods) or any(o >= p for o, p in zip(offsets, periods, strict=True))
        ):
            raise ValueError(
                f"offsets are {list(offsets)}; one in [0, period) is needed for each of the periods {list(periods)}"
            )


@dataclass(frozen=True, kw_only=True)
class MaskerSettings(Settings):
    """Of :class:`hushwork.models.masker.RecurrentMasker`."""

    target = "hushwork.models.masker.RecurrentMasker"
    is_partial: ClassVar[bool] = True
    head: str = setting("mask", choices=HEADS, doc="meaning of the outputs, see hushwork.network.heads")
    ceiling: float = setting(1.0, between=(1e-6, 1e6), doc="largest output; a mask up to 1 can only attenuate")
    projection_size: int | None = setting(
        None, between=(1, MAX_UNITS), doc="width of a dense layer with ReLU before the recurrence; None: no such layer"
    )
    dropout: float = setting(0.0, between=DROPOUT, doc="probability before the last layer, in training")
    subband_size: int | None = setting(
        None,
        between=(1, 1024),
        doc="units of recurrent layers that refine the mask in every band by the same weights; None: no such layers",
    )
    subband_layers: int = setting(2, between=(1, 8), doc="number of those layers")
    recurrence: StackedRnnSettings | ClockworkSettings = part(StackedRnnSettings, ClockworkSettings)

    @classmethod
    def check_head(cls, head: str, ceiling: float) -> None:
        """Refuse a ceiling that a head cannot have."""
        cls.check(head=head, ceiling=ceiling)
        if ceiling != 1 and not HEADS[head].has_ceiling:
            raise ValueError(f"ceiling is {ceiling}; with the head {head!r} it must be 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_head(self.head, self.ceiling)


@dataclass(frozen=True, kw_only=True)
class DenoiserSettings(Settings):
    """Of :class:`hushwork.Denoiser`."""

    target = "hushwork.models.denoiser.Denoiser"
    sample_rate: int = setting(between=(1, 10**6), doc="Hz")
    stft: StftConfig = part(StftConfig)
    num_bands: int | None = setting(
        None, between=(1, 1024), doc="bands that the network reads and masks, None: every bin by itself"
    )
    compression: str | float = setting(
        "log", between=(1e-6, 1.0), choices=("log",), doc="of the magnitudes that the network reads: exponent, or log"
    )
    level_time_constant_s: float = setting(3.0, between=(1e-6, 1e6), doc="memory of the running level")
    mean_time_constant_s: float | None = setting(
        None, between=(1e-6, 1e6), doc="memory of the running mean that features are freed of; None: they keep it"
    )
    output_compression: float = setting(
        0.3, between=(1e-6, 1.0), doc="exponent of the magnitudes that the head magnitude predicts"
    )
    look_ahead: int = setting(
        0, between=(0, MAX_LOOK_AHEAD), doc="later frames that a mask depends on; each delays a stream by a hop"
    )
    masker: MaskerSettings = part(MaskerSettings)

    @classmethod
    def check_bands(cls, num_bands: int | None, num_bins: int, head: str) -> None:
        """Refuse bands that are more than the bins, or that a head cannot have."""
        if num_bands is None:
            return
        if num_bands > num_bins:
            raise ValueError(f"num_bands is {num_bands}; it must lie between 1 and the number of bins, {num_bins}")
        if not HEADS[head].takes_bands:
            raise ValueError(f"num_bands is {num_bands}; the head {head!r} predicts bins, leave num_bands out")

    @classmethod
    def check_look_ahead(cls, look_ahead: int, *, is_causal: bool) -> None:
        """Refuse later frames for a network that reads all of them anyway."""
        if look_ahead and not is_causal:
            raise ValueError(f"look_ahead is {look_ahead}; a bidirectional network reads all later frames, set it to 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_bands(self.num_bands, self.stft.num_bins, self.masker.head)
        self.check_look_ahead(self.look_ahead, is_causal=not self.masker.recurrence.bidirectional)
