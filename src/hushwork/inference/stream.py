"""Denoising in blocks of any size, so that a recording may be longer than memory.

Shapes: C channels (treated alike and apart, as a batch), n samples of a block.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from hushwork.models.denoiser import Denoiser, DenoiserState


class BlockDenoiser(Protocol):
    """Takes blocks (C, n) and gives back what is finished (C, m); in the end as many samples came out as went in."""

    def push(self, block: Tensor) -> Tensor: ...

    def flush(self) -> Tensor: ...


def denoise_in_blocks(denoiser: Denoiser, min_gain: float = 0.0) -> BlockDenoiser:
    """The way to denoise with this model block by block; each recording needs a new one.

    Args:
        denoiser: causal (its state is carried, results equal the whole recording at once) or not (long windows that
            overlap; recordings up to one window are denoised at once).
        min_gain: the mask is never below, in [0, 1]: 0.1 attenuates by 20 dB at most.
    """
    return DenoiserStream(denoiser, min_gain) if denoiser.is_causal else DenoiserWindows(denoiser, min_gain)


class DenoiserStream:
    """A causal denoiser with its state carried from block to block: the same samples as all at once, to rounding.

    Samples come out one window (``n_fft``) after they went in, aligned with the input once :meth:`flush` was called.
    """

    def __init__(self, denoiser: Denoiser, min_gain: float = 0.0) -> None:
        if not denoiser.is_causal:
            raise ValueError("this denoiser looks ahead and cannot stream; use denoise_in_blocks")
        self.denoiser = denoiser
        self.min_gain = min_gain
        config = denoiser.stft.config
        self._hop, self._half = config.hop_length, config.n_fft // 2
        self._context = -(-self._half // self._hop)  # frames by which a window reaches to either side
        self._state: DenoiserState | None = None
        self._audio: Tensor | None = None  # from `_context` hops before the next frame's centre
        self._masked: Tensor | None = None  # the last frames, still needed by later samples
        self._frames = self._received = self._emitted = 0

    @torch.inference_mode()
    def push(self, block: Tensor) -> Tensor:
        """Blocks (C, n) → the samples (C, m) that no later input can change; m may be 0."""
        if self._audio is None:
            self._audio = block.new_zeros(len(block), self._context * self._hop)
        self._received += block.shape[-1]
        self._audio = torch.cat([self._audio, block], dim=-1)
        return self._advance(max(0, (self._received - self._half) // self._hop + 1))

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The end of the recording: whatever is still to come (C, m)."""
        if self._audio is None:
            return torch.zeros(0, 0)
        total = self._received
        frames = self.denoiser.stft.num_frames(total)
        missing = (frames - 1) * self._hop + self._half - total
        self._audio = torch.nn.functional.pad(self._audio, (0, max(0, missing)))
        return self._advance(frames, total)

    def _advance(self, frames: int, total: int | None = None) -> Tensor:
        assert self._audio is not None
        new = frames - self._frames
        if new > 0:
            spectrum = self.denoiser.analysis(self._audio[:, : (self._context + new - 1) * self._hop + self._half])
            spectrum = spectrum[:, self._context : self._context + new]
            mask, self._state = self.denoiser.estimate_mask(spectrum, self._state)
            masked = self.denoiser.apply_mask(spectrum, mask.clamp(min=self.min_gain))
            self._masked = masked if self._masked is None else torch.cat([self._masked, masked], dim=1)
            self._audio = self._audio[:, new * self._hop :]
            self._frames = frames
        finished = max(self._emitted, self._frames * self._hop - self._half) if total is None else total
        if self._masked is None or finished == self._emitted:
            return self._audio[:, :0]
        origin = (self._frames - self._masked.shape[1]) * self._hop
        audio = self.denoiser.synthesis(self._masked, finished - origin)[:, self._emitted - origin :]
        self._masked = self._masked[:, -2 * self._context :]
        self._emitted = finished
        return audio


class DenoiserWindows:
    """Any denoiser on long windows that overlap and are cross-faded; exact for recordings within one window.

    Args:
        denoiser: whose output is wanted.
        min_gain: see :func:`denoise_in_blocks`.
        window_s: seconds of a window.
        overlap_s: seconds shared by two windows, below ``window_s / 2``.
    """

    def __init__(
        self, denoiser: Denoiser, min_gain: float = 0.0, window_s: float = 60.0, overlap_s: float = 4.0
    ) -> None:
        if not 0 < overlap_s < window_s / 2:
            raise ValueError(f"overlap_s is {overlap_s}; it must lie between 0 and half of window_s ({window_s})")
        self.denoiser = denoiser
        self.min_gain = min_gain
        self._window = round(window_s * denoiser.sample_rate)
        self._overlap = round(overlap_s * denoiser.sample_rate)
        self._audio: Tensor | None = None
        self._fading: Tensor | None = None  # the end of the window before, which the next one overlaps

    @torch.inference_mode()
    def push(self, block: Tensor) -> Tensor:
        """Blocks (C, n) → the samples (C, m) of the windows that are complete; m may be 0."""
        self._audio = block if self._audio is None else torch.cat([self._audio, block], dim=-1)
        finished = [block[:, :0]]
        # One sample more than a window must be there, so that what is left for flush is more than the overlap.
        while self._audio.shape[-1] > self._window:
            audio = self._denoise(self._audio[:, : self._window])
            finished.append(audio[:, : -self._overlap])
            self._fading = audio[:, -self._overlap :]
            self._audio = self._audio[:, self._window - self._overlap :]
        return torch.cat(finished, dim=-1)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The end of the recording: whatever is still to come (C, m)."""
        if self._audio is None or not self._audio.shape[-1]:
            return torch.zeros(0, 0)
        return self._denoise(self._audio)

    def _denoise(self, audio: Tensor) -> Tensor:
        spectrum = self.denoiser.analysis(audio)
        mask, _ = self.denoiser.estimate_mask(spectrum)
        masked = self.denoiser.apply_mask(spectrum, mask.clamp(min=self.min_gain))
        clean = self.denoiser.synthesis(masked, audio.shape[-1])
        if self._fading is not None:
            rise = torch.linspace(0, 1, self._overlap, device=clean.device, dtype=clean.dtype)
            faded = self._fading.lerp(clean[:, : self._overlap], rise)
            clean = torch.cat([faded, clean[:, self._overlap :]], dim=-1)
        return clean
