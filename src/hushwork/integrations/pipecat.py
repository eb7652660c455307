"""An audio filter for the input of Pipecat transports.

    TransportParams(audio_in_enabled=True, audio_in_filter=HushworkFilter())

Source: ``pipecat.audio.filters.base_audio_filter`` of pipecat-ai 1.14.
"""

from __future__ import annotations

from dataclasses import replace

from hushwork import missing
from hushwork.integrations.frames import FrameFilter, default_denoiser
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.strength import Strength

try:
    from pipecat.audio.filters.base_audio_filter import BaseAudioFilter
    from pipecat.frames.frames import FilterControlFrame, FilterEnableFrame, FilterUpdateSettingsFrame
except ModuleNotFoundError as error:
    raise ImportError(f"hushwork.integrations.pipecat {missing(error)}") from error


class HushworkFilter(BaseAudioFilter):
    """Denoises what a transport receives; each transport, hence each participant, needs a filter of its own.

    ``FilterEnableFrame`` switches it off and on, with the same latency and a crossfade. ``FilterUpdateSettingsFrame``
    changes fields of :class:`hushwork.Strength`, for example ``{"mix": 0.8}``.

    Args:
        denoiser: causal; None takes the default model, which all filters share.
        strength: how much of the noise is removed.
        num_channels: ``audio_in_channels`` of the transport.

    Raises:
        ValueError: the denoiser is not causal.
    """

    def __init__(
        self, denoiser: PretrainedDenoiser | None = None, strength: Strength | None = None, num_channels: int = 1
    ) -> None:
        self._denoiser = denoiser or default_denoiser()  # now, rather than while audio is waiting
        if not self._denoiser.is_causal:
            raise ValueError("this denoiser is not causal and cannot stream; take default or small")
        self._strength = strength or Strength()
        self._num_channels = num_channels
        self._enabled = True
        self._filter: FrameFilter | None = None

    @property
    def latency_ms(self) -> float | None:
        """Delay of the output in milliseconds; None while the transport is not set up."""
        return self._filter.latency_ms if self._filter else None

    async def start(self, sample_rate: int) -> None:
        """The transport is set up: a new stream begins, at this sample rate in Hz."""
        self._filter = FrameFilter(sample_rate, self._num_channels, self._denoiser, self._strength)
        self._apply()
        self._filter.reset()  # without a crossfade if it is disabled

    async def stop(self) -> None:
        """The transport is cleaned up; :meth:`start` may be called again."""
        self._filter = None

    async def process_frame(self, frame: FilterControlFrame) -> None:
        """Switch the filter, or change its strength.

        Raises:
            ValueError: a setting that :class:`hushwork.Strength` does not have, or a value outside its range.
        """
        if isinstance(frame, FilterEnableFrame):
            self._enabled = frame.enable
        elif isinstance(frame, FilterUpdateSettingsFrame):
            known = Strength.__dataclass_fields__
            for name in frame.settings:
                if name not in known:
                    raise ValueError(f"the filter has no setting {name!r}; it has {', '.join(known)}")
            self._strength = replace(self._strength, **frame.settings)
        self._apply()

    async def filter(self, audio: bytes) -> bytes:
        """The next interleaved 16-bit samples → as many, ``latency_ms`` later.

        Raises:
            RuntimeError: the filter was not started.
            ValueError: a part of a sample.
        """
        if self._filter is None:
            raise RuntimeError("the filter is not started: await start(sample_rate) first")
        return self._filter.process(audio).tobytes()

    def _apply(self) -> None:
        if self._filter:
            self._filter.enabled, self._filter.strength = self._enabled, self._strength
