"""Metadata of audio files: tags, pictures, broadcast metadata, cue points, …

libsndfile and libavformat know some tags. Here all metadata is copied as bytes, without being interpreted: chunks of
WAV, RF64 and AIFF, comments and blocks of FLAC, Ogg Vorbis and Opus, ID3 and APE tags of MP3 and AAC, ``udta`` and
``meta`` of the mov family.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hushwork.audio.metadata_items import MAX_BYTES, TAG, Item, copied, rewrite, take
from hushwork.audio.mp4_boxes import Box, boxes
from hushwork.audio.mpeg import tag_size
from hushwork.audio.pcm_headers import AIFF, WAV, Family, chunks, family_of
from hushwork.audio.vorbis_comments import flac_items, ogg_items, put_flac, put_ogg

RIFF_WRITTEN = (b"fmt ", b"data", b"fact", b"ds64", b"COMM", b"SSND", b"FVER")
"""Chunks that the writer of the samples writes, in WAV and AIFF."""
RIFF_STALE = (b"PEAK", b"levl", b"JUNK", b"FLLR", b"PAD ", b"MD5 ")
"""Chunks that describe the old samples, and padding."""
UNKNOWN_SIZE = 0xFFFFFFFF  # of RF64, whose chunk ds64 holds the size
SPEAKERS = b"channel mask"  # four bytes of the chunk "fmt "
EXTENSIBLE = b"\xfe\xff"
MOV_ITEMS = (b"udta", b"meta")
# The delay of iTunes' encoder in samples; players would apply it to our encoder's output.
STALE_NAME, NEW_NAME = b"iTunSMPB", b"old SMPB"


class Metadata(NamedTuple):
    """Items of a file in their order, and the kind of file; "" for kinds without metadata here."""

    kind: str
    items: list[Item]


def read_metadata(path: str | Path) -> Metadata:
    """The metadata that a denoised copy of a file should keep unchanged.

    Reading stops at the first item with which they would exceed 16 MB, or that is cut off.
    """
    items: list[Item] = []
    held = 0
    with Path(path).open("rb") as file:
        kind = _kind(file)
        if kind:
            with suppress(EOFError):
                for item in KINDS[kind][0](file):
                    held += len(item[1])
                    if held > MAX_BYTES:
                        break
                    items.append(item)
    return Metadata(kind, items)


def put_metadata(path: Path, metadata: Metadata) -> None:
    """Add the metadata of another file to a complete file of the same kind; does nothing for another kind."""
    with path.open("rb") as file:
        kind = _kind(file)
    if metadata.items and kind == metadata.kind:
        with suppress(EOFError):
            KINDS[kind][1](path, metadata.items)


def _kind(file: BinaryIO) -> str:
    """The key of :data:`KINDS`, or ""."""
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


# WAV, RF64, BW64, AIFF


def _chunk(name: bytes, content: bytes, order: str) -> bytes:
    return struct.pack(f"{order}4sI", name, len(content)) + content + b"\0" * (len(content) % 2)


def _wav_items(file: BinaryIO, family: Family = WAV) -> Iterator[Item]:
    for chunk in chunks(file, family):
        file.seek(chunk.begin)
        if chunk.name == b"fmt " and chunk.size >= 40:
            content = take(file, 40)
            if content[:2] == EXTENSIBLE:
                yield SPEAKERS, content[20:24]
        if chunk.name in RIFF_WRITTEN or chunk.name in RIFF_STALE:
            continue
        content = take(file, chunk.size)
        if chunk.name != b"LIST" or content[:4] != b"INFO":
            yield chunk.name, content
            continue
        place = 4
        while place + 8 <= len(content):
            tag, size = struct.unpack_from("<4sI", content, place)
            yield TAG + tag, content[place + 8 : place + 8 + size].rstrip(b"\0")
            place += 8 + size + size % 2


def _put_wav(path: Path, items: list[Item], order: str = "<") -> None:
    tags = [_chunk(name.removeprefix(TAG), text + b"\0", order) for name, text in items if name.startswith(TAG)]
    added = [_chunk(b"LIST", b"INFO" + b"".join(tags), order)] if tags else []
    added += [_chunk(name, content, order) for name, content in items if not name.startswith(TAG) and name != SPEAKERS]
    with path.open("r+b") as file:
        for speakers in (content for name, content in items if name == SPEAKERS):
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
    """Set the speakers of the channels (dwChannelMask), if the header has that field."""
    for chunk in chunks(file, WAV):
        file.seek(chunk.begin)
        if chunk.name == b"fmt " and chunk.size >= 40 and file.read(2) == EXTENSIBLE:
            file.seek(chunk.begin + 20)
            file.write(speakers)
            return


def _aiff_items(file: BinaryIO) -> Iterator[Item]:
    return _wav_items(file, AIFF)


def _put_aiff(path: Path, items: list[Item]) -> None:
    _put_wav(path, items, ">")


# MP3, AAC


def _end_of_id3(file: BinaryIO) -> int:
    """The end of the ID3v2 tags at the beginning of a file."""
    end = 0
    while True:
        file.seek(end)
        head = file.read(10)
        if head[:3] != b"ID3" or not (size := tag_size(head)):
            return end
        end += size


def _mp3_items(file: BinaryIO) -> Iterator[Item]:
    begin, end = _end_of_id3(file), file.seek(0, 2)
    file.seek(0)
    if begin:
        yield b"ID3v2", take(file, begin).replace(STALE_NAME, NEW_NAME)
    v1 = 128 if end - begin >= 128 and (file.seek(end - 128), file.read(3))[1] == b"TAG" else 0
    end -= v1
    if end - begin >= 32:
        file.seek(end - 32)
        foot = file.read(32)
        size, flags = struct.unpack_from("<12xI4xI", foot)
        size += 32 * (flags >> 31)
        if foot[:8] == b"APETAGEX" and size <= end - begin:
            file.seek(end - size)
            yield b"APEv2", take(file, size)
    if v1:
        file.seek(end)
        yield b"ID3v1", take(file, v1)


def _put_mp3(path: Path, items: list[Item]) -> None:
    with path.open("rb") as file:
        begin = _end_of_id3(file)
    front = [content for name, content in items if name == b"ID3v2"]
    back = [content for name, content in items if name != b"ID3v2"]
    rewrite(path, front, begin, lambda file: (*copied(file), *back))


# The mov family


def _moov(file: BinaryIO) -> Box:
    """The box of everything but the sound. Raises EOFError if there is none."""
    found = next((box for box in boxes(file, 0, file.seek(0, 2)) if box.name == b"moov"), None)
    if found is None:
        raise EOFError
    return found


def _mov_items(file: BinaryIO) -> Iterator[Item]:
    moov = _moov(file)
    for box in boxes(file, moov.inside, moov.end):
        if box.name in MOV_ITEMS:
            file.seek(box.inside)
            yield box.name, take(file, box.end - box.inside).replace(STALE_NAME, NEW_NAME)


def _put_mov(path: Path, items: list[Item]) -> None:
    with path.open("r+b") as file:
        moov = _moov(file)
        if moov.end != file.seek(0, 2):  # the sound follows, whose offset is stored in the box
            return
        content = []
        for box in boxes(file, moov.inside, moov.end):
            if box.name not in MOV_ITEMS:
                file.seek(box.begin)
                content.append(file.read(box.end - box.begin))
        content += [struct.pack(">I4s", 8 + len(item), name) + item for name, item in items]
        file.seek(moov.begin)
        file.write(struct.pack(">I4s", 8 + sum(map(len, content)), b"moov"))
        file.writelines(content)
        file.truncate()


KINDS: dict[str, tuple[Callable[[BinaryIO], Iterator[Item]], Callable[[Path, list[Item]], None]]] = {
    "wav": (_wav_items, _put_wav),
    "aiff": (_aiff_items, _put_aiff),
    "flac": (flac_items, put_flac),
    "ogg": (ogg_items, put_ogg),
    "mp3": (_mp3_items, _put_mp3),
    "mov": (_mov_items, _put_mov),
}
