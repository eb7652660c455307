"""Mixtures: pure functions of (seed, epoch, index), at the SNR that was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from hushwork.data import pool
from hushwork.data.batch import Mixture, collate
from hushwork.data.datasets import (
    EpochSampler,
    FixedMixtureDataset,
    PairedDataset,
    in_order,
    write_pairs,
)
from hushwork.data.manifest import Manifest, load_manifest
from hushwork.data.mixtures import SYNTHETIC_NOISES, MixingConfig, NoisyMixtureDataset
from hushwork.data.pool import Pool, Reader
from hushwork.data.recordings import ManifestError, Recording, Recordings

RATE = 16000
PLAIN: dict[str, Any] = {"segment_s": 0.5, "max_noises": 1, "speed": [1.0, 1.0], "eq_probability": 0.0}


@pytest.fixture(scope="module")
def manifest(corpus: Path) -> Manifest:
    return load_manifest(corpus, RATE)


def training(manifest: Manifest, seed: int = 0, num_mixtures: int = 8, **mixing: Any) -> NoisyMixtureDataset:
    config = MixingConfig(**{**PLAIN, **mixing})
    return NoisyMixtureDataset(manifest, config, num_mixtures=num_mixtures, sample_rate=RATE, seed=seed)


def fixed(manifest: Manifest, split: str = "valid", num_mixtures: int = 6, **options: Any) -> FixedMixtureDataset:
    options = {"snr_db": [-5.0, 5.0, 15.0], "max_s": 0.4, "seed": 0, **options}
    return FixedMixtureDataset(manifest, split, num_mixtures=num_mixtures, sample_rate=RATE, **options)


def loudness_of_speech(clean: np.ndarray) -> float:
    """Active level as its docstring defines it, frame by frame: 20 ms frames within 30 dB of the 95th percentile."""
    powers = [float((clean[i : i + 320].astype(float) ** 2).sum() / 320) for i in range(0, len(clean) - 319, 320)]
    loud = np.percentile(powers, 95)
    active = [power for power in powers if power > 0 and 10 * np.log10(power / loud) >= -30]
    return float(np.sqrt(sum(active) / len(active)))


def measured_snr_db(mixture: Mixture) -> float:
    noise = mixture.noisy.astype(float) - mixture.clean
    return float(20 * np.log10(loudness_of_speech(mixture.clean) / noise.std(ddof=0, mean=0.0)))


def equal(one: Mixture, other: Mixture) -> bool:
    return np.array_equal(one.noisy, other.noisy) and np.array_equal(one.clean, other.clean)


def opened(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the files that data sets read from now on."""
    names = set()
    original = pool.read_audio

    def reading(path: Path, *arguments: Any) -> Any:
        names.add(path.name)
        return original(path, *arguments)

    monkeypatch.setattr(pool, "read_audio", reading)
    return names


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


@pytest.mark.parametrize(("language", "expected"), [("en", {"en-GB", "en"}), ("fr", {"fr"})])
def test_fixed_mixtures_of_one_language(corpus: Path, tmp_path: Path, language: str, expected: set[str]) -> None:
    manifest = load_manifest(corpus, RATE)
    tags = iter(["en-GB", "fr", "en"])
    lines = [
        replace(r, language=next(tags)) if r.kind == "speech" and r.split == "valid" else r for r in manifest.recordings
    ]
    tagged = Manifest(manifest.root, Recordings(lines), "")
    assert {mixture.language for mixture in in_order(fixed(tagged, language=language))} == expected
    with pytest.raises(ManifestError, match="the split 'valid' has no speech in the language 'de'"):
        fixed(tagged, language="de")
    pairs = load_manifest(write_pairs(fixed(tagged, language=language), tmp_path, "valid", RATE), RATE)
    assert {pair.language for pair in pairs.recordings} == expected
    assert {
        mixture.language for mixture in in_order(PairedDataset(pairs, "valid", sample_rate=RATE, seed=0))
    } == expected


def test_short_recordings_are_filled(manifest: Manifest) -> None:
    mixture = training(manifest, segment_s=2.6, snr_db=[0.0, 0.0])[0, 0]  # speech lasts 1.0 s, noise 0.7 s
    noise = mixture.noisy - mixture.clean
    for audio, size in ((noise, RATE // 10), (mixture.clean, RATE // 2)):
        pieces = audio[: len(audio) // size * size].reshape(-1, size)
        assert np.sqrt((pieces**2).mean(axis=1)).min() > 0.3 * np.sqrt((audio**2).mean())


def hand_made(folder: Path, speech: np.ndarray, noise: np.ndarray) -> Manifest:
    """One speech and one noise file as float wav, for all splits."""
    soundfile.write(folder / "s.wav", speech.T, RATE, subtype="FLOAT")
    soundfile.write(folder / "n.wav", noise.T, RATE, subtype="FLOAT")
    common = {"sample_rate": RATE, "source": "x", "licence": "x"}
    lines = []
    for split in ("train", "valid"):
        seconds = [audio.shape[-1] / RATE for audio in (speech, noise)]
        lines += [
            Recording(path="s.wav", kind="speech", split=split, speaker="a", duration_s=seconds[0], **common),
            Recording(path="n.wav", kind="noise", split=split, noise_class="b", duration_s=seconds[1], **common),
        ]
    return Manifest(folder, Recordings(lines), "")


def test_nan_in_a_file_reaches_no_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    speech, noise = (0.1 * rng.standard_normal((2, RATE)).astype(np.float32) for _ in range(2))
    speech[0, ::7], noise[1, ::9], noise[0, ::11] = np.nan, np.inf, -np.inf
    broken = hand_made(tmp_path, speech, noise)
    for mixture in (training(broken)[0, 0], fixed(broken)[0, 0]):
        batch = collate([mixture])
        assert torch.isfinite(batch.noisy).all()
        assert torch.isfinite(batch.clean).all()
        assert batch.clean.abs().max() > 0.01


def test_silent_files_give_silence(tmp_path: Path) -> None:
    quiet = hand_made(tmp_path, np.zeros(RATE, np.float32), np.zeros(RATE, np.float32))
    for mixture in (training(quiet)[0, 0], fixed(quiet)[0, 0]):
        assert not mixture.noisy.any()
        assert not mixture.clean.any()


def test_training_reads_its_own_split(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    names = opened(monkeypatch)
    speakers = {training(manifest)[0, index].speaker for index in range(30)}
    assert names == {f"{kind}_train_{k}.flac" for kind in ("speech", "noise") for k in range(3)}
    assert speakers == {"train0", "train1", "train2"}


def test_draws_follow_root_of_minutes_and_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silence(path: Path, start: int, num_samples: int) -> tuple[np.ndarray, int]:
        drawn[path.name] += 1
        return np.zeros((1, num_samples), np.float32), RATE

    drawn: Counter[str] = Counter()
    monkeypatch.setattr(pool, "read_audio", silence)
    speech = Recording(
        path="", kind="speech", split="train", sample_rate=RATE, duration_s=1, source="x", licence="x", speaker=""
    )
    lines = [
        replace(speech, path="long", speaker="a", duration_s=160.0),  # speaker a: 160 s, twice as often as …
        replace(speech, path="short", speaker="b", duration_s=10.0),  # … b with 40 s, 3 of 4 times the heavier one
        replace(speech, path="heavy", speaker="b", duration_s=10.0, weight=3.0),
        replace(speech, path="never", speaker="b", duration_s=900.0, weight=0.0),
        replace(speech, path="noise", kind="noise", speaker=None, noise_class="c", duration_s=9.0),
    ]
    dataset = training(Manifest(tmp_path, Recordings(lines), ""), segment_s=0.01)
    total = 600
    for index in range(total):
        dataset[0, index]
    assert drawn["noise"] == total
    assert drawn["never"] == 0
    for name, share in {"long": 2 / 3, "heavy": 1 / 4, "short": 1 / 12}.items():
        deviation = np.sqrt(share * (1 - share) / total)
        assert drawn[name] / total == pytest.approx(share, abs=4 * deviation)


def draws_one_by_one(lines: list[Recording], most: float, count: int) -> list[tuple[str, str]]:
    """What a pool draws, from lists and dictionaries; models were trained with mixtures that were drawn so."""
    group_of: dict[str, list[Recording]] = {}
    for line in lines:
        if line.weight > 0:
            group_of.setdefault(line.speaker or line.noise_class or "", []).append(line)
    names = sorted(group_of)
    minutes = {name: np.array([r.duration_s * r.weight for r in group_of[name]]) for name in names}
    shares = np.array([minutes[name].sum() for name in names]) ** 0.5
    shares /= shares.sum()
    mine = np.array([all(r.source == "voices" for r in group_of[name]) for name in names])
    if (share := shares[mine].sum()) > most:
        shares = np.where(mine, shares * most / share, shares * (1 - most) / (1 - share))
    rng, found = np.random.default_rng(7), []
    for _ in range(count):
        name = names[min(int(np.searchsorted(np.cumsum(shares), rng.random())), len(names) - 1)]
        within = np.cumsum(minutes[name] / minutes[name].sum())
        place = min(int(np.searchsorted(within, rng.random())), len(group_of[name]) - 1)
        found.append((name, group_of[name][place].path))
    return found


@pytest.mark.parametrize("most", [1.0, 0.1])
def test_draws_are_those_of_earlier_models(manifest: Manifest, most: float) -> None:
    rng = np.random.default_rng(0)
    lines = [
        Recording(
            path=str(k),
            kind="speech",
            split="train",
            sample_rate=RATE,
            duration_s=float(rng.uniform(0.5, 20)),
            source=("voices", "books")[int(k % 5 > 1)],
            licence="x",
            speaker=f"Č{k % 13}" if k % 7 else None,
            noise_class=f"Č{k % 3}",
            weight=float(rng.choice([0, 0.3, 1, 1, 2])),
        )
        for k in rng.permutation(2000)
    ]
    pool, rng = Pool(Recordings(lines), Reader(manifest), {"voices": most}), np.random.default_rng(7)
    expected = draws_one_by_one(lines, most, 500)
    assert [(name := pool.draw_group(rng), pool.draw(name, rng).path) for _ in range(500)] == expected
    assert len({name for name, _ in expected}) == 13


@pytest.mark.parametrize("split", ["valid", "test"])
def test_fixed_mixtures_never_change(manifest: Manifest, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = opened(monkeypatch)
    first = list(in_order(fixed(manifest, split)))
    assert names <= {f"{kind}_{split}_{k}.flac" for kind in ("speech", "noise") for k in range(3)}
    assert {mixture.speaker for mixture in first} == {f"{split}{k}" for k in range(3)}
    again = fixed(manifest, split)
    for index in reversed(range(6)):
        assert equal(again[7, index], first[index])  # in any order, in any epoch
        assert len(first[index].clean) == round(0.4 * RATE)
    assert len({mixture.name for mixture in first}) == 6


def test_fixed_mixtures_are_balanced(manifest: Manifest) -> None:
    mixtures = list(in_order(fixed(manifest, num_mixtures=9)))
    assert Counter(mixture.snr_db for mixture in mixtures) == {-5.0: 3, 5.0: 3, 15.0: 3}
    assert Counter(mixture.noise_class for mixture in mixtures) == {"class0": 3, "class1": 3, "class2": 3}
    for mixture in mixtures:
        assert measured_snr_db(mixture) == pytest.approx(mixture.snr_db, abs=0.05)


def test_fixed_mixtures_take_speech_whole_and_as_recorded(manifest: Manifest) -> None:
    mixture = fixed(manifest, max_s=9.0, snr_db=[40.0])[0, 0]
    number = mixture.speaker[-1]
    recorded, _ = soundfile.read(manifest.root / f"speech_valid_{number}.flac", dtype="float32")
    assert np.array_equal(mixture.clean, recorded)


def test_pairs_are_taken_whole(paired_corpus: Path) -> None:
    dataset = PairedDataset(load_manifest(paired_corpus, RATE), "valid", sample_rate=RATE, seed=0)
    assert len(dataset) == 2
    for index, mixture in enumerate(in_order(dataset)):
        for kind, audio in (("clean", mixture.clean), ("noisy", mixture.noisy)):
            recorded, _ = soundfile.read(paired_corpus.parent / kind / "valid" / f"{index}.flac", dtype="float32")
            assert np.array_equal(audio, recorded)
        assert mixture.speaker == f"valid{index}"
        assert mixture.noise_class == "unknown"
        assert np.isnan(mixture.snr_db)


def test_pairs_are_cropped_alike(tmp_path: Path) -> None:
    ramp = np.arange(RATE, dtype=np.float32) / RATE
    soundfile.write(tmp_path / "clean.wav", ramp, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "noisy.wav", ramp / 2, RATE, subtype="FLOAT")
    pair = Recording(
        path="clean.wav",
        noisy_path="noisy.wav",
        kind="pair",
        split="train",
        sample_rate=RATE,
        duration_s=1.0,
        source="x",
        licence="x",
        speaker="a",
        snr_db=3.0,
    )
    manifest = Manifest(tmp_path, Recordings([pair]), "")
    options = {"sample_rate": RATE, "seed": 0, "segment_s": 0.25, "num_mixtures": 20}
    dataset = PairedDataset(manifest, "train", **options)
    starts = []
    for mixture in (dataset[0, index] for index in range(len(dataset))):
        start = round(float(mixture.clean[0]) * RATE)
        assert np.array_equal(mixture.clean, ramp[start : start + RATE // 4])
        assert np.array_equal(mixture.noisy, mixture.clean / 2)
        assert mixture.snr_db == 3.0
        starts.append(start)
    assert len(starts) == 20
    assert len(set(starts)) > 15
    assert equal(dataset[1, 3], PairedDataset(manifest, "train", **options)[1, 3])
    assert not equal(dataset[1, 3], dataset[2, 3])


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


def test_a_split_without_recordings_is_named(manifest: Manifest) -> None:
    no_noise = replace(manifest, recordings=Recordings(r for r in manifest.recordings if r.kind == "speech"))
    makers: list[tuple[Callable[[], Any], str]] = [
        (lambda: training(no_noise), "no noise in the split 'train'"),
        (lambda: fixed(no_noise), "no noise in the split 'valid'"),
        (lambda: PairedDataset(manifest, "test", sample_rate=RATE, seed=0), "no pair in the split 'test'"),
    ]
    for make, message in makers:
        with pytest.raises(ManifestError, match=message):
            make()


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


@pytest.mark.parametrize(("most", "expected"), [(1.0, None), (0.5, None), (0.2, 0.2), (0.0, 0.0)])
def test_a_source_gets_no_more_than_its_share(manifest: Manifest, most: float, expected: float | None) -> None:
    speech = manifest.select("speech", "train")
    speaker = speech[0].speaker
    named = [replace(r, source="voices") if r.speaker == speaker else r for r in speech]
    rng = np.random.default_rng(0)
    shares = []
    for limits in ({}, {"voices": most}):
        pool = Pool(Recordings(named), Reader(manifest), limits)
        shares.append(np.mean([pool.draw_group(rng) == speaker for _ in range(4000)]))
    assert shares[1] == pytest.approx(min(shares[0], most) if expected is None else expected, abs=0.03)


def test_impossible_shares_are_refused(manifest: Manifest) -> None:
    speech = manifest.select("speech", "train")
    everything = [replace(r, source="voices") for r in speech]
    with pytest.raises(ValueError, match=r"voices is 1\.5; it must lie in \[0, 1\]"):
        Pool(speech, Reader(manifest), {"voices": 1.5})
    with pytest.raises(ValueError, match=r"voices is 0\.5, but there is no other source"):
        Pool(Recordings(everything), Reader(manifest), {"voices": 0.5})


def test_weights_of_0_leave_nothing_to_draw(manifest: Manifest) -> None:
    none = Recordings(replace(r, weight=0.0) for r in manifest.select("speech", "train"))
    with pytest.raises(ValueError, match="no recording is left to draw: the weight of all is 0"):
        Pool(none, Reader(manifest))


def test_kept_recordings_give_the_same_mixtures(manifest: Manifest) -> None:
    kept, read = (
        NoisyMixtureDataset(
            manifest, MixingConfig(**PLAIN), num_mixtures=8, sample_rate=RATE, seed=0, keep_decoded=keep
        )
        for keep in (True, False)
    )
    for index in [*range(8), 0]:
        np.testing.assert_array_equal(kept[0, index].noisy, read[0, index].noisy)
