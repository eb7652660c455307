"""Boxes of files of the mov family (ISO/IEC 14496-12): mov, mp4, m4a, 3gp."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple


class Box(NamedTuple):
    """A box: its name, and the places in the file where it begins, its content begins, and both end."""

    name: bytes
    begin: int
    inside: int
    end: int


def boxes(file: BinaryIO, begin: int, end: int) -> Iterator[Box]:
    """The complete boxes between two places, one behind the other."""
    while begin + 8 <= end:
        file.seek(begin)
        head = file.read(16)
        size, name = struct.unpack_from(">I4s", head)
        inside = begin + 8
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
            inside += 8
        elif size == 0:
            size = end - begin
        if size < inside - begin or begin + size > end:
            return
        yield Box(name, begin, inside, begin + size)
        begin += size
