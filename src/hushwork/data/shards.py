"""Corpora in tar shards: in which order their utterances come, and copies of the shards that lie elsewhere."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np

from hushwork.audio.io import part_name, split_shard
from hushwork.audio.remote import fetch, is_remote, locate
from hushwork.data.manifest import ManifestError, Recordings


class ShardOrder:
    """Every recording once in each pass, shard after shard, as a pure function of its number.

    The shards are dealt to lanes, and the numbers go round the lanes: number ``i`` belongs to lane ``i % lanes``. A
    device takes every ``num_devices``-th number, so that with a number of devices that divides the lanes each shard is
    read by one device alone, and the order is the same for any such number. A pass of a lane draws the order of its
    shards, and shuffles the recordings of ``window`` shards together. A lane that has come to its end begins its next
    pass; the lanes hold about as many recordings each.

    Args:
        recordings: all of them in shards.
        seed: of the order.
        lanes: how many shards are read side by side, on all devices together.
        window: shards of a lane that are shuffled together.

    Raises:
        ManifestError: recordings are not in shards, or these are fewer than the lanes.
    """

    def __init__(self, recordings: Recordings, *, seed: int, lanes: int, window: int) -> None:
        numbers, names = recordings.labels("shard")
        shards, numbers = np.unique(numbers, return_inverse=True)
        if any(not names[shard] for shard in shards):
            raise ManifestError("data.order=shards needs all speech in shards; make them with scripts/make_shards.py")
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
        self._seed, self._window = seed, window

    def place(self, number: int) -> tuple[tuple[int, int, int], int]:
        """The window (lane, pass, place in the pass) that a number falls into, and the place within it."""
        step, lane = divmod(number, len(self._lanes))
        turn, step = divmod(step, self._sizes[lane])
        ends = np.cumsum(self._counts[self._shards(lane, turn)])[self._window - 1 :: self._window]
        window = int(np.searchsorted(ends, step, side="right"))
        return (lane, turn, window), step - int(ends[window - 1] if window else 0)

    def rows(self, lane: int, turn: int, window: int) -> np.ndarray:
        """The numbers of the recordings of a window, shuffled."""
        shards = self._shards(lane, turn)[window * self._window : (window + 1) * self._window]
        rows = np.concatenate([self._rows[self._starts[shard] : self._starts[shard + 1]] for shard in shards])
        return np.random.default_rng([self._seed, lane, turn, window, 2]).permutation(rows)

    def _shards(self, lane: int, turn: int) -> np.ndarray:
        return np.random.default_rng([self._seed, lane, turn, 0, 1]).permutation(self._lanes[lane])


class ShardCache:
    """Copies of remote shards in a folder, fetched whole when first needed, the longest unused removed.

    Args:
        folder: shared by all processes of a machine.
        max_bytes: the copies may take so much, and the shard that is just being read.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes

    def local(self, path: Path) -> Path:
        """Where a stretch of a remote shard can be read. Other paths stay as they are."""
        place = split_shard(str(path))
        if place is None or not is_remote(path):
            return path
        shard, offset, size = place
        copy = self._folder / f"{sha256(shard.encode()).hexdigest()[:16]}-{Path(shard).name}"
        try:
            os.utime(copy)  # when it was last used
        except FileNotFoundError:
            self._fetch(shard, copy)
        return copy.with_name(f"{copy.name}#{offset}+{size}")

    def _fetch(self, shard: str, copy: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(copy.with_suffix(".lock")):
            if copy.exists():
                return
            part = copy.with_name(part_name(copy.name))
            try:
                fetch(locate(shard), part)
                part.replace(copy)
            finally:
                part.unlink(missing_ok=True)
        self._make_room(copy)

    def _make_room(self, newest: Path) -> None:
        with _locked(self._folder / ".lock"):
            copies = {path: path.stat() for path in self._folder.glob("*.tar")}
            excess = sum(status.st_size for status in copies.values()) - self._max_bytes
            for path in sorted(copies, key=lambda path: copies[path].st_mtime):
                if excess > 0 and path != newest:
                    path.unlink()
                    excess -= copies[path].st_size


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
