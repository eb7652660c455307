"""Vorbis comments (https://xiph.org/vorbis/doc/v-comment.html) and pictures of FLAC, Ogg Vorbis and Opus."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from hushwork.audio.metadata_items import MAX_BYTES, TAG, Item, copied, rewrite, take

FLAC_COMMENTS = 4
FLAC_BLOCKS = {2: b"APPLICATION", 5: b"CUESHEET", 6: b"PICTURE"}
OGG_COMMENTS = {b"\x01vorbis": (b"\x03vorbis", 3), b"OpusHead": (b"OpusTags", 2)}
"""First bytes of a stream: first bytes of its packet of comments, and number of packets before the sound."""
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _comments(block: bytes) -> Iterator[Item]:
    """The tags of a block "name=text", see https://xiph.org/vorbis/doc/v-comment.html."""
    place = 4 + int.from_bytes(block[:4], "little")
    count = int.from_bytes(block[place : place + 4], "little")
    place += 4
    for _ in range(count):
        if place + 4 > len(block):
            return
        size = int.from_bytes(block[place : place + 4], "little")
        name, equals, text = block[place + 4 : place + 4 + size].partition(b"=")
        place += 4 + size
        if equals and place <= len(block):
            yield TAG + name, text


def _comment_block(own: bytes, items: list[Item]) -> bytes:
    """A block with these tags; the name of the encoder is that of the file's own block."""
    tags = [name.removeprefix(TAG) + b"=" + text for name, text in items if name.startswith(TAG)]
    program = own[: 4 + int.from_bytes(own[:4], "little")]
    return b"".join([program, struct.pack("<I", len(tags)), *(struct.pack("<I", len(tag)) + tag for tag in tags)])


def _flac_blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Kinds and contents; the file is then at the sound."""
    file.seek(4)
    is_last = 0
    while not is_last:
        head = take(file, 4)
        is_last, kind = head[0] >> 7, head[0] & 127
        yield kind, take(file, int.from_bytes(head[1:], "big"))


def flac_items(file: BinaryIO) -> Iterator[Item]:
    for kind, content in _flac_blocks(file):
        if kind == FLAC_COMMENTS:
            yield from _comments(content)
        elif kind in FLAC_BLOCKS:
            yield FLAC_BLOCKS[kind], content


def put_flac(path: Path, items: list[Item]) -> None:
    with path.open("rb") as file:
        own = list(_flac_blocks(file))
        begin = file.tell()
    numbers = {name: number for number, name in FLAC_BLOCKS.items()}
    comments = _comment_block(dict(own).get(FLAC_COMMENTS, bytes(4)), items)
    blocks = [(kind, content) for kind, content in own if kind != FLAC_COMMENTS]
    blocks += [(FLAC_COMMENTS, comments), *((numbers[name], content) for name, content in items if name in numbers)]
    heads = [struct.pack(">I", kind << 24 | len(content)) for kind, content in blocks]
    heads[-1] = bytes([heads[-1][0] | 128]) + heads[-1][1:]
    pieces = [b"fLaC", *(head + content for head, (_, content) in zip(heads, blocks, strict=True))]
    rewrite(path, pieces, begin, copied)


def _ogg_page(file: BinaryIO) -> tuple[bytes, bytes, bytes]:
    """The next page: its head of 27 bytes, the sizes of its segments, and the segments; see RFC 3533."""
    head = take(file, 27)
    if head[:4] != b"OggS":
        raise EOFError
    sizes = take(file, head[26])
    return head, sizes, take(file, sum(sizes))


def _ogg_bytes(flags: int, granule: int, serial: bytes, number: int, sizes: bytes, body: bytes) -> bytes:
    head = struct.pack("<4sxBq4sI4xB", b"OggS", flags, granule, serial, number, len(sizes))
    # Ogg's checksum is zlib's with all bits reversed, and no inversion at beginning and end.
    sum_of = zlib.crc32((head + sizes + body).translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return head[:22] + sum_of.to_bytes(4, "big").translate(REVERSED) + head[26:] + sizes + body


def _ogg_headers(file: BinaryIO) -> tuple[list[bytearray], int]:
    """The packets before the sound, and the number of their pages; the file is then at the first page of sound."""
    file.seek(0)
    packets = [bytearray()]
    pages = num_headers = held = 0
    serial = b""
    while not num_headers or len(packets) <= num_headers:
        head, sizes, body = _ogg_page(file)
        pages += 1
        held += len(body)
        if held > MAX_BYTES or (serial and head[14:18] != serial):  # several streams side by side
            raise EOFError
        serial = head[14:18]
        place = 0
        for size in sizes:
            packets[-1] += body[place : place + size]
            place += size
            if size < 255:
                packets.append(bytearray())
        if not num_headers:
            num_headers = next(
                (number for begin, (_, number) in OGG_COMMENTS.items() if packets[0].startswith(begin)), 0
            )
            if not num_headers:
                raise EOFError
    if len(packets) > num_headers + 1 or packets[num_headers]:  # sound begins on a page of its own
        raise EOFError
    return packets[:num_headers], pages


def _ogg_begin(packets: list[bytearray]) -> bytes:
    """The first bytes of the packet of comments."""
    return next(begin for first, (begin, _) in OGG_COMMENTS.items() if packets[0].startswith(first))


def ogg_items(file: BinaryIO) -> Iterator[Item]:
    packets, _ = _ogg_headers(file)
    yield from _comments(bytes(packets[1]).removeprefix(_ogg_begin(packets)))


def put_ogg(path: Path, items: list[Item]) -> None:
    with path.open("rb") as file:
        packets, old_pages = _ogg_headers(file)
        begin = file.tell()
        file.seek(0)
        first = b"".join(_ogg_page(file))
    start = _ogg_begin(packets)
    end = b"\1" if start == b"\3vorbis" else b""
    packets[1] = bytearray(start + _comment_block(bytes(packets[1]).removeprefix(start), items) + end)
    sizes = b"".join(bytes([255] * (len(packet) // 255) + [len(packet) % 255]) for packet in packets[1:])
    body = b"".join(packets[1:])
    serial = first[14:18]
    pieces = [first]
    for place in range(0, len(sizes), 255):
        here = sizes[place : place + 255]
        continued = int(place > 0 and sizes[place - 1] == 255)
        granule = 0 if min(here) < 255 else -1  # of a page on which no packet ends
        size = sum(here)
        pieces.append(_ogg_bytes(continued, granule, serial, len(pieces), here, body[:size]))
        body = body[size:]
    later = len(pieces) - old_pages

    def renumbered(file: BinaryIO) -> Iterator[bytes]:
        with suppress(EOFError):
            while True:
                head, sizes, body = _ogg_page(file)
                flags, granule, serial, number = struct.unpack_from("<Bq4sI", head, 5)
                yield _ogg_bytes(flags, granule, serial, number + later, sizes, body)

    rewrite(path, pieces, begin, renumbered)
