"""Frames of MPEG audio (mp3, mp2) and of AAC in ADTS, found by their headers: their number, and changes of their kind.

The number of frames in a Xing header is often wrong and is not used; its encoder delay and padding are.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, NamedTuple

BITRATES = {  # kbit/s by version 1 or 2, and layer
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
SEARCHED = 2**16
DECODER_DELAY = 529  # samples that decoders drop in addition to the encoder delay, and add at the end


class Frame(NamedTuple):
    """One frame: its bytes and samples, and the kind of sound: layer (0 for AAC), rate in Hz, channels."""

    size: int
    num_samples: int
    kind: tuple[int, int, int]


@dataclass
class Run:
    """Frames of one kind behind one another, as one encoder wrote them.

    Attributes:
        ranges: where the frames are in the file, from a first byte to an end each, with tags between them.
        kind: as of :class:`Frame`.
        num_samples: of all frames together, without the encoder delay.
        padding: samples that the encoder added behind the sound.
        claimed: the number of frames in a Xing header, or None.
        frames: the true number.
        damaged: bytes among or behind the frames that are neither frames nor tags.
    """

    ranges: list[tuple[int, int]]
    kind: tuple[int, int, int]
    num_samples: int = 0
    padding: int = 0
    claimed: int | None = None
    frames: int = 0
    damaged: int = 0

    @property
    def length_s(self) -> Fraction:
        is_cut = self.claimed is not None and self.claimed > self.frames  # then the padding is missing too
        behind = DECODER_DELAY if is_cut else self.padding
        return Fraction(max(0, self.num_samples - behind), self.kind[1])


def parse_header(head: bytes) -> Frame | None:
    """The frame with these first bytes (7 or more), or None."""
    if len(head) < 7 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    if layer == 4:
        return _adts(head)
    bit_rate, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or rate == 3 or not 0 < bit_rate < 15:
        return None
    rate_hz = RATES[version][rate]
    bits_per_s = 1000 * BITRATES[1 if version == 3 else 2, layer][bit_rate - 1]
    channels = 1 if head[3] >> 6 == 3 else 2
    if layer == 1:
        return Frame((12 * bits_per_s // rate_hz + padding) * 4, 384, (1, rate_hz, channels))
    num_samples = 576 if layer == 3 and version != 3 else 1152
    return Frame(num_samples // 8 * bits_per_s // rate_hz + padding, num_samples, (layer, rate_hz, channels))


def _adts(head: bytes) -> Frame | None:
    if head[1] < 0xF0 or (rate := head[2] >> 2 & 15) >= len(AAC_RATES):
        return None
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    channels = (head[2] & 1) << 2 | head[3] >> 6
    blocks = (head[6] & 3) + 1
    return Frame(size, 1024 * blocks, (0, AAC_RATES[rate], channels)) if size >= 7 else None


def tag_size(head: bytes) -> int:
    """The size of the ID3 or APE tag with these first 32 bytes; 0 if they begin no tag."""
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
        size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        return 10 + size + 10 * bool(head[5] & 16)
    if head[:8] == b"APETAGEX" and len(head) >= 32:
        size = int.from_bytes(head[12:16], "little")  # of what follows this
        return 32 + (size if head[23] >> 5 & 1 else 0)
    return 128 if head[:3] == b"TAG" else 0


def id3v1(file: BinaryIO) -> dict[str, str]:
    """Title, artist and the like of the ID3v1 tag at the end of a file; empty if there is none."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 128))
    tag = file.read(128)
    if len(tag) < 128 or tag[:3] != b"TAG":
        return {}
    fields = {"title": tag[3:33], "artist": tag[33:63], "album": tag[63:93], "date": tag[93:97], "comment": tag[97:125]}
    texts = {name: field.partition(b"\0")[0].decode("latin-1").strip() for name, field in fields.items()}
    return {name: text for name, text in texts.items() if text}


def is_mpeg(file: BinaryIO) -> bool:
    """Whether a file begins with frames of one kind, behind any tags."""
    place = 0
    while True:
        file.seek(place)
        size = tag_size(head := file.read(32))
        if not size:
            break
        place += size
    return _found(file, place, place + SEARCHED if place else place + 1, None) is not None and head[:4] != b"fLaC"


def runs(file: BinaryIO) -> Iterator[Run]:
    """All frames of a file in runs.

    A new one begins where the kind changes, at a Xing header, and at a tag behind a run that had such a header. Behind
    other tags the same run continues, as in files joined from segments of a broadcast.
    """
    reader = io.BufferedReader(file, 2**18) if isinstance(file, io.RawIOBase) else file
    end = reader.seek(0, os.SEEK_END)
    run: Run | None = None
    place, is_new = 0, True
    while place < end:
        reader.seek(place)
        head = reader.read(64)
        frame = parse_header(head)
        if frame is None or (is_new and not _is_frame(reader, place, frame, end)):
            if size := tag_size(head):
                place, is_new = place + size, True
                continue
            found = _found(reader, place + 1, end, run.kind if run else None)
            if run is not None:
                run.damaged += (found or end) - place
            if found is None:
                break
            place = found
            continue
        has_xing = frame.kind[0] == 3 and _xing_at(head) > 0
        goes_on = run is not None and frame.kind == run.kind and not (is_new and run.claimed is not None)
        if run is None or has_xing or not goes_on:
            if run is not None and not (is_new or has_xing) and not _is_frame(reader, place, frame, end):
                found = _found(reader, place + 1, end, run.kind)  # bytes that look like a frame of another kind
                run.damaged += (found or end) - place
                if found is None:
                    break
                place = found
                continue
            if run is not None and (run.frames or run.claimed is not None):
                yield run
            run = Run([(place, place)], frame.kind)
            if has_xing:
                reader.seek(place)
                _read_xing(run, reader.read(frame.size))
        elif is_new:  # the same stream goes on behind a tag
            run.ranges.append((place, place))
        is_new = False
        if not has_xing:
            run.frames += 1
            run.num_samples += frame.num_samples
        place += frame.size
        run.ranges[-1] = run.ranges[-1][0], place
    if run is not None and (run.frames or run.claimed is not None):
        yield run


def _is_frame(file: BinaryIO, place: int, frame: Frame, end: int) -> bool:
    """Whether another frame of its kind, a tag, or the file's end follows a frame."""
    behind = place + frame.size
    if behind >= end:
        return behind == end
    file.seek(behind)
    head = file.read(32)
    following = parse_header(head)
    return tag_size(head) > 0 or (following is not None and following.kind == frame.kind)


def _found(file: BinaryIO, place: int, end: int, kind: tuple[int, int, int] | None) -> int | None:
    """The place of the next frame or tag; a frame of another kind counts only if another one follows it."""
    file_end = file.seek(0, os.SEEK_END)
    while place < end:
        file.seek(place)
        block = file.read(min(SEARCHED, end - place) + 32)
        at = -1
        while (at := _next_mark(block, at + 1)) >= 0:
            if place + at >= end:
                return None
            frame = parse_header(block[at : at + 7])
            if frame is None:
                if block[at] != 0xFF and tag_size(block[at : at + 32]):
                    return place + at
            elif _is_frame(file, place + at, frame, file_end) and (kind is None or frame.kind[0] == kind[0]):
                return place + at
        place += max(1, len(block) - 32)
    return None


def _next_mark(block: bytes, start: int) -> int:
    marks = [at for mark in (b"\xff", b"ID3", b"APETAGEX") if (at := block.find(mark, start)) >= 0]
    return min(marks, default=-1)


def _xing_at(head: bytes) -> int:
    """The place of the Xing header in a frame; 0 if the frame holds sound."""
    side = (17 if head[3] >> 6 == 3 else 32) if head[1] >> 3 & 3 == 3 else (9 if head[3] >> 6 == 3 else 17)
    return 4 + side if head[4 + side : 8 + side] in (b"Xing", b"Info") else 0


def _read_xing(run: Run, content: bytes) -> None:
    at = _xing_at(content)
    flags = int.from_bytes(content[at + 4 : at + 8], "big")
    run.claimed = int.from_bytes(content[at + 8 : at + 12], "big") if flags & 1 else 0
    at += 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    delays = content[at + 21 : at + 24]
    if content[at : at + 4].strip(b"\0") and len(delays) == 3:
        bits = int.from_bytes(delays, "big")
        run.num_samples, run.padding = -(bits >> 12), bits & 4095
