"""Properties of an audio file, and the error for one that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass, field

# Limits of what a header may claim: it may be damaged, or untrusted input.
MIN_RATE, MAX_RATE = 100, 10**6
MAX_BLOCK = 2**24
"""Samples of all channels that are read at once, 64 MB: a header may claim any length."""


class AudioError(ValueError):
    """A file that cannot be read or written as audio. The message names the file and the reason."""


@dataclass(frozen=True)
class AudioInfo:
    """Properties of the sound in a file.

    Attributes:
        sample_rate: Hz; if the rate changes within the file, that of its beginning. Channels likewise.
        num_samples: per channel.
        num_channels: C.
        subtype, format: libsndfile's names, or libavformat's of codec and container.
        tags: title, artist and the like.
        padding: samples that a codec may add at the end to fill its last frame or block; ``num_samples`` is then
            approximate.
        bits: bits of a sample, for lossless codecs whose name does not state them; else 0.
        notes: sentences about anything unusual: a wrong header, several recordings in one file, …
    """

    sample_rate: int
    num_samples: int
    num_channels: int
    subtype: str
    format: str
    tags: dict[str, str] = field(default_factory=dict)
    padding: int = 0
    bits: int = 0
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate


def clock(seconds: float) -> str:
    """A time in a recording as messages show it: 12.3 s, 1:02:03.4."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f} min"
