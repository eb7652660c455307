"""Fixed mixtures and pairs, and faults of recordings."""

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

from hushwork.data.batch import collate
from hushwork.data.datasets import (
    PairedDataset,
    in_order,
    write_pairs,
)
from hushwork.data.manifest import Manifest, load_manifest
from hushwork.data.recordings import ManifestError, Recording, Recordings
from mixtures import RATE, equal, fixed, hand_made, measured_snr_db, opened, training


@pytest.mark.parametrize(("language", "expected"), [("en", {"en-GB", "en"}), ("fr", {"fr"})])
def test_fixed_mixtures_of_one_language(manifest: Manifest, tmp_path: Path, language: str, expected: set[str]) -> None:
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
