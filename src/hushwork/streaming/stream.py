"""A causal denoiser over a stream of chunks.

Shapes: C channels, n samples of a chunk, m samples of output, T frames, F bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hushwork.audio.stft import StreamingStft
from hushwork.network.pretrained import MAX_FRAMES, NetworkStream, PretrainedDenoiser
from hushwork.streaming.output import OutputStage
from hushwork.streaming.strength import Strength


class DenoiserStream:
    """A causal denoiser over a stream: the same samples as all at once, to rounding, whatever the chunks.

    After n samples went in, n - ``latency_samples`` have come out (none before that); :meth:`flush` gives the rest.

    Args:
        model: causal.
        num_channels: C; with 1, chunks may also be (n,).
        strength: default full; the attribute may be changed at any time, without a click.
        low_latency: output every sample as early as possible. False collects frames and computes many at once, which
            takes a fraction of the time; then the output may lag by any amount.
        options: channels, groups and with_gains of :class:`OutputStage`.

    Raises:
        ValueError: the model is not causal, or an option is wrong.

    Example:
        >>> from hushwork import load_pretrained
        >>> stream = DenoiserStream(load_pretrained("small"))
        >>> [stream.process(np.zeros(400, np.float32)).size for _ in range(4)], stream.flush().size
        ([0, 289, 400, 400], 511)
    """

    def __init__(
        self,
        model: PretrainedDenoiser,
        num_channels: int = 1,
        strength: Strength | None = None,
        *,
        low_latency: bool = True,
        **options: Any,
    ) -> None:
        if not model.is_causal:
            raise ValueError("this denoiser is not causal and cannot stream; use denoise_in_chunks")
        self.model = model
        self.num_channels = num_channels
        self.strength = strength or Strength()
        self._options = options
        self._low_latency = low_latency
        self.reset()

    @property
    def latency_samples(self) -> int:
        """By how many samples the output lags behind the input."""
        return self.model.latency_samples

    def reset(self) -> None:
        """Forget all samples so far: what comes next is the start of a recording."""
        self._stft = StreamingStft(self.model.stft, self.num_channels)
        self._output = OutputStage(self.model.stft, self.model.sample_rate, self.num_channels, **self._options)
        self._network = NetworkStream(self.model, self.model.initial_state(self._output.link.num_inputs))
        self._waiting = np.zeros((self.num_channels, self.model.look_ahead, self.model.stft.num_bins), np.complex64)
        self._unmasked = self.model.look_ahead  # of the network's next outputs, those of no frame
        self._finished = np.zeros((self._output.num_rows, 0), np.float32)
        self._received = self._emitted = 0
        self._flat = False

    def process(self, chunk: np.ndarray) -> np.ndarray:
        """The next samples, float (C, n) or (n,), any n ≥ 0 → denoised samples (C, m) or (m,).

        Raises:
            ValueError: another number of channels.
        """
        self._flat = chunk.ndim == 1
        chunk = np.asarray(chunk, np.float32)
        chunk = chunk[None] if self._flat else chunk
        if chunk.shape[0] != self.num_channels or chunk.ndim != 2:
            raise ValueError(f"expected a chunk of {self.num_channels} channels, got one of shape {chunk.shape}")
        self._received += chunk.shape[1]
        self._stft.push(chunk)
        waiting = self._stft.waiting_frames
        if not self._low_latency and self.model.network.cycle <= MAX_FRAMES:
            waiting -= waiting % self.model.network.cycle
        self._advance(waiting)
        return self._emit(max(0, self._received - self.latency_samples) if self._low_latency else self._received)

    def flush(self) -> np.ndarray:
        """The end of the recording: the remaining samples (C, m) or (m,). The stream is then reset."""
        self._advance(self._stft.finish(self.model.look_ahead))
        rest = self._emit(self._received)
        self.reset()
        return rest

    def _advance(self, num_frames: int) -> None:
        for start in range(0, num_frames, MAX_FRAMES):
            self._denoise(min(MAX_FRAMES, num_frames - start))

    def _denoise(self, num_frames: int) -> None:
        spectrum = self._stft.analyse(num_frames)
        inputs = self._output.link.network_input(spectrum)
        outputs = self._network(inputs)
        if self.model.look_ahead:
            frames = np.concatenate((self._waiting, spectrum), axis=1)
            self._waiting = frames[:, num_frames:]
            skipped = min(self._unmasked, num_frames)
            self._unmasked -= skipped
            spectrum, outputs = frames[:, skipped:num_frames], outputs[:, skipped:]
            inputs = self._output.link.network_input(spectrum)
        audio = self._output.run(self._stft, spectrum, inputs, outputs, self.strength)
        self._finished = np.concatenate((self._finished, audio), axis=1)

    def _emit(self, until: int) -> np.ndarray:
        count = min(max(0, until - self._emitted), self._finished.shape[1])
        audio, self._finished = self._finished[:, :count], self._finished[:, count:]
        self._emitted += count
        return audio[0] if self._flat else audio
