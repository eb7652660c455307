"""What audio files hold besides their sound: tags, pictures, broadcast metadata, cue points, …

libsndfile and libavformat know some tags. Here all is carried over, as bytes that nobody need understand: chunks of
WAV, RF64 and AIFF, comments and blocks of FLAC, Ogg Vorbis and Opus, ID3 and APE tags of MP3 and AAC, ``udta`` and
``meta`` of the mov family.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hushwork.atomic import write_atomically
from hushwork.audio.pcm_headers import AIFF, WAV, Family, chunks, family_of

Part = tuple[bytes, bytes]
"""Name and content. A single tag's name begins with ``TAG``."""

MOST = 16_000_000  # bytes of all parts together
BLOCK = 2**20
TAG = b"tag "
RIFF_WRITTEN = (b"fmt ", b"data", b"fact", b"ds64", b"COMM", b"SSND", b"FVER")
"""Chunks that the writer of the sound makes itself, in WAV and AIFF."""
RIFF_STALE = (b"PEAK", b"levl", b"JUNK", b"FLLR", b"PAD ", b"MD5 ")
"""Chunks that say something of the old samples, or nothing."""
UNKNOWN_SIZE = 0xFFFFFFFF  # of RF64: it stands in the chunk ds64
SPEAKERS = b"channel mask"  # no chunk of its own, but four bytes of "fmt "
EXTENSIBLE = b"\xfe\xff"
FLAC_COMMENTS = 4
FLAC_BLOCKS = {2: b"APPLICATION", 5: b"CUESHEET", 6: b"PICTURE"}
OGG_COMMENTS = {b"\x01vorbis": (b"\x03vorbis", 3), b"OpusHead": (b"OpusTags", 2)}
"""By how a stream begins, how its packet of comments does, and how many packets precede the sound."""
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
MOV_PARTS = (b"udta", b"meta")
# How many samples iTunes' encoder had put before the sound: not so of ours, and players believe it.
STALE_NAME, NEW_NAME = b"iTunSMPB", b"old SMPB"


class Metadata(NamedTuple):
    """Parts of a file of some kind, in their order; the kind is "" if none of those that are known here."""

    kind: str
    parts: list[Part]


def read_metadata(path: str | Path) -> Metadata:
    """What a denoised copy of a file should hold unchanged.

    Left out is all from the first part on that would exceed 16 MB together or is cut off by the end of the file.
    """
    parts: list[Part] = []
    held = 0
    with Path(path).open("rb") as file:
        kind = _kind(file)
        if kind:
            with suppress(EOFError):
                for part in KINDS[kind][0](file):
                    held += len(part[1])
                    if held > MOST:
                        break
                    parts.append(part)
    return Metadata(kind, parts)


def put_metadata(path: Path, metadata: Metadata) -> None:
    """Give a complete file parts of another; nothing is done if it is of another kind, or there are none."""
    with path.open("rb") as file:
        kind = _kind(file)
    if metadata.parts and kind == metadata.kind:
        with suppress(EOFError):
            KINDS[kind][1](path, metadata.parts)


def _kind(file: BinaryIO) -> str:
    """The file is left anywhere."""
    head = file.read(12)
    if (family := family_of(head)) in (WAV, AIFF):
        return "wav" if family is WAV else "aiff"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "mov"
    file.seek(_end_of_id3(file))
    sync = file.read(2)
    return "mp3" if len(sync) == 2 and sync[0] == 0xFF and sync[1] >= 0xE0 else ""


def _take(file: BinaryIO, size: int) -> bytes:
    """Raises EOFError if there is not so much, or it is too much."""
    content = file.read(size) if 0 <= size <= MOST else b""
    if len(content) != size:
        raise EOFError
    return content


def _rewrite(path: Path, pieces: Iterable[bytes], begin: int, rest: Callable[[BinaryIO], Iterable[bytes]]) -> None:
    """Let a file consist of these pieces, and of what ``rest`` gives of it from ``begin`` on."""
    with write_atomically(path) as copy, path.open("rb") as old, copy.open("wb") as new:
        new.writelines(pieces)
        old.seek(begin)
        new.writelines(rest(old))


def _all(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


# WAV, RF64, BW64, AIFF


def _chunk(name: bytes, content: bytes, order: str) -> bytes:
    return struct.pack(f"{order}4sI", name, len(content)) + content + b"\0" * (len(content) % 2)


def _wav_parts(file: BinaryIO, family: Family = WAV) -> Iterator[Part]:
    for chunk in chunks(file, family):
        file.seek(chunk.begin)
        if chunk.name == b"fmt " and chunk.size >= 40:
            content = _take(file, 40)
            if content[:2] == EXTENSIBLE:
                yield SPEAKERS, content[20:24]
        if chunk.name in RIFF_WRITTEN or chunk.name in RIFF_STALE:
            continue
        content = _take(file, chunk.size)
        if chunk.name != b"LIST" or content[:4] != b"INFO":
            yield chunk.name, content
            continue
        place = 4
        while place + 8 <= len(content):
            tag, size = struct.unpack_from("<4sI", content, place)
            yield TAG + tag, content[place + 8 : place + 8 + size].rstrip(b"\0")
            place += 8 + size + size % 2


def _put_wav(path: Path, parts: list[Part], order: str = "<") -> None:
    tags = [_chunk(name.removeprefix(TAG), text + b"\0", order) for name, text in parts if name.startswith(TAG)]
    added = [_chunk(b"LIST", b"INFO" + b"".join(tags), order)] if tags else []
    added += [_chunk(name, content, order) for name, content in parts if not name.startswith(TAG) and name != SPEAKERS]
    with path.open("r+b") as file:
        for speakers in (content for name, content in parts if name == SPEAKERS):
            _put_speakers(file, speakers)
        file.seek(0)
        is_rf64 = file.read(4) in (b"RF64", b"BW64")
        end = file.seek(0, 2)
        file.write(b"\0" * (end % 2))
        file.writelines(added)
        size = file.tell() - 8
        if is_rf64:
            file.seek(20)  # in ds64, which comes first
            file.write(struct.pack("<Q", size))
        elif size < UNKNOWN_SIZE:
            file.seek(4)
            file.write(struct.pack(f"{order}I", size))
        else:
            file.truncate(end)


def _put_speakers(file: BinaryIO, speakers: bytes) -> None:
    """Set which channel is for which speaker (dwChannelMask), where the header has a place for it."""
    for chunk in chunks(file, WAV):
        file.seek(chunk.begin)
        if chunk.name == b"fmt " and chunk.size >= 40 and file.read(2) == EXTENSIBLE:
            file.seek(chunk.begin + 20)
            file.write(speakers)
            return


def _aiff_parts(file: BinaryIO) -> Iterator[Part]:
    return _wav_parts(file, AIFF)


def _put_aiff(path: Path, parts: list[Part]) -> None:
    _put_wav(path, parts, ">")


# FLAC, Ogg Vorbis, Opus


def _comments(block: bytes) -> Iterator[Part]:
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


def _comment_block(own: bytes, parts: list[Part]) -> bytes:
    """A block with these tags, by the program that the file's own block names."""
    tags = [name.removeprefix(TAG) + b"=" + text for name, text in parts if name.startswith(TAG)]
    program = own[: 4 + int.from_bytes(own[:4], "little")]
    return b"".join([program, struct.pack("<I", len(tags)), *(struct.pack("<I", len(tag)) + tag for tag in tags)])


def _flac_blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Kinds and contents; at the end the file stands at the sound."""
    file.seek(4)
    is_last = 0
    while not is_last:
        head = _take(file, 4)
        is_last, kind = head[0] >> 7, head[0] & 127
        yield kind, _take(file, int.from_bytes(head[1:], "big"))


def _flac_parts(file: BinaryIO) -> Iterator[Part]:
    for kind, content in _flac_blocks(file):
        if kind == FLAC_COMMENTS:
            yield from _comments(content)
        elif kind in FLAC_BLOCKS:
            yield FLAC_BLOCKS[kind], content


def _put_flac(path: Path, parts: list[Part]) -> None:
    with path.open("rb") as file:
        own = list(_flac_blocks(file))
        begin = file.tell()
    numbers = {name: number for number, name in FLAC_BLOCKS.items()}
    comments = _comment_block(dict(own).get(FLAC_COMMENTS, bytes(4)), parts)
    blocks = [(kind, content) for kind, content in own if kind != FLAC_COMMENTS]
    blocks += [(FLAC_COMMENTS, comments), *((numbers[name], content) for name, content in parts if name in numbers)]
    heads = [struct.pack(">I", kind << 24 | len(content)) for kind, content in blocks]
    heads[-1] = bytes([heads[-1][0] | 128]) + heads[-1][1:]
    pieces = [b"fLaC", *(head + content for head, (_, content) in zip(heads, blocks, strict=True))]
    _rewrite(path, pieces, begin, _all)


def _ogg_page(file: BinaryIO) -> tuple[bytes, bytes, bytes]:
    """Its head of 27 bytes, the sizes of its segments, and these; see RFC 3533."""
    head = _take(file, 27)
    if head[:4] != b"OggS":
        raise EOFError
    sizes = _take(file, head[26])
    return head, sizes, _take(file, sum(sizes))


def _ogg_bytes(flags: int, granule: int, serial: bytes, number: int, sizes: bytes, body: bytes) -> bytes:
    head = struct.pack("<4sxBq4sI4xB", b"OggS", flags, granule, serial, number, len(sizes))
    # Ogg's checksum is zlib's with all bits in reverse, and begins and ends at 0.
    sum_of = zlib.crc32((head + sizes + body).translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return head[:22] + sum_of.to_bytes(4, "big").translate(REVERSED) + head[26:] + sizes + body


def _ogg_headers(file: BinaryIO) -> tuple[list[bytearray], int]:
    """The packets before the sound, and on how many pages they are; the file is left behind these."""
    file.seek(0)
    packets = [bytearray()]
    pages = wanted = held = 0
    serial = b""
    while not wanted or len(packets) <= wanted:
        head, sizes, body = _ogg_page(file)
        pages += 1
        held += len(body)
        if held > MOST or (serial and head[14:18] != serial):  # several streams side by side
            raise EOFError
        serial = head[14:18]
        place = 0
        for size in sizes:
            packets[-1] += body[place : place + size]
            place += size
            if size < 255:
                packets.append(bytearray())
        if not wanted:
            wanted = next((number for begin, (_, number) in OGG_COMMENTS.items() if packets[0].startswith(begin)), 0)
            if not wanted:
                raise EOFError
    if len(packets) > wanted + 1 or packets[wanted]:  # sound begins on a page of its own
        raise EOFError
    return packets[:wanted], pages


def _ogg_begin(packets: list[bytearray]) -> bytes:
    """How the packet of comments begins."""
    return next(begin for first, (begin, _) in OGG_COMMENTS.items() if packets[0].startswith(first))


def _ogg_parts(file: BinaryIO) -> Iterator[Part]:
    packets, _ = _ogg_headers(file)
    yield from _comments(bytes(packets[1]).removeprefix(_ogg_begin(packets)))


def _put_ogg(path: Path, parts: list[Part]) -> None:
    with path.open("rb") as file:
        packets, old_pages = _ogg_headers(file)
        begin = file.tell()
        file.seek(0)
        first = b"".join(_ogg_page(file))
    start = _ogg_begin(packets)
    end = b"\1" if start == b"\3vorbis" else b""
    packets[1] = bytearray(start + _comment_block(bytes(packets[1]).removeprefix(start), parts) + end)
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

    _rewrite(path, pieces, begin, renumbered)


# MP3, AAC


def _end_of_id3(file: BinaryIO) -> int:
    """Where the tags at a file's beginning end, see https://id3.org/id3v2.4.0-structure."""
    end = 0
    while True:
        file.seek(end)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:]) > 127:
            return end
        end += 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        end += 10 * bool(head[5] & 16)


def _mp3_parts(file: BinaryIO) -> Iterator[Part]:
    begin, end = _end_of_id3(file), file.seek(0, 2)
    file.seek(0)
    if begin:
        yield b"ID3v2", _take(file, begin).replace(STALE_NAME, NEW_NAME)
    v1 = 128 if end - begin >= 128 and (file.seek(end - 128), file.read(3))[1] == b"TAG" else 0
    end -= v1
    if end - begin >= 32:
        file.seek(end - 32)
        foot = file.read(32)
        size, flags = struct.unpack_from("<12xI4xI", foot)
        size += 32 * (flags >> 31)
        if foot[:8] == b"APETAGEX" and size <= end - begin:
            file.seek(end - size)
            yield b"APEv2", _take(file, size)
    if v1:
        file.seek(end)
        yield b"ID3v1", _take(file, v1)


def _put_mp3(path: Path, parts: list[Part]) -> None:
    with path.open("rb") as file:
        begin = _end_of_id3(file)
    front = [content for name, content in parts if name == b"ID3v2"]
    back = [content for name, content in parts if name != b"ID3v2"]
    _rewrite(path, front, begin, lambda file: (*_all(file), *back))


# The mov family


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Names, where the boxes begin, their contents do, and both end (ISO/IEC 14496-12)."""
    while begin + 8 <= end:
        file.seek(begin)
        size, name = struct.unpack(">I4s", _take(file, 8))
        inside = begin + 8
        if size == 1:
            size = int.from_bytes(_take(file, 8), "big")
            inside += 8
        elif size == 0:
            size = end - begin
        if size < inside - begin or begin + size > end:
            return
        yield name, begin, inside, begin + size
        begin += size


def _moov(file: BinaryIO) -> tuple[int, int, int]:
    """Where the box of all but the sound begins, its contents do, and both end."""
    found = next((box[1:] for box in _boxes(file, 0, file.seek(0, 2)) if box[0] == b"moov"), None)
    if found is None:
        raise EOFError
    return found


def _mov_parts(file: BinaryIO) -> Iterator[Part]:
    _, inside, end = _moov(file)
    for name, _, begin, until in _boxes(file, inside, end):
        if name in MOV_PARTS:
            file.seek(begin)
            yield name, _take(file, until - begin).replace(STALE_NAME, NEW_NAME)


def _put_mov(path: Path, parts: list[Part]) -> None:
    with path.open("r+b") as file:
        outside, inside, end = _moov(file)
        if end != file.seek(0, 2):  # the sound follows, whose place is noted
            return
        content = []
        for name, begin, _, until in _boxes(file, inside, end):
            if name not in MOV_PARTS:
                file.seek(begin)
                content.append(file.read(until - begin))
        content += [struct.pack(">I4s", 8 + len(part), name) + part for name, part in parts]
        file.seek(outside)
        file.write(struct.pack(">I4s", 8 + sum(map(len, content)), b"moov"))
        file.writelines(content)
        file.truncate()


KINDS: dict[str, tuple[Callable[[BinaryIO], Iterator[Part]], Callable[[Path, list[Part]], None]]] = {
    "wav": (_wav_parts, _put_wav),
    "aiff": (_aiff_parts, _put_aiff),
    "flac": (_flac_parts, _put_flac),
    "ogg": (_ogg_parts, _put_ogg),
    "mp3": (_mp3_parts, _put_mp3),
    "mov": (_mov_parts, _put_mov),
}
