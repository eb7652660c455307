"""Noisy speech in, clean speech out.

Shapes: B batch, N samples, T frames, F bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hushwork.audio.features import SILENT_POWER, band_weights
from hushwork.audio.stft import StftConfig
from hushwork.audio.torch_stft import Stft
from hushwork.models.features import (
    LevelNormalizer,
    RunningMean,
    log_magnitude,
    power_magnitude,
    unit_to_magnitude,
)
from hushwork.models.masker import RecurrentMasker


class DenoiserState(NamedTuple):
    """Where a stream stands: running level (B, 2), running mean of K features (B, K + 1), the recurrence's state."""

    level: Tensor
    mean: Tensor | None
    recurrence: Any


class Denoiser(nn.Module):
    """Speech denoiser: spectrum of the noisy speech → mask by a recurrent network → resynthesis with the noisy phase.

    Four hops, the same in training and use: :meth:`analysis`, :meth:`estimate_mask`, :meth:`apply_mask`,
    :meth:`synthesis`. It owns the level normalisation: scaling the input scales the output and changes nothing else.

    Shapes: (B, N) → (B, N).

    Args:
        sample_rate: Hz, of input and output.
        stft: the transform.
        masker: builds the network when called with ``num_bins=``.
        num_bands: how many bands the network sees and masks, narrow at low and wide at high frequencies, see
            :func:`hushwork.audio.features.band_edges`; None: each bin by itself.
        compression: "log" (decibels) or an exponent in (0, 1] for the magnitudes that the network sees.
        level_time_constant_s: memory of the running level, see :class:`LevelNormalizer`.
        mean_time_constant_s: memory of the running mean that is taken from each bin's feature, see
            :class:`RunningMean`; None leaves the features as they are.
        output_compression: exponent in (0, 1] of the magnitudes that a "magnitude" head predicts.

    Attributes:
        settings: the configuration that builds such a denoiser, complete, as in a model's ``config.json``.

    Raises:
        ValueError: a value outside those ranges.
    """

    to_bands: Tensor
    to_bins: Tensor

    def __init__(
        self,
        *,
        sample_rate: int,
        stft: StftConfig,
        masker: Callable[..., RecurrentMasker],
        num_bands: int | None = None,
        compression: str | float = "log",
        level_time_constant_s: float = 3.0,
        mean_time_constant_s: float | None = None,
        output_compression: float = 0.3,
    ) -> None:
        super().__init__()
        if compression != "log" and not (isinstance(compression, float | int) and 0 < compression <= 1):
            raise ValueError(f'compression is {compression!r}; choose "log" or an exponent in (0, 1]')
        if not 0 < output_compression <= 1:
            raise ValueError(f"output_compression is {output_compression}; it must lie in (0, 1]")
        self.sample_rate = sample_rate
        self.stft = Stft(stft)
        self.level = LevelNormalizer(stft.hop_length / sample_rate, level_time_constant_s)
        self.mean: RunningMean | None = None
        if mean_time_constant_s is not None:
            self.mean = RunningMean(stft.hop_length / sample_rate, mean_time_constant_s)
        self.masker = masker(num_bins=num_bands or stft.num_bins)
        self.num_bands = num_bands
        if num_bands is not None:
            if self.masker.head == "magnitude":
                raise ValueError('the head "magnitude" predicts bins; leave num_bands out')
            to_bands, to_bins = band_weights(stft.num_bins, num_bands, sample_rate)
            self.register_buffer("to_bands", torch.from_numpy(to_bands), persistent=False)
            self.register_buffer("to_bins", torch.from_numpy(to_bins), persistent=False)
        self.compression = compression
        self.output_compression = output_compression
        self.settings = {
            "_target_": "hushwork.models.denoiser.Denoiser",
            "sample_rate": sample_rate,
            "stft": {"_target_": "hushwork.audio.stft.StftConfig", **asdict(stft)},
            "num_bands": num_bands,
            "compression": compression,
            "level_time_constant_s": level_time_constant_s,
            "mean_time_constant_s": mean_time_constant_s,
            "output_compression": output_compression,
            "masker": self.masker.settings,
        }

    @property
    def is_causal(self) -> bool:
        """Whether a frame depends on no later frame; then the delay is one window of ``stft.n_fft`` samples."""
        return self.masker.is_causal

    def analysis(self, noisy: Tensor) -> Tensor:
        """Noisy speech (B, N) → complex spectrum (B, T, F)."""
        return self.stft.analysis(noisy)

    def estimate_mask(
        self, spectrum: Tensor, state: DenoiserState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, DenoiserState]:
        """Complex spectrum (B, T, F) → mask (B, T, F) of at least 0, and where the stream stands after frame T.

        Args:
            spectrum: of the noisy speech.
            state: where an earlier call on the frames just before ended; None at the start of a recording.
            lengths: (B,) frames that are not padding; needed by a denoiser that is not causal.
        """
        power = spectrum.real.square() + spectrum.imag.square()
        level, level_state = self.level(power, state.level if state else None)
        magnitude = (power if self.num_bands is None else power @ self.to_bands).sqrt()
        relative = magnitude / level
        if isinstance(self.compression, str):
            features = log_magnitude(relative)
        else:
            features = power_magnitude(relative, self.compression)
        mean_state = None
        if self.mean is not None:
            features, mean_state = self.mean(features, state.mean if state else None)
        output, recurrence_state = self.masker(features, state.recurrence if state else None, lengths)
        if self.masker.head == "magnitude":
            clean = unit_to_magnitude(output, level, self.output_compression)
            output = clean / magnitude.clamp(min=SILENT_POWER**0.5)
        if self.num_bands is not None:
            output = output @ self.to_bins
        return output, DenoiserState(level_state, mean_state, recurrence_state)

    def apply_mask(self, spectrum: Tensor, mask: Tensor) -> Tensor:
        """The masked spectrum (B, T, F): the noisy phase is kept."""
        return spectrum * mask

    def synthesis(self, spectrum: Tensor, num_samples: int) -> Tensor:
        """Complex spectrum (B, T, F) → speech (B, ``num_samples``)."""
        return self.stft.synthesis(spectrum, num_samples)

    def forward(self, noisy: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Noisy speech (B, N) → clean speech (B, N).

        Args:
            noisy: float, any level; shorter recordings padded with zeros at their end.
            lengths: (B,) samples that are not padding; None if there is none.

        Raises:
            ValueError: ``noisy`` is not a batch of one-channel signals with at least one sample.
        """
        if noisy.ndim != 2 or noisy.shape[-1] == 0:
            raise ValueError(f"expected noisy speech of shape (batch, samples), got {tuple(noisy.shape)}")
        spectrum = self.analysis(noisy)
        frames = None if lengths is None else self.stft.num_frames(lengths)
        mask, _ = self.estimate_mask(spectrum, lengths=frames)
        return self.synthesis(self.apply_mask(spectrum, mask), noisy.shape[-1])
