"""Items of metadata, and functions that rewrite a file with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from hushwork.atomic import write_atomically

Item = tuple[bytes, bytes]
"""Name and content of a piece of metadata. The name of a single tag begins with ``TAG``."""
MAX_BYTES = 16_000_000  # of all items together
BLOCK = 2**20
TAG = b"tag "


def take(file: BinaryIO, size: int) -> bytes:
    """The next ``size`` bytes. Raises EOFError if there are fewer, or if ``size`` is over ``MAX_BYTES``."""
    content = file.read(size) if 0 <= size <= MAX_BYTES else b""
    if len(content) != size:
        raise EOFError
    return content


def rewrite(path: Path, pieces: Iterable[bytes], begin: int, rest: Callable[[BinaryIO], Iterable[bytes]]) -> None:
    """Replace a file by these pieces and the output of ``rest``, which reads the file from ``begin`` on."""
    with write_atomically(path) as copy, path.open("rb") as old, copy.open("wb") as new:
        new.writelines(pieces)
        old.seek(begin)
        new.writelines(rest(old))


def copied(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file, in blocks."""
    while block := file.read(BLOCK):
        yield block
