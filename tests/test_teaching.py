"""A teacher: its stored mixtures, its loss, and the loss on pauses, against sums by hand."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hushwork.audio.io import write_audio
from hushwork.data.batch import Mixture, collate
from hushwork.data.manifest import ManifestError
from hushwork.data.taught import METADATA, PartlyTaughtDataset, TaughtDataset, file_name
from hushwork.losses import NegativeSnrLoss, OnsetLoss, PauseLoss, TeacherLoss, WeightedSum
from hushwork.network.features import band_edges

RATE = 16000


def noise(seed: int, length: int = 8000) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((1, length)).astype(np.float32))


def compressed(signal: torch.Tensor) -> np.ndarray:
    """Magnitudes to the power 0.3 of frames that lie within the signal, by numpy."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    audio = np.pad(signal[0].detach().numpy(), (256, 512))
    starts = range(0, 256 * -(-(signal.shape[1] + 256) // 256), 256)
    frames = np.stack([np.fft.rfft(window * audio[start : start + 512]) for start in starts])
    return (np.abs(frames) ** 2 / np.square(window).sum() + 1e-8) ** 0.15


def test_the_teacher_counts_only_where_it_is_nearer() -> None:
    clean, estimate, teacher = noise(0), 0.5 * noise(1), noise(0) + 0.5 * noise(2)
    c, e, t = compressed(clean), compressed(estimate), compressed(teacher)
    nearer = np.abs(t - c) < np.abs(e - c)
    assert 0.1 < nearer.mean() < 0.95
    loss = TeacherLoss()
    found = loss(estimate, clean, torch.tensor([8000]), teacher)
    assert float(found) == pytest.approx(float(np.mean((e - t) ** 2 * nearer)), rel=1e-3)
    assert float(loss(clean, clean, torch.tensor([8000]), teacher)) == 0
    everywhere = TeacherLoss(elsewhere=0.25)(estimate, clean, torch.tensor([8000]), teacher)
    assert float(everywhere) == pytest.approx(float(np.mean((e - t) ** 2 * np.where(nearer, 1, 0.25))), rel=1e-3)
    asymmetric = TeacherLoss(elsewhere=1.0, over_suppression_weight=2.0)(estimate, clean, torch.tensor([8000]), teacher)
    assert float(asymmetric) == pytest.approx(float(np.mean((e - t) ** 2 * np.where(e < t, 3, 1))), rel=1e-3)
    quiet = (c / c.max(1, keepdims=True)) ** (1 / 0.3) < 10**-1.5  # no frame of this noise is a pause
    assert 0.0005 < quiet.mean() < 0.9
    between = TeacherLoss(elsewhere=1.0, loud=0.0)(estimate, clean, torch.tensor([8000]), teacher)
    assert float(between) == pytest.approx(float(np.mean((e - t) ** 2 * quiet)), rel=1e-3)
    edges = np.append(band_edges(257, 20, 16000), 257)
    bands = [((e - t) ** 2)[:, low:high].mean(1) for low, high in pairwise(edges)]
    hearing = TeacherLoss(elsewhere=1.0, num_bands=20)(estimate, clean, torch.tensor([8000]), teacher)
    assert float(hearing) == pytest.approx(float(np.mean(bands)), rel=1e-3)
    # Samples beyond a signal's end have no effect.
    longer = [torch.cat([signal, noise(5, 3000)], dim=1) for signal in (estimate, clean, teacher)]
    assert float(loss(*longer[:2], torch.tensor([8000]), longer[2])) == pytest.approx(float(found), rel=1e-5)


def test_a_sum_of_losses_asks_the_teacher_if_there_is_one() -> None:
    clean, estimate, teacher, lengths = noise(0), noise(1), noise(2), torch.tensor([8000])
    parts = {"snr": NegativeSnrLoss(), "teacher": TeacherLoss()}
    total = WeightedSum(losses=parts, weights={"snr": 0.5, "teacher": 2.0})
    alone = 0.5 * parts["snr"](estimate, clean, lengths)
    assert total(estimate, clean, lengths) == alone
    assert total.parts.keys() == {"snr"}
    torch.testing.assert_close(
        total(estimate, clean, lengths, teacher), alone + 2 * parts["teacher"](estimate, clean, lengths, teacher)
    )


@pytest.mark.parametrize(("left_db", "expected"), [(0, 1.0), (-30, 0.5), (-80, 0.0)])
def test_residual_noise_in_pauses_is_measured(left_db: float, expected: float) -> None:
    clean, rest = noise(0, 32000), noise(1, 32000)
    clean[:, :16000] = 0
    estimate = clean + 10 ** (left_db / 20) * rest * (clean == 0)
    lengths = torch.tensor([32000])
    assert float(PauseLoss()(estimate, clean, lengths)) == pytest.approx(expected, abs=0.02)
    # What speech does there is not looked at, and without a pause nothing is taught.
    assert float(PauseLoss()(estimate + noise(2, 32000) * (clean != 0), clean, lengths)) == pytest.approx(
        expected, abs=0.06
    )
    assert float(PauseLoss()(estimate, noise(3, 32000), lengths)) == 0


def lost_at_onsets(estimate: torch.Tensor, clean: torch.Tensor) -> float:
    """As OnsetLoss, by a loop over frames."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    energies = []
    for signal in (clean, estimate):
        audio = np.pad(signal[0].numpy(), (256, 512))
        starts = range(0, 256 * -(-(signal.shape[1] + 256) // 256), 256)
        spectra = [np.fft.rfft(window * audio[start : start + 512]) for start in starts]
        energies.append(np.array([np.mean(np.abs(spectrum) ** 2) for spectrum in spectra]) / np.square(window).sum())
    wanted, left = energies
    speech = wanted > 1e-3 * wanted.max()
    lost, since = [], 4
    for frame in range(len(wanted)):
        if speech[frame] and not speech[max(0, frame - 16) : frame].any():
            since = 0
        if speech[frame] and since < 4:
            lost.append(min(1.0, max(0.0, -np.log10((left[frame] / wanted[frame] + 0.01) / 1.01) / 2)))
        since += 1
    return float(np.mean(lost)) if lost else 0.0


def test_speech_that_is_lost_where_it_begins_is_measured() -> None:
    clean = noise(0, 48000)
    clean[:, 16000:24000] = 0  # a pause of half a second
    clean[:, 30000:32000] = 0  # shorter than one
    gains = torch.ones_like(clean)
    gains[:, :400], gains[:, 24000:24600], gains[:, 32000:32600], gains[:, 40000:] = 0.3, 0.1, 0.0, 0.0
    lengths = torch.tensor([48000])
    found = float(OnsetLoss()(gains * clean, clean, lengths))
    assert 0.1 < found < 0.6
    assert found == pytest.approx(lost_at_onsets(gains * clean, clean), rel=1e-3)
    assert float(OnsetLoss()(2 * clean, clean, lengths)) == 0
    assert float(OnsetLoss()(noise(1, 48000), torch.zeros(1, 48000), lengths)) == 0


def test_the_gradient_gives_onsets_back() -> None:
    clean, lengths = noise(0, 16000), torch.tensor([16000])
    gain = torch.tensor(0.2, requires_grad=True)
    OnsetLoss()(torch.cat([gain * clean[:, :500], clean[:, 500:]], dim=1), clean, lengths).backward()
    assert gain.grad is not None
    assert gain.grad < 0


@pytest.mark.parametrize("wrong", [{"onset_frames": 0}, {"pause_frames": 0}])
def test_an_onset_loss_without_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="both must be at least 1"):
        OnsetLoss(**wrong)


def test_the_gradient_turns_pauses_down() -> None:
    clean = noise(0, 16000)
    clean[:, :8000] = 0
    gain = torch.tensor(0.1, requires_grad=True)
    PauseLoss()(clean + gain * noise(1, 16000), clean, torch.tensor([16000])).backward()
    assert gain.grad is not None
    assert float(gain.grad) > 0


@pytest.mark.parametrize("wrong", [{"floor_db": 0.0}, {"silent_db": 3.0}])
def test_levels_that_cannot_be_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="both must be below 0"):
        PauseLoss(**wrong)
    with pytest.raises(ValueError, match="exponent is 2"):
        TeacherLoss(exponent=2)
    with pytest.raises(ValueError, match="loud 2"):
        TeacherLoss(loud=2)
    with pytest.raises(ValueError, match="over_suppression_weight -1"):
        TeacherLoss(over_suppression_weight=-1)


def test_batches_have_a_teacher_if_all_mixtures_have() -> None:
    def mixture(length: int, teacher: bool) -> Mixture:
        signal = np.arange(length, dtype=np.float32)
        metadata: dict[str, Any] = {"name": "m", "speaker": "", "noise_class": "", "snr_db": 0.0}
        return Mixture(noisy=signal, clean=signal, teacher=2 * signal if teacher else None, **metadata)

    batch = collate([mixture(3, True), mixture(5, True)]).to("cpu")
    assert batch.teacher is not None
    assert batch.teacher.tolist() == [[0, 2, 4, 0, 0], [0, 2, 4, 6, 8]]
    assert collate([mixture(3, True), mixture(5, False)]).teacher is None


def test_every_mixture_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    (tmp_path / METADATA).write_text(json.dumps({"sample_rate": RATE}))
    options: dict[str, Any] = {"num_mixtures": 4, "sample_rate": RATE, "seed": 0}
    with pytest.raises(ManifestError, match="holds no mixtures yet"):
        TaughtDataset(tmp_path, **options)
    for k in range(6):
        channels = np.full((3, 100), 0.1 * k, np.float32) * np.array([[1], [0.5], [0.25]], np.float32)
        write_audio(tmp_path / file_name(k), channels, RATE)
    dataset = TaughtDataset(tmp_path, **options)
    keys = [(epoch, index) for epoch in range(3) for index in range(4)]
    names = [dataset[key].name for key in keys]
    assert sorted(names[:6]) == sorted(names[6:]) == [f"{k:07d}" for k in range(6)]
    assert names[:6] != names[6:]
    mixture = dataset[0, 0]
    assert mixture.teacher is not None
    np.testing.assert_allclose(mixture.clean, mixture.noisy / 2, atol=1e-4)
    np.testing.assert_allclose(mixture.teacher, mixture.noisy / 4, atol=1e-4)
    with pytest.raises(ManifestError, match="is at 16000 Hz, training is set to 8000 Hz"):
        TaughtDataset(tmp_path, **{**options, "sample_rate": 8000})


def test_taught_mixtures_vary_in_step(tmp_path: Path) -> None:
    (tmp_path / METADATA).write_text(json.dumps({"sample_rate": RATE}))
    channels = 0.1 * noise(0, 16000).numpy() * np.array([[1], [0.5], [0.25]], np.float32)
    write_audio(tmp_path / file_name(0), channels, RATE)
    options: dict[str, Any] = {"num_mixtures": 4, "sample_rate": RATE, "seed": 0}
    dataset = TaughtDataset(tmp_path, **options, speed=(0.8, 1.25), eq_db=6.0)
    found = [dataset[0, k] for k in range(4)]
    assert len({len(mixture.noisy) for mixture in found}) == 4
    for mixture in found:
        assert 16000 / 1.25 <= len(mixture.noisy) <= 16000 / 0.8
        np.testing.assert_allclose(mixture.clean, mixture.noisy / 2, atol=1e-4)
        np.testing.assert_allclose(mixture.teacher, mixture.noisy / 4, atol=1e-4)
    np.testing.assert_array_equal(dataset[0, 1].noisy, found[1].noisy)
    # The equaliser alone moves the spectrum by up to 6 dB, bin by bin, and not by the same everywhere.
    equalised = TaughtDataset(tmp_path, **options, eq_db=6.0)[0, 0].noisy
    bands = [
        np.square(np.abs(np.fft.rfft(audio))).reshape(-1)[:8000].reshape(8, -1).mean(1)
        for audio in (equalised, channels[0])
    ]
    gains_db = 10 * np.log10(bands[0] / bands[1])
    assert 1 < np.abs(gains_db).max() < 6.5
    assert np.ptp(gains_db) > 1
    with pytest.raises(ValueError, match=r"data\.taught_speed is \[2, 1\]"):
        TaughtDataset(tmp_path, **options, speed=(2, 1))


def test_taught_and_drawn_mixtures_take_turns(tmp_path: Path) -> None:
    (tmp_path / METADATA).write_text(json.dumps({"sample_rate": RATE}))
    for k in range(3):
        write_audio(tmp_path / file_name(k), np.full((3, 100), 0.1, np.float32), RATE)

    class Drawn:
        def __len__(self) -> int:
            return 8

        def __getitem__(self, key: tuple[int, int]) -> Mixture:
            signals = {"noisy": np.zeros(100, np.float32), "clean": np.full(100, 0.5, np.float32)}
            return Mixture(name=f"drawn {key}", speaker="", noise_class="", snr_db=0.0, **signals)

    taught = TaughtDataset(tmp_path, num_mixtures=8, sample_rate=RATE, seed=0)
    dataset = PartlyTaughtDataset(taught, Drawn(), 0.75)
    mixtures = [dataset[epoch, index] for epoch in range(2) for index in range(8)]
    drawn = [k for k, mixture in enumerate(mixtures) if mixture.name.startswith("drawn")]
    assert drawn == [0, 4, 8, 12]
    assert mixtures[8].name == "drawn (1, 0)"
    assert mixtures[0].teacher is mixtures[0].clean
    names = [mixture.name for k, mixture in enumerate(mixtures) if k not in drawn]
    assert sorted(names) == sorted([file_name(k)[:-5] for k in range(3)] * 4)
    assert len(set(names[:3])) == 3
    with pytest.raises(ValueError, match=r"data\.taught_share is 0"):
        PartlyTaughtDataset(taught, Drawn(), 0.0)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"write the folder with scripts/benchmarks/teach\.py"):
        TaughtDataset(tmp_path, num_mixtures=1, sample_rate=RATE, seed=0)
