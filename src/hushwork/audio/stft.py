"""The short-time Fourier transform, once for the whole project.

Shapes: B batch, N samples, T frames, F bins (``n_fft // 2 + 1``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Count = TypeVar("Count", int, Tensor)
WINDOWS = ("sqrt_hann", "hann")


@dataclass(frozen=True, kw_only=True)
class StftConfig:
    """A window and its spacing, all lengths in samples.

    Args:
        n_fft: transform length; even.
        hop_length: samples from one frame to the next; divides ``n_fft`` and is at most half of it.
        window: "sqrt_hann" (analysis and synthesis multiply to a Hann window) or "hann".

    Raises:
        ValueError: the lengths do not fit, so that overlap-add would not be constant (COLA).
    """

    n_fft: int = 512
    hop_length: int = 256
    window: str = "sqrt_hann"

    def __post_init__(self) -> None:
        if self.n_fft < 4 or self.n_fft % 2:
            raise ValueError(f"n_fft is {self.n_fft}; it must be even and at least 4")
        if not 0 < self.hop_length <= self.n_fft // 2 or self.n_fft % self.hop_length:
            raise ValueError(
                f"hop_length is {self.hop_length}; it must divide n_fft ({self.n_fft}) and be at most half of it, "
                "else the overlapped windows do not sum to a constant"
            )
        if self.window not in WINDOWS:
            raise ValueError(f"window is {self.window!r}; choose one of {', '.join(WINDOWS)}")

    @property
    def num_bins(self) -> int:
        return self.n_fft // 2 + 1


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
        window = torch.hann_window(config.n_fft, periodic=True)
        if config.window == "sqrt_hann":
            window = window.sqrt()
        self.register_buffer("window", window, persistent=False)

    def num_frames(self, num_samples: Count) -> Count:
        """Frames of a signal of ``num_samples``, a number or a tensor of them."""
        return -(-(num_samples + self.config.n_fft // 2) // self.config.hop_length)

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
