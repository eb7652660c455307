"""The short-time Fourier transform of torch tensors, for training.

Shapes: B batch, N samples, T frames, F bins (``n_fft // 2 + 1``).
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from hushwork.audio.stft import Count, StftConfig


class _RealFft(Function):
    """``torch.fft.rfft`` whose gradient is one inverse real transform; torch's own is a complex one, twice the work."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor) -> Tensor:
        ctx.n_fft = frames.shape[-1]
        return torch.fft.rfft(frames)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # The inverse counts every bin but the first and the last twice, once for its mirror image.
        grad = torch.cat([grad[..., :1], grad[..., 1:-1] / 2, grad[..., -1:]], dim=-1)
        return torch.fft.irfft(grad, ctx.n_fft, norm="forward")


class Stft(nn.Module):
    """Analysis and synthesis that undo each other for every length, also odd ones and those below ``n_fft``.

    Frame ``t`` is centred on sample ``t * hop_length``; outside the signal lie zeros. There are as many frames as touch
    the signal, so that a padded batch and a single signal give the same frames.
    """

    window: Tensor

    def __init__(self, config: StftConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.from_numpy(config.window_values()), persistent=False)

    def num_frames(self, num_samples: Count) -> Count:
        """Frames of a signal of ``num_samples``, a number or a tensor of them."""
        return self.config.num_frames(num_samples)

    def analysis(self, audio: Tensor) -> Tensor:
        """Audio (B, N) → complex spectrum (B, T, F)."""
        hop, half = self.config.hop_length, self.config.n_fft // 2
        end = (self.num_frames(audio.shape[-1]) - 1) * hop + half
        blocks = nn.functional.pad(audio, (half, end - audio.shape[-1])).unflatten(-1, (-1, hop))
        overlap = self.config.n_fft // hop
        frames = torch.cat([blocks[:, i : blocks.shape[1] + 1 + i - overlap] for i in range(overlap)], dim=-1)
        return _RealFft.apply(frames * self.window.to(audio.dtype))

    def synthesis(self, spectrum: Tensor, num_samples: int) -> Tensor:
        """Complex spectrum (B, T, F) → audio (B, ``num_samples``), with the least squared error to the spectrum.

        Source: Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984, eq. 6.
        """
        window = self.window.to(spectrum.real.dtype)
        kept = slice(self.config.n_fft // 2, self.config.n_fft // 2 + num_samples)
        audio = self._overlap_add(torch.fft.irfft(spectrum, self.config.n_fft) * window)[:, kept]
        weight = self._overlap_add(window.square().expand(1, spectrum.shape[1], -1))[:, kept]
        audio = audio / weight
        return nn.functional.pad(audio, (0, num_samples - audio.shape[-1]))

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Frames (B, T, n_fft) → their sum (B, N), each a hop later than the one before."""
        blocks = frames.unflatten(-1, (-1, self.config.hop_length)).unbind(2)
        shifted = (nn.functional.pad(block, (0, 0, i, len(blocks) - 1 - i)) for i, block in enumerate(blocks))
        return reduce(torch.add, shifted).flatten(1)
