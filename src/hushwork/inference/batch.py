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
HIGH_BANDS = ("mask", "keep", "drop")
LOUDEST = np.float32(1e12)  # of samples: the squares of much larger ones would be infinite, and every frame after them
FAILURES = (ValueError, OSError, RuntimeError, MemoryError)


class Recording:
    """One recording on its way: noisy blocks are drawn from it, and clean ones handed on.

    What goes wrong with its blocks is kept in ``failure``; then it is silent for the rest, and others go on.

    Args:
        blocks: consecutive blocks (C, n), float32 or float64.
        sample_rate: Hz, of the blocks.
        num_channels: C.
        model_rate: Hz, of the network.
        strength: how much is taken away.
        sink: called with consecutive clean blocks (C, m), in all as many samples as there are in ``blocks``.
        high_band: what becomes of frequencies that the network does not hear: "mask" turns them down as the upper half
            of those that it hears, "keep" leaves them, "drop" removes them.

    Attributes:
        failure: what went wrong, or None.
        repaired: samples that were NaN, infinite or beyond ``LOUDEST`` and were set to 0.
        done_s: seconds handed on so far.

    Raises:
        ValueError: another word.
    """

    def __init__(
        self,
        blocks: Iterable[np.ndarray],
        sample_rate: int,
        num_channels: int,
        model_rate: int,
        strength: Strength,
        sink: Callable[[np.ndarray], object],
        high_band: str = "mask",
    ) -> None:
        if high_band not in HIGH_BANDS:
            raise ValueError(f"high_band is {high_band!r}; choose one of {', '.join(HIGH_BANDS)}")
        self.failure: Exception | None = None
        self.repaired = 0
        self.num_channels = num_channels
        self.high_band = high_band if sample_rate > model_rate else "drop"
        self._blocks = iter(blocks)
        self._rate, self._sink, self._strength = sample_rate, sink, strength
        self._down = StreamingResampler(sample_rate, model_rate, num_channels)
        # With what the network heard, brought back to the recording's rate: what is missing from it is the high band.
        self._up = StreamingResampler(model_rate, sample_rate, num_channels * (3 if self.high_band == "mask" else 1))
        self._noisy = np.zeros((num_channels, 0), np.float32)  # whose clean samples have not come back yet
        self._ready = np.zeros((num_channels, 0), np.float32)  # at the network's rate, not yet drawn
        self._heard = np.zeros((num_channels, 0), np.float32)  # drawn, and not yet come back
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
                    more = self._down.push(self._accepted(block).astype(np.float32, copy=False))
                self._ready = np.concatenate([self._ready, more], axis=1)
        except FAILURES as error:
            self._fail(error)
        count = self._ready.shape[1] if count is None else count
        drawn, self._ready = self._ready[:, :count], self._ready[:, count:]
        self._drawn += drawn.shape[1]
        self._heard = np.concatenate([self._heard, drawn], axis=1)
        return drawn

    def take_back(self, clean: np.ndarray, gains: np.ndarray, *, last: bool = False) -> None:
        """Hand on what corresponds to the next clean samples (C, n), and gains (C, n), at the network's rate."""
        if self.failure:
            return
        count = min(clean.shape[1], self._drawn - self._returned)  # not what follows its end
        self._returned += count
        clean, gains = clean[:, :count], gains[:, :count]
        heard, self._heard = self._heard[:, :count], self._heard[:, count:]
        try:
            if self.high_band == "mask":
                # Losses, because a resampler takes what lies beyond the ends for 0.
                audio, heard, losses = np.split(self._upwards(np.concatenate([clean, heard, 1 - gains]), last), 3)
            else:
                audio = self._upwards(clean if self.high_band == "drop" else clean - heard, last)
            noisy, self._noisy = self._noisy[:, : audio.shape[1]], self._noisy[:, audio.shape[1] :]
            if self.high_band == "mask":
                audio = audio + (noisy - heard) * (1 - losses.clip(0, 1))
            elif self.high_band == "keep":
                audio = audio + noisy
            audio = self._strength.mixed(noisy, audio)
            self._sink(audio)
            self._handed_on += audio.shape[1]
        except FAILURES as error:
            self._fail(error)

    def _upwards(self, audio: np.ndarray, last: bool) -> np.ndarray:
        """The next samples (…, n) at the network's rate → at the recording's, as many as it has noisy ones at most."""
        audio = self._up.push(audio)
        if last:
            audio = np.concatenate([audio, self._up.flush()], axis=1)
            missing = self._noisy.shape[1] - audio.shape[1]  # the ratio of the rates may round a sample away
            audio = np.pad(audio, ((0, 0), (0, max(0, missing))))
        return audio[:, : self._noisy.shape[1]]

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
    recordings: Sequence[Recording], denoiser: PretrainedDenoiser, strength: Strength, channels: str = "linked"
) -> Iterator[float]:
    """Denoise recordings to their ends; yields now and then the seconds of audio handed on since.

    With several recordings the model must be causal: the shorter ones are followed by silence.
    """
    groups = [recording.num_channels for recording in recordings]
    with_gains = any(recording.high_band == "mask" for recording in recordings)
    total, edges = sum(groups), np.cumsum(groups)[:-1]
    options = {"channels": channels, "groups": groups, "with_gains": with_gains}
    stream = denoise_in_chunks(denoiser, total, unmixed(strength), **options)
    count = round(BLOCK_S * denoiser.sample_rate)
    done_s = 0.0
    while recordings:
        drawn = [recording.draw(count) for recording in recordings]
        longest = max(audio.shape[1] for audio in drawn)
        over = all(recording.is_over for recording in recordings)
        side_by_side = [np.pad(audio, ((0, 0), (0, longest - audio.shape[1]))) for audio in drawn]
        finished = stream.process(np.concatenate(side_by_side))
        if over:
            finished = np.concatenate([finished, stream.flush()], axis=1)
        cleaned, gains = finished[:total], finished[-total:]
        for recording, *back in zip(recordings, np.split(cleaned, edges), np.split(gains, edges), strict=True):
            recording.take_back(*back, last=over)
        before, done_s = done_s, sum(recording.done_s for recording in recordings)
        yield done_s - before
        if over:
            return


def unmixed(strength: Strength) -> Strength:
    """What of ``strength`` is done around the network: recordings are mixed as they are, not as it hears them."""
    return replace(strength, mix=1.0, noise_only=False)
