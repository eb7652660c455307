"""Writing by FFmpeg (PyAV): sound in m4a, mp4, mkv and the like, with all other streams of the source.

Shapes: C channels, n samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from hushwork.audio.av_reader import PIECE, TAGS, open_container, seconds, sound_of
from hushwork.audio.byte_ranges import open_file
from hushwork.audio.concatenated import find_parts
from hushwork.audio.encoders import allowed_tag, find_encoder, frame_of, subtype_of
from hushwork.audio.formats import muxer_for, suffix_of
from hushwork.audio.info import AudioError, AudioInfo
from hushwork.audio.metadata import Metadata
from hushwork.audio.writer import Writer

BRANDS = {".m4a": "M4A ", ".m4b": "M4B "}  # players distinguish them from films by it
AUDIO_ONLY = frozenset(
    f".{name}"
    for name in (
        *("aac", "ac3", "amr", "caf", "eac3", "m4a", "m4b", "mka"),
        *("mp2", "oga", "ogg", "spx", "tta", "weba", "wma", "wv"),
    )
)
WITH_EDIT_LIST = ("mov", "mp4", "3gp", "3g2")  # which states the first and last sample of the sound
WITH_CODEC_DELAY = ("matroska", "webm", "ogg", "ogv")  # they state the delay of the encoder
REWRITTEN = ("major_brand", "minor_version", "compatible_brands", "encoder")
NEARLY_S = 0.01  # sound that begins so early begins at 0: an edit list with a later start cannot state the delay


@contextmanager
def _source(path: Path) -> Iterator[tuple[Any, Any, bool]]:
    """The container of a file's first recording, its audio stream, and whether further recordings follow."""
    with open_file(path) as file:
        parts = find_parts(file, search=False)
        with open_container(path, parts[0].opened(file)) as container:
            try:
                yield container, sound_of(path, container), len(parts) > 1
            except av.FFmpegError as error:
                raise AudioError(f"{path}: cannot be read on ({error.strerror})") from error


class ContainerWriter(Writer):
    """Writes sound (C, n) to a container, with all other streams of the source.

    The codec is that of the source, or the usual one of the suffix if the container cannot hold that or FFmpeg has no
    encoder for it, as for DTS; the bit rate is at least the source's. Video, further sound, subtitles and attachments
    are copied packet by packet as the sound goes on, chapters and tags too; data tracks, such as time codes, are left
    out. A container for sound alone takes only the sound, unless the source has the same suffix.

    The sound is neither delayed nor shifted against the video. Where the container cannot say that a codec begins with
    a delay, that many samples at the beginning make room for it (AAC in .aac and .ts: 1024, AC-3: 256). It has
    the same number of samples in the mov family; elsewhere the last frame of some codecs is filled up.

    Args:
        path: the file to make; its suffix is one of ``CONTAINERS``.
        info: of the sound.
        source: a file whose other streams are copied, or None.
        metadata: see :class:`Writer`.

    Raises:
        AudioError: the container cannot hold the sound's rate or channels, or a stream of the source.
    """

    def __init__(
        self, path: Path, info: AudioInfo, source: Path | None = None, metadata: Metadata | None = None
    ) -> None:
        super().__init__(path, metadata)
        self._rate, self._channels = info.sample_rate, info.num_channels
        self._position = 0  # of the next input sample
        self._start_s = Fraction(0)  # time of the first sample
        self._earlier_s = Fraction(0)  # by how much earlier than in the source
        self._copies: dict[int, Any] = {}  # of streams, by their index in the source
        self._packets: Iterator[Any] = iter(())
        self._shifted: Any = None
        self._later: dict[int, int] = {}  # by how much a stream's packets are than in the source
        self._ends: dict[int, int] = {}  # of its last packet
        self.subtype = ""
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
        suffix = suffix_of(self.path)
        muxer, usual = muxer_for(self.path, info) or ("", "")
        # The time unit of edit lists.
        options = {"movie_timescale": str(self._rate)} if muxer in WITH_EDIT_LIST else {}
        if suffix in BRANDS:
            options["brand"] = BRANDS[suffix]
        self._container = av.open(self._file, "w", format=muxer, container_options=options)
        if source is None:
            self._add_sound(muxer, usual, info, None)
            self._container.metadata.update({n: info.tags[tag] for n, tag in TAGS.items() if tag in info.tags})
            return
        with _source(source) as (container, stream, _):  # opened once more, because decoding moves the position
            first = next(container.decode(stream), None)
            if first is not None and first.pts is not None:
                self._start_s = seconds(first.pts, first.time_base)
        container, sound, is_joined = self._opened.enter_context(_source(source))
        same = suffix == suffix_of(source)
        if not same:  # transport streams begin anywhere
            self._earlier_s = Fraction(container.start_time or 0, av.time_base)
            self._start_s -= self._earlier_s
        for stream in container.streams:
            if stream.index == sound.index:
                self._add_sound(muxer, usual, info, sound)
            elif stream.type == "attachment":
                if muxer == "matroska":
                    self._container.add_stream_from_template(stream)
            elif muxer == "matroska" and _is_cover(stream):
                self._add_cover(stream, source)
            elif _is_cover(stream) and (same or muxer not in WITH_EDIT_LIST):
                pass  # in files of one kind it is part of the metadata; others cannot hold it
            elif (same or suffix not in AUDIO_ONLY) and (copy := self._add_copy(muxer, stream, source)) is not None:
                self._copies[stream.index] = copy
        if self._copies and is_joined:
            raise AudioError(f"{source}: holds several films, one behind the other; split it first")
        tags = {name: text for name, text in container.metadata.items() if name.lower() not in REWRITTEN}
        self._container.metadata.update(tags)
        self._container.set_chapters(container.chapters())
        if self._copies:
            streams = [stream for stream in container.streams if stream.index in self._copies]
            self._packets = (packet for packet in container.demux(streams) if packet.size)

    def _add_sound(self, muxer: str, usual: str, info: AudioInfo, template: Any) -> None:
        """Add the audio stream, with the codec of the source or else the usual one."""
        encoder = find_encoder(muxer, usual, info, template)
        if encoder is None:
            found = f"{self._rate} Hz and {self._channels} channels"
            raise AudioError(f"{self.path}: cannot hold sound of {found}; choose another format, such as .mkv or .wav")
        self._sound: Any = encoder.added_to(self._container)
        if template:
            kept = {key: template.metadata[key] for key in ("language", "title") if key in template.metadata}
            self._sound.metadata.update(kept)
            self._sound.disposition = template.disposition
        self.subtype = subtype_of(encoder, muxer)
        self._layout = encoder.layout
        self._is_bounded = encoder.form.startswith(("u", "s"))
        self._is_precise = encoder.form.startswith(("s32", "dbl"))
        if muxer in WITH_EDIT_LIST and self._start_s < NEARLY_S:
            self._start_s = Fraction(0)
        is_known = muxer in WITH_CODEC_DELAY or (muxer in WITH_EDIT_LIST and not self._start_s)
        # The first sample that is encoded. Decoders of WMA drop one frame, which is added before it.
        self._first = -encoder.delay if encoder.name.startswith("wma") else 0 if is_known else encoder.delay

    def _add_copy(self, muxer: str, stream: Any, source: Path) -> Any:
        """Add a stream for copied packets; None, and a note, if it is skipped."""
        kind = stream.type
        if kind not in ("video", "audio", "subtitle") or (stream.codec_context is None and kind != "video"):
            # libavformat cannot write codecs that it does not know, such as proprietary time codes.
            self.notes.append(f"track {stream.index} ({kind}, of a codec that FFmpeg does not know) is left out")
            return None
        try:
            copy = self._container.add_stream_from_template(stream, opaque=True)
        except (av.FFmpegError, ValueError) as error:
            name = stream.codec_context.name if stream.codec_context else "unknown"
            found = f"the {name} {kind} of {source}"
            suffixes = " or ".join(dict.fromkeys((source.suffix, ".mkv")))
            raise AudioError(f"{self.path}: cannot hold {found}; choose {suffixes}") from error
        if tag := allowed_tag(muxer, stream):
            copy.codec_context.codec_tag = tag
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        return copy

    def _add_cover(self, stream: Any, source: Path) -> None:
        """Add a picture as an attachment; matroska has no streams of one picture."""
        kind = "jpeg" if stream.codec_context.name == "mjpeg" else stream.codec_context.name
        fields = {"filename": f"cover.{kind.replace('jpeg', 'jpg')}", "mimetype": f"image/{kind}", **stream.metadata}
        with _source(source) as (container, _, _):
            picture = next((bytes(packet) for packet in container.demux(stream.index) if packet.size), b"")
        self._container.add_attachment(fields["filename"], fields["mimetype"], picture)

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
        self._container.mux(self._sound.encode(frame_of(samples, self._layout, self._rate, start + position)))

    def _copy(self, until_s: Fraction | None) -> None:
        """Copy packets up to this time, or all."""
        while (packet := self._next) is not None:
            self._shift(packet)
            time = packet.pts if packet.dts is None else packet.dts
            if until_s is not None and time is not None and seconds(time, packet.time_base) > until_s:
                return
            packet.stream = self._copies[packet.stream_index]
            self._container.mux(packet)
            self._next = next(self._packets, None)

    def _shift(self, packet: Any) -> None:
        """Shift the time of a packet for the output, once per packet; times never go back."""
        if packet is self._shifted:
            return
        self._shifted = packet
        index, unit = packet.stream_index, seconds(1, packet.time_base)
        later = self._later.setdefault(index, -round(self._earlier_s / unit))
        if packet.dts is not None:
            least = self._ends.get(index)
            if least is not None and packet.dts + later < least - (packet.duration or 1):
                # Another recording follows, whose time restarts.
                later = self._later[index] = least - packet.dts
            self._ends[index] = packet.dts + later + (packet.duration or 1)
            packet.dts += later
        if packet.pts is not None:
            packet.pts += later

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise AudioError(f"{self.path}: cannot be written ({error.strerror}); is the disk full?") from error

    def _finish(self) -> None:
        with self._named_errors():
            if self._position <= self._first:  # the sound is shorter than the delay
                self._encode(np.zeros((self._channels, 1)), self._first)
            self._container.mux(self._sound.encode(None))
            self._copy(None)
            self._container.close()
            self._opened.close()

    def _abandon(self) -> None:
        with suppress(OSError):
            self._opened.close()


def _is_cover(stream: Any) -> bool:
    """Whether it is a single picture; libavformat presents pictures in tags and attachments as streams."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def planned_codec(path: Path, info: AudioInfo) -> str:
    """The subtype in which such sound is written to this path. Raises :class:`AudioError`."""
    muxer, usual = muxer_for(path, info) or ("", "")
    encoder = find_encoder(muxer, usual, info, codec=info.subtype)
    if encoder is None:
        raise AudioError(f"{path}: cannot hold sound of {info.sample_rate} Hz and {info.num_channels} channels")
    return subtype_of(encoder, muxer)
