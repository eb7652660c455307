"""Recordings denoised side by side: resampled each for itself, and sent through the network as channels of one stream.

Shapes: C channels of one recording, n samples of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from hushwork.audio.io import StreamingResampler
from hushwork.inference.pretrained import PretrainedDenoiser
from hushwork.inference.stream import Strength, denoise_in_chunks

BLOCK_S = 8.0
LOUDEST = np.float32(1e12)  # of samples: the squares of much larger ones would be infinite, and every frame after them
FAILURES = (ValueError, OSError, RuntimeError, MemoryError)


class Recording:
    """One recording on its way: noisy blocks are drawn from it, and clean ones handed on.

    What goes wrong with its blocks is kept in ``failure``; then it is silent for the rest, and others go on.

    Args:
        blocks: consecutive blocks (C, n), float32.
        sample_rate: Hz, of the blocks.
        num_channels: C.
        model_rate: Hz, of the network.
        strength: how much is taken away.
        sink: called with consecutive clean blocks (C, m), in all as many samples as there are in ``blocks``.

    Attributes:
        failure: what went wrong, or None.
        repaired: samples that were NaN, infinite or beyond ``LOUDEST`` and were set to 0.
        done_s: seconds handed on so far.
    """

    def __init__(
        self,
        blocks: Iterable[np.ndarray],
        sample_rate: int,
        num_channels: int,
        model_rate: int,
        strength: Strength,
        sink: Callable[[np.ndarray], object],
    ) -> None:
        self.failure: Exception | None = None
        self.repaired = 0
        self.num_channels = num_channels
        self._blocks = iter(blocks)
        self._rate, self._sink, self._mix = sample_rate, sink, np.float32(strength.mix)
        self._down = StreamingResampler(sample_rate, model_rate, num_channels)
        self._up = StreamingResampler(model_rate, sample_rate, num_channels)
        self._noisy = np.zeros((num_channels, 0), np.float32)  # whose clean samples have not come back yet
        self._ready = np.zeros((num_channels, 0), np.float32)  # at the network's rate, not yet drawn
        self._drawn = self._returned = self._handed_on = 0
        self._ended = False

    @property
    def is_over(self) -> bool:
        """Whether all was drawn."""
        return self._ended and not self._ready.shape[1]

    @property
    def done_s(self) -> float:
        return self._handed_on / self._rate

    def draw(self, count: int | None = None) -> np.ndarray:
        """The next samples (C, n) at the network's rate: ``count`` of them, or fewer at the end; None: of one block."""
        blocks = 0
        try:
            while not self._ended and (not blocks if count is None else self._ready.shape[1] < count):
                blocks += 1
                block = next(self._blocks, None)
                if block is None:
                    self._ended, more = True, self._down.flush()
                else:
                    more = self._down.push(self._accepted(block))
                self._ready = np.concatenate([self._ready, more], axis=1)
        except FAILURES as error:
            self._fail(error)
        count = self._ready.shape[1] if count is None else count
        drawn, self._ready = self._ready[:, :count], self._ready[:, count:]
        self._drawn += drawn.shape[1]
        return drawn

    def take_back(self, clean: np.ndarray, *, last: bool = False) -> None:
        """Hand on what corresponds to the next clean samples (C, n) at the network's rate."""
        if self.failure:
            return
        clean = clean[:, : self._drawn - self._returned]  # not what follows its end
        self._returned += clean.shape[1]
        try:
            audio = self._up.push(clean)
            if last:
                audio = np.concatenate([audio, self._up.flush()], axis=1)
                missing = self._noisy.shape[1] - audio.shape[1]  # the ratio of the rates may round a sample away
                audio = np.pad(audio, ((0, 0), (0, max(0, missing))))
            noisy, self._noisy = self._noisy[:, : audio.shape[1]], self._noisy[:, audio.shape[1] :]
            audio = audio[:, : noisy.shape[1]]
            if self._mix != 1:
                audio = noisy * (1 - self._mix) + audio * self._mix
            self._sink(audio)
            self._handed_on += audio.shape[1]
        except FAILURES as error:
            self._fail(error)

    def _accepted(self, block: np.ndarray) -> np.ndarray:
        sound = np.abs(block) <= LOUDEST  # which NaN is not
        if not sound.all():
            self.repaired += int(sound.size - np.count_nonzero(sound))
            block = np.where(sound, block, np.float32(0))
        self._noisy = np.concatenate([self._noisy, block], axis=1)
        return block

    def _fail(self, error: Exception) -> None:
        self.failure, self._ended, self._ready = error, True, self._ready[:, :0]


def denoise_together(
    recordings: Sequence[Recording], denoiser: PretrainedDenoiser, strength: Strength
) -> Iterator[float]:
    """Denoise recordings to their ends; yields now and then the seconds of audio handed on since.

    With several recordings the model must be causal: the shorter ones are followed by silence.
    """
    # The mix is made of the recordings as they are, not as the network hears them.
    stream = denoise_in_chunks(denoiser, sum(r.num_channels for r in recordings), replace(strength, mix=1.0))
    edges = np.cumsum([recording.num_channels for recording in recordings])[:-1]
    count = round(BLOCK_S * denoiser.sample_rate)
    done_s = 0.0
    while recordings:
        drawn = [recording.draw(count) for recording in recordings]
        longest = max(audio.shape[1] for audio in drawn)
        over = all(recording.is_over for recording in recordings)
        side_by_side = [np.pad(audio, ((0, 0), (0, longest - audio.shape[1]))) for audio in drawn]
        cleaned = stream.process(np.concatenate(side_by_side))
        if over:
            cleaned = np.concatenate([cleaned, stream.flush()], axis=1)
        for recording, clean in zip(recordings, np.split(cleaned, edges), strict=True):
            recording.take_back(clean, last=over)
        before, done_s = done_s, sum(recording.done_s for recording in recordings)
        yield done_s - before
        if over:
            return
