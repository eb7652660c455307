"""Where the samples of a PCM file begin and end, even if its header states a wrong size.

The header of a recorder that was killed, of a pipe, or of a file beyond 4 GB counts too few bytes or none. The end is
therefore found in the file itself: the samples are followed by a chunk, another recording, or more samples.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from hushwork.audio.info import clock

W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_REST = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # how the names of all other chunks end
MAX_HEAD = 2**24
SLACK_S = 0.1  # fewer bytes than this behind the samples are no sound
MANY_CHUNKS = 1000
DESCRIBING = (b"ds64", b"fmt ", b"fact", b"COMM", b"desc")
UNKNOWN = 0xFFFFFFFF


class Chunk(NamedTuple):
    """A chunk: its name, the place of its content, and the size that its header states."""

    name: bytes
    begin: int
    size: int


@dataclass(frozen=True)
class Family:
    """The form of chunks in one family of formats.

    Attributes:
        first: where the first chunk begins.
        size: struct's format of a chunk's size, which follows its name; ``counts_head`` if it includes both.
        step: chunks begin at multiples of this.
        samples: name of the chunk with the samples; the first ``lead`` bytes of its content are no samples.
    """

    first: int
    size: str
    step: int
    samples: bytes
    name_size: int = 4
    lead: int = 0
    counts_head: bool = False


WAV = Family(12, "<I", 2, b"data")
AIFF = Family(12, ">I", 2, b"SSND", lead=8)
W64 = Family(40, "<Q", 8, b"data" + W64_REST, name_size=16, counts_head=True)
CAF = Family(8, ">q", 1, b"data", lead=4)


@dataclass(frozen=True)
class Samples:
    """The samples of one recording in a PCM file.

    Attributes:
        head: the correct header: the first ``begin`` bytes of the file, unless sizes in them are wrong.
        begin, end: of the samples in the file.
        rest: where another recording begins, or None.
        note: a sentence about a wrong header, or "".
        bytes_per_s: of PCM; 0 for other codings. The first ``lead`` bytes are no samples.
    """

    head: bytes
    begin: int
    end: int
    rest: int | None
    note: str
    bytes_per_s: float = 0.0
    lead: int = 0


def family_of(head: bytes) -> Family | None:
    """The family of a file with these first 40 bytes, or None."""
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return WAV
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return AIFF
    if head[:16] == W64_RIFF:
        return W64
    return CAF if head[:4] == b"caff" else None


def chunks(file: BinaryIO, family: Family, begin: int = 0, layout: _Layout | None = None) -> Iterator[Chunk]:
    """All chunks in their order; that of the samples with its true size, which may be 2^32 or more.

    Args:
        file: its position may be changed between two chunks.
        family: of the file.
        begin: where the recording begins in it.
        layout: collects the contents of the chunks before the samples.
    """
    place, file_end = begin + family.first, file.seek(0, os.SEEK_END)
    layout, sizes_64 = layout or _Layout(), None
    for _ in range(MANY_CHUNKS):
        if place > file_end or (chunk := _chunk_at(file, family, place)) is None or _begins(file, place):
            return
        if chunk.size < 0 and chunk.name != family.samples:
            return
        if chunk.name[:4] in DESCRIBING:
            file.seek(chunk.begin)
            content = file.read(min(max(chunk.size, 0), 64))
            layout.learn(chunk.name[:4], content, chunk.begin - begin)
            if chunk.name == b"ds64" and len(content) >= 16:
                sizes_64 = struct.unpack_from("<8xQ", content)[0]
        if chunk.name == family.samples:
            size = sizes_64 if family is WAV and chunk.size == UNKNOWN and sizes_64 else chunk.size
            chunk = chunk._replace(size=_true_size(file, family, chunk.begin, size, layout.bytes_per_s, file_end))
        yield chunk
        end = chunk.begin + chunk.size
        place = begin + end - begin + -(end - begin) % family.step
        # Some programs omit the padding byte.
        if chunk.name == family.samples and not _is_chunk(file, family, place, file_end):
            place = end


def samples_of(file: BinaryIO, begin: int = 0) -> Samples | None:
    """The samples of the recording at ``begin``; None if it is of no known family or has no samples.

    Args:
        file: its position does not matter and changes.
        begin: where the recording's header begins.
    """
    file.seek(begin)
    start = file.read(40)
    if start[:4] == b".snd" and len(start) >= 24:
        return _au_samples(file, start, begin)
    if (family := family_of(start)) is None:
        return None
    layout = _Layout()
    chunk = next((each for each in chunks(file, family, begin, layout) if each.name == family.samples), None)
    if chunk is None or chunk.begin - begin > MAX_HEAD:
        return None
    file.seek(begin)
    head = file.read(chunk.begin - begin)
    claimed, end = _claimed_size(head, family), chunk.begin + chunk.size
    bytes_per_s = layout.bytes_per_s if layout.is_pcm else 0.0
    note = _note(claimed, chunk.size, bytes_per_s, family.lead) if claimed != chunk.size else ""
    is_unknown = head[:4] == b"BW64" or (head[:4] == b"RF64" and struct.unpack_from("<I", head, len(head) - 4)[0] == 0)
    if note or is_unknown:
        head = _corrected(head, family, chunk.size, layout)
    aligned = end + -(end - begin) % family.step
    behind = next((at for at in (end, aligned) if _begins(file, at)), None)
    return Samples(head, chunk.begin, end, behind, note, bytes_per_s, family.lead)


def _au_samples(file: BinaryIO, start: bytes, begin: int) -> Samples | None:
    """The samples of Sun's AU format, which has no chunks."""
    first, size, encoding, rate, channels = struct.unpack_from(">5I", start, 4)
    all_of_it = file.seek(0, os.SEEK_END) - begin - first
    bytes_per_s = rate * channels * {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding, 0)
    if not 24 <= first <= MAX_HEAD or all_of_it < 0 or not bytes_per_s:
        return None
    file.seek(begin)
    head = file.read(first)
    if size == UNKNOWN or abs(all_of_it - size) < SLACK_S * bytes_per_s:
        return Samples(head, begin + first, begin + first + all_of_it, None, "", bytes_per_s)
    head = head[:8] + struct.pack(">I", min(UNKNOWN, all_of_it)) + head[12:]
    note = _note(size, all_of_it, bytes_per_s, 0)
    return Samples(head, begin + first, begin + first + all_of_it, None, note, bytes_per_s)


def _note(claimed: int | None, size: int, bytes_per_s: float, lead: int) -> str:
    if not bytes_per_s:
        return "its header is wrong about its length; read to its end"
    has_s = max(0, size - lead) / bytes_per_s
    if claimed is None:
        return f"its header does not say how long it is; read to its end, {clock(has_s)}"
    claimed_s = max(0, claimed - lead) / bytes_per_s
    if claimed > size:
        return f"is cut off: {clock(has_s)} of {clock(claimed_s)} are present"
    return f"its header counts {clock(claimed_s)}, but {clock(has_s)} are present; read to its end"


class _Layout:
    """Contents of the chunks before the samples: bytes per second, and where AIFF counts samples."""

    def __init__(self) -> None:
        self.bytes_per_s = 0.0
        self.block = 0
        self.count_at: int | None = None
        self.fact_at: int | None = None
        self.is_pcm = True

    def learn(self, name: bytes, content: bytes, at: int = 0) -> None:
        if name == b"fmt " and len(content) >= 16:
            tag, _, _, bytes_per_s, self.block = struct.unpack_from("<HHIIH", content)
            self.bytes_per_s = float(bytes_per_s)
            self.is_pcm = tag in (1, 3, 6, 7, 0xFFFE)  # also A-law and µ-law
        elif name == b"COMM" and len(content) >= 18:
            channels, _, bits = struct.unpack_from(">hIh", content)
            exponent, mantissa = struct.unpack_from(">HQ", content, 8)
            with_point = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63)
            self.block = max(1, channels * ((bits + 7) // 8))
            self.bytes_per_s = with_point * self.block if 1 <= with_point <= 1e7 else 0.0
            self.count_at = at + 2
            self.is_pcm = len(content) < 22 or content[18:22] in (b"NONE", b"sowt", b"fl32", b"fl64", b"FL32", b"FL64")
        elif name == b"desc" and len(content) >= 28:
            rate, block, frames = struct.unpack_from(">d8xII", content)
            self.bytes_per_s = rate * block / frames if frames and 1 <= rate <= 1e7 else 0.0
            self.is_pcm = content[8:12] == b"lpcm"
            self.block = block
        elif name == b"fact":
            self.fact_at = at


def _chunk_at(file: BinaryIO, family: Family, place: int) -> Chunk | None:
    file.seek(place)
    width = family.name_size + struct.calcsize(family.size)
    head = file.read(width)
    if len(head) < width:
        return None
    size: int = struct.unpack_from(family.size, head, family.name_size)[0]
    return Chunk(head[: family.name_size], place + width, size - width if family.counts_head else size)


def _true_size(file: BinaryIO, family: Family, begin: int, size: int, bytes_per_s: float, file_end: int) -> int:
    """The number of bytes of samples behind ``begin``, where the header counts ``size``."""
    all_of_it = file_end - begin
    if size > all_of_it or size < family.lead or size >= 2**63:
        return all_of_it
    end = begin + size
    if all_of_it == size or _chunk_follows(file, family, end, file_end):
        return size
    rest = all_of_it - size
    if size and (not bytes_per_s or rest < SLACK_S * bytes_per_s):
        return size
    if rest < size and not _any_sound(file, end):
        return size  # zeros that pad a file behind a complete recording
    return all_of_it


def _chunk_follows(file: BinaryIO, family: Family, end: int, file_end: int) -> bool:
    """Whether a chunk or another recording begins here, or at the next multiple of the step."""
    return any(
        _begins(file, place) or _is_chunk(file, family, place, file_end) for place in {end, end + -end % family.step}
    )


def _is_chunk(file: BinaryIO, family: Family, place: int, file_end: int) -> bool:
    """Whether a chunk can begin here: samples seldom look like a name and a size that fits."""
    if (chunk := _chunk_at(file, family, place)) is None:
        return False
    if family is W64:
        named = chunk.name[4:] in (W64_REST, W64_RIFF[4:])
    else:
        named = all(32 <= byte < 127 for byte in chunk.name)
    return named and 0 <= chunk.size <= file_end - chunk.begin + 1


def _begins(file: BinaryIO, place: int) -> bool:
    """Whether another recording begins here."""
    file.seek(place)
    head = file.read(40)
    return place > 0 and len(head) == 40 and family_of(head) in (WAV, AIFF, W64)


def _any_sound(file: BinaryIO, place: int) -> bool:
    file.seek(place)
    while block := file.read(2**20):
        if block.count(0) != len(block):
            return True
    return False


def _claimed_size(head: bytes, family: Family) -> int | None:
    """The size of the samples in the header; None if the header marks it as unknown."""
    width = struct.calcsize(family.size)
    size: int = struct.unpack(family.size, head[-width:])[0]
    if family.counts_head:
        size -= family.name_size + width
    if family is WAV and size == UNKNOWN:
        at = head.find(b"ds64")
        size = struct.unpack_from("<Q", head, at + 16)[0] if 0 <= at <= len(head) - 24 else -1
    return None if not 0 <= size < 2**62 else size


def _corrected(head: bytes, family: Family, size: int, layout: _Layout) -> bytes:
    """The head with the true sizes; of a wav file of 4 GB or more that of an RF64."""
    new = bytearray(head)
    if family is AIFF:
        struct.pack_into(">I", new, 4, min(UNKNOWN, len(head) + size - 8))
        struct.pack_into(">I", new, len(head) - 4, min(UNKNOWN, size))
        if layout.count_at is not None and layout.is_pcm:
            struct.pack_into(">I", new, layout.count_at, min(UNKNOWN, max(0, size - family.lead) // layout.block))
    elif family is W64:
        struct.pack_into("<Q", new, 16, len(head) + size)
        struct.pack_into("<Q", new, len(head) - 8, size + 24)
    elif family is CAF:
        struct.pack_into(">q", new, len(head) - 8, size)
    else:
        is_rf64 = head[:4] != b"RIFF" or len(head) + size > UNKNOWN
        count = size // layout.block if layout.block else 0
        if is_rf64:
            sizes = struct.pack("<4sIQQQI", b"ds64", 28, len(head) + size - 8, size, count, 0)
            at = head.find(b"ds64")
            old = 8 + struct.unpack_from("<I", head, at + 4)[0] if at == 12 else 0
            new = bytearray(b"RF64" + struct.pack("<I", UNKNOWN) + b"WAVE" + sizes) + new[12 + old :]
        else:
            struct.pack_into("<I", new, 4, len(head) + size - 8)
            if layout.fact_at is not None and layout.is_pcm:
                struct.pack_into("<I", new, layout.fact_at, min(UNKNOWN, count))
        struct.pack_into("<I", new, len(new) - 4, UNKNOWN if is_rf64 else size)
    return bytes(new)
