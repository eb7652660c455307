"""Losses derived from measures of intelligibility and quality.

Shapes: B batch, T frames, F bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hushwork.losses.base import EPS, SpectralLoss, parts, power


class IntelligibilityLoss(SpectralLoss):
    """1 less the extended short-time objective intelligibility (ESTOI), mean over the batch.

    Third-octave envelopes of 0.4 s of speech, normalised over time and then over bands, are correlated frame by frame.
    Differences from the published measure: frames of this STFT instead of 25.6 ms at 10 kHz, segments that begin at
    every fourth frame instead of every one, no bands beyond half the sample rate.

    Args:
        sample_rate: Hz.
        segment_s: length of the segments of speech that are compared. Signals with less speech have no gradient.
        active_range_db: frames of the reference further than this below its loudest one count as silence.
        window_ms, hop_ms: see :class:`SpectralLoss`.

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
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
    ) -> None:
        super().__init__(sample_rate=sample_rate, window_ms=window_ms, hop_ms=hop_ms)
        n_fft = self.stft.config.n_fft
        self.num_frames = round(segment_s * sample_rate / self.stft.config.hop_length)
        self.active_range = 10 ** (-active_range_db / 10)
        edges = self.LOWEST_HZ * 2 ** ((torch.arange(self.NUM_BANDS + 1) - 0.5) / 3)
        edges = edges[edges <= sample_rate / 2]
        first = (edges * n_fft / sample_rate).round()
        if self.num_frames < 2 or bool((first.diff() < 1).any()):
            raise ValueError(
                f"segment_s is {segment_s}, window_ms {window_ms} and hop_ms {hop_ms} at {sample_rate} Hz; a segment "
                "needs two frames and every third of an octave from 150 Hz on a bin"
            )
        bins = torch.arange(n_fft // 2 + 1)
        inside = (bins >= first[:-1, None]) & (bins < first[1:, None])
        self.register_buffer("bands", inside.float().T, persistent=False)

    def measure(self, estimate: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        energy = power(*parts(reference)).sum(-1) * valid
        active = (energy > energy.amax(1, keepdim=True) * self.active_range) & (energy > EPS * reference.shape[-1])
        # Active frames move to the front, as if the pauses between them had been cut out.
        order = active.int().argsort(dim=1, descending=True, stable=True)[..., None]
        target, estimated = (
            self._normalised(self._envelopes(spectrum).take_along_dim(order, 1)) for spectrum in (reference, estimate)
        )
        starts = torch.arange(target.shape[1], device=order.device) * self.STEP
        full = starts <= active.sum(1, keepdim=True) - self.num_frames
        count = full.sum(1)
        distance = 1 - ((target * estimated).sum(2).mean(-1) * full).sum(1) / count.clamp(min=1)
        return (distance * (count > 0)).sum() / (count > 0).sum().clamp(min=1)

    def _envelopes(self, spectrum: Tensor) -> Tensor:
        """Spectra (B, T, F) → magnitudes of bands (B, T, bands)."""
        return (power(*parts(spectrum)) @ self.bands.to(spectrum.real.dtype)).sqrt()

    def _normalised(self, envelopes: Tensor) -> Tensor:
        """(B, T, bands) → segments (B, S, bands, frames), each band and then each frame of zero mean and unit norm."""
        missing = max(0, self.num_frames - envelopes.shape[1])
        segments = nn.functional.pad(envelopes, (0, 0, 0, missing)).unfold(1, self.num_frames, self.STEP)
        for dim in (-1, -2):
            segments = segments - segments.mean(dim, keepdim=True)
            segments = segments / (segments.square().sum(dim, keepdim=True) + EPS).sqrt()
        return segments


class PesqLoss(SpectralLoss):
    """Disturbance that wide-band PESQ (perceptual evaluation of speech quality) subtracts from its best score.

    Both signals are scaled to one level and high-pass filtered, powers in bands of half a Bark become loudness, and
    audible differences are summed: all of them, and again with more weight on added sound. Differences from the
    standard: no alignment in time, bands of equal width, Terhardt's formula for the threshold of hearing, no mapping to
    MOS. Equal signals give 0, noisy speech about 4; a reference without speech has no gradient.

    The wide-band model ends at 8 kHz. At higher sample rates the bins up to there are compared, with the result of
    signals resampled to 16 kHz; at lower rates all bands that exist, which at 8000 Hz follows narrow-band PESQ.

    Args:
        sample_rate: Hz, at least 8000.
        window_ms, hop_ms: see :class:`SpectralLoss`; by default those of the standard.

    Raises:
        ValueError: a sample rate below 8000 Hz.

    Source: ITU-T P.862, 2001, sections 10.2.2 to 10.2.10, with the input filter of P.862.2; as a loss after
    Martín-Doñas et al., "A deep learning loss function based on the perceptual evaluation of the speech quality", 2018.
    """

    BAND_BARK = 0.5
    SEGMENT, STEP = 20, 10  # frames in a segment, and from one to the next
    SPEECH_HZ = (325.0, 3250.0)  # band in which the level is measured
    SPEECH_POWER = 1e7  # level there after scaling, in squares of 16-bit samples
    SILENT_POWER = 1e-6  # signals below are not scaled up to that level
    HIGHEST_HZ = 8000.0  # of wide-band PESQ
    DENSITY = 0.0873  # factor from the power of 1 of 256 bins to the standard's power density of a band
    bands: Tensor
    threshold: Tensor
    exponent: Tensor
    low_cut: Tensor
    in_speech: Tensor

    def __init__(self, *, sample_rate: int = 16000, window_ms: float = 32.0, hop_ms: float = 16.0) -> None:
        super().__init__(sample_rate=sample_rate, window_ms=window_ms, hop_ms=hop_ms)
        if sample_rate < 8000:
            raise ValueError(f"sample_rate is {sample_rate}; PESQ needs 8000 Hz or more, choose another loss")
        n_fft = self.stft.config.n_fft
        hz = torch.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
        number = ((_bark(hz) - _bark(hz[1])) / self.BAND_BARK).floor()
        inside = (hz > 0) & (hz <= self.HIGHEST_HZ)
        bands = ((number[:, None] == number[inside].unique()) & inside[:, None]).float()
        khz = hz @ bands / bands.sum(0) / 1000
        threshold_db = 3.64 * khz**-0.8 - 6.5 * (-0.6 * (khz - 3.3).square()).exp() + 1e-3 * khz**4
        z = torch.exp(-2j * torch.pi * hz / 16000)  # the standard gives the filter for 16 kHz
        low_cut = (2.740826 * (1 - z).square() / (1 - 1.9444777 * z + 0.94597794 * z.square())).abs().square()
        constants = {
            "bands": bands,
            "threshold": 10 ** (threshold_db / 10),
            "exponent": 0.23 * (6 / (_bark(1000 * khz) + 2)).clamp(1, 2) ** 0.15,
            "low_cut": low_cut,
            "in_speech": ((hz > self.SPEECH_HZ[0]) & (hz < self.SPEECH_HZ[1])).float() * 2 / n_fft,
        }
        self.density = self.DENSITY * 512 / n_fft
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def measure(self, estimate: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
        estimated, target = (self._band_powers(spectrum, valid) for spectrum in (estimate, reference))
        loud = (self._audible(target, 100) >= self.SPEECH_POWER) * valid
        # Differences of timbre, then of loudness from frame to frame, are compensated within limits.
        timbre = (self._mean(estimated, loud) + 1000) / (self._mean(target, loud) + 1000)
        target = target * timbre.clamp(0.01, 100)
        audible = self._audible(target)
        gain = (audible + 5e3) / (self._audible(estimated) + 5e3)
        gain = torch.cat([gain[:, :1], 0.8 * gain[:, 1:] + 0.2 * gain[:, :-1]], dim=1)
        estimated = estimated * gain.clamp(3e-4, 5)[..., None]
        loudness, reference_loudness = self._loudness(estimated), self._loudness(target)
        masked = 0.25 * torch.minimum(loudness, reference_loudness)
        disturbance = ((loudness - reference_loudness).abs() - masked).clamp(min=0) * self.BAND_BARK
        asymmetry = ((estimated + 50) / (target + 50)) ** 1.2
        asymmetry = asymmetry.clamp(max=12) * (asymmetry >= 3)
        width = self.BAND_BARK * self.bands.shape[1]
        per_frame = (width * disturbance.square().sum(-1) + EPS).sqrt(), (disturbance * asymmetry).sum(-1)
        frame_weight = ((audible + 1e5) / 1e7) ** 0.04
        symmetric, asymmetric = (
            self._over_time((frames / frame_weight).clamp(max=45) * valid, valid) for frames in per_frame
        )
        has_speech = loud.any(1)
        return ((0.1 * symmetric + 0.0309 * asymmetric) * has_speech).sum() / has_speech.sum().clamp(min=1)

    def _band_powers(self, spectrum: Tensor, valid: Tensor) -> Tensor:
        """Spectra (B, T, F) → powers (B, T, bands) at the standard's level, 0 in padding."""
        powers = power(*parts(spectrum)) * valid[..., None]
        level = (powers * self.in_speech).sum((1, 2)) / valid.sum(1) + self.SILENT_POWER
        gain = self.density * self.SPEECH_POWER / level
        return (powers * self.low_cut) @ self.bands.to(powers.dtype) * gain[:, None, None]

    def _audible(self, powers: Tensor, times: float = 1.0) -> Tensor:
        """(B, T, bands) → (B, T), the sum of the bands above ``times`` the threshold of hearing."""
        return (powers * (powers > times * self.threshold)).sum(-1)

    def _mean(self, powers: Tensor, loud: Tensor) -> Tensor:
        """(B, T, bands) → (B, 1, bands), the mean over loud frames of powers well above the threshold."""
        total = (powers * (powers > 100 * self.threshold) * loud[..., None]).sum(1, keepdim=True)
        return total / loud.sum(1).clamp(min=1)[:, None, None]

    def _loudness(self, powers: Tensor) -> Tensor:
        """Loudness in sone, by Zwicker's law."""
        law = (2 * self.threshold) ** self.exponent * ((0.5 + 0.5 * powers / self.threshold) ** self.exponent - 1)
        return 0.1866055 * law * (powers > self.threshold)

    def _over_time(self, frames: Tensor, valid: Tensor) -> Tensor:
        """(B, T) → (B,): 6-norm within segments of frames, root mean square over segments."""
        segments, counted = (
            nn.functional.pad(signal, (0, self.SEGMENT - 1)).unfold(1, self.SEGMENT, self.STEP)
            for signal in (frames, valid)
        )
        begins = counted[..., 0]
        worst = ((segments**6).sum(-1) / counted.sum(-1).clamp(min=1) + EPS**2) ** (1 / 3)
        return ((worst * begins).sum(1) / begins.sum(1)).sqrt()


def _bark(hz: Tensor) -> Tensor:
    """Traunmüller's scale: "Analytical expressions for the tonotopic sensory scale", 1990."""
    return 26.81 * hz / (1960 + hz) - 0.53
