"""Reading, writing and resampling audio files: the only place that knows soundfile and soxr.

Shapes: C channels, N samples. Audio is float32 in [-1, 1] as numpy arrays of shape (C, N), so that denoising
does not depend on a tensor library to open a file.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

# RAW has no header: nothing in the file tells its rate or channels.
FORMAT_OF_SUFFIX = {f".{name.lower()}": name for name in soundfile.available_formats() if name != "RAW"} | {
    ".aif": "AIFF",
    ".oga": "OGG",
    ".opus": "OGG",
    ".wave": "WAV",
}
AUDIO_SUFFIXES = frozenset(FORMAT_OF_SUFFIX)
PRECISE = ("PCM_32", "DOUBLE")  # subtypes that hold more than a float32 does
PART = re.compile(r"\.(.+)\.\d+-\d+\.part")  # what :func:`part_name` gives
UNBOUNDED = ("FLOAT", "DOUBLE", "VORBIS", "OPUS")  # subtypes that hold samples beyond full scale


class AudioError(ValueError):
    """A file that cannot be read or written as audio. The message names the file and the reason."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says: ``num_samples`` is per channel, ``subtype`` and ``format`` are libsndfile's names,
    ``tags`` are title, artist and the like."""

    sample_rate: int
    num_samples: int
    num_channels: int
    subtype: str
    format: str
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate


@contextmanager
def _open(path: str | Path) -> Iterator[soundfile.SoundFile]:
    path = Path(path)
    if not path.exists():
        raise AudioError(f"{path}: no such file")
    if path.is_dir():
        raise AudioError(f"{path}: is a folder, expected an audio file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{path}: raw samples without a header; convert them to .wav first")
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: cannot be read as audio ({error.error_string.strip()})") from error


def audio_info(path: str | Path) -> AudioInfo:
    """The header of ``path``. Raises :class:`AudioError` if it is missing, empty or not audio."""
    with _open(path) as file:
        tags = file.copy_metadata()
        return AudioInfo(file.samplerate, file.frames, file.channels, file.subtype, file.format, tags)


def read_audio(path: str | Path, start: int = 0, num_samples: int = -1) -> tuple[np.ndarray, int]:
    """``num_samples`` samples (-1: to the end) from sample ``start``, as float32 (C, N), and the sample rate in Hz."""
    with _open(path) as file:
        if start:
            file.seek(start)
        audio = file.read(num_samples, dtype="float32", always_2d=True)
        return np.ascontiguousarray(audio.T), file.samplerate


def read_blocks(path: str | Path, block_samples: int) -> Iterator[np.ndarray]:
    """The file in consecutive blocks (C, up to ``block_samples``), so that its length does not matter: float32, or
    float64 if its samples have more bits than that."""
    with _open(path) as file:
        dtype = "float64" if file.subtype in PRECISE else "float32"
        while len(block := file.read(block_samples, dtype=dtype, always_2d=True)):
            yield np.ascontiguousarray(block.T)


class AudioWriter:
    """Writes blocks (C, n) to ``path``; the file appears under its name only when everything was written.

    Usable as a context manager: leaving it by an exception removes the unfinished file and touches nothing else.

    Args:
        path: the file to make; its folder must exist. An existing file is replaced at the end.
        sample_rate: in Hz.
        num_channels: C.
        subtype: libsndfile subtype such as "PCM_16"; None takes the format's default.
        format: libsndfile format such as "WAV"; None takes it from the suffix.
        tags: title, artist and the like, as of :class:`AudioInfo`; those that the format has no place for are left out.

    Attributes:
        limited: samples beyond full scale so far, which were brought down to it; none in formats that can hold them.

    Raises:
        AudioError: no format fits the suffix, or the format cannot hold the rate or the channels.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        num_channels: int,
        subtype: str | None = None,
        format: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.limited = 0
        format = format or _format_of(self.path)
        if self.path.suffix.lower() == ".opus":
            subtype = "OPUS"  # the format is OGG, whose default is Vorbis
        elif subtype is None or not soundfile.check_format(format, subtype):
            subtype = soundfile.default_subtype(format)
        self._part = self.path.with_name(part_name(self.path.name))
        options: dict[str, Any] = {"samplerate": sample_rate, "channels": num_channels, "subtype": subtype}
        try:
            self._file = soundfile.SoundFile(self._part, "w", format=format, **options)
        except soundfile.LibsndfileError as error:
            self._part.unlink(missing_ok=True)
            raise AudioError(f"{self.path}: cannot be written as {format}/{subtype} ({error.error_string})") from error
        for name, text in (tags or {}).items():
            # libsndfile garbles other letters in an mp3.
            if format != "MP3" or text.isascii():
                with suppress(soundfile.LibsndfileError):
                    setattr(self._file, name, text)

    def write(self, block: np.ndarray) -> None:
        if self._file.subtype not in UNBOUNDED:
            self.limited += int(np.count_nonzero(np.abs(block) > 1))
        try:
            self._file.write(np.asarray(block, np.float64 if self._file.subtype in PRECISE else np.float32).T)
        except (soundfile.LibsndfileError, AssertionError) as error:  # the latter if only a part was written
            raise AudioError(f"{self.path}: cannot be written; is the disk full?") from error

    def commit(self) -> None:
        """Everything was written: let the file appear."""
        self._file.close()
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self.path)

    def discard(self) -> None:
        """Remove what was written, unless it was committed."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.discard()


def write_audio(path: str | Path, audio: np.ndarray, sample_rate: int, subtype: str | None = None) -> None:
    """Write float audio (C, N) or (N,) to ``path`` in one go, atomically; see :class:`AudioWriter`."""
    audio = np.atleast_2d(audio)
    with AudioWriter(path, sample_rate, len(audio), subtype) as writer:
        writer.write(audio)


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """``audio`` (N,) or (C, N) at another sample rate, by soxr (high quality); the same array if the rates agree."""
    if from_rate == to_rate:
        return audio
    return soxr.resample(audio.T, from_rate, to_rate).T.astype(audio.dtype, copy=False)


class StreamingResampler:
    """:func:`resample` over consecutive blocks (C, n), aligned with its input once flushed."""

    def __init__(self, from_rate: int, to_rate: int, num_channels: int) -> None:
        self._empty = np.zeros((num_channels, 0), np.float32)
        self._soxr = None if from_rate == to_rate else soxr.ResampleStream(from_rate, to_rate, num_channels)

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        if self._soxr is None:
            return block
        resampled = self._soxr.resample_chunk(np.ascontiguousarray(block.T), last=last)
        return np.ascontiguousarray(resampled.reshape(-1, len(block)).T)

    def flush(self) -> np.ndarray:
        return self.push(self._empty, last=True)


def part_name(name: str) -> str:
    """Under which this thread writes a file of that name until it is complete."""
    return f".{name}.{os.getpid()}-{threading.get_ident()}.part"


def _format_of(path: Path) -> str:
    if path.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise AudioError(f"{path}: no audio format has the suffix {path.suffix!r}; use .wav, .flac, .ogg or .mp3")
    return FORMAT_OF_SUFFIX[path.suffix.lower()]
