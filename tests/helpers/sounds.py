"""Small audio files as bytes or on disk, made by PyAV or libsndfile, and comparisons of audio."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from hushwork.audio.io import audio_info, open_writer, read_blocks
from hushwork.files.check import check_pair

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 6: "5.1", 8: "7.1"}


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """(C, N), below some 3 kHz at 48 kHz, which codecs keep the shape of."""
    count = round(seconds * rate)
    white = np.random.default_rng(0).standard_normal((channels, count + 7))
    return (0.05 * np.lib.stride_tricks.sliding_window_view(white, 8, axis=1).sum(-1)).astype(np.float32)


def white(num_samples: int, num_channels: int = 1, seed: int = 0) -> np.ndarray:
    """(N, C), at -20 dB."""
    return (0.1 * np.random.default_rng(seed).standard_normal((num_samples, num_channels))).astype(np.float32)


def write(path: Path, audio: np.ndarray, rate: int = 16000, subtype: str | None = None) -> Path:
    """Write (N,) or (N, C) by libsndfile; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, subtype)
    return path


def read(path: Path) -> np.ndarray:
    """(N, C), by libsndfile."""
    audio: np.ndarray = soundfile.read(path, dtype="float32", always_2d=True)[0]
    return audio


def copied(source: Path, target: Path) -> Path:
    """Write the unchanged sound of a source as denoising does."""
    with open_writer(target, audio_info(source), source) as writer:
        for block in read_blocks(source, 7000):
            writer.write(block)
    return target


def broken(source: Path, target: Path) -> list[str]:
    """The names of the promises that a target does not keep."""
    return [promise.name for promise in check_pair(source, target) if not promise.kept]


def leftovers(folder: Path) -> list[str]:
    """Temporary and hidden files."""
    return [path.name for path in folder.rglob("*") if path.name.startswith(".") or path.name.endswith(".part")]


def encoded(
    muxer: str,
    codec: str,
    seconds: float = 2.0,
    rate: int = 16000,
    channels: int = 1,
    form: str | None = None,
    **options: str,
) -> bytes:
    """Noise by PyAV, with options of the container."""
    written = io.BytesIO()
    with av.open(written, "w", format=muxer, options=options) as file:
        more: dict[str, Any] = {"format": form} if form else {}
        stream: Any = file.add_stream(codec, rate=rate, bit_rate=96_000, layout=LAYOUTS[channels], **more)
        frame = av.AudioFrame.from_ndarray(noise(seconds, rate, channels), format="fltp", layout=LAYOUTS[channels])
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return written.getvalue()


def written(form: str, subtype: str | None = None, seconds: float = 2.0, rate: int = 16000, channels: int = 1) -> bytes:
    """Noise by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, noise(seconds, rate, channels).T, rate, subtype, format=form)
    return file.getvalue()


def riff(data: bytes, fmt: bytes, *, size: int | None = None, head: bytes = b"", tail: bytes = b"") -> bytes:
    """A wav file of these samples, whose header counts ``size`` bytes of them, with chunks before and behind."""
    size = len(data) if size is None else size
    chunks = struct.pack("<4sI", b"fmt ", len(fmt)) + fmt + head + struct.pack("<4sI", b"data", size) + data + tail
    return struct.pack("<4sI4s", b"RIFF", (4 + len(chunks)) % 2**32, b"WAVE") + chunks


def pcm_format(rate: int, channels: int, bits: int, mask: int | None = None, is_float: bool = False) -> bytes:
    """The content of a chunk "fmt "; WAVE_FORMAT_EXTENSIBLE if there is a channel mask."""
    block = channels * bits // 8
    tag = 3 if is_float else 1
    fields = struct.pack("<HIIHH", channels, rate, rate * block, block, bits)
    if mask is None:
        return struct.pack("<H", tag) + fields
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    return struct.pack("<H", 0xFFFE) + fields + struct.pack("<HHI", 22, bits, mask) + guid


def samples(seconds: float, rate: int, channels: int, bits: int, is_float: bool = False) -> bytes:
    """Noise as the data of a wav file."""
    audio = noise(seconds, rate, channels).T
    if is_float:
        return audio.astype("<f4").tobytes()
    whole = np.ascontiguousarray((audio * 2**31).astype("<i4"))
    return whole.view(np.uint8).reshape(-1, 4)[:, 4 - bits // 8 :].tobytes()


def id3(size: int) -> bytes:
    """An ID3v2 tag with a picture of so many bytes, among which are some that look like frames of MPEG."""
    picture = bytearray(np.random.default_rng(1).bytes(size))
    for place in range(0, size - 4, 97):
        picture[place : place + 4] = b"\xff\xfb\x90\x44"
    frame = b"\0image/jpeg\0\3\0" + bytes(picture)
    body = struct.pack(">4sIH", b"APIC", len(frame), 0) + frame
    return b"ID3\3\0\0" + bytes(len(body) >> shift & 127 for shift in (21, 14, 7, 0)) + body


def ape(size: int = 600) -> bytes:
    """An APE tag with header and footer."""
    ends = [struct.pack("<8s4I8x", b"APETAGEX", 2000, size + 32, 1, flags) for flags in (0xA0000000, 0x80000000)]
    return ends[0] + bytes(size) + ends[1]


def packets_s(content: bytes) -> float:
    """How long the packets are that PyAV finds, in seconds."""
    with av.open(io.BytesIO(content)) as file:
        stream = file.streams.audio[0]
        return float(sum(packet.duration * packet.time_base for packet in file.demux(stream) if packet.duration))


def decoded_s(content: bytes) -> float:
    """How long the sound is that PyAV decodes, in seconds."""
    with av.open(io.BytesIO(content)) as file:
        return sum(frame.samples / frame.sample_rate for frame in file.decode(file.streams.audio[0]))
