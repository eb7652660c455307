"""From the network's output to samples: channels, gate, strength, resynthesis.

Shapes: C channels, n samples of a chunk, m samples of output, T frames, F bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hushwork.audio.stft import TINY, StftConfig, StreamingStft
from hushwork.streaming.strength import CHANNEL_MODES, Strength, check_choice

GATE_HOLD_S = 0.2
GATE_RELEASE = 0.5  # factor of the gain from a frame to the next


class ChannelLink:
    """How the channels of a recording share the output of the network.

    Args:
        groups: numbers of channels of each recording, C in all.
        mode: "independent" denoises each channel alone; "linked" denoises each but attenuates all channels of a
            recording alike, by the share of their power that is clean, so that voices keep their places; "mid"
            denoises the mean of the channels and attenuates them alike.

    Attributes:
        num_inputs: channels that the network reads.

    Raises:
        ValueError: an unknown mode.
    """

    def __init__(self, groups: Sequence[int], mode: str) -> None:
        check_choice("channels", mode, CHANNEL_MODES)
        edges = np.concatenate([[0], np.cumsum(groups)]).tolist()
        self._groups = [slice(*edge) for edge in pairwise(edges)]
        self._independent = mode == "independent" or all(count == 1 for count in groups)
        self._mid = mode == "mid" and not self._independent
        self.num_inputs = len(groups) if self._mid else sum(groups)

    def network_input(self, spectrum: np.ndarray) -> np.ndarray:
        """Channels (C, T, F) → input of the network (num_inputs, T, F)."""
        if not self._mid:
            return spectrum
        return np.stack([spectrum[group].mean(axis=0) for group in self._groups])

    def apply(self, spectrum: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Input and output of the network → the channels (C, T, F), denoised."""
        if self._independent:
            return outputs
        clean = np.empty_like(spectrum)
        for number, group in enumerate(self._groups):
            row = slice(number, number + 1) if self._mid else group
            power = np.square(np.abs(inputs[row])).sum(axis=0)
            gain = np.sqrt(np.square(np.abs(outputs[row])).sum(axis=0) / np.maximum(power, TINY))
            # Where the channels cancel in their mean, the network has no input: they stay unchanged.
            clean[group] = spectrum[group] * np.where(power > TINY, gain, np.float32(1)).astype(np.float32)
        return clean


class Gate:
    """Fades out sound that stays below a level; see :class:`Strength`. Each channel has its own gate.

    Args:
        stft: of the frames.
        sample_rate: Hz.
        num_channels: C.
    """

    def __init__(self, stft: StftConfig, sample_rate: int, num_channels: int) -> None:
        window = stft.window_values()
        self._scale = 2 / (stft.n_fft * float(np.square(window).sum()))  # of power, to mean square
        self._hold = round(GATE_HOLD_S * sample_rate / stft.hop_length)
        self._quiet = np.full(num_channels, self._hold + 1)  # frames since it was last loud
        self._gain = np.zeros(num_channels, np.float32)

    def apply(self, clean: np.ndarray, gate_db: float) -> np.ndarray:
        """The next frames (C, T, F), gated."""
        threshold = 0.5 * 10 ** (gate_db / 10)  # the mean square of a sine
        loud = np.square(np.abs(clean)).sum(axis=-1) * self._scale >= threshold
        gains = np.empty(loud.shape, np.float32)
        for frame in range(loud.shape[1]):
            self._quiet = np.where(loud[:, frame], 0, self._quiet + 1)
            self._gain = np.where(self._quiet <= self._hold, np.float32(1), self._gain * np.float32(GATE_RELEASE))
            gains[:, frame] = self._gain
        return clean * gains[..., None]


class OutputStage:
    """Turns output frames of the network into samples: linked, gated, limited, blended and resynthesised.

    Args:
        stft: the model's transform.
        sample_rate: the model's, Hz.
        num_channels: C.
        channels: see :class:`ChannelLink`.
        groups: see :class:`ChannelLink`; None: all channels are of one recording.
        with_gains: output C further channels: the gain of the upper half of the band.

    Attributes:
        num_rows: rows of the output, C or 2 C.
    """

    def __init__(
        self,
        stft: StftConfig,
        sample_rate: int,
        num_channels: int,
        channels: str = "independent",
        groups: Sequence[int] | None = None,
        with_gains: bool = False,
    ) -> None:
        self.link = ChannelLink(groups or [num_channels], channels)
        self.num_rows = num_channels * (1 + with_gains)
        self._gate = Gate(stft, sample_rate, num_channels)
        self._gains = StreamingStft(stft, num_channels) if with_gains else None
        self._upper_half = slice(stft.num_bins // 2, None)
        self._window = np.fft.rfft(stft.window_values()).astype(np.complex64)

    def run(
        self, stft: StreamingStft, noisy: np.ndarray, inputs: np.ndarray, outputs: np.ndarray, strength: Strength
    ) -> np.ndarray:
        """Frames of the channels (C, T, F), input and output of the network → the samples (C or 2 C, m) that are
        complete."""
        clean = self.link.apply(noisy, inputs, outputs)
        if strength.gate_db is not None:
            clean = self._gate.apply(clean, strength.gate_db)
        clean = strength.blend(noisy, strength.limit(noisy, clean))
        audio = stft.synthesise(clean)
        if self._gains is None:
            return audio
        before, after = (np.square(np.abs(x[..., self._upper_half])).sum(axis=-1) for x in (noisy, clean))
        gain = np.where(before > TINY, np.sqrt(after / np.maximum(before, TINY)).clip(0, 1), 1).astype(np.float32)
        # A frame that is the window, times the window, overlaps to 1.
        return np.concatenate((audio, self._gains.synthesise(gain[..., None] * self._window)))
