"""Every loss against its formula in numpy; no loss depends on padding or fails on silence."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import nn
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio, signal_noise_ratio

from hushwork.augment.mixing import rms, scale_to_snr, with_pause
from hushwork.augment.noises import coloured_noise
from hushwork.evaluation.metrics import estoi, pesq_wb
from hushwork.losses import (
    CompressedSpectralLoss,
    IntelligibilityLoss,
    LogSpectralLoss,
    MagnitudeLoss,
    MultiResolutionStftLoss,
    NegativeSnrLoss,
    PesqLoss,
    WeightedSum,
)

STARTER = Path(__file__).parents[2] / "src" / "hushwork" / "data" / "starter"
N_FFT, HOP = 64, 16
SPECTRAL = {"sample_rate": 1000, "window_ms": N_FFT, "hop_ms": HOP}
LOSSES = {
    "mse": lambda: MagnitudeLoss(**SPECTRAL),
    "l1": lambda: MagnitudeLoss(power=1, **SPECTRAL),
    "log": lambda: LogSpectralLoss(**SPECTRAL),
    "compressed": lambda: CompressedSpectralLoss(**SPECTRAL),
    "multi": lambda: MultiResolutionStftLoss(sample_rate=1000, windows_ms=(32, 64)),
    "si_sdr": lambda: NegativeSnrLoss(),
    "snr": lambda: NegativeSnrLoss(scale_invariant=False, max_db=None),
    "intelligibility": lambda: IntelligibilityLoss(sample_rate=2000, segment_s=0.1, window_ms=32, hop_ms=8),
    "pesq": lambda: PesqLoss(sample_rate=8000, window_ms=8, hop_ms=2),
}
LEVEL_BLIND = ("si_sdr", "intelligibility", "pesq")
RATIOS = ("si_sdr", "snr")  # best at minus infinity; the others at 0
LENGTHS = [700, 431]


@pytest.fixture
def pair():
    """Estimate and reference: two recordings of unit level, padded with what must not be seen."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(2, 700, dtype=torch.float64, generator=generator)
    estimate = 0.8 * reference + 0.5 * torch.randn(2, 700, dtype=torch.float64, generator=generator)
    return estimate, reference, torch.tensor(LENGTHS)


def spectra(audio, n_fft=N_FFT, hop=HOP):
    """Spectra of each recording up to its length, white noise of unit power having unit power in a bin: (T, F) each."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    result = []
    for signal, length in zip(audio.numpy(), LENGTHS, strict=True):
        padded = np.concatenate([np.zeros(n_fft // 2), signal[:length], np.zeros(n_fft)])
        starts = [s for s in range(0, length + n_fft, hop) if s - n_fft // 2 < length]
        frames = np.stack([padded[s : s + n_fft] * window for s in starts])
        result.append(np.fft.rfft(frames) / np.sqrt((window**2).sum()))
    return result


def mean_over_bins(distance, estimate, reference, **resolution):
    pairs = zip(spectra(estimate, **resolution), spectra(reference, **resolution), strict=True)
    return np.concatenate([distance(e, r) for e, r in pairs]).mean()


@pytest.mark.parametrize("power", [1, 2])
def test_magnitude_loss(pair, power):
    expected = mean_over_bins(lambda e, r: np.abs(np.abs(e) - np.abs(r)) ** power, *pair[:2])
    assert float(MagnitudeLoss(power=power, **SPECTRAL)(*pair)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("floor_db", [-60.0, -20.0])
def test_log_spectral_loss(pair, floor_db):
    floor = 10 ** (floor_db / 20)
    expected = mean_over_bins(
        lambda e, r: np.abs(20 * np.log10(np.abs(e) + floor) - 20 * np.log10(np.abs(r) + floor)), *pair[:2]
    )
    assert float(LogSpectralLoss(floor_db=floor_db, **SPECTRAL)(*pair)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("complex_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("over_suppression_weight", [0.0, 2.0])
def test_compressed_spectral_loss(pair, exponent, complex_weight, over_suppression_weight):
    def distance(e, r):
        small_e, small_r = np.abs(e) ** exponent, np.abs(r) ** exponent
        as_complex = np.abs(small_e * np.exp(1j * np.angle(e)) - small_r * np.exp(1j * np.angle(r))) ** 2
        eaten = np.maximum(small_r - small_e, 0) ** 2
        magnitudes = (small_r - small_e) ** 2
        return complex_weight * as_complex + (1 - complex_weight) * magnitudes + over_suppression_weight * eaten

    loss = CompressedSpectralLoss(
        exponent=exponent,
        complex_weight=complex_weight,
        over_suppression_weight=over_suppression_weight,
        **SPECTRAL,
    )
    assert float(loss(*pair)) == pytest.approx(mean_over_bins(distance, *pair[:2]), rel=1e-4)


def test_multi_resolution_stft_loss(pair):
    values = []
    for n_fft in (32, 64, 128):
        resolution = {"n_fft": n_fft, "hop": n_fft // 4}
        pairs = list(zip(spectra(pair[0], **resolution), spectra(pair[1], **resolution), strict=True))
        convergence = [np.linalg.norm(np.abs(r) - np.abs(e)) / np.linalg.norm(np.abs(r)) for e, r in pairs]
        logs = mean_over_bins(
            lambda e, r: np.abs(np.log(np.abs(e) + 1e-4) - np.log(np.abs(r) + 1e-4)), *pair[:2], **resolution
        )
        values.append(np.mean(convergence) + logs)
    loss = MultiResolutionStftLoss(sample_rate=1000, windows_ms=[32, 64, 128])
    assert float(loss(*pair)) == pytest.approx(np.mean(values), rel=1e-4)


def test_si_sdr_equals_torchmetrics(pair):
    estimate, reference, _ = (t + 0.3 for t in pair)  # means are removed
    expected = [
        scale_invariant_signal_distortion_ratio(e[:n], r[:n], zero_mean=True)
        for e, r, n in zip(estimate, reference, LENGTHS, strict=True)
    ]
    loss = NegativeSnrLoss(max_db=None)
    assert float(loss(estimate, reference, pair[2])) == pytest.approx(-float(sum(expected) / 2), rel=1e-6)
    assert float(loss(7 * estimate, reference, pair[2])) == pytest.approx(-float(sum(expected) / 2), rel=1e-6)


def test_snr_equals_torchmetrics(pair):
    estimate, reference, lengths = pair
    expected = [signal_noise_ratio(e[:n], r[:n]) for e, r, n in zip(estimate, reference, LENGTHS, strict=True)]
    loss = NegativeSnrLoss(scale_invariant=False, max_db=None)
    assert float(loss(estimate, reference, lengths)) == pytest.approx(-float(sum(expected) / 2), rel=1e-6)


@pytest.mark.parametrize("scale_invariant", [True, False])
@pytest.mark.parametrize("max_db", [10.0, 30.0])
def test_ratios_do_not_go_beyond_their_limit(pair, scale_invariant, max_db):
    _, reference, lengths = pair
    soft = NegativeSnrLoss(scale_invariant=scale_invariant, max_db=max_db)
    assert float(soft(reference, reference, lengths)) == pytest.approx(-max_db, abs=1e-3)
    # Wisdom et al., eq. 2: at a ratio equal to the limit half of it is lost, 3 dB.
    orthogonal = torch.zeros(1, 400, dtype=torch.float64)
    orthogonal[0, 200::2], orthogonal[0, 201::2] = 1, -1
    signal = torch.zeros(1, 400, dtype=torch.float64)
    signal[0, :200:2], signal[0, 1:200:2] = 1, -1
    at_limit = soft(signal + 10 ** (-max_db / 20) * orthogonal, signal, torch.tensor([400]))
    assert float(at_limit) == pytest.approx(-(max_db - 10 * np.log10(2)), abs=1e-4)


@pytest.mark.parametrize("snr_db", [-5, 5, 15])
@pytest.mark.parametrize("voice", sorted((STARTER / "speech" / "test").iterdir())[:3], ids=lambda path: path.stem)
def test_intelligibility_is_close_to_pystoi(voice, snr_db):
    reference, rate = sf.read(voice, dtype="float32")
    reference = with_pause(reference, len(reference) // 3, rate // 2, rate)
    noise = coloured_noise(len(reference), rate, np.random.default_rng(0))
    estimate = reference + scale_to_snr(reference, noise, snr_db, rate)
    pair = (torch.from_numpy(signal)[None] / rms(estimate) for signal in (estimate, reference))
    loss = float(IntelligibilityLoss(sample_rate=rate)(*pair, torch.tensor([len(reference)])))
    assert 1 - loss == pytest.approx(estoi(estimate, reference, rate), abs=0.04)


# Wide-band PESQ of noisy speech at these SNRs, by the package pesq 0.0.4, the standard's reference code.
PESQ_SNRS_DB = (0, 10, 20, 30)
PESQ = {
    "am_michael_01": (1.043, 1.113, 1.504, 2.538),
    "bf_emma_01": (1.03, 1.117, 1.676, 2.929),
    "if_sara_01": (1.038, 1.082, 1.447, 2.54),
    "zf_xiaobei_01": (1.043, 1.137, 1.59, 2.6),
}


def test_quality_goes_as_pesq_does_before_its_last_curve():
    loss, raw, losses = PesqLoss(), [], []
    for voice, scores in PESQ.items():
        reference, rate = sf.read(STARTER / "speech" / "test" / f"{voice}.ogg", dtype="float32")
        noise = coloured_noise(len(reference), rate, np.random.default_rng(0))
        for snr_db, score in zip(PESQ_SNRS_DB, scores, strict=True):
            estimate = reference + scale_to_snr(reference, noise, snr_db, rate)
            if importlib.util.find_spec("pesq"):
                assert score == pytest.approx(pesq_wb(estimate, reference, rate), abs=0.01)
            pair = (torch.from_numpy(signal)[None] / rms(estimate) for signal in (estimate, reference))
            losses.append(float(loss(*pair, torch.tensor([len(reference)]))))
            raw.append(4.5 - (3.8224 - np.log(4 / (score - 0.999) - 1)) / 1.3669)
    assert np.corrcoef(raw, losses)[0, 1] > 0.97
    np.testing.assert_allclose(losses, raw, rtol=0.25)


def test_speech_too_short_for_a_segment_has_no_gradient():
    estimate = torch.randn(2, 20000, requires_grad=True)
    reference = torch.randn(2, 20000)
    loss, lengths = IntelligibilityLoss(), torch.tensor([5000, 20000])
    both = loss(estimate, reference, lengths)
    both.backward()
    torch.testing.assert_close(both, loss(estimate[1:], reference[1:], lengths[1:]))
    assert not estimate.grad[0].any()
    assert estimate.grad[1].any()
    assert float(loss(estimate.detach()[:1], reference[:1], lengths[:1])) == 0
    assert float(loss(estimate.detach()[:1, :5000], reference[:1, :5000], lengths[:1])) == 0


@pytest.mark.parametrize("name", LOSSES)
def test_padding_is_not_seen(pair, name):
    estimate, reference, lengths = pair
    loss = LOSSES[name]()
    value = loss(estimate, reference, lengths)
    garbage = torch.full((2, 300), 50.0, dtype=torch.float64)
    longer = [torch.cat([signal, k * garbage], dim=1) for k, signal in ((1, estimate), (-3, reference))]
    torch.testing.assert_close(loss(*longer, lengths), value, rtol=1e-9, atol=0)
    alone = loss(estimate[1:, :431], reference[1:, :431], lengths[1:])
    padded = loss(estimate[1:], reference[1:], lengths[1:])
    torch.testing.assert_close(padded, alone, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_estimate_is_the_least(pair, name):
    _, reference, lengths = pair
    loss = LOSSES[name]()
    noise = torch.randn(reference.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    perfect, *worse = (float(loss(reference + k * noise, reference, lengths)) for k in (0, 0.05, 0.5, 5))
    assert [perfect, *worse] == sorted([perfect, *worse])
    assert perfect < worse[0] < worse[1] < worse[2]
    for gain in (0.9, 1.1):
        scaled = float(loss(gain * reference, reference, lengths))
        assert perfect < scaled or (name in LEVEL_BLIND and scaled == pytest.approx(perfect, abs=1e-6))
    assert perfect == pytest.approx(0, abs=1e-3) or name in RATIOS


def test_eaten_speech_costs_more_than_noise_left():
    # Magnitudes compressed by 1/2 lie 0.1 below or above the reference's.
    reference = torch.randn(1, 700, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = CompressedSpectralLoss(exponent=0.5, complex_weight=0, over_suppression_weight=3, **SPECTRAL)
    eaten, left = (float(loss(reference * gain**2, reference, torch.tensor([700]))) for gain in (0.9, 1.1))
    assert eaten == pytest.approx(4 * left, rel=1e-4)


@pytest.mark.parametrize("silent", ["estimate", "reference", "both"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_silence_has_finite_gradients(pair, name, silent, dtype):
    estimate, reference, lengths = pair
    estimate = (torch.zeros_like(estimate) if silent != "reference" else estimate).to(dtype).requires_grad_()
    reference = (torch.zeros_like(reference) if silent != "estimate" else reference).to(dtype)
    value = LOSSES[name]()(estimate, reference, lengths)
    value.backward()
    assert value.isfinite()
    assert estimate.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_value(pair, name):
    estimate, reference, lengths = (t[:1, :200] if t.ndim == 2 else torch.tensor([200]) for t in pair)
    loss, direction = (
        LOSSES[name](),
        torch.randn(1, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(2)),
    )
    estimate.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(estimate, reference, lengths), estimate)
    step = 1e-6
    with torch.no_grad():
        rise = loss(estimate + step * direction, reference, lengths) - loss(
            estimate - step * direction, reference, lengths
        )
    assert float((gradient * direction).sum()) == pytest.approx(float(rise) / (2 * step), rel=1e-3, abs=1e-7)


def test_weighted_sum(pair):
    losses = {"mse": MagnitudeLoss(**SPECTRAL), "snr": NegativeSnrLoss()}
    total = WeightedSum(losses=losses, weights={"snr": 0.25, "mse": 3.0})
    mse, snr = (float(loss(*pair)) for loss in losses.values())
    estimate = pair[0].clone().requires_grad_()
    assert float(total(estimate, *pair[1:]).detach()) == pytest.approx(3 * mse + 0.25 * snr)
    assert {name: float(part) for name, part in total.parts.items()} == pytest.approx({"mse": mse, "snr": snr})
    assert not any(part.requires_grad for part in total.parts.values())


@pytest.mark.parametrize("weights", [{}, {"mse": 1.0, "snr": 1.0}, {"snr": 1.0}])
def test_each_loss_needs_its_weight(weights):
    with pytest.raises(ValueError, match=r"losses are \['mse'\], weights"):
        WeightedSum(losses={"mse": nn.Identity()}, weights=weights)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MagnitudeLoss(power=3), "power is 3"),
        (lambda: MagnitudeLoss(window_ms=50, hop_ms=20), "window_ms is 50 and hop_ms 20 at 16000 Hz"),
        (lambda: CompressedSpectralLoss(exponent=0.0), "exponent is 0.0"),
        (lambda: CompressedSpectralLoss(exponent=1.5), "exponent is 1.5"),
        (lambda: CompressedSpectralLoss(complex_weight=-0.1), "complex_weight is -0.1"),
        (lambda: CompressedSpectralLoss(complex_weight=1.1), "complex_weight is 1.1"),
        (lambda: CompressedSpectralLoss(over_suppression_weight=-1.0), "over_suppression_weight -1.0"),
        (lambda: IntelligibilityLoss(segment_s=0.01), "segment_s is 0.01"),
        (lambda: PesqLoss(sample_rate=4000), "sample_rate is 4000"),
        (lambda: IntelligibilityLoss(window_ms=8, hop_ms=4), "window_ms 8 .* at 16000 Hz"),
    ],
)
def test_invalid_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
