"""The listening set: which mixtures it has, and that a changed one is noticed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hushwork.audio.io import read_audio
from hushwork.cli import main
from hushwork.data.batch import Key, Mixture
from hushwork.evaluation import listening
from hushwork.evaluation.listening import LOCK, ListeningSet, differences, write_lock


class Grid:
    """Mixtures named as those of the test split: 5 SNRs for each of 15 classes, over and over."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, key: Key) -> Mixture:
        index = key[1]
        samples = np.full(4, index / 400, np.float32)
        noise_class, snr_db = f"class{index // 5 % 15}", 5.0 * (index % 5) - 5
        return Mixture(
            noisy=samples, clean=samples / 2, name=f"{index}", speaker="", noise_class=noise_class, snr_db=snr_db
        )


def test_classes_and_ratios_are_spread_and_no_mixture_comes_twice() -> None:
    chosen = [ListeningSet(Grid())[0, k] for k in range(40)]
    assert len({mixture.name for mixture in chosen}) == 40
    assert set(Counter(mixture.snr_db for mixture in chosen).values()) == {8}
    assert set(Counter(mixture.noise_class for mixture in chosen).values()) == {2, 3}
    assert len({(mixture.noise_class, mixture.snr_db) for mixture in chosen}) == 40


def test_the_locked_mixtures_are_named_as_those_of_the_test_split() -> None:
    locked = json.loads(LOCK.read_text("utf-8"))
    assert len(locked) == len(set(locked.values())) == 40
    expected = [ListeningSet(Grid())[0, k] for k in range(40)]
    for name, mixture in zip(locked, expected, strict=True):
        assert name.startswith(f"test_{int(mixture.name):04d}_")
        assert name.endswith(f"{mixture.snr_db:+g}dB")


def test_a_changed_mixture_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, lock = ListeningSet(Grid()), tmp_path / "lock.json"
    write_lock(chosen, lock)
    assert differences(chosen, lock) == []
    get = Grid.__getitem__

    def changed(grid: Grid, key: Key) -> Mixture:
        mixture = get(grid, key)
        if key[1] == 12:
            mixture.clean[2] += 2 / 32767
        return mixture

    monkeypatch.setattr(Grid, "__getitem__", changed)
    assert differences(chosen, lock) == ["12"]


def test_another_corpus_is_written_and_said_to_be_another(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["mixtures", f"data.manifest={corpus}", "--listening", "-o", str(tmp_path / "ears")]
    assert main(arguments) == 1
    assert "are not the locked mixtures" in capsys.readouterr().err
    pairs = [sorted((tmp_path / "ears" / kind).iterdir()) for kind in ("noisy", "clean")]
    assert [path.name for path in pairs[0]] == [path.name for path in pairs[1]]
    assert len(pairs[0]) == 40
    assert read_audio(pairs[0][0])[0].shape == read_audio(pairs[1][0])[0].shape
    monkeypatch.setattr(listening, "fingerprints", lambda dataset: json.loads(LOCK.read_text("utf-8")))
    assert main(arguments) == 0


@pytest.mark.parametrize("more", [["--split", "valid"], ["data.num_test=40"], ["data.eval_max_s=2"]])
def test_what_would_change_the_set_is_refused(
    corpus: Path, tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mixtures", f"data.manifest={corpus}", *more, "--listening", "-o", str(tmp_path / "ears")]) != 0
    assert "--listening" in capsys.readouterr().err
    assert not (tmp_path / "ears").exists()
