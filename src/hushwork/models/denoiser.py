"""Noisy speech in, clean speech out.

Shapes: B batch, N samples, T frames, F bins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hushwork.audio.stft import StftConfig
from hushwork.models.features import LevelNormalizer, RunningMean, digital_silence
from hushwork.models.masker import RecurrentMasker
from hushwork.models.precision import in_float32
from hushwork.models.stft import Stft
from hushwork.network.features import band_weights, compress
from hushwork.network.heads import NoisyFrames
from hushwork.network.specification import DenoiserSettings


class DenoiserState(NamedTuple):
    """The state of a stream: running level (B, 2), running mean of K features (B, K + 1), the recurrence's state, the
    last noisy frames of the D filtered bins (B, taps - 1, D) that the head's filter reads besides the current one
    (without a filter (B, 0, 0)), and the noisy frames that are not masked yet (B, look_ahead, F)."""

    level: Tensor
    mean: Tensor | None
    recurrence: Any
    past: Tensor
    waiting: Tensor


class Denoiser(nn.Module):
    """Speech denoiser: spectrum of the noisy speech → mask by a recurrent network → resynthesis with the noisy phase.

    Four hops, the same in training and use: :meth:`analysis`, :meth:`estimate_mask`, :meth:`apply_mask`,
    :meth:`synthesis`. It owns the level normalisation: scaling the input scales the output and changes nothing else.

    Shapes: (B, N) → (B, N).

    Args:
        sample_rate: Hz, of input and output.
        stft: the transform.
        masker: builds the network when called with ``num_bins=``.
        num_bands: how many bands the network reads and masks, narrow at low and wide at high frequencies, see
            :func:`hushwork.network.features.band_edges`; None: each bin by itself.
        compression: "log" (decibels) or an exponent in (0, 1] for the magnitudes that the network reads.
        level_time_constant_s: memory of the running level, see :class:`LevelNormalizer`.
        mean_time_constant_s: memory of the running mean that is taken from each bin's feature, see
            :class:`RunningMean`; None leaves the features as they are.
        output_compression: exponent in (0, 1] of the magnitudes that a "magnitude" head predicts.
        look_ahead: how many later frames the mask of a frame depends on. Each delays a stream by a hop.

    Attributes:
        settings: the configuration that builds such a denoiser, complete, as in a model's ``config.json``.

    Raises:
        ValueError: a value outside those ranges.

    Example:
        >>> from functools import partial
        >>> from hushwork import StackedRNN
        >>> from hushwork.audio.stft import StftConfig
        >>> from hushwork.models.masker import RecurrentMasker
        >>> recurrence = partial(StackedRNN, hidden_size=32, cell="gru")
        >>> masker = partial(RecurrentMasker, recurrence=recurrence)
        >>> stft = StftConfig(n_fft=512, hop_length=256, window="sqrt_hann")
        >>> denoiser = Denoiser(sample_rate=16000, stft=stft, masker=masker)
        >>> denoiser(torch.zeros(2, 16000)).shape
        torch.Size([2, 16000])
    """

    to_bands: Tensor
    to_bins: Tensor

    def __init__(
        self,
        *,
        sample_rate: int,
        stft: StftConfig,
        masker: Callable[..., RecurrentMasker],
        num_bands: int | None = DenoiserSettings.num_bands,
        compression: str | float = DenoiserSettings.compression,
        level_time_constant_s: float = DenoiserSettings.level_time_constant_s,
        mean_time_constant_s: float | None = DenoiserSettings.mean_time_constant_s,
        output_compression: float = DenoiserSettings.output_compression,
        look_ahead: int = DenoiserSettings.look_ahead,
    ) -> None:
        super().__init__()
        numbers = {
            "sample_rate": sample_rate,
            "num_bands": num_bands,
            "compression": compression,
            "level_time_constant_s": level_time_constant_s,
            "mean_time_constant_s": mean_time_constant_s,
            "output_compression": output_compression,
            "look_ahead": look_ahead,
        }
        DenoiserSettings.check(**numbers)
        self.sample_rate = sample_rate
        self.stft = Stft(stft)
        self.level = LevelNormalizer(stft.hop_length / sample_rate, level_time_constant_s)
        self.mean: RunningMean | None = None
        if mean_time_constant_s is not None:
            self.mean = RunningMean(stft.hop_length / sample_rate, mean_time_constant_s)
        self.masker = masker(num_bins=num_bands or stft.num_bins)
        self.num_bands = num_bands
        self.num_filtered = self.masker.head.num_filtered(num_bands or stft.num_bins)
        DenoiserSettings.check_bands(num_bands, stft.num_bins, str(self.masker.settings["head"]))
        DenoiserSettings.check_look_ahead(look_ahead, is_causal=self.masker.is_causal)
        self.look_ahead = look_ahead
        if num_bands is not None:
            to_bands, to_bins = band_weights(stft.num_bins, num_bands, sample_rate)
            self.register_buffer("to_bands", torch.from_numpy(to_bands), persistent=False)
            self.register_buffer("to_bins", torch.from_numpy(to_bins), persistent=False)
        self.compression = compression
        self.output_compression = output_compression
        self.settings = {
            "_target_": DenoiserSettings.target,
            **numbers,
            "stft": stft.to_json(),
            "masker": self.masker.settings,
        }

    @property
    def is_causal(self) -> bool:
        """Whether a frame depends on no later frame, but for ``look_ahead``. Then the delay is one window of
        ``stft.n_fft`` samples, and a hop for each frame of ``look_ahead``."""
        return self.masker.is_causal

    def analysis(self, noisy: Tensor) -> Tensor:
        """Noisy speech (B, N) → complex spectrum (B, T, F)."""
        return self.stft.analysis(noisy)

    def estimate_mask(
        self, spectrum: Tensor, state: DenoiserState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, DenoiserState]:
        """Complex spectrum (B, T, F) → mask (B, T, F), real or complex depending on the head, and the state after
        frame T. A head with a filter over time gives (B, T, taps, F), oldest first; the last tap includes the mask.
        Mask t is that of frame t - ``look_ahead``; the first frames of a recording have zeros before them.

        Args:
            spectrum: of the noisy speech.
            state: where an earlier call on the frames just before ended; None at the start of a recording.
            lengths: (B,) frames that are not padding; needed by a denoiser that is not causal.
        """
        masked, waiting = self._masked_frames(spectrum, state)
        features, levels, level, level_state, mean_state = self._features(spectrum, state)
        outputs, recurrence_state = self.masker(features, state.recurrence if state else None, lengths, levels)
        mask = self._mask(outputs, level, masked)
        past = self._filtered_bins(masked, state)[:, masked.shape[1] :]
        return mask, DenoiserState(level_state, mean_state, recurrence_state, past, waiting)

    def _masked_frames(self, spectrum: Tensor, state: DenoiserState | None) -> tuple[Tensor, Tensor]:
        """The frames (B, T, F) that the masks of these T frames are for, and those that wait for a mask."""
        count = spectrum.shape[1]
        if not self.look_ahead:
            return spectrum, spectrum[:, count:]
        zeros = spectrum.new_zeros(len(spectrum), self.look_ahead, spectrum.shape[2])
        frames = torch.cat([zeros if state is None else state.waiting, spectrum], dim=1)
        return frames[:, :count], frames[:, count:]

    def _complex_mask(self, real: Tensor, imaginary: Tensor | None) -> Tensor:
        """A mask for bins from one for bins or bands."""
        if self.num_bands is not None:
            real = real @ self.to_bins
            imaginary = None if imaginary is None else imaginary @ self.to_bins
        return real if imaginary is None else torch.complex(real, imaginary)

    def _filtered_bins(self, spectrum: Tensor, state: DenoiserState | None) -> Tensor:
        """The filtered bins of a spectrum, and before them the frames that the filter reads too; zeros at the start."""
        num_past, count = max(0, self.masker.head.taps - 1), self.num_filtered
        past = spectrum.new_zeros(len(spectrum), num_past, count) if state is None else state.past
        return torch.cat([past, spectrum[..., :count]], dim=1)

    def apply_mask(self, spectrum: Tensor, mask: Tensor, state: DenoiserState | None = None) -> Tensor:
        """The masked spectrum (B, T, F), ``look_ahead`` frames late: a real mask keeps the noisy phase.

        Args:
            spectrum, mask: see :meth:`estimate_mask`.
            state: the state that :meth:`estimate_mask` got.
        """
        taps, frames = self.masker.head.taps, spectrum.shape[1]
        spectrum, _ = self._masked_frames(spectrum, state)
        if not taps:
            return spectrum * mask
        low = self._filtered_bins(spectrum, state)
        past = [low[:, k : k + frames] * mask[:, :, k, : self.num_filtered] for k in range(taps - 1)]
        added = nn.functional.pad(
            sum(past, torch.zeros_like(low[:, :frames])), (0, spectrum.shape[2] - self.num_filtered)
        )
        return spectrum * mask[:, :, -1] + added

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
        spectrum = nn.functional.pad(self.analysis(noisy), (0, 0, 0, self.look_ahead))
        frames = None if lengths is None else self.stft.num_frames(lengths) + self.look_ahead
        mask, _ = self.estimate_mask(spectrum, lengths=frames)
        clean = self.apply_mask(spectrum, mask)[:, self.look_ahead :]
        return self.synthesis(clean, noisy.shape[-1])

    @in_float32
    def _features(
        self, spectrum: Tensor, state: DenoiserState | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Features (B, T, I), the same with their running mean, the level (B, T, 1), and the states of level and
        mean."""
        power = spectrum.real.square() + spectrum.imag.square()
        silent, skipped = digital_silence(power, state.level if state else None)
        level, level_state = self.level(power, state.level if state else None, skipped)
        magnitude = (power if self.num_bands is None else power @ self.to_bands).sqrt()
        relative = torch.where(silent[..., None], 1.0, magnitude / level)
        features = levels = compress(relative, self.compression)
        mean_state = None
        if self.mean is not None:
            features, mean_state = self.mean(levels, state.mean if state else None, skipped)
            features = torch.where(silent[..., None], 0.0, features)
        return features, levels, level, level_state, mean_state

    @in_float32
    def _mask(self, outputs: Tensor, level: Tensor, masked: Tensor) -> Tensor:
        """The network's outputs, the level and the frames that are masked → mask of bins, as :meth:`estimate_mask`
        returns it."""
        head, pieces = self.masker.head, outputs.split(self.masker.sizes, dim=-1)
        magnitude = masked.abs() if self.num_bands is None else None
        frames = NoisyFrames(level, magnitude, self.output_compression)
        mask = self._complex_mask(*head.mask(pieces[: head.outputs], frames))
        if not head.taps:
            return mask
        real, imaginary = pieces[-1].unflatten(-1, (2, head.taps, -1)).unbind(2)
        taps = nn.functional.pad(torch.complex(real, imaginary), (0, mask.shape[-1] - self.num_filtered))
        return taps + nn.functional.pad(mask[:, :, None], (0, 0, head.taps - 1, 0))
