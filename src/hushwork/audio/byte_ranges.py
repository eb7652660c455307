"""Open files, and ranges of their bytes, as file objects.

A recording may be a whole file, a member of a tar shard, or one of several recordings that were joined into one file.
"""

from __future__ import annotations

import io
import os
import re
import stat
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from hushwork.audio.info import AudioError

SHARD = re.compile(r"(.+\.tar)#(\d{1,15})\+(\d{1,15})", re.DOTALL)
MAX_MEMBER = 2**28
"""Bytes of a remote shard that are fetched into memory for one recording."""


class ByteRanges(io.RawIOBase):
    """A file object over ``head`` and ranges (begin, end) of the bytes of an open file, which it does not close."""

    def __init__(self, file: BinaryIO, ranges: Sequence[tuple[int, int]], head: bytes = b"") -> None:
        self._file, self._head, self._place = file, head, 0
        self._begins = [begin for begin, _ in ranges]
        sizes = (max(0, end - begin) for begin, end in ranges)
        self._starts = list(accumulate(sizes, initial=len(head)))  # where each range begins here; the last is the end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = max(0, offset + (0, self._place, self._starts[-1])[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        if self._place >= self._starts[-1]:
            return 0
        view = memoryview(buffer)
        if self._place < len(self._head):
            piece = self._head[self._place : self._place + len(view)]
        else:
            number = bisect_right(self._starts, self._place) - 1
            self._file.seek(self._begins[number] + self._place - self._starts[number])
            piece = self._file.read(min(len(view), self._starts[number + 1] - self._place))
        view[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)


def split_shard(path: str) -> tuple[str, int, int] | None:
    """Split a path such as ``a/b.tar#1536+80311`` into the tar file, and offset and size of the audio in bytes.

    Members of a tar file are stored uncompressed, so that each can be read alone.
    """
    match = SHARD.fullmatch(path)
    return (match[1], int(match[2]), int(match[3])) if match else None


@contextmanager
def open_file(path: Any) -> Iterator[BinaryIO]:
    """An audio file, or a member of a tar shard, opened for reading.

    Raises:
        AudioError: it is missing, empty, not a regular file, or raw samples.
    """
    if (member := split_shard(str(path))) is None:
        with _opened(path) as file:
            yield file
        return
    shard, offset, size = member
    if isinstance(path, str | Path):
        with _opened(shard) as file:
            yield ByteRanges(file, [(offset, min(offset + size, file.seek(0, os.SEEK_END)))])  # type: ignore[misc]
        return
    from hushwork.audio.remote import fetch_range

    if size > MAX_MEMBER:
        raise AudioError(f"{path}: {size} bytes are too many to fetch; set data.cache_gb, so that its shard is copied")
    yield io.BytesIO(fetch_range(path.with_name(Path(shard).name), offset, size))


def _opened(path: str | Path) -> BinaryIO:
    try:
        return checked(path).open("rb")
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror})") from error


def checked(path: str | Path) -> Path:
    """The path, if its file can be opened. Raises :class:`AudioError` as :func:`open_file`."""
    path = Path(path)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # no permission, or a name that is too long or has invalid characters
        raise AudioError(f"{path}: cannot be opened ({getattr(error, 'strerror', error)})") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path}: is a folder, expected an audio file")
    if not stat.S_ISREG(status.st_mode):  # a named pipe would wait for its writer
        raise AudioError(f"{path}: is not a regular file, expected an audio file")
    if status.st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{path}: raw samples have no header; convert them to .wav first")
    return path
