"""Find the recordings in a file: usually one, but files may be concatenated, and headers may state a wrong length.

Each part is opened as a file of its own, so that decoders find all of it, with its own rate, channels and delays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import BinaryIO

from hushwork.audio import mpeg, ogg
from hushwork.audio.byte_ranges import ByteRanges
from hushwork.audio.info import clock
from hushwork.audio.mp4_boxes import boxes
from hushwork.audio.pcm_headers import samples_of

ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
FLAC = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")
MATROSKA = b"\x1a\x45\xdf\xa3"
MAX_PARTS = 10_000
LITTLE = 2048  # bytes: a truncated frame, or padding
BLOCK = 2**20


@dataclass(frozen=True)
class Part:
    """One recording in a file.

    Attributes:
        ranges: its bytes in the file, each from a first to an end; they follow ``head``.
        length_s: if known; ``exact`` if to the sample.
        notes: sentences about damage and wrong headers.
        format: the true format, where ``head`` is of another one.
        tags: title and the like from outside the part.
    """

    ranges: tuple[tuple[int, int], ...]
    head: bytes = b""
    length_s: Fraction | None = None
    exact: bool = False
    notes: tuple[str, ...] = ()
    format: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def opened(self, file: BinaryIO) -> BinaryIO:
        """The part as a file of its own, at its beginning."""
        return ByteRanges(file, self.ranges, self.head)  # type: ignore[return-value]


def find_parts(file: BinaryIO, *, search: bool) -> list[Part]:
    """The recordings in a file, in their order; the whole file if it has one, or its format does not show several.

    Args:
        file: its position does not matter and changes.
        search: also search formats whose headers do not show joined files, which reads the file to its end.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(40)
    whole = Part(((0, end),))
    found: list[Part] = []
    if head[:4] == b"OggS":
        found = _ogg(file, end)
    elif head[4:8] == b"ftyp":
        found = _between([box.begin for box in boxes(file, 0, end) if box.name == b"ftyp"], end)
    elif head[:4] == MATROSKA:
        found = _between(_matroska(file, end), end)
    elif head[:16] == ASF:
        found = _between(sorted(_search(file, (ASF,))), end) if search else []
    elif head[:4] == b"fLaC":
        found = _between(sorted(_search(file, FLAC)), end) if search else []
    elif pcm := _pcm(file):
        found = pcm
    elif mpeg.is_mpeg(file):
        found = _mpeg(file)
    return found[:MAX_PARTS] or [whole]


def _between(begins: list[int], end: int) -> list[Part]:
    return [Part((place,)) for place in pairwise([*begins, end])]


def _pcm(file: BinaryIO) -> list[Part]:
    found: list[Part] = []
    begin: int | None = 0
    while begin is not None and len(found) < MAX_PARTS and (samples := samples_of(file, begin)):
        file.seek(begin)
        original = file.read(len(samples.head))
        if not begin and samples.rest is None and samples.head == original:
            return []  # an ordinary file; its chunks behind the samples are read too
        notes = (samples.note,) if samples.note else ()
        form = "BW64" if original[:4] == b"BW64" else ""
        found.append(Part(((samples.begin, samples.end),), samples.head, notes=notes, format=form))
        begin = samples.rest
    return found


def _ogg(file: BinaryIO, end: int) -> list[Part]:
    links = ogg.links(file)
    found = []
    for link, (begin, until) in zip(links, pairwise([*(link.begin for link in links), end]), strict=True):
        notes = []
        if link.sound and not link.sound.has_ended:
            notes.append("is cut off: its last page is missing")
        found.append(Part(((begin, until),), length_s=link.length_s, exact=link.is_exact, notes=tuple(notes)))
    return found


def _mpeg(file: BinaryIO) -> list[Part]:
    runs = list(mpeg.runs(file))
    found = []
    for run in runs:
        notes = []
        if run.claimed and abs(run.claimed - run.frames) > 1:
            frame_s = Fraction(1152 if run.kind[1] >= 32000 else 576, run.kind[1])
            claimed, there = (clock(float(count * frame_s)) for count in (run.claimed, run.frames))
            cut = "; it may be cut off" if run.claimed > run.frames else ""
            notes.append(f"its header counts {claimed}, but {there} are present{cut}")
        if run.damaged > LITTLE:
            notes.append(f"{run.damaged} bytes are damaged and are skipped")
        # The first part includes the tags before it; FFmpeg would take tags behind a part for damaged sound.
        ranges = [(0, run.ranges[0][1]), *run.ranges[1:]] if run is runs[0] else run.ranges
        found.append(Part(tuple(ranges), length_s=run.length_s, notes=tuple(notes), tags=mpeg.id3v1(file)))
    return found


def _matroska(file: BinaryIO, end: int) -> list[int]:
    """The places of the headers in a matroska or webm file, found by the sizes of its segments."""
    begins, place = [], 0
    while place < end:
        file.seek(place)
        head = file.read(16)
        if head[:4] == MATROSKA:
            begins.append(place)
        size = _element_end(head)
        if size is None or head[:4] not in (MATROSKA, b"\x18\x53\x80\x67", b"\xec"):
            break
        place += size
    return begins


def _element_end(head: bytes) -> int | None:
    """The size in bytes of the EBML element with this beginning; None if it does not state it."""
    at = 1 if head[:1] == b"\xec" else 4
    width = 9 - head[at].bit_length() if len(head) > at and head[at] else 9
    if width > 8:
        return None
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else at + width + value


def _search(file: BinaryIO, marks: tuple[bytes, ...]) -> Iterator[int]:
    """The places of any of these marks in a file."""
    overlap = max(map(len, marks)) - 1
    place, kept = 0, b""
    file.seek(0)
    while block := file.read(BLOCK):
        block = kept + block
        for mark in marks:
            at = -1
            while (at := block.find(mark, at + 1)) >= 0:
                yield place + at
        place += len(block) - overlap
        kept = block[-overlap:]
