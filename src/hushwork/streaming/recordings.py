"""Recordings denoised side by side: each is resampled, and all go through the network as channels of one stream.

Shapes: C channels of one recording, n samples of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from hushwork.audio.io import StreamingResampler
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.chunks import denoise_in_chunks
from hushwork.streaming.strength import Processing

BLOCK_S = 8.0
LOUDEST = np.float32(1e12)  # sample value: the squares of much larger ones, and every frame after them, are infinite
FAILURES = (ValueError, OSError, RuntimeError, MemoryError)


class RecordingStream:
    """One recording at the model's sample rate: noisy samples are read from it, clean ones written back.

    An error in its blocks is kept in ``failure``; it is then silent for the rest, and others go on.

    Args:
        blocks: consecutive blocks (C, n), float32 or float64.
        sample_rate: Hz, of the blocks.
        num_channels: C.
        model_rate: Hz, of the network.
        processing: its strength and treatment of the high band are applied here.
        sink: called with consecutive clean blocks (C, m), in all as many samples as there are in ``blocks``.

    Attributes:
        failure: the error, or None.
        repaired: samples that were NaN, infinite or beyond ``LOUDEST`` and were set to 0.
        done_s: seconds written so far.
    """

    def __init__(
        self,
        blocks: Iterable[np.ndarray],
        sample_rate: int,
        num_channels: int,
        model_rate: int,
        processing: Processing,
        sink: Callable[[np.ndarray], object],
    ) -> None:
        self.failure: Exception | None = None
        self.repaired = 0
        self.num_channels = num_channels
        self.high_band = processing.high_band if sample_rate > model_rate else "drop"
        self._blocks = iter(blocks)
        self._rate, self._sink, self._strength = sample_rate, sink, processing.strength
        self._down = StreamingResampler(sample_rate, model_rate, num_channels)
        # The model's input goes back to the recording's rate too; subtracted there, it leaves the high band.
        self._up = StreamingResampler(model_rate, sample_rate, num_channels * (3 if self.high_band == "mask" else 1))
        self._noisy = np.zeros((num_channels, 0), np.float32)  # whose clean samples have not been written yet
        self._ready = np.zeros((num_channels, 0), np.float32)  # at the model's rate, not yet read
        self._inputs = np.zeros((num_channels, 0), np.float32)  # read, and not yet written back
        self._num_read = self._num_written = self._num_output = 0
        self._ended = False

    @property
    def is_over(self) -> bool:
        """Whether everything was read."""
        return self._ended and not self._ready.shape[1]

    @property
    def done_s(self) -> float:
        return self._num_output / self._rate

    def read(self, count: int | None = None) -> np.ndarray:
        """The next samples (C, n) at the model's rate: ``count`` of them, or fewer at the end; None: of one block."""
        blocks = 0
        try:
            while not self._ended and (not blocks if count is None else self._ready.shape[1] < count):
                blocks += 1
                block = next(self._blocks, None)
                if block is None:
                    self._ended, more = True, self._down.flush()
                else:
                    more = self._down.push(self._valid(block).astype(np.float32, copy=False))
                self._ready = np.concatenate([self._ready, more], axis=1)
        except FAILURES as error:
            self._fail(error)
        count = self._ready.shape[1] if count is None else count
        samples, self._ready = self._ready[:, :count], self._ready[:, count:]
        self._num_read += samples.shape[1]
        self._inputs = np.concatenate([self._inputs, samples], axis=1)
        return samples

    def write(self, clean: np.ndarray, gains: np.ndarray, *, last: bool = False) -> None:
        """The next clean samples (C, n) and gains (C, n), at the model's rate."""
        if self.failure:
            return
        count = min(clean.shape[1], self._num_read - self._num_written)  # not what follows the end
        self._num_written += count
        clean, gains = clean[:, :count], gains[:, :count]
        inputs, self._inputs = self._inputs[:, :count], self._inputs[:, count:]
        try:
            if self.high_band == "mask":
                # 1 - gain, because a resampler continues signals by 0 beyond their ends.
                audio, inputs, losses = np.split(self._upsampled(np.concatenate([clean, inputs, 1 - gains]), last), 3)
            else:
                audio = self._upsampled(clean if self.high_band == "drop" else clean - inputs, last)
            noisy, self._noisy = self._noisy[:, : audio.shape[1]], self._noisy[:, audio.shape[1] :]
            if self.high_band == "mask":
                audio = audio + (noisy - inputs) * (1 - losses.clip(0, 1))
            elif self.high_band == "keep":
                audio = audio + noisy
            audio = self._strength.blend(noisy, audio)
            self._sink(audio)
            self._num_output += audio.shape[1]
        except FAILURES as error:
            self._fail(error)

    def _upsampled(self, audio: np.ndarray, last: bool) -> np.ndarray:
        """The next samples (…, n) at the model's rate → at the recording's, at most as many as noisy ones wait."""
        audio = self._up.push(audio)
        if last:
            audio = np.concatenate([audio, self._up.flush()], axis=1)
            missing = self._noisy.shape[1] - audio.shape[1]  # the ratio of the rates may round a sample away
            audio = np.pad(audio, ((0, 0), (0, max(0, missing))))
        return audio[:, : self._noisy.shape[1]]

    def _valid(self, block: np.ndarray) -> np.ndarray:
        valid = np.abs(block) <= LOUDEST  # False for NaN
        if not valid.all():
            self.repaired += int(valid.size - np.count_nonzero(valid))
            block = np.where(valid, block, np.float32(0))
        self._noisy = np.concatenate([self._noisy, block], axis=1)
        return block

    def _fail(self, error: Exception) -> None:
        self.failure, self._ended, self._ready = error, True, self._ready[:, :0]


def denoise_together(
    recordings: Sequence[RecordingStream], denoiser: PretrainedDenoiser, processing: Processing
) -> Iterator[float]:
    """Denoise recordings to their ends; yields after each block the seconds of audio written since the last one.

    With several recordings the model must be causal: the shorter ones are followed by silence.
    """
    groups = [recording.num_channels for recording in recordings]
    with_gains = any(recording.high_band == "mask" for recording in recordings)
    total, edges = sum(groups), np.cumsum(groups)[:-1]
    options = {"channels": processing.channels, "groups": groups, "with_gains": with_gains}
    stream = denoise_in_chunks(
        denoiser, total, processing.strength.without_blend(), quality=processing.quality, **options
    )
    count = round(BLOCK_S * denoiser.sample_rate)
    done_s = 0.0
    while recordings:
        noisy = [recording.read(count) for recording in recordings]
        longest = max(audio.shape[1] for audio in noisy)
        ended = all(recording.is_over for recording in recordings)
        side_by_side = [np.pad(audio, ((0, 0), (0, longest - audio.shape[1]))) for audio in noisy]
        finished = stream.process(np.concatenate(side_by_side))
        if ended:
            finished = np.concatenate([finished, stream.flush()], axis=1)
        clean, gains = finished[:total], finished[-total:]
        for recording, *results in zip(recordings, np.split(clean, edges), np.split(gains, edges), strict=True):
            recording.write(*results, last=ended)
        before, done_s = done_s, sum(recording.done_s for recording in recordings)
        yield done_s - before
        if ended:
            return
