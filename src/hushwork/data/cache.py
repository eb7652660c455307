"""Copies of what lies at URLs: manifests, and shards if they are to be kept."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hushwork.atomic import write_atomically
from hushwork.audio.io import AudioError, split_shard
from hushwork.audio.remote import fetch, is_remote, locate, stamps


@dataclass(frozen=True)
class Cache:
    """A folder of copies, shared by all processes of a machine.

    Args:
        folder: is made when it is needed.
        max_bytes: shards are fetched whole and kept, as many as so many bytes hold, the longest unused removed first;
            0 keeps none, and fetches only the bytes of each recording.
    """

    folder: Path
    max_bytes: int = 0

    def file(self, path: Path) -> Path:
        """A local copy of a remote file. Raises :class:`AudioError` if there is none to fetch."""
        found = stamps([path])
        if path not in found:
            raise AudioError(f"{path}: no such file")
        return self._copy(str(path), json.dumps([str(path), found[path]]))

    def member(self, path: Path) -> Path:
        """The path at which to read a member of a shard: in a copy, if shards are kept. Raises :class:`AudioError`."""
        place = split_shard(str(path))
        if place is None or not is_remote(path) or not self.max_bytes:
            return path
        shard, offset, size = place
        copy = self._copy(shard, shard)
        return copy.with_name(f"{copy.name}#{offset}+{size}")

    def _copy(self, name: str, version: str) -> Path:
        copy = self.folder / f"{sha256(version.encode()).hexdigest()[:16]}-{Path(name).name}"
        try:
            os.utime(copy)  # when it was last used
        except FileNotFoundError:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(copy.with_suffix(".lock")):
                if not copy.exists():
                    self._fetch(locate(name), copy)
        return copy

    def _fetch(self, path: Path, copy: Path) -> None:
        with write_atomically(copy) as part:
            fetch(path, part)
        with _locked(self.folder / ".lock"):
            copies = {each: each.stat() for each in self.folder.glob("*.tar")}
            excess = sum(status.st_size for status in copies.values()) - self.max_bytes
            for each in sorted(copies, key=lambda each: copies[each].st_mtime):
                if excess > 0 and each != copy:
                    each.unlink()
                    excess -= copies[each].st_size


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
