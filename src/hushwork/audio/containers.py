"""Sound in containers that libsndfile does not know, such as m4a, mp4 and mkv: the only place that knows PyAV.

What :mod:`hushwork.audio.io` says of files holds here too. Shapes: C channels, n samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from hushwork.audio.io import AudioError, AudioInfo, Writer
from hushwork.audio.metadata import Metadata

# Of each suffix libavformat's name of what is written, and the encoder for sound that comes from elsewhere.
FORMATS = {
    ".3gp": ("3gp", "aac"),
    ".aac": ("adts", "aac"),
    ".ac3": ("ac3", "ac3"),
    ".avi": ("avi", "libmp3lame"),
    ".eac3": ("eac3", "eac3"),
    ".flv": ("flv", "aac"),
    ".m2ts": ("mpegts", "aac"),
    ".m4a": ("mp4", "aac"),
    ".m4b": ("mp4", "aac"),
    ".m4v": ("mp4", "aac"),
    ".mka": ("matroska", "aac"),
    ".mkv": ("matroska", "aac"),
    ".mov": ("mov", "aac"),
    ".mp4": ("mp4", "aac"),
    ".mpeg": ("mpeg", "mp2"),
    ".mpg": ("mpeg", "mp2"),
    ".ts": ("mpegts", "aac"),
    ".webm": ("webm", "libopus"),
    ".wma": ("asf", "wmav2"),
    ".wmv": ("asf", "wmav2"),
}
BRANDS = {".m4a": "M4A ", ".m4b": "M4B "}  # by which players tell them from films
AUDIO_ONLY = (".aac", ".ac3", ".eac3", ".m4a", ".m4b", ".mka", ".wma")
# What a file may be, whatever its name says: nothing that would have other files or addresses opened.
READABLE = "mov,matroska,avi,asf,flv,mpeg,mpegts,aac,ac3,eac3,amr,mp3,wav,flac,ogg"
ENCODERS = {"mp3": "libmp3lame", "opus": "libopus", "vorbis": "libvorbis"}
WITH_EDIT_LIST = ("mov", "mp4", "3gp")  # which says at what sample the sound begins and ends
WITH_CODEC_DELAY = ("matroska", "webm")  # they say how many samples the encoder put before the sound
LAYOUTS = dict(enumerate(("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1"), 1))
TAGS = {tag: tag for tag in ("title", "artist", "album", "comment", "copyright", "date", "genre")}
TAGS["track"] = "tracknumber"  # libavformat's name of a tag: libsndfile's
MADE_ANEW = ("major_brand", "minor_version", "compatible_brands", "encoder")
BIT_RATE = 96_000  # per channel at least: what is encoded a second time should not be heard to be
NEARLY_S = 0.01  # an edit list that begins later than 0 cannot tell the encoder's delay, and this is not worth it
GAP_S = (0.05, 3600.0)  # time stamps may be some milliseconds off, and broken ones by much more
FRAME = 2048  # samples of the longest frame of the codecs that fill their last one
MAX_PADDING = 4 * FRAME
PIECE = 4096  # samples handed to the encoder at a time


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container, and the audio stream that players would choose."""
    try:
        with av.open(f"file:{path}", options={"format_whitelist": READABLE}) as container:
            stream: Any = container.streams.best("audio")
            if stream is None:
                raise AudioError(f"{path}: has no audio")
            if not stream.codec_context or not stream.codec_context.sample_rate:
                raise AudioError(f"{path}: no decoder is known for its audio")
            yield container, stream
    except av.FFmpegError as error:
        raise AudioError(f"{path}: cannot be read as audio ({error.strerror})") from error


def _seconds(time: int, base: Any) -> Fraction:
    return Fraction(time * base.numerator, base.denominator)


def _has_length(container: Any) -> bool:
    """Whether the container says at what sample the sound ends."""
    return "mov" in container.format.name.split(",")


def audio_info(path: Path) -> AudioInfo:
    """As of :func:`hushwork.audio.io.audio_info`."""
    with _open(path) as (container, stream):
        codec = stream.codec_context
        if stream.duration:
            length_s = _seconds(stream.duration, stream.time_base)
        elif container.duration:
            start_s = _seconds(stream.start_time or 0, stream.time_base)
            length_s = max(Fraction(0), Fraction(container.duration, av.time_base) - start_s)
        else:  # as browsers record
            length_s = Fraction(sum(frame.samples for frame in container.decode(stream)), codec.sample_rate)
        tags = {name.lower(): text for name, text in {**stream.metadata, **container.metadata}.items()}
        return AudioInfo(
            codec.sample_rate,
            round(length_s * codec.sample_rate),
            codec.layout.nb_channels,
            codec.codec.canonical_name,
            container.format.name,
            {TAGS[name]: text for name, text in tags.items() if name in TAGS},
            0 if _has_length(container) else FRAME,
        )


def read_blocks(path: Path, block_samples: int) -> Iterator[np.ndarray]:
    """As of :func:`hushwork.audio.io.read_blocks`."""
    waiting: list[np.ndarray] = []
    count = 0
    with _open(path) as (container, stream):
        for piece in _pieces(path, container, stream):
            waiting.append(piece)
            count += piece.shape[1]
            if count >= block_samples:
                whole = np.concatenate(waiting, axis=1)
                for start in range(0, count - block_samples + 1, block_samples):
                    yield whole[:, start : start + block_samples]
                count %= block_samples
                waiting = [whole[:, whole.shape[1] - count :]]
        if count:
            yield np.concatenate(waiting, axis=1)


def read_audio(path: Path, start: int, num_samples: int) -> tuple[np.ndarray, int]:
    """As of :func:`hushwork.audio.io.read_audio`; all that precedes ``start`` is decoded."""
    info = audio_info(path)
    parts, position = [np.zeros((info.num_channels, 0), np.float32)], 0
    for block in read_blocks(path, info.sample_rate):
        stop = None if num_samples < 0 else max(0, start + num_samples - position)
        parts.append(block[:, max(0, start - position) : stop].astype(np.float32, copy=False))
        position += block.shape[1]
        if stop is not None and stop <= block.shape[1]:
            break
    if start > position:
        raise AudioError(f"{path}: has {position} samples, none from {start}")
    return np.concatenate(parts, axis=1), info.sample_rate


def _pieces(path: Path, container: Any, stream: Any) -> Iterator[np.ndarray]:
    """The sound (C, n) frame by frame: silence where time stamps leave a gap, and as long as the container says."""
    rate, num_channels = stream.codec_context.sample_rate, stream.codec_context.layout.nb_channels
    length = round(_seconds(stream.duration or 0, stream.time_base) * rate) if _has_length(container) else 0
    position, start_s = 0, None
    beyond: list[np.ndarray] = []
    for frame in container.decode(stream):
        samples = _as_float(frame)
        if (frame.sample_rate, len(samples)) != (rate, num_channels):
            raise AudioError(f"{path}: its sample rate or channels change on the way")
        if frame.pts is not None:
            time_s = _seconds(frame.pts, frame.time_base)
            start_s = time_s if start_s is None else start_s
            gap = round((time_s - start_s) * rate) - position
            if GAP_S[0] < gap / rate < GAP_S[1]:
                for size in _sizes(gap):
                    yield np.zeros((num_channels, size), samples.dtype)
                position += gap
        if length:
            inside = max(0, length - position)
            beyond.append(samples[:, inside:])
            samples = samples[:, :inside]
            if sum(rest.shape[1] for rest in beyond) > MAX_PADDING:  # sound, not padding: the container is wrong
                samples, length = np.concatenate([samples, *beyond], axis=1), 0
        position += samples.shape[1]
        yield samples
    if length - position > rate // 4:
        raise AudioError(f"{path}: is cut off; it ends after {position / rate:.1f} of {length / rate:.1f} s")
    if length > position:
        yield np.zeros((num_channels, length - position), np.float32)


def _sizes(count: int) -> Iterator[int]:
    for start in range(0, count, PIECE):
        yield min(PIECE, count - start)


def _as_float(frame: Any) -> np.ndarray:
    """The samples of a frame as (C, n): float64 if a float32 would lose bits."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        size = samples.dtype.itemsize
        return samples.astype(np.float32 if size < 4 else np.float64) / (1 << (8 * size - 1))
    return samples


class ContainerWriter(Writer):
    """Writes sound (C, n) into a container, with everything else that is in the source's.

    The codec is the source's, or the suffix's usual one if the container cannot hold that or nothing encodes it, as for
    Vorbis and DTS; the bit rate is at least the source's. Video, further sound, subtitles and attachments are copied
    packet by packet as the sound goes on, chapters and tags too; data tracks, such as time codes, are left out.
    A container for sound alone takes only the sound, unless the source has the same suffix.

    The sound is neither delayed nor shifted against the video. Where the container cannot say that a codec begins with
    a delay, that many samples at the beginning make room for it (AAC in .aac and .ts: 1024, AC-3: 256). It has
    the same number of samples in the mov family; elsewhere the last frame of some codecs is filled up.

    Args:
        path: the file to make; its suffix is one of ``FORMATS``.
        info: what the sound is.
        source: a container whose other streams are copied, or None.
        metadata: as of :class:`Writer`.

    Raises:
        AudioError: the container cannot hold the sound's rate or channels, or a stream of the source.
    """

    def __init__(
        self, path: Path, info: AudioInfo, source: Path | None = None, metadata: Metadata | None = None
    ) -> None:
        super().__init__(path, metadata)
        self._rate, self._channels = info.sample_rate, info.num_channels
        self._position = 0  # of the next sample that is given
        self._start_s = Fraction(0)  # when the first one is heard
        self._earlier_s = Fraction(0)  # by how much than in the source
        self._copies: dict[int, Any] = {}  # of streams, by their index in the source
        self._packets: Iterator[Any] = iter(())
        self._opened = ExitStack()
        try:
            self._file = self._opened.enter_context(self._part.open("wb"))
            self._begin(info, source)
            self._next = next(self._packets, None)
        except (av.FFmpegError, OSError) as error:
            self.discard()
            raise AudioError(f"{self.path}: cannot be written ({error.strerror})") from error
        except BaseException:
            self.discard()
            raise

    def _begin(self, info: AudioInfo, source: Path | None) -> None:
        suffix = self.path.suffix.lower()
        if suffix not in FORMATS:
            raise AudioError(f"{self.path}: {suffix} cannot be written; choose another output, such as .wav or .mka")
        muxer, _ = FORMATS[suffix]
        # The unit in which edit lists count.
        options = {"movie_timescale": str(self._rate)} if muxer in WITH_EDIT_LIST else {}
        if suffix in BRANDS:
            options["brand"] = BRANDS[suffix]
        self._container = av.open(self._file, "w", format=muxer, container_options=options)
        if source is None:
            self._add_sound(None)
            self._container.metadata.update({n: info.tags[tag] for n, tag in TAGS.items() if tag in info.tags})
            return
        with _open(source) as (container, stream):  # another time, because this one is not at its beginning then
            first = next(container.decode(stream), None)
            if first is not None and first.pts is not None:
                self._start_s = _seconds(first.pts, first.time_base)
        container, sound = self._opened.enter_context(_open(source))
        same = suffix == source.suffix.lower()
        if not same:  # transport streams begin anywhere
            self._earlier_s = Fraction(container.start_time or 0, av.time_base)
            self._start_s -= self._earlier_s
        for stream in container.streams:
            if stream.index == sound.index:
                self._add_sound(sound)
            elif stream.type == "attachment":
                if muxer == "matroska":
                    self._container.add_stream_from_template(stream)
            elif muxer == "matroska" and _is_cover(stream):
                self._add_cover(stream, source)
            elif _is_cover(stream) and (same or muxer not in WITH_EDIT_LIST):
                pass  # of the same kind it is in the metadata; others have no place for it
            elif stream.type in ("video", "audio", "subtitle") and (same or suffix not in AUDIO_ONLY):
                self._copies[stream.index] = self._add_copy(stream, source)
        tags = {name: text for name, text in container.metadata.items() if name.lower() not in MADE_ANEW}
        self._container.metadata.update(tags)
        self._container.set_chapters(container.chapters())
        if self._copies:
            streams = [stream for stream in container.streams if stream.index in self._copies]
            self._packets = (packet for packet in container.demux(streams) if packet.size)

    def _add_sound(self, template: Any) -> None:
        """The stream of the sound, encoded as that of the source or else as is usual."""
        muxer, usual = FORMATS[self.path.suffix.lower()]
        names, layout, form, bit_rate = [usual], "", "", BIT_RATE * self._channels
        if template:
            codec = template.codec_context
            name = codec.codec.canonical_name
            names.insert(0, ENCODERS.get(name, name))
            layout, form, bit_rate = codec.layout.name, codec.format.name, max(bit_rate, codec.bit_rate or 0)
        if not layout or layout.endswith(" channels"):  # nobody says which channel is where
            layout = LAYOUTS.get(self._channels, "")
        for name in names:
            try:
                settings: dict[str, Any] = {"rate": self._rate, "layout": layout, "format": _format_for(name, form)}
                delay = _encoder_delay(name, settings | {"bit_rate": bit_rate})
                self._sound: Any = self._container.add_stream(name, bit_rate=bit_rate, **settings)
                break
            except (av.FFmpegError, ValueError):
                continue
        else:
            found = f"{self._rate} Hz and {self._channels} channels"
            raise AudioError(f"{self.path}: cannot hold sound of {found}; choose another format, such as .mkv or .wav")
        if template:
            kept = {key: template.metadata[key] for key in ("language", "title") if key in template.metadata}
            self._sound.metadata.update(kept)
            self._sound.disposition = template.disposition
        self._layout = layout
        self._is_bounded = settings["format"].startswith(("u", "s"))
        self._is_precise = settings["format"].startswith(("s32", "dbl"))
        if muxer in WITH_EDIT_LIST and self._start_s < NEARLY_S:
            self._start_s = Fraction(0)
        told = muxer in WITH_CODEC_DELAY or (muxer in WITH_EDIT_LIST and not self._start_s)
        # The first sample that is encoded. Decoders of WMA leave out a frame, which is put before it.
        self._first = -delay if name.startswith("wma") else 0 if told else delay

    def _add_copy(self, stream: Any, source: Path) -> Any:
        try:
            copy = self._container.add_stream_from_template(stream, opaque=True)
        except (av.FFmpegError, ValueError) as error:
            name = stream.codec_context.name if stream.codec_context else "unknown"
            what = f"the {name} {stream.type} of {source}"
            suffixes = " or ".join(dict.fromkeys((source.suffix, ".mkv")))
            raise AudioError(f"{self.path}: cannot hold {what}; choose {suffixes}") from error
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        return copy

    def _add_cover(self, stream: Any, source: Path) -> None:
        """Attach a picture; matroska has no streams of one picture."""
        kind = "jpeg" if stream.codec_context.name == "mjpeg" else stream.codec_context.name
        about = {"filename": f"cover.{kind.replace('jpeg', 'jpg')}", "mimetype": f"image/{kind}", **stream.metadata}
        with _open(source) as (container, _):
            picture = next((bytes(packet) for packet in container.demux(stream.index) if packet.size), b"")
        self._container.add_attachment(about["filename"], about["mimetype"], picture)

    def write(self, block: np.ndarray) -> None:
        if self._is_bounded:
            self.limited += int(np.count_nonzero(np.abs(block) > 1))
        with self._named_errors():
            if not self._position and self._first < 0:
                self._encode(np.zeros((self._channels, -self._first)), self._first)
            for start in range(max(0, self._first - self._position), block.shape[1], PIECE):
                self._encode(block[:, start : start + PIECE], self._position + start)
            self._position += block.shape[1]
            self._copy(self._start_s + Fraction(self._position, self._rate))

    def _encode(self, samples: np.ndarray, position: int) -> None:
        start = round(self._start_s * self._rate)
        samples = samples.astype(np.float64 if self._is_precise else np.float32, copy=False)
        self._container.mux(self._sound.encode(_frame(samples, self._layout, self._rate, start + position)))

    def _copy(self, until_s: Fraction | None) -> None:
        """Copy packets up to this time, or all."""
        while (packet := self._next) is not None:
            unit = _seconds(1, packet.time_base)
            time = packet.pts if packet.dts is None else packet.dts
            if until_s is not None and time is not None and time * unit - self._earlier_s > until_s:
                return
            earlier = round(self._earlier_s / unit)
            packet.pts = None if packet.pts is None else packet.pts - earlier
            packet.dts = None if packet.dts is None else packet.dts - earlier
            packet.stream = self._copies[packet.stream_index]
            self._container.mux(packet)
            self._next = next(self._packets, None)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise AudioError(f"{self.path}: cannot be written ({error.strerror}); is the disk full?") from error

    def _finish(self) -> None:
        with self._named_errors():
            if self._position <= self._first:  # sound shorter than the delay
                self._encode(np.zeros((self._channels, 1)), self._first)
            self._container.mux(self._sound.encode(None))
            self._copy(None)
            self._container.close()
            self._opened.close()

    def _abandon(self) -> None:
        with suppress(OSError):
            self._opened.close()


def _is_cover(stream: Any) -> bool:
    """Whether it is a single picture, as which libavformat shows pictures in tags and attachments."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _format_for(encoder: str, source: str) -> str:
    """The sample format that an encoder is given: the source's, or else float."""
    formats = [form.name for form in av.Codec(encoder, "w").audio_formats or ()]
    floats = [form for form in formats if form.startswith("flt")]
    return source if source in formats else (floats or formats or ["fltp"])[0]


def _encoder_delay(name: str, settings: dict[str, Any]) -> int:
    """How many samples an encoder puts before the first.

    Raises:
        av.FFmpegError, ValueError: it does not take such sound.
    """
    encoder: Any = av.CodecContext.create(name, "w")
    for setting, value in settings.items():
        setattr(encoder, setting, value)
    silence = np.zeros((encoder.layout.nb_channels, PIECE), np.float32)
    frame = _frame(silence, settings["layout"], settings["rate"], 0)
    return -[*encoder.encode(frame), *encoder.encode(None)][0].pts


def _frame(samples: np.ndarray, layout: str, rate: int, position: int) -> Any:
    form = "dblp" if samples.dtype == np.float64 else "fltp"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=form, layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, position, Fraction(1, rate)
    return frame
