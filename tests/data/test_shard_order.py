"""The order of recordings in tar shards: each once, shard after shard, the same on any number of devices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("upath")


from hushwork.data.datamodule import NoisySpeechDataModule
from hushwork.data.manifest import Manifest
from hushwork.data.pool import Reader
from hushwork.data.recordings import ManifestError, Recording, Recordings
from hushwork.data.shards import ShardOrder
from sharded import MIXING, RATE, training_mixtures


def order(manifest: Manifest, lanes: int = 4, window: int = 2, seed: int = 0) -> ShardOrder:
    speech = manifest.select("speech", "train")
    return ShardOrder(speech, Reader(manifest), seed=seed, lanes=lanes, window=window)


# Order


@pytest.mark.parametrize(("lanes", "window"), [(1, 1), (1, 100), (4, 2), (5, 3)])
def test_each_utterance_comes_once_in_each_pass_of_its_lane(many: Manifest, lanes: int, window: int) -> None:
    drawn = order(many, lanes, window)
    of_lane: dict[int, list[str]] = defaultdict(list)
    for number in range(60 * 3 * lanes):
        of_lane[number % lanes].append(drawn.draw(number)[0].path)
    passes = [[paths[: len(set(paths))], paths[len(set(paths)) : 2 * len(set(paths))]] for paths in of_lane.values()]
    assert sum(len(first) for first, _ in passes) == 60
    assert len({path for first, _ in passes for path in first}) == 60
    for first, second in passes:
        assert sorted(first) == sorted(second)
        assert first != second
    sizes = [len(first) for first, _ in passes]
    assert max(sizes) - min(sizes) <= 4  # about a shard


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_each_shard_is_read_by_one_device(many: Manifest, num_devices: int) -> None:
    drawn, readers = order(many), defaultdict(set)
    for number in range(200):
        recording, pool = drawn.draw(number)
        readers[recording.shard].add(number % num_devices)
        readers[pool.draw(pool.names[0], np.random.default_rng(number)).shard].add(number % num_devices)
    assert len(readers) > 10
    assert all(len(devices) == 1 for devices in readers.values())
    assert len({device for devices in readers.values() for device in devices}) == num_devices


def test_few_shards_are_open_at_a_time_and_their_utterances_shuffled(many: Manifest) -> None:
    drawn = order(many, lanes=1, window=2)
    recordings = [drawn.draw(number)[0] for number in range(60)]
    shards = [recording.shard for recording in recordings]
    ends = {name: len(shards) - 1 - shards[::-1].index(name) for name in shards}
    for number, name in enumerate(shards):
        open_now = {each for each in shards[: number + 1] if ends[each] >= number}
        assert len(open_now) <= 2, name
    changes = sum(one != other for one, other in pairwise(shards))
    assert changes > len(set(shards))  # not one after another
    assert [order(many, 1, 2, seed=1).draw(n)[0] for n in range(60)] != recordings


def test_the_order_is_a_pure_function(many: Manifest) -> None:
    in_turn = partial(ShardOrder, seed=5, lanes=4, window=2)
    dataset = training_mixtures(many, order=in_turn)
    keys = [(epoch, index) for epoch in (0, 9, 3) for index in (5, 0, 7)]
    first = [dataset[key] for key in keys]
    again = training_mixtures(many, order=in_turn)
    for key, mixture in reversed(list(zip(keys, first, strict=True))):
        assert np.array_equal(again[key].noisy, mixture.noisy)
        number = key[0] * 8 + key[1]
        assert mixture.speaker == order(many, seed=5).draw(number)[0].speaker


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loaders_go_shard_after_shard(many: Manifest, num_workers: int) -> None:
    data = NoisySpeechDataModule(
        manifest=str(many.root / "manifest.arrow"),
        sample_rate=RATE,
        seed=1,
        mixing=MIXING,
        mixtures_per_epoch=8,
        num_valid=0,
        num_test=0,
        eval_snr_db=[],
        eval_max_s=1.0,
        batch_size=4,
        num_workers=num_workers,
        order="shards",
        lanes=2,
        window=1,
    )
    expected = training_mixtures(many, order=partial(ShardOrder, seed=1, lanes=2, window=1))
    loaded = [noisy for batch in data.train_dataloader() for noisy in batch.noisy.numpy()]
    assert len(loaded) == 8
    assert all(np.array_equal(noisy, expected[0, index].noisy) for index, noisy in enumerate(loaded))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: [replace(line, path="a.wav") for line in lines], "needs all speech in shards"),
        (lambda lines: [replace(line, weight=2.0) for line in lines], "weights other than 0 and 1"),
        (lambda lines: lines[:2], "data.lanes is 4, but there are [12] shards"),
    ],
)
def test_impossible_orders_are_refused(spoil: Callable[[list[Recording]], Any], message: str, many: Manifest) -> None:
    speech = Recordings(spoil(list(many.select("speech", "train"))))
    with pytest.raises(ManifestError, match=message):
        ShardOrder(speech, Reader(many), seed=0, lanes=4, window=2)
    with pytest.raises(ValueError, match=r"data\.lanes is 0 and data\.window 2"):
        order(many, lanes=0)
