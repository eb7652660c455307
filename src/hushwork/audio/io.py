"""Reading, writing and resampling audio files.

soundfile reads PCM, FLAC and Opus in Ogg; PyAV, imported on demand, reads everything else. The content of a file
decides, not its suffix.

Shapes: C channels, N samples. Audio is float32 in [-1, 1] as numpy arrays of shape (C, N), so that denoising
does not depend on a tensor library to open a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from hushwork.audio import info as limits
from hushwork.audio.byte_ranges import MAX_MEMBER, split_shard
from hushwork.audio.formats import (
    AUDIO_SUFFIXES,
    CONTAINER_SUFFIXES,
    LIBSNDFILE_VERSION,
    adpcm_block,
    codec_of,
    muxer_for,
    suffix_of,
)
from hushwork.audio.info import AudioError, AudioInfo
from hushwork.audio.libsndfile import IN_BLOCKS, AudioWriter, block_samples, can_be_format, written_as
from hushwork.audio.metadata import read_metadata
from hushwork.audio.reader import AudioReader
from hushwork.audio.resampling import StreamingResampler, resample
from hushwork.audio.writer import Writer

__all__ = [
    "AUDIO_SUFFIXES",
    "CONTAINER_SUFFIXES",
    "LIBSNDFILE_VERSION",
    "MAX_MEMBER",
    "AudioError",
    "AudioInfo",
    "AudioWriter",
    "StreamingResampler",
    "Writer",
    "audio_info",
    "open_writer",
    "planned_subtype",
    "read_audio",
    "read_blocks",
    "resample",
    "split_shard",
    "write_audio",
]

MULTI_STREAM = ("mov", "matroska", "webm", "avi", "asf", "flv", "mpeg", "mpegts", "mxf", "nut", "OGG")
"""Formats that may hold other streams than audio, which are copied."""


def audio_info(path: str | Path, *, search: bool = False) -> AudioInfo:
    """Properties of the sound in ``path``, without decoding it.

    The headers of PCM, FLAC and films are trusted; the frames of mp3, Ogg and other streams are counted.

    Args:
        path: a file, or a member of a tar shard.
        search: read the whole file to find sound that its header does not count; ``notes`` report it.

    Raises:
        AudioError: it is missing, empty, not a regular file or not audio.
    """
    with AudioReader(path, search=search) as sound:
        return sound.info


def read_audio(path: str | Path, start: int = 0, num_samples: int = -1) -> tuple[np.ndarray, int]:
    """``num_samples`` samples (-1: to the end) from sample ``start``, as float32 (C, N), and the sample rate in Hz.

    There are fewer if the file holds fewer, even if its header states more. Only the header of a FLAC file is trusted,
    for quick access to corpora; :func:`read_blocks` trusts none.

    Raises:
        AudioError: as :func:`audio_info`, or ``start`` is beyond the end.
    """
    with AudioReader(path) as sound:
        blocks = [np.zeros((sound.info.num_channels, 0), np.float32)]
        missing = num_samples
        for block in sound.blocks(start, num_samples):
            block = block if num_samples < 0 else block[:, :missing]
            blocks.append(block.astype(np.float32, copy=False))
            missing -= block.shape[1]
            if not missing:
                break
        return np.concatenate(blocks, axis=1), sound.info.sample_rate


def read_blocks(path: str | Path, block_samples: int, notes: list[str] | None = None) -> Iterator[np.ndarray]:
    """The file in consecutive blocks (C, up to ``block_samples``), in bounded memory; float32, or float64 if its
    samples have more bits.

    All sound in the file is read, also of several recordings in one file; where rate or channels change, the sound is
    converted to those of the beginning.

    Args:
        path: as in :func:`audio_info`.
        block_samples: of each block but the last.
        notes: collects sentences about damage, and about changes of rate or channels.

    Raises:
        AudioError: as :func:`audio_info`.
    """
    with AudioReader(path, search=True) as sound:
        size = min(block_samples, max(1, limits.MAX_BLOCK // sound.info.num_channels))
        waiting: list[np.ndarray] = []
        count = 0
        for block in sound.blocks(size=size, notes=notes):
            waiting.append(block)
            count += block.shape[1]
            if count >= size:
                whole = np.concatenate(waiting, axis=1)
                for start in range(0, count - size + 1, size):
                    yield whole[:, start : start + size]
                count %= size
                waiting = [whole[:, whole.shape[1] - count :]]
        if count:
            yield np.concatenate(waiting, axis=1)


def open_writer(path: str | Path, info: AudioInfo, source: str | Path | None = None) -> Writer:
    """A writer for sound of this kind; the suffix of ``path`` decides the format.

    Args:
        path: the file to write; its folder is made. An existing file is replaced at the end.
        info: rate, channels and tags; subtype and format are kept if the format allows it.
        source: the file of the sound. The other streams of a video file are copied from there, and all metadata if the
            suffix is the same.

    Raises:
        AudioError: no format fits the suffix, or the format cannot hold the sound or a stream.
    """
    path = Path(path)
    same = source is not None and suffix_of(source) == suffix_of(path)
    metadata = read_metadata(source) if source is not None and same else None
    writer: Writer
    if muxer_for(path, info):
        from hushwork.audio.av_writer import ContainerWriter

        may_hold_others = any(name in MULTI_STREAM for name in info.format.split(","))
        writer = ContainerWriter(path, info, Path(source) if source and (same or may_hold_others) else None, metadata)
        subtype, block = writer.subtype, info.padding if adpcm_block(info) else 1
    else:
        form = _kept_format(info) if same else None
        metadata = metadata if form else None
        kind = info.sample_rate, info.num_channels, info.subtype, form
        writer = AudioWriter(path, *kind, info.tags, metadata, info.bits)
        subtype = writer.subtype
        block = block_samples(replace(info, subtype=subtype), writer.format)
    if subtype in IN_BLOCKS and (longer := -info.num_samples % block):
        writer.notes.append(f"{subtype} fills its last block: {longer} samples of silence follow the sound")
    if same and codec_of(subtype) != codec_of(info.subtype):
        writer.notes.insert(0, f"{info.subtype} cannot be written to {path.suffix} files; it becomes {subtype}")
    return writer


def planned_subtype(path: str | Path, info: AudioInfo) -> str:
    """The subtype in which such sound is written to a file with the suffix of its source."""
    if muxer_for(path, info):
        from hushwork.audio.av_writer import planned_codec

        return planned_codec(Path(path), info)
    return written_as(Path(path), info, _kept_format(info))[1]


def _kept_format(info: AudioInfo) -> str | None:
    """The source's format, if libsndfile writes it."""
    return info.format if can_be_format(info.format) else None


def write_audio(path: str | Path, audio: np.ndarray, sample_rate: int, subtype: str | None = None) -> None:
    """Write float audio (C, N) or (N,) to ``path``, atomically; see :func:`open_writer`."""
    audio = np.atleast_2d(audio)
    with open_writer(path, AudioInfo(sample_rate, audio.shape[1], len(audio), subtype or "", "")) as writer:
        writer.write(audio)
