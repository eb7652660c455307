"""Noise cancellation for the input of LiveKit's Python agents.

    AudioInputOptions(noise_cancellation=lambda params: HushworkNoiseCancellation())

Source: ``livekit.rtc.FrameProcessor`` and its caller ``livekit.rtc.AudioStream``, livekit 1.1.21.
"""

from __future__ import annotations

from hushwork import missing
from hushwork.integrations.frames import FrameFilter, default_denoiser
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.strength import Strength

try:
    from livekit import rtc
except ModuleNotFoundError as error:
    raise ImportError(f"hushwork.integrations.livekit {missing(error)}") from error

DEFAULT_RATE = 24_000  # of LiveKit's AudioInputOptions


class HushworkNoiseCancellation(rtc.FrameProcessor[rtc.AudioFrame]):
    """Denoises the audio frames of one participant, at any rate, with as many samples out as in.

    Give ``noise_cancellation`` a function that makes one for each participant. Another rate, number of channels,
    participant or track begins a new stream.

    Args:
        denoiser: causal; None takes the default model, which all participants share.
        strength: how much of the noise is removed.

    Attributes:
        bypassed: True outputs the input bit for bit, with the same latency; the change is a crossfade over a frame.

    Raises:
        ValueError: the denoiser is not causal.
    """

    def __init__(self, denoiser: PretrainedDenoiser | None = None, strength: Strength | None = None) -> None:
        self._denoiser, self._strength = denoiser or default_denoiser(), strength
        self._enabled = True
        self._source: tuple[str, str] | None = None  # participant and publication
        self.bypassed = False
        self._open(DEFAULT_RATE, 1)

    @property
    def latency_ms(self) -> float:
        """Delay of the output in milliseconds; before the first frame, at 24 kHz."""
        return self._filter.latency_ms

    @property
    def enabled(self) -> bool:
        """LiveKit's switch: when False it does not call the processor, and frames have no latency.

        True begins a new stream. To keep the latency constant, set ``bypassed`` instead.
        """
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if value and not self._enabled:
            self._filter.reset()
        self._enabled = value

    def _on_stream_info_updated(self, *, room_name: str, participant_identity: str, publication_sid: str) -> None:
        source = (participant_identity, publication_sid)
        if self._source not in (None, source):
            self._filter.reset()
        self._source = source

    def _on_stream_info_cleared(self) -> None:
        self._close()

    def _process(self, frame: rtc.AudioFrame) -> rtc.AudioFrame:
        if (frame.sample_rate, frame.num_channels) != (self._filter.sample_rate, self._filter.num_channels):
            self._open(frame.sample_rate, frame.num_channels)
        self._filter.enabled = not self.bypassed
        audio = self._filter.process(frame.data[: frame.samples_per_channel * frame.num_channels])
        return rtc.AudioFrame(
            audio.tobytes(), frame.sample_rate, frame.num_channels, frame.samples_per_channel, userdata=frame.userdata
        )

    def _close(self) -> None:
        """The stream is over; the next frame begins a new one."""
        self._source = None
        self._filter.reset()

    def _open(self, sample_rate: int, num_channels: int) -> None:
        self._filter = FrameFilter(sample_rate, num_channels, self._denoiser, self._strength)
