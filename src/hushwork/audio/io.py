"""Reading, writing and resampling audio files: the only place that knows soundfile and soxr.

What libsndfile does not know, such as m4a and mp4, goes to ``containers.py``, which is imported then: it needs PyAV.

Shapes: C channels, N samples. Audio is float32 in [-1, 1] as numpy arrays of shape (C, N), so that denoising
does not depend on a tensor library to open a file.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, Self

import numpy as np
import soundfile
import soxr

from hushwork.audio.metadata import Metadata, put_metadata, read_metadata

# RAW has no header: nothing in the file tells its rate or channels.
FORMAT_OF_SUFFIX = {f".{name.lower()}": name for name in soundfile.available_formats() if name != "RAW"} | {
    ".aif": "AIFF",
    ".aifc": "AIFF",
    ".bw64": "RF64",
    ".bwf": "WAV",
    ".oga": "OGG",
    ".opus": "OGG",
    ".sf": "IRCAM",
    ".snd": "AU",
    ".sph": "NIST",
    ".wave": "WAV",
}
AUDIO_SUFFIXES = frozenset(FORMAT_OF_SUFFIX)
CONTAINER_NAMES = (
    "aa3 aac ac3 adts amr ape awb dff dsf dss dts dtshd eac3 ec3 f4a gsm isma latm loas m2a m4a m4b m4p "
    "m4r mka mlp mp+ mp1 mp2 mpa mpc mpp oma omg qcp ra shn spx tak thd tta weba wma wv xwma "
    "3g2 3gp 3gpp asf avi divx dv dvr-ms f4v flv gxf ismv m2t m2ts m4v mj2 mk3d mkv mov mp4 mpe mpeg mpg "
    "mts mxf nut ogm ogv ogx psp qt rm rmvb tod trp ts vob webm wmv wtv"
)
CONTAINER_SUFFIXES = frozenset(f".{name}" for name in CONTAINER_NAMES.split())
PRECISE = ("PCM_32", "DOUBLE")  # subtypes that hold more than a float32 does
PART = re.compile(r"\.([0-9a-f]{16})\.\d+-\d+\.part")  # what :func:`part_name` gives; the group is of the file's name
SHARD = re.compile(r"(.+\.tar)#(\d{1,15})\+(\d{1,15})", re.DOTALL)
UNBOUNDED = ("FLOAT", "DOUBLE", "VORBIS", "OPUS")  # subtypes that hold samples beyond full scale
LIBSNDFILE_VERSION: str = soundfile.__libsndfile_version__

# What a header claims is believed only within these: it may be damaged, or made to do harm.
MIN_RATE, MAX_RATE = 100, 10**6
MAX_BLOCK = 2**24
"""Numbers that are read at once, 64 MB: a header may claim any length."""
MAX_MEMBER = 2**28
"""Bytes of a remote shard that are fetched into memory for one recording."""


class AudioError(ValueError):
    """A file that cannot be read or written as audio. The message names the file and the reason."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says: ``num_samples`` is per channel, ``subtype`` and ``format`` are libsndfile's names, or
    libavformat's of codec and container, ``tags`` are title, artist and the like. ``padding`` is by how many samples at
    most sound becomes longer in such a file, where a codec's last frame is filled up; ``num_samples`` then is about."""

    sample_rate: int
    num_samples: int
    num_channels: int
    subtype: str
    format: str
    tags: dict[str, str] = field(default_factory=dict)
    padding: int = 0

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate


def split_shard(path: str) -> tuple[str, int, int] | None:
    """Of a path such as ``a/b.tar#1536+80311`` the tar file, and offset and size of the audio in it, in bytes.

    A tar file's members are stored whole, one after another, so that each can be read without the others.
    """
    match = SHARD.fullmatch(path)
    return (match[1], int(match[2]), int(match[3])) if match else None


class _Stretch(io.RawIOBase):
    """A part of a file, as a file of its own."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._offset, self._size, self._place = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._offset + self._place)
        read = self._file.readinto(memoryview(buffer)[: max(0, self._size - self._place)]) or 0
        self._place += read
        return read

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _source(path: Any) -> Iterator[Any]:
    """What soundfile opens: a file's path, or the stretch of a shard as a file."""
    if (place := split_shard(str(path))) is None:
        yield os_name(_checked(path))
        return
    shard, offset, size = place
    if isinstance(path, str | Path):
        with _Stretch(_checked(shard), offset, size) as stretch:
            yield stretch
        return
    from hushwork.audio.remote import fetch_stretch

    if size > MAX_MEMBER:
        raise AudioError(f"{path}: {size} bytes are too many to fetch; keep a copy of its shard (data.cache_gb)")
    yield io.BytesIO(fetch_stretch(path.with_name(Path(shard).name), offset, size))


def _checked(path: str | Path) -> Path:
    path = Path(path)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # not allowed, too long, or with characters that no name can have
        raise AudioError(f"{path}: cannot be opened ({getattr(error, 'strerror', error)})") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path}: is a folder, expected an audio file")
    if not stat.S_ISREG(status.st_mode):  # a named pipe would wait for its writer
        raise AudioError(f"{path}: is no regular file, expected an audio file")
    if status.st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{path}: raw samples without a header; convert them to .wav first")
    return path


def _is_container(path: str | Path | None) -> bool:
    return path is not None and PurePath(str(path)).suffix.lower() in CONTAINER_SUFFIXES


def _containers(path: str | Path) -> ModuleType:
    """The module for this file. Raises :class:`AudioError` if PyAV is not installed."""
    try:
        from hushwork.audio import containers
    except ImportError as error:
        raise AudioError(f"{path}: {Path(path).suffix} needs PyAV; pip install 'hushwork[video]'") from error
    return containers


@contextmanager
def _open(path: str | Path) -> Iterator[soundfile.SoundFile]:
    try:
        with _source(path) as source, soundfile.SoundFile(source) as file:
            if not MIN_RATE <= file.samplerate <= MAX_RATE:
                raise AudioError(
                    f"{path}: its header says {file.samplerate} Hz, expected {MIN_RATE} to {MAX_RATE}; write it again"
                )
            yield file
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: cannot be read as audio ({error.error_string.strip()})") from error


def audio_info(path: str | Path) -> AudioInfo:
    """What the header of ``path`` says, which need not be true.

    Raises:
        AudioError: it is missing, empty, no regular file or not audio.
    """
    if _is_container(path):
        return _containers(path).audio_info(_checked(path))
    with _open(path) as file:
        tags = file.copy_metadata()
        return AudioInfo(file.samplerate, file.frames, file.channels, file.subtype, file.format, tags)


def read_audio(path: str | Path, start: int = 0, num_samples: int = -1) -> tuple[np.ndarray, int]:
    """``num_samples`` samples (-1: to the end) from sample ``start``, as float32 (C, N), and the sample rate in Hz.

    There are fewer if the file holds fewer, whatever its header says.

    Raises:
        AudioError: as :func:`audio_info`, or ``start`` lies behind the end.
    """
    if _is_container(path):
        return _containers(path).read_audio(_checked(path), start, num_samples)
    with _open(path) as file:
        if start:
            file.seek(start)
        blocks = [np.zeros((file.channels, 0), np.float32)]
        while num_samples and (block := _next_block(file, num_samples)).size:
            blocks.append(block)
            num_samples -= block.shape[1]  # from -1 it goes away from 0
        return np.concatenate(blocks, axis=1), file.samplerate


def read_blocks(path: str | Path, block_samples: int) -> Iterator[np.ndarray]:
    """The file in consecutive blocks (C, up to ``block_samples``), so that its length does not matter: float32, or
    float64 if its samples have more bits than that.

    Raises:
        AudioError: as :func:`audio_info`.
    """
    if _is_container(path):
        yield from _containers(path).read_blocks(_checked(path), block_samples)
        return
    with _open(path) as file:
        dtype = "float64" if file.subtype in PRECISE else "float32"
        while (block := _next_block(file, block_samples, dtype)).size:
            yield block


def _next_block(file: soundfile.SoundFile, num_samples: int, dtype: str = "float32") -> np.ndarray:
    """The next samples (C, n): up to ``num_samples`` (-1: to the end), and to ``MAX_BLOCK`` numbers."""
    most = MAX_BLOCK // file.channels
    block = file.read(most if num_samples < 0 else min(num_samples, most), dtype=dtype, always_2d=True)
    return np.ascontiguousarray(block.T)


class Writer:
    """Writes blocks (C, n) to ``path``; the file appears under its name only when everything was written.

    Usable as a context manager: leaving it by an exception removes the unfinished file and touches nothing else.

    Args:
        path: the file to make; its folder must exist. An existing file is replaced at the end.
        metadata: what it shall hold besides, of a file of the same kind.

    Attributes:
        limited: samples beyond full scale so far, which were brought down to it; none in formats that can hold them.
    """

    def __init__(self, path: str | Path, metadata: Metadata | None = None) -> None:
        self.path = Path(path)
        self.limited = 0
        self._metadata = metadata
        self._part = self.path.with_name(part_name(self.path.name))

    def write(self, block: np.ndarray) -> None:
        """Raises :class:`AudioError` if it cannot be written."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Complete the unfinished file, and close it."""
        raise NotImplementedError

    def _abandon(self) -> None:
        """Close the unfinished file, if it is open."""
        raise NotImplementedError

    def commit(self) -> None:
        """Everything was written: let the file appear. Raises :class:`AudioError` if it cannot be written."""
        self._finish()
        if self._metadata:
            try:
                put_metadata(self._part, self._metadata)
            except OSError as error:
                raise AudioError(f"{self.path}: cannot be written ({error.strerror}); is the disk full?") from error
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self.path)

    def discard(self) -> None:
        """Remove what was written, unless it was committed."""
        self._abandon()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.discard()


class AudioWriter(Writer):
    """Writes what libsndfile writes.

    Args:
        path: the file to make; its folder must exist. An existing file is replaced at the end.
        sample_rate: in Hz.
        num_channels: C.
        subtype: libsndfile subtype such as "PCM_16"; None, or one that the format cannot hold, takes its default.
        format: libsndfile format such as "WAV"; None takes it from the suffix.
        tags: title, artist and the like, as of :class:`AudioInfo`; those that the format has no place for are left out.
        metadata: as of :class:`Writer`; if it is of a known kind, ``tags`` are not used.

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
        metadata: Metadata | None = None,
    ) -> None:
        super().__init__(path, metadata)
        format = format or _format_of(self.path)
        default = soundfile.default_subtype(format)
        if self.path.suffix.lower() == ".opus":
            subtype = default = "OPUS"  # the format is OGG, whose default is Vorbis
        elif subtype is None or not soundfile.check_format(format, subtype):
            subtype = default
        options: dict[str, Any] = {"samplerate": sample_rate, "channels": num_channels, "format": format}
        for choice in (subtype, default):  # some pass the check and cannot be written: an mp3's in WAV, GSM in stereo
            try:
                self._file = soundfile.SoundFile(os_name(self._part), "w", subtype=choice, **options)
                break
            except soundfile.LibsndfileError as error:
                self._part.unlink(missing_ok=True)
                if choice == default:
                    reason = f"cannot be written as {format}/{choice} ({error.error_string})"
                    raise AudioError(f"{self.path}: {reason}") from error
        for name, text in ({} if metadata and metadata.kind else tags or {}).items():
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

    def _finish(self) -> None:
        self._file.close()

    def _abandon(self) -> None:
        self._file.close()


def open_writer(path: str | Path, info: AudioInfo, source: str | Path | None = None) -> Writer:
    """A writer for sound of this kind; the suffix of ``path`` decides the format.

    Args:
        path: the file to make; its folder must exist. An existing file is replaced at the end.
        info: rate, channels and tags; subtype and format too if ``path`` can have them.
        source: where the sound came from. A video file's other streams are copied from there, and if the suffix is the
            same, all that it holds besides.

    Raises:
        AudioError: no format fits the suffix, or the format cannot hold the sound or a stream; PyAV is missing.
    """
    path = Path(path)
    same = source is not None and Path(source).suffix.lower() == path.suffix.lower()
    metadata = read_metadata(source) if source is not None and same else None
    if _is_container(path):
        container = Path(source) if source and _is_container(source) else None
        return _containers(path).ContainerWriter(path, info, container, metadata)
    form = info.format if same else None
    return AudioWriter(path, info.sample_rate, info.num_channels, info.subtype, form, info.tags, metadata)


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
    """Under which this thread writes a file of that name until it is complete: short, however long the name is."""
    return f".{name_key(name)}.{os.getpid()}-{threading.get_ident()}.part"


def name_key(name: str) -> str:
    """Of a file's name, what stands for it in the name of its unfinished file: 16 hexadecimal digits."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def os_name(path: str | Path) -> str | bytes:
    """A path for libsndfile, which takes names that are not UTF-8 as bytes only, and on Windows only as str."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def _format_of(path: Path) -> str:
    if path.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise AudioError(f"{path}: no audio format has the suffix {path.suffix!r}; use .wav, .flac, .ogg or .mp3")
    return FORMAT_OF_SUFFIX[path.suffix.lower()]
