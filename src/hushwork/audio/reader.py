"""Read the audio of a file: its recordings one after another, each with the library that reads all of it.

Shapes: C channels, n samples of a block.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np
import soundfile

from hushwork.audio.byte_ranges import open_file
from hushwork.audio.concatenated import Part, find_parts
from hushwork.audio.info import AudioError, AudioInfo, clock
from hushwork.audio.libsndfile import Pieces, SoundfileReader
from hushwork.audio.pcm_headers import family_of
from hushwork.audio.resampling import StreamingResampler, with_channels

if TYPE_CHECKING:
    from hushwork.audio.av_reader import AvReader

HEAD = 128
COMPRESSED = (
    *(b"\x1aE\xdf\xa3", b"0&\xb2u", b"wvpk", b"TTA1", b"\x0bw", b"MAC ", b"MPCK", b"MP+", b"#!AMR", b"FLV"),
    *(b"\0\0\1\xba", b"G@", b"tBaK", b".RMF", b"DSD ", b"FRM8"),
)
"""First bytes of formats that libsndfile does not read, and would spend long on."""
FILMS = (b"ftyp", b"moov", b"mdat", b"wide")
MAX_CACHED = 64
_cached: dict[tuple[str, int, int, bool], list[Part]] = {}


class AudioReader:
    """Reads the audio of a file at the sample rate and with the channels of its beginning; a context manager.

    Args:
        path: a file, or a member of a tar shard.
        search: read the whole file to find sound that its header does not count.

    Attributes:
        info: properties known before decoding.

    Raises:
        AudioError: it is missing, empty, not a regular file or not audio.
    """

    def __init__(self, path: str | Path, *, search: bool = False) -> None:
        self._path, self._search = path, search
        with ExitStack() as stack:
            self._file = stack.enter_context(open_file(path))
            self._parts = _parts(path, self._file, search)
            self._alone = stack.enter_context(self._reader(self._parts[0])) if len(self._parts) == 1 else None
            self.info = self._alone.info if self._alone else self._info()
            self._opened = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _reader(self, part: Part) -> _PartReader:
        return _PartReader(self._path, self._file, part, len(self._parts) == 1, self._search)

    def _info(self) -> AudioInfo:
        infos = []
        for part in self._parts:
            with self._reader(part) as reader:
                infos.append(reader.info)
        first = infos[0]
        num_samples = sum(round(Fraction(info.num_samples * first.sample_rate, info.sample_rate)) for info in infos)
        notes = [f"holds {len(infos)} recordings, one after the other, {clock(num_samples / first.sample_rate)} in all"]
        kinds = list(dict.fromkeys((info.sample_rate, info.num_channels) for info in infos))
        if len(kinds) > 1:
            notes.append(f"they differ ({'; '.join(_named(*kind) for kind in kinds)}): all are converted to the first")
        notes += [note for info in infos for note in info.notes]
        return replace(first, num_samples=num_samples, notes=tuple(dict.fromkeys(notes)))

    def blocks(
        self, start: int = 0, count: int = -1, size: int | None = None, notes: list[str] | None = None
    ) -> Iterator[np.ndarray]:
        """Consecutive blocks (C, n), once; float32, or float64 if ``count`` is -1 and float32 would lose bits.

        Args:
            start: the first sample.
            count: number of samples needed, at least; -1 for all.
            size: approximate size of a block.
            notes: collects sentences about damage, and about changes of rate or channels.

        Raises:
            AudioError: it cannot be read, or has no sample ``start``.
        """
        rate, channels = self.info.sample_rate, self.info.num_channels
        alone = self._alone is not None
        changes: list[str] = []
        missing, position = (0 if alone else start), 0
        resampler: StreamingResampler | None = None
        for part in self._parts:
            kind: tuple[int, int] | None = None
            with nullcontext(self._alone) if self._alone else self._reader(part) as reader:
                for piece_rate, samples in reader.pieces(*((start, count) if alone else (0, -1)), size, notes):
                    blocks = []
                    if (piece_rate, len(samples)) != kind:
                        if resampler:
                            blocks.append(resampler.flush())
                        if kind:
                            place = clock(position / rate)
                            changes.append(f"{_named(piece_rate, len(samples))} at {place}")
                        kind = piece_rate, len(samples)
                        resampler = StreamingResampler(piece_rate, rate, channels) if piece_rate != rate else None
                    block = with_channels(samples, channels)
                    blocks.append(resampler.push(block.astype(np.float32, copy=False)) if resampler else block)
                    for block in blocks:
                        position += block.shape[1]
                        yield block[:, missing:]
                        missing -= min(missing, block.shape[1])
        if resampler:
            block = resampler.flush()
            position += block.shape[1]
            yield block[:, missing:]
            missing -= min(missing, block.shape[1])
        if missing:
            raise AudioError(f"{self._path}: has {position} samples, none from {start}")
        if notes is not None and changes:
            more = f", and {len(changes) - 3} times more" if len(changes) > 3 else ""
            kept = _named(rate, channels)
            notes.append(f"changes to {', to '.join(changes[:3])}{more}; all of it is converted to {kept}")


class _PartReader:
    """One recording of a file, by libsndfile or by FFmpeg; a context manager."""

    def __init__(self, path: str | Path, file: BinaryIO, part: Part, alone: bool, search: bool) -> None:
        self._path, self._file, self._part = path, file, part
        self._notes: list[str] = []
        self._opened: list[SoundfileReader | AvReader] = []
        is_file = alone and not part.head and not part.ranges[0][0] and isinstance(file, io.BufferedReader)
        self._reader: SoundfileReader | AvReader = self._choose(Path(path) if is_file else self._content, search)
        info = self._reader.info()
        notes = *part.notes, *info.notes, *self._notes
        tags = {**part.tags, **info.tags}
        self.info = replace(info, format=part.format or info.format, tags=tags, notes=notes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._opened:
            reader.close()

    @property
    def _content(self) -> BinaryIO:
        """The recording as a new file object."""
        return self._part.opened(self._file)

    def _by_ffmpeg(self) -> AvReader:
        from hushwork.audio.av_reader import AvReader

        reader = AvReader(self._path, self._content, self._part.length_s, self._part.exact)
        self._opened.append(reader)
        return reader

    def _choose(self, source: Path | BinaryIO, search: bool) -> SoundfileReader | AvReader:
        head = self._content.read(HEAD)
        # libopus decodes at the file's own rate. In undamaged Vorbis libsndfile seeks faster.
        in_ogg = self._part.length_s is not None and (b"OpusHead" in head or (self._part.exact and not search))
        is_compressed = self._part.length_s is not None or head.startswith(COMPRESSED) or head[4:8] in FILMS
        if is_compressed and not in_ogg:
            return self._by_ffmpeg()
        try:
            reader = SoundfileReader(self._path, source)
        except soundfile.LibsndfileError as error:
            try:
                return self._by_ffmpeg()
            except AudioError as other:
                is_known = "cannot be read" not in str(other) and not (family_of(head) and "no audio" in str(other))
                if is_known:  # FFmpeg reads the format, and its message is specific
                    raise
                reason = error.error_string.strip()
                raise AudioError(f"{self._path}: cannot be read as audio ({reason})") from error
        self._opened.append(reader)
        if not (reader.finds_all or in_ogg):
            return self._by_ffmpeg()
        if search and head[:4] == b"fLaC":
            info = reader.info()
            counted = round(self._by_ffmpeg().counted_s() * info.sample_rate)
            if counted != info.num_samples:
                claimed, there = (clock(count / info.sample_rate) for count in (info.num_samples, counted))
                self._notes.append(f"its header counts {claimed}, but {there} are present")
                return self._opened[-1]
        return reader

    def pieces(self, start: int, count: int, size: int | None, notes: list[str] | None) -> Pieces:
        """The blocks of :meth:`AudioReader.blocks`, each with its own rate and channels."""
        notes = notes if notes is not None else []
        if not isinstance(self._reader, SoundfileReader):
            yield from self._reader.pieces(start, notes)
            return
        if start > self.info.num_samples:
            raise AudioError(f"{self._path}: has {self.info.num_samples} samples, none from {start}")
        position = start
        try:
            for rate, samples in self._reader.pieces(start, count, size):
                position += samples.shape[1]
                yield rate, samples
        except AudioError as error:
            try:
                reader = self._by_ffmpeg()
            except AudioError:
                raise error from None
            notes.append(f"is damaged or cut off at {clock(position / self.info.sample_rate)}")
            yield from reader.pieces(position, notes)


def _named(rate: int, channels: int) -> str:
    return f"{rate} Hz, {channels} channel{'s' if channels > 1 else ''}"


def _parts(path: str | Path, file: BinaryIO, search: bool) -> list[Part]:
    """The result of :func:`find_parts`, cached for recently read files."""
    if not isinstance(file, io.BufferedReader):
        return find_parts(file, search=search)
    status = os.fstat(file.fileno())
    key = str(path), status.st_size, status.st_mtime_ns, search
    if key not in _cached:
        while len(_cached) >= MAX_CACHED:
            _cached.pop(next(iter(_cached)), None)
        _cached[key] = find_parts(file, search=search)
    return _cached[key]
