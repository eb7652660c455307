"""Audio files with wrong headers, several recordings, or damage."""

from __future__ import annotations

import io
import struct

import av
import numpy as np

from hushwork.audio import mpeg
from sounds import encoded, id3, noise, pcm_format, riff, samples, written

RATE = 16000
TAG = b"TAG" + b"Title".ljust(125, b"\0")


def mp3(seconds: float = 2.0, rate: int = 44100, channels: int = 1, **options: str) -> bytes:
    return encoded("mp3", "libmp3lame", seconds, rate, channels, **options)


def vorbis(rate: int = RATE, channels: int = 1) -> bytes:
    return written("OGG", "VORBIS", 2.0, rate, channels)


def opus(channels: int = 1) -> bytes:
    return written("OGG", "OPUS", 2.0, RATE, channels)


def xing(content: bytes, factor: float) -> bytes:
    """An mp3 whose header counts other frames than there are."""
    at = max(content.find(b"Xing"), content.find(b"Info")) + 8
    (count,) = struct.unpack_from(">I", content, at)
    return content[:at] + struct.pack(">I", int(count * factor)) + content[at + 4 :]


def aac(rate: int = RATE, channels: int = 1) -> bytes:
    return encoded("adts", "aac", 2.0, rate, channels)


def segments(content: bytes) -> bytes:
    """A stream of MPEG with a tag before every tenth frame, as broadcasts are cut."""
    file = io.BytesIO(content)
    (run,) = mpeg.runs(file)
    place, pieces = run.ranges[0][0], []
    for number in range(run.frames):
        frame = mpeg.parse_header(content[place : place + 7])
        pieces += [id3(500)] * (number % 10 == 0) + [content[place : place + frame.size]]
        place += frame.size
    return b"".join(pieces)


def wav(size: int | None, seconds: float = 2.0, **more: bytes) -> bytes:
    return riff(samples(seconds, RATE, 1, 16), pcm_format(RATE, 1, 16), size=size, **more)


def rf64(sizes: int, magic: bytes = b"RF64") -> bytes:
    """With a chunk ds64 that states these sizes (64 bits each)."""
    plain = wav(0xFFFFFFFF)
    ds64 = struct.pack("<4sIQQQI", b"ds64", 28, sizes, sizes, sizes, 0)
    return magic + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + ds64 + plain[12:]


def flac_counting(count: int) -> bytes:
    """A FLAC file of 32,000 samples whose header counts others, as of a pipe or a recorder that was killed."""
    content = bytearray(written("FLAC"))
    content[21] = content[21] & 0xF0 | count >> 32
    content[22:26] = (count % 2**32).to_bytes(4, "big")
    return bytes(content)


def patched(content: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    at = content.index(mark) + offset
    return content[:at] + new + content[at + len(new) :]


def with_unknown_codec(muxer: str, first: str, second: str, old: bytes, new: bytes) -> bytes:
    """A film of a second with two sound tracks, of which that with this mark gets a codec that nobody knows."""
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as film:
        pictures = film.add_stream("mpeg4", rate=10, width=32, height=32)
        tracks = [film.add_stream(codec, rate=RATE, layout="mono") for codec in (first, second)]
        for number in range(20):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), format="rgb24")
            picture.pts = number
            film.mux(pictures.encode(picture))
        for track in tracks:
            frame = av.AudioFrame.from_ndarray(noise(2.0, RATE), format="fltp", layout="mono")
            frame.sample_rate = RATE
            film.mux(track.encode(frame))
            film.mux(track.encode(None))
        film.mux(pictures.encode(None))
    assert old in file.getvalue()
    return file.getvalue().replace(old, new)
