"""Reading by FFmpeg (PyAV): compressed sound of all kinds, and the sound of films.

Shapes: C channels, n samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.codec.context import Flags2

from hushwork.audio import mpeg
from hushwork.audio.formats import CODECS
from hushwork.audio.info import MAX_RATE, MIN_RATE, AudioError, AudioInfo, clock

# Formats that may be opened: none that would open further files or addresses.
READABLE = (
    "aa,aac,ac3,ac4,act,adf,adp,ads,adx,aea,aiff,amr,amrnb,amrwb,ape,apm,aptx,aptx_hd,asf,asf_o,ast,au,avi,avr,"
    "brstm,bfstm,bonk,caf,codec2,dfpwm,dsf,dsicin,dss,dts,dtshd,eac3,epaf,ea,flac,flv,g722,g726,g726le,g729,gsm,gxf,"
    "hca,iamf,iff,ilbc,ircam,iss,ivf,kvag,laf,lc3,live_flv,loas,lvf,lxf,matroska,mlp,mmf,mov,mp3,mpc,mpc8,mpeg,mpegts,"
    "msf,mtaf,mxf,nistsphere,nsv,nut,nuv,ogg,oma,osq,paf,pmp,pva,pvf,qcp,qoa,rka,rm,rsd,rso,sbc,sds,sdx,shn,smk,sol,"
    "sox,svag,swf,tak,truehd,tta,ty,vag,voc,vqf,w64,wav,webm,wsaud,wsd,wtv,wv,xa,xvag,xwma"
)
TAGS = {tag: tag for tag in ("title", "artist", "album", "comment", "copyright", "date", "genre")}
TAGS["track"] = "tracknumber"  # libavformat's name of a tag: libsndfile's
GAP_S = (0.05, 3600.0)  # time stamps may be off by milliseconds, and broken ones by much more
RESTART_S = 1.0  # time stamps that go back by more belong to another recording that was joined to the first
FRAME = 2048  # samples of the longest frame of the codecs that fill their last one
MAX_PADDING = 4 * FRAME
PIECE = 4096
# Formats that state their length reliably.
WITH_LENGTH = ("mov", "matroska", "asf", "avi", "flv", "caf", "tta", "wv", "ape", "ogg", "wav")
BUFFER = 2**17
# libsndfile's names of formats that both libraries know.
LIBSNDFILE_FORMATS = {
    "mp3": "MP3",
    "ogg": "OGG",
    "wav": "WAV",
    "flac": "FLAC",
    "aiff": "AIFF",
    "caf": "CAF",
    "w64": "W64",
    "au": "AU",
}
LIBSNDFILE_SUBTYPES = {codec: subtype for subtype, codec in CODECS.items()}


def open_container(path: str | Path, file: BinaryIO) -> Any:
    """The file as a container of libavformat. Raises :class:`AudioError`."""
    try:
        file.seek(0)
        return av.open(file, options={"format_whitelist": READABLE}, buffer_size=BUFFER)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be read as audio ({reason})") from error


def sound_of(path: str | Path, container: Any) -> Any:
    """The audio stream that players would choose, of those that can be decoded. Raises :class:`AudioError`."""
    best = container.streams.best("audio")
    if best is None:
        raise AudioError(f"{path}: has no audio")
    streams = [best, *container.streams.audio]
    stream = next((each for each in streams if _can_be_decoded(each)), None)
    if stream is None:
        raise AudioError(f"{path}: FFmpeg has no decoder for its audio")
    rate = stream.codec_context.sample_rate
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"{path}: its header states {rate} Hz, expected {MIN_RATE} to {MAX_RATE}; it is damaged")
    return stream


def _can_be_decoded(stream: Any) -> bool:
    codec = stream.codec_context
    return codec is not None and codec.sample_rate > 0 and codec.layout.nb_channels > 0


def codec_tag(stream: Any) -> str:
    """The four-letter tag of a stream's codec in its container; "" if it is no text."""
    try:
        tag = str(stream.codec_context.codec_tag)
    except UnicodeDecodeError:
        return ""
    return tag if tag.isascii() and tag.isprintable() and tag.strip() else ""


def seconds(time: int, base: Any) -> Fraction:
    return Fraction(time * base.numerator, base.denominator)


def packets_length_s(container: Any, stream: Any) -> Fraction:
    """The length of a stream in seconds, from its packets; nothing is decoded."""
    total, usual = Fraction(0), Fraction(0)
    first: Fraction | None = None
    last = Fraction(0)
    for packet in container.demux(stream):
        if not packet.size or packet.is_discard or packet.time_base is None:
            continue
        length_s = seconds(packet.duration, packet.time_base) if packet.duration else usual
        usual = length_s
        total += length_s
        if packet.pts is not None:
            time_s = seconds(packet.pts, packet.time_base)
            first = time_s if first is None else first
            last = max(last, time_s + length_s)
    span = last - first if first is not None else total
    # Gaps between time stamps are filled with silence; but where files were joined they restart, or jump far away.
    return span if total < span < total + Fraction(GAP_S[1]) else total


class AvReader:
    """A recording that FFmpeg reads.

    Args:
        path: for messages.
        file: the recording.
        length_s: its length, if known better than by FFmpeg; ``exact`` if to the sample.

    Raises:
        AudioError: it cannot be read, or has no audio that can be decoded.
    """

    _container: Any = None
    _stream: Any = None

    def __init__(self, path: str | Path, file: BinaryIO, length_s: Fraction | None = None, exact: bool = False) -> None:
        self._path, self._file = path, file
        self._restart()
        self._rate = self._stream.codec_context.sample_rate
        self._names = self._container.format.name.split(",")
        self._known_s, self._is_known = length_s, exact

    def info(self) -> AudioInfo:
        container, codec = self._container, self._stream.codec_context
        tags = {name.lower(): text for name, text in {**self._stream.metadata, **container.metadata}.items()}
        name = self._codec_name()
        bits = 0
        if name in ("flac", "alac", "ape", "wavpack", "tta", "tak", "truehd", "mlp", "shorten"):
            bits = 16 if codec.format is None or codec.format.name.startswith(("s16", "u8")) else 24
        form = LIBSNDFILE_FORMATS.get(container.format.name, container.format.name)
        subtype = LIBSNDFILE_SUBTYPES.get(name, name) if form.isupper() else name
        if form == "FLAC":
            subtype = f"PCM_{bits}"
        return AudioInfo(
            self._rate,
            round(self._length_s() * self._rate),
            codec.layout.nb_channels,
            subtype,
            form,
            {TAGS[name]: text for name, text in tags.items() if name in TAGS},
            0 if self._is_exact or bits else FRAME,
            bits,
            self._notes(),
        )

    def _codec_name(self) -> str:
        """By libavcodec; for transport streams by a frame, since some declare layer 2 as layer 3."""
        name: str = self._stream.codec_context.codec.canonical_name
        if name == "mp3" and any(kind in self._names for kind in ("mpegts", "mpeg")):
            first = next((bytes(packet) for packet in self._container.demux(self._stream) if packet.size), b"")
            self._restart()
            frame = mpeg.parse_header(first)
            name = f"mp{frame.kind[0]}" if frame else name
        return name

    @property
    def _is_exact(self) -> bool:
        """Whether the container states the last sample of the sound."""
        return "mov" in self._names

    def _notes(self) -> tuple[str, ...]:
        sounds = self._container.streams.audio
        unknown = [stream for stream in sounds if not _can_be_decoded(stream)]
        if unknown and unknown[0].index < self._stream.index:
            return (f"track {unknown[0].index} cannot be decoded; track {self._stream.index} is used instead",)
        return ()

    def _stated_s(self) -> Fraction | None:
        """The length that the container states."""
        if not any(name in self._names for name in WITH_LENGTH):
            return None
        if self._stream.duration:
            return seconds(self._stream.duration, self._stream.time_base)
        if self._container.duration:
            start_s = seconds(self._stream.start_time or 0, self._stream.time_base)
            return max(Fraction(0), Fraction(self._container.duration, av.time_base) - start_s)
        return None

    def _length_s(self) -> Fraction:
        return self._known_s or self._stated_s() or self.counted_s()

    def counted_s(self) -> Fraction:
        """The length of its packets in seconds."""
        length_s = packets_length_s(self._container, self._stream)
        self._restart()
        return length_s

    def _restart(self) -> None:
        """Open it at its beginning, again if it is open."""
        self.close()
        self._container = open_container(self._path, self._file)
        try:
            self._stream = sound_of(self._path, self._container)
        except BaseException:
            self.close()
            raise
        codec = self._stream.codec_context
        if self._container.format.name == "caf" and codec.codec.canonical_name == "alac":
            # Its last frame is short already; FFmpeg would shorten it again.
            codec.flags2 |= Flags2.skip_manual

    def pieces(self, start: int = 0, notes: list[str] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """The sound frame by frame, each with its own rate and channels: silence where time stamps leave a gap.

        Args:
            start: samples to skip at the beginning.
            notes: collects sentences about damage.

        Raises:
            AudioError: a film is cut off, or nothing can be decoded.
        """
        missing = start
        for rate, samples in self._frames(notes if notes is not None else []):
            if missing >= samples.shape[1]:
                missing -= samples.shape[1]
                continue
            yield rate, samples[:, missing:]
            missing = 0
        if missing:
            raise AudioError(f"{self._path}: has {start - missing} samples, none from {start}")

    def _frames(self, notes: list[str]) -> Iterator[tuple[int, np.ndarray]]:
        stated_s = self._known_s if self._is_known else self._stated_s()
        stated = None if stated_s is None else round(stated_s * self._rate)
        limit = stated if self._is_exact or self._is_known else None
        position, start_s = 0, None  # position in samples of the first rate
        beyond: list[tuple[int, np.ndarray]] = []
        num_beyond = 0
        damage = _Damage()
        for frame in self._decoded(damage):
            rate, samples = frame.sample_rate, as_float(frame)
            if frame.pts is not None and frame.time_base is not None:
                time_s = float(frame.pts * frame.time_base)
                start_s = time_s - position / self._rate if start_s is None else start_s
                gap_s = time_s - start_s - position / self._rate
                if GAP_S[0] < gap_s < GAP_S[1]:
                    damage.skip(gap_s)
                    for size in _sizes(round(gap_s * rate)):
                        yield rate, np.zeros((len(samples), size), samples.dtype)
                    position += round(gap_s * self._rate)
                elif gap_s < -RESTART_S:
                    start_s = time_s - position / self._rate
            if limit is not None:
                inside = max(0, (limit - position) * rate // self._rate)
                if inside < samples.shape[1]:
                    beyond.append((rate, samples[:, inside:]))
                    num_beyond += samples.shape[1] - inside
                    samples = samples[:, :inside]
                if num_beyond > MAX_PADDING:  # too much for padding: the container is wrong
                    for other_rate, rest in beyond:
                        position += rest.shape[1] * self._rate // other_rate
                        yield other_rate, rest
                    limit = stated = None
            position += samples.shape[1] * self._rate // rate
            damage.passed_s = position / self._rate
            yield rate, samples
        notes += damage.notes
        if start_s is None and not position and damage.count:
            raise AudioError(f"{self._path}: cannot be read as audio (none of its packets can be decoded)")
        missing = 0 if stated is None else stated - position
        if missing > max(self._rate // 4, 0 if limit is not None else MAX_PADDING):
            found = f"{clock(position / self._rate)} of {clock((position + missing) / self._rate)}"
            if self._is_exact:
                raise AudioError(f"{self._path}: is cut off; it ends after {found}")
            if not self._container.streams.video or self._stream.duration:
                notes.append(f"is cut off: {found} are present")
        elif limit is not None and missing > 0:
            yield self._rate, np.zeros((self._stream.codec_context.layout.nb_channels, missing), np.float32)

    def _decoded(self, damage: _Damage) -> Iterator[Any]:
        """All frames; packets that cannot be decoded are skipped, such as those where mp3 files were joined."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    damage.add(packet.size)
                    continue
                yield from frames
        except av.FFmpegError as error:
            reason = f"cannot be read beyond {clock(damage.passed_s)} ({error.strerror})"
            raise AudioError(f"{self._path}: {reason}") from error

    def close(self) -> None:
        if self._container is not None:
            self._container.close()


class _Damage:
    """Packets that could not be decoded, and gaps in time."""

    def __init__(self) -> None:
        self.count = 0
        self.passed_s = 0.0
        self._first_s = 0.0
        self._missing_s, self._missing_at_s = 0.0, 0.0

    def add(self, size: int) -> None:
        if size:
            self._first_s = self._first_s if self.count else self.passed_s
            self.count += 1

    def skip(self, gap_s: float) -> None:
        self._missing_at_s = self._missing_at_s if self._missing_s else self.passed_s
        self._missing_s += gap_s

    @property
    def notes(self) -> list[str]:
        found = []
        if self.count:
            many = "a damaged packet is" if self.count == 1 else f"{self.count} damaged packets are"
            found.append(f"{many} left out, at {clock(self._first_s)}")
        if self._missing_s:
            found.append(f"{clock(self._missing_s)} of sound are missing, from {clock(self._missing_at_s)} on: silence")
        return found


def _sizes(count: int) -> Iterator[int]:
    for start in range(0, count, PIECE):
        yield min(PIECE, count - start)


def as_float(frame: Any) -> np.ndarray:
    """The samples of a frame as (C, n): float64 if a float32 would lose bits."""
    samples: Any = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        size = samples.dtype.itemsize
        return samples.astype(np.float32 if size < 4 else np.float64) / (1 << (8 * size - 1))
    return np.asarray(samples)
