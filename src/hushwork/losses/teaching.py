"""Losses that pull towards a teacher, towards silence in pauses, and towards whole beginnings of words.

Shapes: B batch, N samples, T frames, F bins.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hushwork.losses.base import SpectralLoss, magnitude, parts, power, valid_samples
from hushwork.models.precision import in_float32
from hushwork.network.features import band_weights


class TeacherLoss(SpectralLoss):
    """Squared distance of compressed magnitudes to those of a teacher.

    The teacher is better in bins where its magnitude is closer to the reference than the estimate's. The other bins
    have the weight ``elsewhere``: 0 leaves out the teacher's errors; 1 makes the target a function of the noisy signal
    alone, which takes less data to learn than the reference.

    Called as ``(estimate, reference, lengths, teacher)``, all signals (B, N).

    Args:
        exponent: of the compression, in (0, 1].
        elsewhere: weight of bins in which the teacher is not better, in [0, 1].
        loud: weight of loud bins in [0, 1]: those at most 30 dB below the loudest bin of their frame in the reference,
            in frames at most 40 dB below its loudest frame. A teacher may be worth little there, and much between them.
        num_bands: bands, narrow at low and wide at high frequencies, that count alike; None: bins count alike.
        over_suppression_weight: weight of a further term, the same where the estimate is below the teacher. Above 0
            more speech and noise are left, below 0, down to -1, less.
        sample_rate, window_ms, hop_ms: of the transform, see :class:`SpectralLoss`.

    Raises:
        ValueError: an exponent or a weight outside its range, or more bands than bins.
    """

    needs_teacher = True
    bin_weights: Tensor

    def __init__(
        self,
        *,
        exponent: float = 0.3,
        elsewhere: float = 0.0,
        loud: float = 1.0,
        num_bands: int | None = None,
        over_suppression_weight: float = 0.0,
        sample_rate: int = 16000,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
    ) -> None:
        super().__init__(sample_rate=sample_rate, window_ms=window_ms, hop_ms=hop_ms)
        shares = elsewhere, loud
        if not 0 < exponent <= 1 or not all(0 <= share <= 1 for share in shares) or over_suppression_weight <= -1:
            raise ValueError(
                f"exponent is {exponent}, elsewhere {elsewhere}, loud {loud} and over_suppression_weight "
                f"{over_suppression_weight}; the first must lie in (0, 1], the next two in [0, 1], the last must "
                "be above -1"
            )
        self.exponent, self.elsewhere, self.loud = exponent, elsewhere, loud
        num_bins = self.stft.config.num_bins
        to_bands = np.ones((num_bins, 1), np.float32) / num_bins
        if num_bands is not None:
            to_bands = band_weights(num_bins, num_bands, sample_rate)[0]
        self.register_buffer("bin_weights", torch.from_numpy(to_bands.mean(1)), persistent=False)
        self.over_suppression_weight = over_suppression_weight

    @in_float32
    def forward(self, estimate: Tensor, reference: Tensor, lengths: Tensor, teacher: Tensor) -> Tensor:  # type: ignore[override]
        """Estimate, reference and teacher (B, N), lengths (B,) in samples → scalar."""
        valid = valid_samples(lengths, estimate.shape[-1])
        with torch.no_grad():
            target, teacher_magnitude = (self._compressed(signal * valid) for signal in (reference, teacher))
        estimated = self._compressed(estimate * valid)
        better = ((teacher_magnitude - target).abs() < (estimated.detach() - target).abs()).float()
        weight = better.clamp(min=self.elsewhere) * (1 + self.over_suppression_weight * (estimated < teacher_magnitude))
        weight = torch.where(self._is_loud(target), self.loud * weight, weight)
        distance = ((estimated - teacher_magnitude).square() * weight) @ self.bin_weights
        frames = self.stft.num_frames(lengths)
        valid_frames = (torch.arange(estimated.shape[1], device=frames.device) < frames[:, None]).float()
        return (distance * valid_frames).sum() / valid_frames.sum()

    def _is_loud(self, target: Tensor) -> Tensor:
        """Compressed magnitudes of the reference (B, T, F) → where it is loud, bool."""
        magnitudes = target ** (1 / self.exponent)
        energy = magnitudes.square().sum(-1, keepdim=True)
        speech = energy > 1e-4 * energy.amax(1, keepdim=True)
        return speech & (magnitudes > 10**-1.5 * magnitudes.amax(-1, keepdim=True))

    def _compressed(self, signal: Tensor) -> Tensor:
        return magnitude(self.stft.analysis(signal) * self.scale) ** self.exponent


class PauseLoss(SpectralLoss):
    """Residual noise in pauses: the level of the estimate above a floor, in frames where the reference is silent.

    0 at or below the floor, 1 at the level of the noisy recording. A batch without pauses has no gradient.

    Args:
        floor_db: level that counts as silence, relative to the noisy recording.
        silent_db: frames of the reference further below its loudest one are pauses.
        sample_rate, window_ms, hop_ms: of the transform, see :class:`SpectralLoss`.

    Raises:
        ValueError: a level that is not below 0.
    """

    def __init__(
        self,
        *,
        floor_db: float = -60.0,
        silent_db: float = -45.0,
        sample_rate: int = 16000,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
    ) -> None:
        super().__init__(sample_rate=sample_rate, window_ms=window_ms, hop_ms=hop_ms)
        if floor_db >= 0 or silent_db >= 0:
            raise ValueError(f"floor_db is {floor_db} and silent_db {silent_db}; both must be below 0")
        self.floor, self.silent = 10 ** (floor_db / 10), 10 ** (silent_db / 10)
        self.range_db = -floor_db

    def measure(self, estimate: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        energy = power(*parts(reference)).mean(-1)
        pause = (energy < energy.amax(1, keepdim=True) * self.silent) * valid
        rest_db = 10 * (power(*parts(estimate)).mean(-1) / self.floor + 1).log10()
        return (rest_db / self.range_db * pause).sum() / pause.sum().clamp(min=1)


SPEECH = 1e-3  # frames of the reference that are less than 30 dB below its loudest one have speech


class OnsetLoss(SpectralLoss):
    """Speech that is lost where it begins: in the first frames after a pause, and after the beginning of the recording.

    There a network knows least of the voice, and these frames are too few to count in a mean over all. 0 where the
    estimate is as loud as the reference or louder, 1 where it is 20 dB softer or more. A batch without onsets has no
    gradient.

    Args:
        onset_frames: number of frames that count from the first one with speech.
        pause_frames: number of frames without speech that make the next one an onset.
        sample_rate, window_ms, hop_ms: of the transform, see :class:`SpectralLoss`.

    Raises:
        ValueError: a number of frames below 1.
    """

    def __init__(
        self,
        *,
        onset_frames: int = 4,
        pause_frames: int = 16,
        sample_rate: int = 16000,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
    ) -> None:
        super().__init__(sample_rate=sample_rate, window_ms=window_ms, hop_ms=hop_ms)
        if onset_frames < 1 or pause_frames < 1:
            raise ValueError(f"onset_frames is {onset_frames} and pause_frames {pause_frames}; both must be at least 1")
        self.onset_frames, self.pause_frames = onset_frames, pause_frames

    def measure(self, estimate: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        energy = power(*parts(reference)).mean(-1)
        speech = (energy > energy.amax(1, keepdim=True) * SPEECH) * valid
        first = speech * (1 - _any_of_last(speech, self.pause_frames + 1, skip=1))
        onset = _any_of_last(first, self.onset_frames) * speech
        ratio = (power(*parts(estimate)).mean(-1) / energy + 0.01) / 1.01
        return (F.relu(-ratio.log10()) / 2 * onset).sum() / onset.sum().clamp(min=1)


def _any_of_last(frames: Tensor, number: int, *, skip: int = 0) -> Tensor:
    """Flags (B, T) → (B, T): 1 where one of the last ``number`` frames, less the last ``skip``, is 1."""
    return F.max_pool1d(F.pad(frames, (number - 1, -skip))[:, None], number - skip, stride=1)[:, 0]
