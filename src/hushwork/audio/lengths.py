"""The length of the sound in a file, counted without decoding: by bytes, frames, positions or packets.

``hushwork check`` compares it between source and target, independently of the readers.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path

from hushwork.audio import mpeg, ogg
from hushwork.audio.av_reader import codec_tag, open_container, packets_length_s, sound_of
from hushwork.audio.byte_ranges import open_file
from hushwork.audio.concatenated import find_parts
from hushwork.audio.pcm_headers import samples_of

Tracks = Counter[tuple[str, str, str]]


def counted_length_s(path: str | Path) -> Fraction:
    """The length in seconds of all sound in a file.

    Raises:
        AudioError: it cannot be opened, or has no audio.
    """
    with open_file(path) as file:
        total, begin = Fraction(0), 0
        while (samples := samples_of(file, begin)) and samples.bytes_per_s:
            total += Fraction(samples.end - samples.begin - samples.lead) / Fraction(samples.bytes_per_s)
            if samples.rest is None:
                return total
            begin = samples.rest
        if links := ogg.links(file):
            return sum((link.length_s for link in links), Fraction(0))
        if mpeg.is_mpeg(file):
            return sum((run.length_s for run in mpeg.runs(file)), Fraction(0))
        for part in find_parts(file, search=True):
            with open_container(path, part.opened(file)) as container:
                total += packets_length_s(container, sound_of(path, container))
        return total


def tracks(path: str | Path) -> tuple[Tracks, int]:
    """Kind, codec and codec tag of each stream of a film, and the number of streams of unknown codecs.

    Raises:
        AudioError: it cannot be opened.
    """
    found: Tracks = Counter()
    unknown = 0
    with open_file(path) as file, open_container(path, find_parts(file, search=False)[0].opened(file)) as container:
        for stream in container.streams:
            if stream.codec_context is None or stream.type not in ("video", "audio", "subtitle"):
                unknown += stream.type != "attachment"
                continue
            name = stream.codec_context.codec.canonical_name
            # The layer of MPEG audio is stated by its frames, and is compared with the format.
            found[stream.type, "mp3" if name == "mp2" else name, codec_tag(stream)] += 1
    return found, unknown
