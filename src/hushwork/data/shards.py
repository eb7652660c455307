"""The order of recordings in tar shards: shard after shard, shuffled."""

from __future__ import annotations

import numpy as np

from hushwork.data.pool import Pool, Reader
from hushwork.data.recordings import ManifestError, Recording, Recordings


class ShardOrder:
    """Every recording once in each pass, shard after shard, as a pure function of its number.

    The shards are dealt to lanes, and the numbers go round the lanes: number ``i`` belongs to lane ``i % lanes``. A
    device takes every ``num_devices``-th number, so that with a number of devices that divides the lanes each shard is
    read by one device alone, and the order is the same for any such number. A pass of a lane draws the order of its
    shards, and shuffles the recordings of ``window`` shards together. A lane that has come to its end begins its next
    pass; the lanes hold about as many recordings each.

    Args:
        recordings: all of them in shards. Those with weight 0 are skipped; other weights than 1 are refused.
        reader: reads them.
        seed: of the order.
        lanes: number of shards that are read in parallel, over all devices.
        window: shards of a lane that are shuffled together.

    Raises:
        ManifestError: recordings are not in shards or are weighted, or there are fewer shards than lanes.
    """

    def __init__(self, recordings: Recordings, reader: Reader, *, seed: int, lanes: int, window: int) -> None:
        if min(lanes, window) < 1:
            raise ValueError(f"data.lanes is {lanes} and data.window {window}; both must be 1 or more")
        weights = recordings.numbers("weight")
        if not np.isin(weights, (0.0, 1.0)).all():
            raise ManifestError("data.order=shards takes each recording once; weights other than 0 and 1 need random")
        recordings = recordings.take(np.flatnonzero(weights))
        numbers, names = recordings.labels("shard")
        shards, numbers = np.unique(numbers, return_inverse=True)
        if any(not names[shard] for shard in shards):
            raise ManifestError("data.order=shards needs all speech in shards; make them with hushwork prepare shards")
        if len(shards) < lanes:
            raise ManifestError(f"data.lanes is {lanes}, but there are {len(shards)} shards of speech; set fewer lanes")
        self._rows = np.argsort(numbers, kind="stable").astype(np.int32)
        self._starts = np.searchsorted(numbers[self._rows], np.arange(len(shards) + 1))
        self._counts = np.diff(self._starts)
        self._lanes: list[list[int]] = [[] for _ in range(lanes)]
        self._sizes = [0] * lanes
        for shard in np.argsort(-self._counts, kind="stable"):
            emptiest = self._sizes.index(min(self._sizes))
            self._lanes[emptiest].append(int(shard))
            self._sizes[emptiest] += int(self._counts[shard])
        self._recordings, self._reader = recordings, reader
        self._seed, self._window = seed, window
        self._pools: dict[tuple[int, int, int], tuple[Recordings, Pool]] = {}

    def draw(self, number: int) -> tuple[Recording, Pool]:
        """The recording of a number, and the pool of its window, to draw more without reading further shards."""
        window, place = self._place(number)
        if window not in self._pools:
            while len(self._pools) >= 2 * len(self._lanes):
                del self._pools[next(iter(self._pools))]
            members = self._recordings.take(self._shuffled(*window))
            self._pools[window] = members, Pool(members, self._reader)
        members, pool = self._pools[window]
        return members[place], pool

    def _place(self, number: int) -> tuple[tuple[int, int, int], int]:
        """The window (lane, pass, place in the pass) that a number falls into, and the place within it."""
        step, lane = divmod(number, len(self._lanes))
        turn, step = divmod(step, self._sizes[lane])
        ends = np.cumsum(self._counts[self._shards(lane, turn)])[self._window - 1 :: self._window]
        window = int(np.searchsorted(ends, step, side="right"))
        return (lane, turn, window), step - int(ends[window - 1] if window else 0)

    def _shuffled(self, lane: int, turn: int, window: int) -> np.ndarray:
        """The numbers of the recordings of a window, shuffled."""
        shards = self._shards(lane, turn)[window * self._window : (window + 1) * self._window]
        rows = np.concatenate([self._rows[self._starts[shard] : self._starts[shard + 1]] for shard in shards])
        return np.random.default_rng([self._seed, lane, turn, window, 2]).permutation(rows)

    def _shards(self, lane: int, turn: int) -> np.ndarray:
        return np.random.default_rng([self._seed, lane, turn, 0, 1]).permutation(self._lanes[lane])
