"""Reading and writing by libsndfile: PCM of all kinds, FLAC, and Opus in Ogg; it also writes Ogg Vorbis and MP3.

Opus is read here because libopus decodes it at the file's own rate; FFmpeg decodes it at 48 kHz only.

Shapes: C channels, n samples of a block.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from hushwork.audio import info as limits
from hushwork.audio.formats import libsndfile_format
from hushwork.audio.info import MAX_RATE, MIN_RATE, AudioError, AudioInfo
from hushwork.audio.metadata import Metadata
from hushwork.audio.pcm_headers import WAV, chunks
from hushwork.audio.writer import Writer

PRECISE = ("PCM_32", "DOUBLE")  # subtypes that hold more than a float32 does
UNBOUNDED = ("FLOAT", "DOUBLE", "VORBIS", "OPUS")  # subtypes that hold samples beyond full scale
IN_BLOCKS = ("IMA_ADPCM", "MS_ADPCM", "GSM610")  # subtypes of WAV whose last block is padded
FOR_FFMPEG = ("VORBIS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")  # libsndfile may miss parts of such files
SUBTYPES = {  # by libavcodec's names
    "pcm_s16le": "PCM_16",
    "pcm_s16be": "PCM_16",
    "pcm_s24le": "PCM_24",
    "pcm_s24be": "PCM_24",
    "pcm_s32le": "PCM_32",
    "pcm_s32be": "PCM_32",
    "pcm_f32le": "FLOAT",
    "pcm_f32be": "FLOAT",
    "pcm_f64le": "DOUBLE",
    "pcm_f64be": "DOUBLE",
    "pcm_mulaw": "ULAW",
    "pcm_alaw": "ALAW",
    "vorbis": "VORBIS",
    "opus": "OPUS",
    "mp3": "MPEG_LAYER_III",
}
UNKNOWN_LENGTH = 2**62
Pieces = Iterator[tuple[int, np.ndarray]]
"""Consecutive pieces of sound: rate in Hz, and samples (C, n)."""


class SoundfileReader:
    """A recording that libsndfile reads.

    Args:
        path: for messages.
        source: a path, or a file.

    Raises:
        soundfile.LibsndfileError: libsndfile cannot read it.
        AudioError: its sample rate is out of range.
    """

    def __init__(self, path: str | Path, source: Path | BinaryIO) -> None:
        self._path, self._source = path, source
        self._file = soundfile.SoundFile(_os_name(source) if isinstance(source, Path) else source)
        if not MIN_RATE <= self._file.samplerate <= MAX_RATE:
            found = self._file.samplerate
            self.close()
            raise AudioError(f"{path}: its header states {found} Hz, expected {MIN_RATE} to {MAX_RATE}; it is damaged")

    @property
    def finds_all(self) -> bool:
        """Whether libsndfile reads all the sound of such a file."""
        return self._file.subtype not in FOR_FFMPEG and 0 <= self._file.frames < UNKNOWN_LENGTH

    def info(self) -> AudioInfo:
        file = self._file
        padding = self._block_samples() if file.subtype in IN_BLOCKS else 0
        return AudioInfo(
            file.samplerate, file.frames, file.channels, file.subtype, file.format, file.copy_metadata(), padding
        )

    def pieces(self, start: int = 0, count: int = -1, size: int | None = None) -> Pieces:
        """Up to ``count`` samples (-1: all) from sample ``start``, in pieces of up to ``size``; float64 where a float32
        would lose bits, unless the count is given.

        Raises:
            AudioError: it cannot be read further.
        """
        dtype = "float64" if count < 0 and self._file.subtype in PRECISE else "float32"
        most = max(1, limits.MAX_BLOCK // self._file.channels)
        size = min(size or most, most)
        try:
            if start:
                self._file.seek(start)
            while count:
                block = self._file.read(size if count < 0 else min(size, count), dtype=dtype, always_2d=True)
                if not len(block):
                    return
                yield self._file.samplerate, np.ascontiguousarray(block.T)
                count -= min(count, len(block)) if count > 0 else 0
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{self._path}: cannot be read as audio ({error.error_string.strip()})") from error

    def close(self) -> None:
        self._file.close()

    def _block_samples(self) -> int:
        file = self._source.open("rb") if isinstance(self._source, Path) else self._source
        try:
            for chunk in chunks(file, WAV):
                if chunk.name == b"fmt " and chunk.size >= 20:
                    file.seek(chunk.begin + 18)
                    return int(struct.unpack("<H", file.read(2))[0])
        finally:
            if file is not self._source:
                file.close()
        return 0


def can_be_format(name: str) -> bool:
    """Whether libsndfile writes a format of this name."""
    return name == "BW64" or name in soundfile.available_formats()


def written_as(path: Path, info: AudioInfo, format: str | None = None) -> tuple[str, str]:
    """libsndfile's names of the format and subtype in which sound is written to this path.

    Args:
        path: the file to be written; its suffix decides the format.
        info: rate, channels, and the subtype to use if the format has it.
        format: None for that of the suffix.

    Raises:
        AudioError: no format fits the suffix, or the format cannot hold the rate or the channels.
    """
    name = format or libsndfile_format(path)
    form = "RF64" if name == "BW64" else name
    default = soundfile.default_subtype(form)
    choices = [default]
    if path.suffix.lower() == ".opus":
        choices = ["OPUS"]  # the format is OGG, whose default is Vorbis
    else:
        preferred = SUBTYPES.get(info.subtype) or {24: "PCM_24", 32: "PCM_24"}.get(info.bits) or info.subtype
        choices = [preferred, default] if preferred in soundfile.available_subtypes(form) else [default]
    for choice in choices:  # soundfile also lists subtypes that cannot be written: mp3 in WAV, GSM in stereo
        try:
            soundfile.SoundFile(io.BytesIO(), "w", info.sample_rate, info.num_channels, choice, format=form).close()
            return name, choice
        except soundfile.LibsndfileError as error:
            if choice == choices[-1]:
                raise AudioError(f"{path}: cannot be written as {name}/{choice} ({error.error_string})") from error
    raise AssertionError


def block_samples(info: AudioInfo, format: str) -> int:
    """The number of samples in a block of such sound when libsndfile writes it; 1 for subtypes without blocks."""
    if info.subtype not in IN_BLOCKS:
        return 1
    written = io.BytesIO()
    with soundfile.SoundFile(written, "w", info.sample_rate, info.num_channels, info.subtype, format=format) as file:
        file.write(np.zeros((1, info.num_channels)))
    written.seek(0)
    return int(soundfile.info(written).frames)


class AudioWriter(Writer):
    """Writes formats of libsndfile.

    Args:
        path: the file to write; its folder is made. An existing file is replaced at the end.
        sample_rate: in Hz.
        num_channels: C.
        subtype: libsndfile subtype such as "PCM_16"; None, or one that the format cannot hold, takes its default.
        format: libsndfile format such as "WAV"; None takes it from the suffix.
        tags: title, artist and the like, see :class:`AudioInfo`; those that the format cannot hold are dropped.
        metadata: see :class:`Writer`; if its kind is known, ``tags`` are not used.
        bits: see :class:`AudioInfo`.

    Raises:
        AudioError: no format fits the suffix, or the format cannot hold the rate or the channels.
    """

    _file: Any = None

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        num_channels: int,
        subtype: str | None = None,
        format: str | None = None,
        tags: Mapping[str, str] | None = None,
        metadata: Metadata | None = None,
        bits: int = 0,
    ) -> None:
        info = AudioInfo(sample_rate, 0, num_channels, subtype or "", "", bits=bits)
        self.format, self.subtype = written_as(Path(path), info, format)
        super().__init__(path, metadata)
        form = "RF64" if self.format == "BW64" else self.format
        try:
            self._file = soundfile.SoundFile(
                _os_name(self._part), "w", sample_rate, num_channels, self.subtype, format=form
            )
        except soundfile.LibsndfileError as error:
            self.discard()
            reason = f"cannot be written as {self.format}/{self.subtype} ({error.error_string})"
            raise AudioError(f"{self.path}: {reason}") from error
        for name, text in ({} if metadata and metadata.kind else tags or {}).items():
            # libsndfile writes other characters incorrectly to mp3.
            if form != "MP3" or text.isascii():
                with suppress(soundfile.LibsndfileError):
                    setattr(self._file, name, text)

    def write(self, block: np.ndarray) -> None:
        if self.subtype not in UNBOUNDED:
            self.limited += int(np.count_nonzero(np.abs(block) > 1))
        try:
            self._file.write(np.asarray(block, np.float64 if self.subtype in PRECISE else np.float32).T)
        except (soundfile.LibsndfileError, AssertionError) as error:  # AssertionError: only a part was written
            raise AudioError(f"{self.path}: cannot be written; is the disk full?") from error

    def _finish(self) -> None:
        self._file.close()
        if self.format == "BW64":
            with self._part.open("r+b") as file:
                file.write(b"BW64")

    def _abandon(self) -> None:
        if self._file is not None:
            self._file.close()


def _os_name(path: Path) -> str | bytes:
    """A path for libsndfile: bytes, for names that are not UTF-8; str on Windows."""
    return str(path) if os.name == "nt" else os.fsencode(path)
