"""Links of a chained Ogg file: each has its own header pages, and may have another codec, rate or number of channels.

Lengths follow from the positions in the pages (RFC 3533), without decoding.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO

BEGINS, ENDS = 2, 4  # flags of a page
MAX_LENGTH_S = 10**7
CUT_OUT_S = 30


@dataclass
class Stream:
    """One stream of a link; the rate is the unit of positions, 0 for codecs that are not known here."""

    codec: str
    rate: int
    skipped: int = 0
    first: int = 0
    last: int = 0
    has_ended: bool = False


@dataclass
class Link:
    """One link: the pages up to the headers of the next one."""

    begin: int
    streams: dict[bytes, Stream] = field(default_factory=dict)

    @property
    def sound(self) -> Stream | None:
        return next((stream for stream in self.streams.values() if stream.rate), None)

    @property
    def is_exact(self) -> bool:
        """Whether its positions state the length to the sample."""
        sound = self.sound
        return sound is not None and sound.codec == "vorbis" and sound.has_ended and not self._is_cut_out

    @property
    def _is_cut_out(self) -> bool:
        """Whether it is a part of a longer stream, and its positions continue those of that stream."""
        return self.sound is not None and self.sound.first > CUT_OUT_S * self.sound.rate

    @property
    def length_s(self) -> Fraction:
        """The length of its first audio stream."""
        if (sound := self.sound) is None:
            return Fraction(0)
        begin = sound.first if self._is_cut_out else sound.skipped
        length_s = Fraction(max(0, sound.last - begin), sound.rate)
        return length_s if length_s < MAX_LENGTH_S else Fraction(0)


def links(file: BinaryIO) -> list[Link]:
    """The links of a file in their order; empty if it is not an Ogg file."""
    found: list[Link] = []
    in_headers = False
    for place, flags, granule, serial, body_at in _pages(file):
        if flags & BEGINS:
            if not in_headers:
                found.append(Link(place))
            file.seek(body_at)
            found[-1].streams[serial] = _identified(file.read(80))
        in_headers = bool(flags & BEGINS)
        if not found or (stream := found[-1].streams.get(serial)) is None:
            continue
        if granule > 0:
            stream.first = stream.first or granule
            stream.last = max(stream.last, granule)
        stream.has_ended |= bool(flags & ENDS)
    return found


def _pages(file: BinaryIO) -> Iterator[tuple[int, int, int, bytes, int]]:
    """Of each page its place, flags, position, serial number, and the place of its content."""
    end, place = file.seek(0, os.SEEK_END), 0
    while place + 27 <= end:
        file.seek(place)
        head = file.read(27 + 255)
        if head[:4] != b"OggS" or head[4] != 0:
            place = _next_page(file, place + 1)
            continue
        count = head[26]
        flags, granule, serial = struct.unpack_from("<Bq4s", head, 5)
        size = 27 + count + sum(head[27 : 27 + count])
        if place + size > end:
            return
        yield place, flags, granule, serial, place + 27 + count
        place += size


def _next_page(file: BinaryIO, place: int) -> int:
    """The place of the next page; behind the end if there is none."""
    file.seek(place)
    while block := file.read(2**16):
        if (at := block.find(b"OggS")) >= 0:
            return place + at
        place += max(1, len(block) - 3)
        file.seek(place)
        if len(block) < 4:
            break
    return place + 2**16


def _identified(packet: bytes) -> Stream:
    """The stream that begins with this packet."""
    if packet[:7] == b"\x01vorbis":
        return Stream("vorbis", struct.unpack_from("<I", packet, 12)[0])
    if packet[:8] == b"OpusHead":
        return Stream("opus", 48_000, struct.unpack_from("<H", packet, 10)[0])
    if packet[:5] == b"\x7fFLAC":
        return Stream("flac", int.from_bytes(packet[27:30], "big") >> 4)
    if packet[:8] == b"Speex   ":
        return Stream("speex", struct.unpack_from("<I", packet, 36)[0])
    return Stream("", 0)
