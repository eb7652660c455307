"""What a wav file holds besides its sound: broadcast metadata (bext, iXML), cue points, loops, ID3, whatever there is.

libsndfile writes the sound and the usual tags, and knows nothing of the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

WRITTEN = (b"fmt ", b"data", b"fact", b"ds64")
"""Chunks that the writer of the sound makes itself."""
STALE = (b"PEAK", b"levl", b"JUNK", b"FLLR", b"PAD ", b"MD5 ")
"""Chunks that say something of the old samples, or nothing."""
MOST = 2**24  # bytes of all chunks together
UNKNOWN_SIZE = 0xFFFFFFFF  # of RF64: it stands in the chunk ds64


def other_chunks(path: str | Path) -> list[tuple[bytes, bytes]]:
    """Name and content of each chunk of a WAV or RF64 file that a denoised copy should hold unchanged.

    Tags (LIST INFO) are not among them, and nothing from the first chunk on that would exceed 16 MB in all or that ends
    behind the end of the file. A file of another kind has none.
    """
    kept: list[tuple[bytes, bytes]] = []
    held = 0
    with Path(path).open("rb") as file:
        for name, size in _chunks(file):
            if name in WRITTEN or name in STALE:
                continue
            held += size
            content = file.read(size) if held <= MOST else b""
            if len(content) < size:
                break
            if name != b"LIST" or content[:4] != b"INFO":
                kept.append((name, content))
    return kept


def append_chunks(path: str | Path, chunks: list[tuple[bytes, bytes]]) -> None:
    """Append chunks to a complete WAV or RF64 file."""
    with Path(path).open("r+b") as file:
        head = file.read(28)
        end = file.seek(0, 2)
        file.write(b"\0" * (end % 2))
        for name, content in chunks:
            file.write(struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2))
        size = file.tell() - 8
        if head[:4] == b"RF64":
            file.seek(20)  # in ds64, which comes first
            file.write(struct.pack("<Q", size))
        elif size < UNKNOWN_SIZE:
            file.seek(4)
            file.write(struct.pack("<I", size))
        else:
            file.truncate(end)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Names and sizes; at each the file stands at the chunk's content, and may be left anywhere."""
    kind, _, form = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
    if kind not in (b"RIFF", b"RF64") or form != b"WAVE":
        return
    data_size = 0
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        begin = file.tell()
        if name == b"ds64":
            data_size = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
            file.seek(begin)
        if name == b"data" and size == UNKNOWN_SIZE and kind == b"RF64":
            size = data_size
        yield name, size
        file.seek(begin + size + size % 2)
