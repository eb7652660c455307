"""Training mixtures: pure functions of (seed, epoch, index), at the requested SNR, with each augmentation."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hushwork.data.batch import collate
from hushwork.data.datasets import (
    EpochSampler,
)
from hushwork.data.manifest import Manifest
from hushwork.data.mixtures import SYNTHETIC_NOISES, MixingConfig, NoisyMixtureDataset
from hushwork.data.pool import Reader
from mixtures import PLAIN, RATE, equal, loudness_of_speech, measured_snr_db, opened, training


def test_workers_change_no_mixture(manifest: Manifest) -> None:
    batches = []
    for num_workers in (0, 1, 2):
        dataset = training(manifest, max_noises=2, speed=[0.9, 1.1], eq_probability=0.5)
        sampler = EpochSampler(dataset, begin=lambda: (3, 0))
        loader: Any = DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_size=2,
            sampler=sampler,  # type: ignore[arg-type]
            num_workers=num_workers,
            collate_fn=collate,
        )
        batches.append(list(loader))
    for other in batches[1:]:
        for one, two in zip(batches[0], other, strict=True):
            assert torch.equal(one.noisy, two.noisy)
            assert torch.equal(one.clean, two.clean)
            assert one.names == two.names
    assert [name for batch in batches[0] for name in batch.names] == [f"3/{i}" for i in range(8)]


def test_a_mixture_depends_on_seed_epoch_and_index_alone(manifest: Manifest) -> None:
    dataset = training(manifest)
    first = dataset[2, 5]
    assert not equal(first, dataset[2, 6])
    assert not equal(first, dataset[3, 5])
    assert not equal(first, training(manifest, seed=1)[2, 5])
    np.random.seed(9)  # noqa: NPY002  the global generator must have no say
    assert equal(first, dataset[2, 5])
    assert equal(first, training(manifest, seed=0)[2, 5])


def test_two_devices_share_the_mixtures_of_one(manifest: Manifest) -> None:
    whole = EpochSampler(training(manifest), begin=lambda: (4, 0))
    shares = [EpochSampler(training(manifest), rank, 2, lambda: (4, 0)) for rank in (0, 1)]
    assert [len(share) for share in shares] == [4, 4]
    keys = [list(share) for share in shares]
    assert not set(keys[0]) & set(keys[1])
    assert sorted(keys[0] + keys[1]) == list(whole) == [(4, i) for i in range(8)]
    alone = {key: training(manifest)[key] for key in whole}
    for share in keys:
        dataset = training(manifest)
        assert all(equal(dataset[key], alone[key]) for key in share)


@pytest.mark.parametrize("max_noises", [1, 3])
def test_snr_and_level_are_as_requested(manifest: Manifest, max_noises: int) -> None:
    for snr_db in (-5.0, 12.0):
        dataset = training(manifest, snr_db=[snr_db, snr_db], level_db=[-40.0, -40.0], max_noises=max_noises)
        for index in range(3):
            mixture = dataset[0, index]
            assert mixture.snr_db == snr_db
            assert measured_snr_db(mixture) == pytest.approx(snr_db, abs=0.05)
            assert 20 * np.log10(loudness_of_speech(mixture.clean)) == pytest.approx(-40.0, abs=0.05)


def test_snr_is_drawn_from_its_range(manifest: Manifest) -> None:
    drawn = [training(manifest, snr_db=[-5.0, 15.0])[0, index].snr_db for index in range(40)]
    assert min(drawn) >= -5
    assert max(drawn) <= 15
    assert max(drawn) - min(drawn) > 10


def test_loud_mixtures_stay_below_full_scale(manifest: Manifest) -> None:
    dataset = training(manifest, level_db=[0.0, 0.0], snr_db=[-10.0, -10.0])
    for index in range(3):
        mixture = dataset[0, index]
        assert np.abs(mixture.noisy).max() == pytest.approx(0.99, abs=1e-5)
        assert measured_snr_db(mixture) == pytest.approx(-10, abs=0.05)


@pytest.mark.parametrize("segment_s", [0.03, 0.50003, 1.0])
def test_segments_have_the_exact_length(manifest: Manifest, segment_s: float) -> None:
    dataset = training(manifest, segment_s=segment_s, speed=[0.8, 1.2])
    for index in range(3):
        mixture = dataset[1, index]
        assert mixture.noisy.shape == mixture.clean.shape == (round(segment_s * RATE),)
        assert mixture.noisy.dtype == mixture.clean.dtype == np.float32


def high_share(audio: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(audio.astype(float))) ** 2
    return float(power[-len(power) // 16 :].sum() / power.sum())  # above 7.5 kHz


@pytest.mark.parametrize(
    "switched_on",
    [
        {"max_noises": 4},
        {"noise_speed": [0.5, 2.0]},
        *({"synthetic_noises": {kind: 1.0}} for kind in SYNTHETIC_NOISES),
        {"speed": [0.5, 0.6]},
        {"speed": [1.5, 1.6]},
        {"eq_probability": 1.0, "eq_db": 12.0},
        {"reverse_probability": 1.0},
        {"room_probability": 1.0},
        {"band_probability": 1.0},
        {"clip_probability": 1.0},
        {"pause_probability": 1.0},
        {"clean_probability": 1.0},
    ],
    ids=str,
)
def test_every_augmentation_works_alone(manifest: Manifest, switched_on: dict[str, Any]) -> None:
    loud = {"snr_db": [0.0, 0.0]}
    plain, changed = training(manifest, **loud)[0, 0], training(manifest, **loud, **switched_on)[0, 0]
    for audio in (changed.noisy, changed.clean):
        assert audio.shape == (RATE // 2,)
        assert audio.dtype == np.float32
        assert np.isfinite(audio).all()
        assert np.abs(audio).max() > 1e-3
    assert not np.array_equal(plain.noisy, changed.noisy)
    if "pause_probability" in switched_on:
        assert (changed.clean == 0).mean() > 0.4  # a pause is at least a half of this segment
    if "clean_probability" in switched_on:
        assert measured_snr_db(changed) == pytest.approx(30, abs=0.1)
    if "band_probability" in switched_on:
        assert high_share(plain.noisy) > 0.01
        assert high_share(changed.noisy) < 1e-4
    if "clip_probability" in switched_on:
        assert np.array_equal(plain.clean, changed.clean)
        at_limit = np.abs(changed.noisy) == np.abs(changed.noisy).max()
        assert at_limit.sum() > 1
        assert np.array_equal(changed.noisy[~at_limit], plain.noisy[~at_limit])


@pytest.mark.parametrize("kind", ["zeros", "dither", "quiet"])
def test_a_lead_holds_no_speech(manifest: Manifest, kind: str) -> None:
    length = 4000  # half the segment is less than 0.3 s
    for index in range(6):
        mixture = training(manifest, leads={kind: 1.0})[0, index]
        assert not mixture.clean[:length].any()
        assert mixture.clean[length:].any()
        lead = mixture.noisy[:length]
        if kind == "zeros":
            assert not lead.any()
        elif kind == "dither":
            assert set(np.unique(lead * 2**15)) == {-1, 0, 1}
        else:
            rest = (mixture.noisy - mixture.clean)[length:]
            assert 15 < 20 * np.log10(rest.std() / lead.std()) < 45


def test_speech_may_begin_at_sample_0(manifest: Manifest) -> None:
    for index in range(6):
        clean = training(manifest, leads={"onset": 1.0})[0, index].clean
        powers = np.square(clean[: len(clean) // 320 * 320].reshape(-1, 320), dtype=float).mean(1)
        assert powers[0] >= np.percentile(powers, 95) * 10**-3.3


def test_a_gate_mutes_pauses_in_the_mixture_too(manifest: Manifest) -> None:
    options: dict[str, Any] = {"segment_s": 2.0, "pause_probability": 1.0}
    for index in range(4):
        gated = training(manifest, **options, gate_probability=1.0)[0, index]
        plain = training(manifest, **options)[0, index]
        muted = gated.noisy == 0
        assert 0.4 * RATE < muted.sum() <= 1.1 * RATE
        assert not gated.clean[muted].any()
        np.testing.assert_array_equal(gated.noisy[~muted], plain.noisy[~muted])


def test_kinds_of_leads_are_checked() -> None:
    with pytest.raises(ValueError, match=r"leads: cough is 1\.0; choose from zeros, dither, quiet, onset"):
        MixingConfig(leads={"cough": 1.0})
    with pytest.raises(ValueError, match=r"leads: the probabilities sum to 1\.2"):
        MixingConfig(leads={"zeros": 0.6, "dither": 0.6})


def test_short_recordings_are_filled(manifest: Manifest) -> None:
    mixture = training(manifest, segment_s=2.6, snr_db=[0.0, 0.0])[0, 0]  # speech lasts 1.0 s, noise 0.7 s
    noise = mixture.noisy - mixture.clean
    for audio, size in ((noise, RATE // 10), (mixture.clean, RATE // 2)):
        pieces = audio[: len(audio) // size * size].reshape(-1, size)
        assert np.sqrt((pieces**2).mean(axis=1)).min() > 0.3 * np.sqrt((audio**2).mean())


def test_training_reads_its_own_split(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    names = opened(monkeypatch)
    speakers = {training(manifest)[0, index].speaker for index in range(30)}
    assert names == {f"{kind}_train_{k}.flac" for kind in ("speech", "noise") for k in range(3)}
    assert speakers == {"train0", "train1", "train2"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"snr_db": [5, -5]}, r"snr_db is \[5, -5\]; the first number must not exceed"),
        ({"level_db": [0, -1]}, r"level_db is \[0, -1\]"),
        ({"speed": [1.1, 0.9]}, r"speed is \[1\.1, 0\.9\]"),
        ({"speed": [0.0, 1.0]}, r"speed must be above 0"),
        ({"segment_s": 0.0}, r"segment_s, speed, formants and noise_speed must be above 0"),
        ({"max_noises": 0}, r"max_noises at least 1"),
        ({"noise_speed": [0.0, 1.0]}, r"noise_speed must be above 0"),
        ({"synthetic_noises": {"babble": 0.6, "coloured": 0.6}}, r"the probabilities sum to 1\.2"),
        ({"synthetic_noises": {"bable": 0.6}}, r"synthetic_noises: bable is 0\.6; choose from babble, .*fan"),
        ({"synthetic_noises": {"hum": -0.1}}, r"synthetic_noises: hum is -0\.1; .* each in \[0, 1\]"),
        ({"eq_probability": 1.5}, r"eq_probability is 1\.5; it must lie in \[0, 1\]"),
        ({"room_probability": -0.1}, r"room_probability is -0\.1"),
        ({"band_probability": 2}, r"band_probability is 2"),
        ({"clip_probability": -1}, r"clip_probability is -1"),
        ({"snr_db": [float("nan"), 1]}, r"snr_db is \[nan, 1\]"),
    ],
    ids=str,
)
def test_impossible_mixing_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixingConfig(**wrong)


def test_a_noise_may_run_backwards(manifest: Manifest) -> None:
    plain, backwards = (training(manifest, reverse_probability=p)[0, 0] for p in (0.0, 1.0))
    noise, reversed_noise = (mixture.noisy - mixture.clean for mixture in (plain, backwards))
    assert np.array_equal(plain.clean, backwards.clean)
    assert np.abs(reversed_noise - noise[::-1]).max() < 1e-6
    assert np.abs(reversed_noise - noise).max() > 1e-3


def test_kinds_of_noise_come_as_often_as_configured(manifest: Manifest) -> None:
    dataset = training(manifest, num_mixtures=200, segment_s=0.02, synthetic_noises={"hum": 0.2, "fan": 0.5})
    classes = Counter(dataset[0, index].noise_class for index in range(200))
    assert classes["hum"] == pytest.approx(40, abs=17)  # 3 standard deviations
    assert classes["fan"] == pytest.approx(100, abs=21)
    assert set(classes) - {"hum", "fan"} == {"class0", "class1", "class2"}  # recordings


def test_speech_shaped_noise_is_steady_and_has_the_spectrum_of_the_babble(manifest: Manifest) -> None:
    noises = {}
    for kind in ("babble", "speech_shaped"):
        mixture = training(manifest, segment_s=1.0, synthetic_noises={kind: 1.0})[0, 0]
        noise = mixture.noisy - mixture.clean
        noises[kind] = noise / np.sqrt(np.mean(noise**2))
    babble, shaped = (np.abs(np.fft.rfft(noise)) for noise in noises.values())
    np.testing.assert_allclose(shaped, babble, atol=0.01 * babble.max())
    swing = {kind: np.std(noise.reshape(-1, 800).std(axis=1)) for kind, noise in noises.items()}  # of 50 ms
    assert swing["babble"] > 1.5 * swing["speech_shaped"]


def test_babble_is_made_of_training_speakers(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, path, *a: read.append(path) or plain(self, path, *a))
    mixture = training(manifest, synthetic_noises={"babble": 1.0})[0, 0]
    speech = {recording.path for recording in manifest.select("speech", "train")}
    assert mixture.noise_class == "babble"
    assert len(read) >= 5  # the speaker, and 4 or more talkers
    assert set(read) <= speech


def test_kept_recordings_give_the_same_mixtures(manifest: Manifest) -> None:
    kept, read = (
        NoisyMixtureDataset(
            manifest, MixingConfig(**PLAIN), num_mixtures=8, sample_rate=RATE, seed=0, keep_decoded=keep
        )
        for keep in (True, False)
    )
    for index in [*range(8), 0]:
        np.testing.assert_array_equal(kept[0, index].noisy, read[0, index].noisy)
