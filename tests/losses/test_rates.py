"""Losses at other sample rates, and in half precision."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hydra.utils import instantiate
from scipy.signal import freqz
from torch import Tensor, nn

from configurations import compose_quickly
from hushwork.audio.io import resample
from hushwork.augment.mixing import rms, scale_to_snr
from hushwork.augment.noises import coloured_noise
from hushwork.config import config_dir
from hushwork.evaluation.metrics import pesq_nb
from hushwork.losses import IntelligibilityLoss, MagnitudeLoss, MultiResolutionStftLoss, PesqLoss

VOICES = Path(__file__).parents[2] / "src" / "hushwork" / "data" / "starter" / "speech" / "test"
CHOICES = [path.stem for path in sorted((config_dir() / "loss").glob("*.yaml"))]


def noisy_speech(voice: str, snr_db: float, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy and clean speech (N,) at a sample rate."""
    clean, original = sf.read(VOICES / f"{voice}.ogg", dtype="float32")
    noise = coloured_noise(len(clean), original, np.random.default_rng(0))
    noisy = clean + scale_to_snr(clean, noise, snr_db, original)
    return resample(noisy, original, rate), resample(clean, original, rate)


def measured(loss: nn.Module, noisy: np.ndarray, clean: np.ndarray) -> float:
    pair = (torch.from_numpy(signal)[None] / rms(noisy) for signal in (noisy, clean))
    return float(loss(*pair, torch.tensor([len(noisy)])))


@pytest.mark.parametrize(("rate", "n_fft"), [(8000, 256), (11025, 352), (16000, 512), (44100, 1412), (48000, 1536)])
def test_windows_last_as_long_at_every_rate(rate: int, n_fft: int) -> None:
    for loss in (MagnitudeLoss, PesqLoss, IntelligibilityLoss):
        config = loss(sample_rate=rate).stft.config
        assert (config.n_fft, config.hop_length) == (n_fft, n_fft // 2)
    lengths = [loss.stft.config.n_fft for loss in MultiResolutionStftLoss(sample_rate=rate).resolutions]
    np.testing.assert_allclose(lengths, np.array([0.016, 0.032, 0.064]) * rate, rtol=0.01)


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
@pytest.mark.parametrize("loss", [PesqLoss, IntelligibilityLoss])
@pytest.mark.parametrize("voice", ["am_michael_01", "zf_xiaobei_01"])
def test_speech_counts_the_same_at_every_rate(voice: str, loss: type[nn.Module], rate: int) -> None:
    below_7_khz = noisy_speech(voice, 10, 14000)  # where no resampler cuts anything off
    values = [
        measured(loss(sample_rate=to), *(resample(signal, 14000, to) for signal in below_7_khz)) for to in (16000, rate)
    ]
    assert values[1] == pytest.approx(values[0], rel=0.02, abs=0.01)


@pytest.mark.parametrize(
    ("rate", "coefficients"),
    [  # of wide-band PESQ's input filter, in the standard's reference code
        (8000, (2.6657628, -5.3315255, 2.6657628, -1.8890331, 0.89487434)),
        (16000, (2.740826, -5.4816519, 2.740826, -1.9444777, 0.94597794)),
    ],
)
def test_the_input_filter_of_pesq_is_that_of_the_rate(rate: int, coefficients: tuple[float, ...]) -> None:
    loss = PesqLoss(sample_rate=rate)
    hz = np.arange(1, len(loss.low_cut)) * rate / loss.stft.config.n_fft
    _, response = freqz(coefficients[:3], [1, *coefficients[3:]], worN=hz, fs=rate)
    np.testing.assert_allclose(
        10 * np.log10(loss.low_cut[1:].numpy()), 20 * np.log10(np.abs(response)), rtol=0, atol=0.02
    )


# Narrow-band PESQ of noisy speech at these SNRs and 8 kHz, by the package pesq 0.0.4, the standard's reference code.
SNRS_DB = (0, 10, 20, 30)
NARROW_BAND = {
    "am_michael_01": (1.521, 1.838, 2.635, 3.569),
    "bf_emma_01": (1.48, 1.893, 2.672, 3.532),
    "if_sara_01": (1.275, 1.399, 1.995, 2.972),
    "zf_xiaobei_01": (1.361, 1.908, 2.899, 3.784),
}


def test_the_loss_at_8_khz_follows_narrow_band_pesq_before_its_mapping() -> None:
    loss, raw, values = PesqLoss(sample_rate=8000), [], []
    for voice, scores in NARROW_BAND.items():
        for snr_db, score in zip(SNRS_DB, scores, strict=True):
            noisy, clean = noisy_speech(voice, snr_db, 8000)
            if importlib.util.find_spec("pesq"):
                assert score == pytest.approx(pesq_nb(noisy, clean, 8000), abs=0.01)
            values.append(measured(loss, noisy, clean))
            raw.append(4.5 - (4.6607 - np.log(4 / (score - 0.999) - 1)) / 1.4945)  # ITU-T P.862.1
    assert np.corrcoef(raw, values)[0, 1] > 0.97


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CHOICES)
def test_autocast_changes_no_loss(name: str, dtype: torch.dtype) -> None:
    loss = instantiate(compose_quickly(f"loss={name}").loss)
    pair = noisy_speech("am_michael_01", 10, 16000)
    noisy, clean = (torch.from_numpy(signal)[None] / rms(pair[0]) for signal in pair)
    lengths = torch.tensor([noisy.shape[1]])
    teacher = [0.9 * clean] if getattr(loss, "needs_teacher", False) else []

    def value_and_gradient(enabled: bool) -> tuple[Tensor, Tensor]:
        estimate = noisy.clone().requires_grad_()
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            value = loss(estimate, clean, lengths, *teacher)
        value.backward()
        return value.detach(), estimate.grad

    for exact, cast in zip(value_and_gradient(False), value_and_gradient(True), strict=True):
        assert exact.isfinite().all()
        assert torch.equal(exact, cast)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_half_precision_estimate_is_measured_in_float32(dtype: torch.dtype) -> None:
    estimate = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0)).to(dtype)
    reference, lengths = estimate.float() * 0.9, torch.tensor([8000])
    value = MagnitudeLoss()(estimate, reference, lengths)
    assert value.dtype == torch.float32
    assert value == MagnitudeLoss()(estimate.float(), reference, lengths)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_ms": 50, "hop_ms": 20}, "window_ms is 50 and hop_ms 20 at 16000 Hz"),
        ({"window_ms": 30, "hop_ms": 10}, "window_ms is 30 and hop_ms 10"),
        ({"window_ms": 16, "hop_ms": 16}, "window_ms is 16 and hop_ms 16"),
        ({"window_ms": 0.1, "hop_ms": 0.05}, "a hop of two samples or more"),
        ({"hop_ms": 0}, "hop_ms 0 at"),
        ({"sample_rate": 50}, "at 50 Hz"),
    ],
)
def test_windows_that_do_not_fit_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MagnitudeLoss(**settings)
