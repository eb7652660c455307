"""Films and other files with several streams, and their packets."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from hushwork.audio.formats import CONTAINERS

RATE = 48000


def sound(num_samples: int = 40000, channels: int = 2) -> np.ndarray:
    """Noise (C, N) below some 3 kHz, which codecs keep the shape of."""
    noise = np.random.default_rng(0).standard_normal((channels, num_samples + 15))
    return (0.05 * np.lib.stride_tricks.sliding_window_view(noise, 16, axis=1).sum(-1) / 4).astype(np.float32)


def add_sound(file: Any, codec: str, channels: int = 2, rate: int = RATE, form: str | None = None) -> Any:
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    return file.add_stream(codec, rate=rate, layout=layout, **({"format": form} if form else {}))


def encode_sound(file: Any, stream: Any, samples: np.ndarray, start: int = 0) -> None:
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=stream.layout.name)
    frame.sample_rate, frame.pts, frame.time_base = stream.rate, start, Fraction(1, stream.rate)
    file.mux(stream.encode(frame))


def make(
    path: Path,
    codec: str = "aac",
    video: str | None = None,
    *,
    channels: int = 2,
    start: int = 0,
    second: bool = False,
    form: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Noise, on request with twelve pictures, and another sound track after it."""
    with av.open(str(path), "w", format=CONTAINERS[path.suffix][0], container_options=options or {}) as file:
        file.metadata.update({"title": "A talk", "artist": "Someone"})
        if video:
            pictures = file.add_stream(video, rate=12, width=64, height=48)
        tracks = [add_sound(file, codec, channels, form=form) for _ in range(1 + second)]
        for number in range(12 if video else 0):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 12)
            file.mux(pictures.encode(picture))
        for track in tracks:
            encode_sound(file, track, sound(channels=channels), start)
            file.mux(track.encode(None))
        if video:
            file.mux(pictures.encode(None))
    return path


def packets(path: Path, kind: str, index: int = 0) -> list[tuple[Fraction | None, Fraction | None, str]]:
    """Of a stream: pts and dts in seconds, and a hash of what is in it."""
    with av.open(str(path)) as file:
        stream = [stream for stream in file.streams if stream.type == kind][index]
        return [
            (
                packet.pts and packet.pts * packet.time_base,
                packet.dts and packet.dts * packet.time_base,
                hashlib.sha256(bytes(packet)).hexdigest(),
            )
            for packet in file.demux(stream)
            if packet.size
        ]


def first_time_s(path: Path) -> float:
    with av.open(str(path)) as file:
        return float(next(file.decode(file.streams.best("audio"))).time)
