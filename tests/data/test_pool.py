"""The random choice of recordings, by duration, weight and source."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hushwork.data import pool
from hushwork.data.manifest import Manifest
from hushwork.data.pool import Pool, Reader
from hushwork.data.recordings import Recording, Recordings
from mixtures import RATE, training


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
    is_limited = np.array([all(r.source == "voices" for r in group_of[name]) for name in names])
    if (share := shares[is_limited].sum()) > most:
        shares = np.where(is_limited, shares * most / share, shares * (1 - most) / (1 - share))
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


def test_weights_of_0_only_are_refused(manifest: Manifest) -> None:
    none = Recordings(replace(r, weight=0.0) for r in manifest.select("speech", "train"))
    with pytest.raises(ValueError, match="no recording is left to draw: the weight of all is 0"):
        Pool(none, Reader(manifest))
