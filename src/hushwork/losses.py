"""Training losses: ``(estimate (B, N), reference (B, N), lengths (B,) samples) → scalar``.

Every loss is blind to padding: what lies behind a signal's length is set to zero before anything is measured, and means
run over valid frames alone. The training step hands over signals divided by the level of the noisy one, so that no loss
depends on loudness.

Shapes: B batch, N samples, T frames, F bins.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from hushwork.audio.stft import StftConfig
from hushwork.audio.torch_stft import Stft

EPS = 1e-8


def valid_samples(lengths: Tensor, num_samples: int) -> Tensor:
    """(B, N), 1 where a sample is not padding."""
    return (torch.arange(num_samples, device=lengths.device) < lengths[:, None]).float()


class SpectralLoss(nn.Module):
    """Base of the losses on spectra: one transform, and a mean over the bins of frames that are not padding.

    Args:
        n_fft, hop_length: of the transform (Hann window).
    """

    def __init__(self, *, n_fft: int = 512, hop_length: int = 256) -> None:
        super().__init__()
        self.stft = Stft(StftConfig(n_fft=n_fft, hop_length=hop_length, window="hann"))
        # White noise of unit power then has magnitude about 1 in every bin, whatever the window's length.
        self.scale = 1 / float(self.stft.window.square().sum().sqrt())

    def forward(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
        valid = valid_samples(lengths, estimate.shape[-1])
        frames = self.stft.num_frames(lengths)
        estimated = self.stft.analysis(estimate * valid) * self.scale
        wanted = self.stft.analysis(reference * valid) * self.scale
        valid_frames = (torch.arange(estimated.shape[1], device=frames.device) < frames[:, None]).float()
        return self.measure(estimated, wanted, valid_frames)

    def measure(self, estimate: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        """Spectra (B, T, F) complex and valid frames (B, T) → scalar."""
        distance = self.distance(estimate, reference)
        return (distance.mean(-1) * valid).sum() / valid.sum()

    def distance(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Spectra (B, T, F) complex → (B, T, F) distance of each bin."""
        raise TypeError(f"{type(self).__name__} must define distance or measure")


class MagnitudeLoss(SpectralLoss):
    """Distance of magnitudes: squared (``power=2``, MSE) or absolute (``power=1``, L1).

    Raises:
        ValueError: another power.
    """

    def __init__(self, *, power: int = 2, n_fft: int = 512, hop_length: int = 256) -> None:
        super().__init__(n_fft=n_fft, hop_length=hop_length)
        if power not in (1, 2):
            raise ValueError(f"power is {power}; choose 1 (L1) or 2 (MSE)")
        self.power = power

    def distance(self, estimate: Tensor, reference: Tensor) -> Tensor:
        return (magnitude(estimate) - magnitude(reference)).abs() ** self.power


class LogSpectralLoss(SpectralLoss):
    """Absolute difference of log magnitudes, in decibels, with everything below ``floor_db`` taken as equal.

    Source: after the log-spectral distance of Gray and Markel, "Distance measures for speech processing", 1976.
    """

    def __init__(self, *, floor_db: float = -60.0, n_fft: int = 512, hop_length: int = 256) -> None:
        super().__init__(n_fft=n_fft, hop_length=hop_length)
        self.floor = 10 ** (floor_db / 20)

    def distance(self, estimate: Tensor, reference: Tensor) -> Tensor:
        return 20 * (self._log(estimate) - self._log(reference)).abs()

    def _log(self, spectrum: Tensor) -> Tensor:
        return (magnitude(spectrum) + self.floor).log10()


class CompressedSpectralLoss(SpectralLoss):
    """Squared distance of power-compressed spectra, in magnitude and as complex numbers, hard on eaten speech.

    Args:
        exponent: of the compression, in (0, 1].
        complex_weight: share of the complex distance, in [0, 1]; the rest is the distance of magnitudes.
        over_suppression_weight: times the squared amount by which the estimate falls short of the reference, added.

    Raises:
        ValueError: a value outside those ranges.

    Source: Ephrat et al., "Looking to listen at the cocktail party", 2018 (compression); Braun et al., "Data
    augmentation and loss normalization for deep noise suppression", 2020, eq. 4 (both parts); Wang et al.,
    "VoiceFilter-Lite", 2020, section 2.4 (asymmetry).
    """

    def __init__(
        self,
        *,
        exponent: float = 0.3,
        complex_weight: float = 0.3,
        over_suppression_weight: float = 1.0,
        n_fft: int = 512,
        hop_length: int = 256,
    ) -> None:
        super().__init__(n_fft=n_fft, hop_length=hop_length)
        if not 0 < exponent <= 1:
            raise ValueError(f"exponent is {exponent}; it must lie in (0, 1]")
        if not 0 <= complex_weight <= 1 or over_suppression_weight < 0:
            raise ValueError(
                f"complex_weight is {complex_weight} and over_suppression_weight {over_suppression_weight}; "
                "the first must lie in [0, 1], the second be 0 or more"
            )
        self.exponent = exponent
        self.complex_weight = complex_weight
        self.over_suppression_weight = over_suppression_weight

    def distance(self, estimate: Tensor, reference: Tensor) -> Tensor:
        weights = (self.exponent, self.complex_weight, self.over_suppression_weight)
        distance: Tensor = _CompressedDistance.apply(estimate, reference, *weights)
        return distance


class _CompressedDistance(Function):
    """What :class:`CompressedSpectralLoss` says of each bin: ``apply(estimate, reference, exponent a, v, w)``.

    With c = |X|^a the compressed magnitudes, φ the angle between the spectra and short = c₂ - c₁, it is
    short² + v·2·c₁·c₂·(1 - cos φ) + w·max(short, 0)². Its gradient is A·X₁ + B·X₂ with two real numbers a bin, which
    are found on the way, in less than half the time of what autograd would record.
    """

    @staticmethod
    def forward(
        ctx: Any, estimate: Tensor, reference: Tensor, exponent: float, complex_weight: float, short_weight: float
    ) -> Tensor:
        (e_real, e_imag), (r_real, r_imag) = parts(estimate), parts(reference)
        power_e, power_r = power(e_real, e_imag), power(r_real, r_imag)
        log_e, log_r = power_e.log(), power_r.log()
        estimated, wanted = (log_e * (exponent / 2)).exp_(), (log_r * (exponent / 2)).exp_()
        # 2·c₁·c₂·cos φ is the product of the spectra, as vectors, times this.
        turning = log_e.add_(log_r).mul_((exponent - 1) / 2).exp_().mul_(2 * complex_weight)
        product = (e_real * r_real).addcmul_(e_imag, r_imag).mul_(turning)
        short = wanted - estimated
        lost = short.clamp(min=0)
        distance = short.square().addcmul_(lost, lost, value=short_weight)
        distance.addcmul_(estimated, wanted, value=2 * complex_weight).sub_(product)
        slope = wanted.mul_(complex_weight).sub_(short).sub_(lost, alpha=short_weight).mul_(2 * exponent)
        of_estimate = slope.mul_(estimated).sub_(product, alpha=exponent - 1).div_(power_e)
        ctx.save_for_backward(estimate, reference, of_estimate, turning)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        estimate, reference, of_estimate, turning = ctx.saved_tensors
        gradient = torch.view_as_real(estimate) * (grad * of_estimate)[..., None]
        gradient.sub_(torch.view_as_real(reference) * (grad * turning)[..., None])
        return torch.view_as_complex(gradient), None, None, None, None


class MultiResolutionStftLoss(nn.Module):
    """Mean over several window lengths of spectral convergence plus L1 of log magnitudes.

    Args:
        n_ffts: window lengths in samples; hops are a quarter of them.

    Source: Yamamoto et al., "Parallel WaveGAN", ICASSP 2020, eqs. 4-6.
    """

    def __init__(self, *, n_ffts: tuple[int, ...] | list[int] = (256, 512, 1024)) -> None:
        super().__init__()
        self.resolutions = nn.ModuleList(_ConvergenceLoss(n_fft=n_fft, hop_length=n_fft // 4) for n_fft in n_ffts)

    def forward(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
        return torch.stack([loss(estimate, reference, lengths) for loss in self.resolutions]).mean()


class _ConvergenceLoss(SpectralLoss):
    def measure(self, estimate: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        estimated, wanted = magnitude(estimate), magnitude(reference)
        frames = valid[..., None]
        error = ((estimated - wanted) * frames).square().sum((1, 2)) + EPS
        convergence = (error / ((wanted * frames).square().sum((1, 2)) + EPS)).sqrt().mean()
        logs = ((estimated + 1e-4).log() - (wanted + 1e-4).log()).abs()
        return convergence + (logs.mean(-1) * valid).sum() / valid.sum()


class IntelligibilityLoss(SpectralLoss):
    """1 less the extended short-time objective intelligibility (ESTOI), mean over the batch.

    Third-octave envelopes of 0.4 s of speech, normalised over time and then over bands, are correlated frame by frame.
    Against the published measure the frames are those of this transform instead of 25.6 ms at 10 kHz, segments begin
    every fourth frame instead of every one, and bands that reach beyond half the sample rate are left out.

    Args:
        sample_rate: Hz.
        segment_s: how much speech is compared at once. Signals with less of it teach nothing.
        active_range_db: frames of the reference further than this below its loudest one count as silence.

    Raises:
        ValueError: bins too wide for the lowest band, or a segment of less than two frames.

    Source: Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise
    maskers", 2016, section II; as a loss after Fu et al., "End-to-end waveform utterance enhancement for direct
    evaluation metrics optimization", 2018.
    """

    LOWEST_HZ, NUM_BANDS, STEP = 150.0, 15, 4
    bands: Tensor

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        segment_s: float = 0.384,
        active_range_db: float = 40.0,
        n_fft: int = 512,
        hop_length: int = 256,
    ) -> None:
        super().__init__(n_fft=n_fft, hop_length=hop_length)
        self.num_frames = round(segment_s * sample_rate / hop_length)
        self.active_range = 10 ** (-active_range_db / 10)
        edges = self.LOWEST_HZ * 2 ** ((torch.arange(self.NUM_BANDS + 1) - 0.5) / 3)
        edges = edges[edges <= sample_rate / 2]
        first = (edges * n_fft / sample_rate).round()
        if self.num_frames < 2 or bool((first.diff() < 1).any()):
            raise ValueError(
                f"segment_s is {segment_s}, n_fft {n_fft} and hop_length {hop_length} at {sample_rate} Hz; a segment "
                "needs two frames and every third of an octave from 150 Hz on a bin"
            )
        bins = torch.arange(n_fft // 2 + 1)
        inside = (bins >= first[:-1, None]) & (bins < first[1:, None])
        self.register_buffer("bands", inside.float().T, persistent=False)

    def measure(self, estimate: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        energy = power(*parts(reference)).sum(-1) * valid
        active = (energy > energy.amax(1, keepdim=True) * self.active_range) & (energy > EPS * reference.shape[-1])
        # Active frames move together, as if the speech between them had been cut out.
        order = active.int().argsort(dim=1, descending=True, stable=True)[..., None]
        wanted, estimated = (
            self._normalised(self._envelopes(spectrum).take_along_dim(order, 1)) for spectrum in (reference, estimate)
        )
        starts = torch.arange(wanted.shape[1], device=order.device) * self.STEP
        full = starts <= active.sum(1, keepdim=True) - self.num_frames
        count = full.sum(1)
        each = 1 - ((wanted * estimated).sum(2).mean(-1) * full).sum(1) / count.clamp(min=1)
        return (each * (count > 0)).sum() / (count > 0).sum().clamp(min=1)

    def _envelopes(self, spectrum: Tensor) -> Tensor:
        """Spectra (B, T, F) → magnitudes of bands (B, T, bands)."""
        return (power(*parts(spectrum)) @ self.bands.to(spectrum.real.dtype)).sqrt()

    def _normalised(self, envelopes: Tensor) -> Tensor:
        """(B, T, bands) → segments (B, S, bands, frames), each band and then each frame of no mean and length 1."""
        missing = max(0, self.num_frames - envelopes.shape[1])
        segments = nn.functional.pad(envelopes, (0, 0, 0, missing)).unfold(1, self.num_frames, self.STEP)
        for dim in (-1, -2):
            segments = segments - segments.mean(dim, keepdim=True)
            segments = segments / (segments.square().sum(dim, keepdim=True) + EPS).sqrt()
        return segments


class PesqLoss(SpectralLoss):
    """What perceptual evaluation of speech quality (PESQ, wide-band) takes off its best score, before its last curve.

    Both signals are brought to one level and lose their lowest frequencies, their powers in bands of half a Bark become
    loudness, and the differences that a listener would notice are summed: once as they are, and once those of what was
    added, which counts for more. Against the standard it aligns nothing in time, its bands have one width, and its
    hearing threshold is Terhardt's formula. No difference gives 0, noisy speech about 4; a reference without speech
    teaches nothing.

    Args:
        sample_rate: Hz, at least 8000.

    Raises:
        ValueError: a lower rate.

    Source: ITU-T P.862, 2001, sections 10.2.2 to 10.2.10, with the input filter of P.862.2; as a loss after
    Martín-Doñas et al., "A deep learning loss function based on the perceptual evaluation of the speech quality", 2018.
    """

    BAND_BARK = 0.5
    SEGMENT, STEP = 20, 10  # frames that are summed up together
    SPEECH_HZ = (325.0, 3250.0)  # where the level is measured
    SPEECH_POWER = 1e7  # and what it becomes there, in squares of 16 bit samples
    SILENT_POWER = 1e-6  # of a signal that is not brought to that level
    DENSITY = 0.0873  # of power in a band, on the standard's scale, for a bin of 1
    bands: Tensor
    threshold: Tensor
    exponent: Tensor
    low_cut: Tensor
    in_speech: Tensor

    def __init__(self, *, sample_rate: int = 16000, n_fft: int = 512, hop_length: int = 256) -> None:
        super().__init__(n_fft=n_fft, hop_length=hop_length)
        if sample_rate < 8000:
            raise ValueError(f"sample_rate is {sample_rate}; quality is measured from 8000 Hz on")
        hz = torch.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
        number = ((_bark(hz) - _bark(hz[1])) / self.BAND_BARK).floor()
        bands = (number[:, None] == number[1:].unique()).float()
        bands[0] = 0  # no one hears it
        khz = hz @ bands / bands.sum(0) / 1000
        threshold_db = 3.64 * khz**-0.8 - 6.5 * (-0.6 * (khz - 3.3).square()).exp() + 1e-3 * khz**4
        z = torch.exp(-2j * torch.pi * hz / sample_rate)
        low_cut = (2.740826 * (1 - z).square() / (1 - 1.9444777 * z + 0.94597794 * z.square())).abs().square()
        constants = {
            "bands": bands,
            "threshold": 10 ** (threshold_db / 10),
            "exponent": 0.23 * (6 / (_bark(1000 * khz) + 2)).clamp(1, 2) ** 0.15,
            "low_cut": low_cut,
            "in_speech": ((hz > self.SPEECH_HZ[0]) & (hz < self.SPEECH_HZ[1])).float() * 2 / n_fft,
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def measure(self, estimate: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        estimated, wanted = (self._band_powers(spectrum, valid) for spectrum in (estimate, reference))
        loud = (self._audible(wanted, 100) >= self.SPEECH_POWER) * valid
        # What a change of timbre does, and then a change of loudness from frame to frame, is forgiven within limits.
        timbre = (self._mean(estimated, loud) + 1000) / (self._mean(wanted, loud) + 1000)
        wanted = wanted * timbre.clamp(0.01, 100)
        heard = self._audible(wanted)
        gain = (heard + 5e3) / (self._audible(estimated) + 5e3)
        gain = torch.cat([gain[:, :1], 0.8 * gain[:, 1:] + 0.2 * gain[:, :-1]], dim=1)
        estimated = estimated * gain.clamp(3e-4, 5)[..., None]
        loudness, wanted_loudness = self._loudness(estimated), self._loudness(wanted)
        difference = loudness - wanted_loudness
        unnoticed = 0.25 * torch.minimum(loudness, wanted_loudness)
        noticed = (difference.abs() - unnoticed).clamp(min=0) * self.BAND_BARK
        added = ((estimated + 50) / (wanted + 50)) ** 1.2
        added = added.clamp(max=12) * (added >= 3)
        width = self.BAND_BARK * self.bands.shape[1]
        each = (width * noticed.square().sum(-1) + EPS).sqrt(), (noticed * added).sum(-1)
        by_loudness = ((heard + 1e5) / 1e7) ** 0.04
        all_of_it, of_added = (self._over_time((frames / by_loudness).clamp(max=45) * valid, valid) for frames in each)
        speaks = loud.any(1)
        return ((0.1 * all_of_it + 0.0309 * of_added) * speaks).sum() / speaks.sum().clamp(min=1)

    def _band_powers(self, spectrum: Tensor, valid: Tensor) -> Tensor:
        """Spectra (B, T, F) → powers (B, T, bands) at the level of the standard, 0 where there is nothing."""
        powers = power(*parts(spectrum)) * valid[..., None]
        level = (powers * self.in_speech).sum((1, 2)) / valid.sum(1) + self.SILENT_POWER
        gain = self.DENSITY * self.SPEECH_POWER / level
        return (powers * self.low_cut) @ self.bands.to(powers.dtype) * gain[:, None, None]

    def _audible(self, powers: Tensor, times: float = 1.0) -> Tensor:
        """(B, T, bands) → (B, T), the sum of bands that lie so many times above the threshold of hearing."""
        return (powers * (powers > times * self.threshold)).sum(-1)

    def _mean(self, powers: Tensor, loud: Tensor) -> Tensor:
        """(B, T, bands) → (B, 1, bands), over loud frames, of what is well above the threshold."""
        total = (powers * (powers > 100 * self.threshold) * loud[..., None]).sum(1, keepdim=True)
        return total / loud.sum(1).clamp(min=1)[:, None, None]

    def _loudness(self, powers: Tensor) -> Tensor:
        """In sone, by Zwicker's law."""
        law = (2 * self.threshold) ** self.exponent * ((0.5 + 0.5 * powers / self.threshold) ** self.exponent - 1)
        return 0.1866055 * law * (powers > self.threshold)

    def _over_time(self, frames: Tensor, valid: Tensor) -> Tensor:
        """(B, T) → (B,): the worst of a segment counts most (6th power), segments by their squares."""
        segments, counted = (
            nn.functional.pad(them, (0, self.SEGMENT - 1)).unfold(1, self.SEGMENT, self.STEP)
            for them in (frames, valid)
        )
        begins = counted[..., 0]
        worst = ((segments**6).sum(-1) / counted.sum(-1).clamp(min=1) + EPS**2) ** (1 / 3)
        return ((worst * begins).sum(1) / begins.sum(1)).sqrt()


def _bark(hz: Tensor) -> Tensor:
    """Traunmüller's scale: "Analytical expressions for the tonotopic sensory scale", 1990."""
    return 26.81 * hz / (1960 + hz) - 0.53


class NegativeSnrLoss(nn.Module):
    """Negative signal-to-distortion ratio in decibels, by default scale-invariant (SI-SDR), mean over the batch.

    Args:
        scale_invariant: project the reference onto the estimate first (SI-SDR); else the plain ratio, which also
            fixes the level.
        max_db: ratios gain ever less beyond this, so that easy mixtures do not lead; None leaves them be.

    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, eqs. 1 and 3; soft limit of Wisdom et al.,
    "Unsupervised sound separation using mixture invariant training", 2020, eq. 2.
    """

    def __init__(self, *, scale_invariant: bool = True, max_db: float | None = 30.0) -> None:
        super().__init__()
        self.scale_invariant = scale_invariant
        self.softness = 0.0 if max_db is None else 10 ** (-max_db / 10)

    def forward(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
        valid = valid_samples(lengths, estimate.shape[-1])
        estimate, reference = estimate * valid, reference * valid
        if self.scale_invariant:
            count = lengths[:, None].to(estimate.dtype)
            estimate = (estimate - estimate.sum(-1, keepdim=True) / count) * valid
            reference = (reference - reference.sum(-1, keepdim=True) / count) * valid
            power = reference.square().sum(-1, keepdim=True)
            reference = (estimate * reference).sum(-1, keepdim=True) / (power + EPS) * reference
        signal = reference.square().sum(-1)
        distortion = (estimate - reference).square().sum(-1) + self.softness * signal
        return -10 * ((signal + EPS) / (distortion + EPS)).log10().mean()


class WeightedSum(nn.Module):
    """Weighted sum of losses by name; each is also kept in ``parts`` for the log.

    Args:
        losses: loss by name.
        weights: its weight by the same name.

    Raises:
        ValueError: the names differ.
    """

    def __init__(self, *, losses: dict[str, nn.Module], weights: dict[str, float]) -> None:
        super().__init__()
        if losses.keys() != weights.keys():
            raise ValueError(f"losses are {sorted(losses)}, weights {sorted(weights)}; each loss needs its weight")
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)
        self.parts: dict[str, Tensor] = {}

    def forward(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
        values = {name: loss(estimate, reference, lengths) for name, loss in self.losses.items()}
        self.parts = {name: value.detach() for name, value in values.items()}
        return torch.stack([self.weights[name] * value for name, value in values.items()]).sum()


def parts(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part, whose gradients are put together only once."""
    real, imag = torch.view_as_real(spectrum).unbind(-1)
    return real, imag


def power(real: Tensor, imag: Tensor) -> Tensor:
    """|spectrum|², never quite 0, so that roots and logarithms have finite gradients."""
    return real.square() + imag.square() + EPS


def magnitude(spectrum: Tensor) -> Tensor:
    """|spectrum|, never quite 0."""
    return power(*parts(spectrum)).sqrt()
