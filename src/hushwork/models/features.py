"""Normalisation of the features: running level and running mean.

Shapes: B batch, T frames, F bins.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hushwork.network.features import SILENT_POWER

BLOCK = 128


class LevelNormalizer(nn.Module):
    """The running level of the noisy speech: the divisor of magnitudes that makes loudness irrelevant.

    The level at a frame is the root of the exponentially weighted mean, over all frames so far, of the mean power
    of a frame's bins. Weights sum to 1 from the first frame on, nothing looks ahead, and a recording scaled by g has g
    times the level.

    Args:
        frame_s: seconds from frame to frame.
        time_constant_s: seconds after which a frame's weight has fallen to 1/e.

    Raises:
        ValueError: a time that is not positive.
    """

    def __init__(self, frame_s: float, time_constant_s: float) -> None:
        super().__init__()
        self.decay = _decay(frame_s, time_constant_s)

    @torch.no_grad()
    def forward(
        self, power: Tensor, state: Tensor | None = None, skipped: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Power of bins (B, T, F) → level (B, T, 1) above 0, and the state (B, 2) with which a stream continues.

        Args:
            power: of each frame.
            state: after the frames before.
            skipped: (B, T), see :func:`digital_silence`; None: no frame is.
        """
        power = power.mean(-1)
        # Power and weight go through the same recursion.
        sums, state = _leaky_sum(torch.stack([power, torch.ones_like(power)], dim=-1), self.decay, state, skipped)
        level = (sums[..., :1] / sums[..., 1:]).clamp(min=SILENT_POWER).sqrt()
        return level, state


class RunningMean(nn.Module):
    """Features less their exponentially weighted mean over all frames so far, for each bin.

    A constant part of a bin, such as steady noise or the colour of a microphone, becomes about 0.

    Args:
        frame_s, time_constant_s: as of :class:`LevelNormalizer`.

    Raises:
        ValueError: a time that is not positive.
    """

    def __init__(self, frame_s: float, time_constant_s: float) -> None:
        super().__init__()
        self.decay = _decay(frame_s, time_constant_s)

    @torch.no_grad()
    def forward(
        self, features: Tensor, state: Tensor | None = None, skipped: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features (B, T, F) → features less their mean (B, T, F), and the state (B, F + 1) to continue with.

        Args:
            features: of each frame.
            state: after the frames before.
            skipped: (B, T), see :func:`digital_silence`; None: no frame is.
        """
        sums, state = _leaky_sum(nn.functional.pad(features, (0, 1), value=1.0), self.decay, state, skipped)
        return features - sums[..., :-1] / sums[..., -1:], state


def digital_silence(power: Tensor, level_state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Power of bins (B, T, F) → which frames are digital silence (B, T), and which of them level and mean skip (B, T).

    Args:
        power: of each frame.
        level_state: (B, 2), of :class:`LevelNormalizer` before the first frame.
    """
    silent = power.mean(-1) < SILENT_POWER
    after_sound = (~silent).cumsum(1) > 0
    if level_state is not None:
        after_sound = after_sound | (level_state[:, :1] > 0)
    return silent, silent & after_sound


def _decay(frame_s: float, time_constant_s: float) -> float:
    if frame_s <= 0 or time_constant_s <= 0:
        raise ValueError(f"frame_s ({frame_s}) and time_constant_s ({time_constant_s}) must be positive")
    return math.exp(-frame_s / time_constant_s)


def _leaky_sum(x: Tensor, decay: float, state: Tensor | None, skipped: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sums over the past (B, T, C), each frame's share falling by ``decay``, and the last of them (B, C).

    ``state`` (B, C) is the sum before the first frame. Frames that are ``skipped`` (B, T) neither enter the sums nor
    let them fall. A block of frames is one matrix product, in a fraction of the time of a recursive filter that runs
    frame by frame.
    """
    state = torch.zeros_like(x[:, 0]) if state is None else state
    if skipped is None or not bool(skipped.any()):
        skipped = torch.zeros(1, x.shape[1], dtype=torch.bool, device=x.device)  # one matrix for all recordings
    blocks = []
    for block, counted in zip(x.split(BLOCK, dim=1), (~skipped).to(x.dtype).split(BLOCK, dim=1), strict=True):
        number = counted.cumsum(1)
        shares = (decay ** (number[:, :, None] - number[:, None]).clamp(min=0) * counted[:, None]).tril()
        sums = shares @ block + decay ** number[..., None] * state[:, None]
        blocks.append(sums)
        state = sums[:, -1]
    return torch.cat(blocks, dim=1), state
