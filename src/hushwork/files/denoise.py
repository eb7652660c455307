"""Denoising arrays, files and folders: what goes in comes out cleaner, and otherwise the same.

Shapes: C channels, N samples.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from hushwork.audio.folders import is_apple_double
from hushwork.audio.io import AudioError, AudioInfo, Writer, audio_info, open_writer, read_blocks
from hushwork.audio.remote import REQUESTS, fetch, is_remote, locate, publish
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.recordings import BLOCK_S, FAILURES, RecordingStream, denoise_together
from hushwork.streaming.strength import Strength

MAX_CHANNELS = 8  # denoised at once, of all files of a batch


@dataclass(frozen=True)
class Outcome:
    """What became of one file: ``error`` is None if it was written; ``repaired`` counts samples that were no sound,
    ``limited`` those beyond full scale that the format cannot hold; ``skipped`` files were done by an earlier run;
    ``notes`` are sentences about what else is not as usual: a wrong header, another codec, a track left out, …"""

    source: Path
    target: Path
    duration_s: float = 0.0
    repaired: int = 0
    limited: int = 0
    error: str | None = None
    skipped: bool = False
    notes: tuple[str, ...] = ()


def denoise(
    audio: np.ndarray,
    sample_rate: int,
    denoiser: PretrainedDenoiser,
    strength: Strength | None = None,
    *,
    channels: str = "linked",
    high_band: str = "mask",
    quality: str = "standard",
) -> np.ndarray:
    """Denoise an array of float samples; the result has the same shape.

    Samples that are NaN, infinite or beyond 1e12 count as 0.

    Args:
        audio: (N,) or (C, N).
        sample_rate: Hz.
        denoiser: from :func:`load_pretrained`.
        strength: default full.
        channels: "linked" hears each and turns all down alike, so that voices keep their places, "independent" treats
            each alone, "mid" hears the mean of all and turns them down alike.
        high_band: what becomes of frequencies above those that the network hears: "mask" turns them down as the upper
            half of those, "keep" leaves them, "drop" removes them.
        quality: "standard", or "best", which takes twice the time: two passes, one shifted by half a hop, averaged.

    Raises:
        ValueError: another number of dimensions, or another word.
    """
    if audio.ndim not in (1, 2):
        raise ValueError(f"expected audio of shape (samples,) or (channels, samples), got {audio.shape}")
    strength = strength or Strength()
    rows = np.atleast_2d(audio).astype(np.float32, copy=False)
    block = round(BLOCK_S * sample_rate)
    blocks = (rows[:, start : start + block] for start in range(0, rows.shape[1], block))
    cleaned = [rows[:, :0]]
    recording = RecordingStream(
        blocks, sample_rate, len(rows), denoiser.sample_rate, strength, cleaned.append, high_band
    )
    for _ in denoise_together([recording], denoiser, strength, channels, quality):
        pass
    if recording.failure:
        raise recording.failure
    return np.concatenate(cleaned, axis=1).reshape(audio.shape)


def denoise_file(
    source: str | Path,
    target: str | Path,
    denoiser: PretrainedDenoiser,
    strength: Strength | None = None,
    *,
    channels: str = "linked",
    high_band: str = "mask",
    quality: str = "standard",
    overwrite: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Outcome:
    """Denoise one file, of any length, with its sample rate, channels, length, subtype and tags.

    Args:
        source: whatever libsndfile or FFmpeg reads; the video of films is copied. May be a URL.
        target: the suffix decides the format; its folder is made. The file appears when it is complete. May be a URL.
        denoiser: from :func:`load_pretrained`.
        strength: default full.
        channels, high_band, quality: as of :func:`denoise`.
        overwrite: replace an existing target.
        progress: called with the share of the file done since the last call; in all 1.

    Raises:
        AudioError: the source cannot be read, the target cannot be written, exists, or is the source itself.
    """
    pair = locate(source), locate(target)
    how = _How(denoiser, strength or Strength(), channels, high_band, quality)
    with _copies([pair]) as folder:
        file = _open(pair, overwrite, folder)
        _denoise_batch([file], how, progress, file.info.duration_s)
    if file.failure:
        raise file.failure
    return file.outcome()


def denoise_files(
    plan: Iterable[tuple[Path, Path]],
    denoiser: PretrainedDenoiser,
    strength: Strength | None = None,
    *,
    channels: str = "linked",
    high_band: str = "mask",
    quality: str = "standard",
    overwrite: bool = False,
    jobs: int | None = None,
    progress: Callable[[float], object] | None = None,
    on_note: Callable[[Path, str], object] | None = None,
) -> Generator[Outcome, None, None]:
    """Denoise many files, one :class:`Outcome` each as they are done; a file that fails is reported there.

    Files of like length are denoised side by side, up to ``MAX_CHANNELS`` channels at a time or as memory lasts, and
    such batches on all cores. Each result is that of :func:`denoise_file`, to rounding. Remote sources are all fetched
    to a temporary folder first: for many, :func:`hushwork.files.engine.denoise_in_processes` takes them in chunks.

    Args:
        plan: (source, target) pairs, as of :func:`hushwork.files.plan.plan_targets`.
        denoiser, strength, channels, high_band, quality, overwrite: as of :func:`denoise_file`.
        jobs: batches at the same time; None takes as many as there are cores.
        progress: called with the share of all audio done since the last call, from any thread.
        on_note: called with a source and each note on it, as soon as it is known, from any thread.
    """
    plan = list(plan)
    files: list[_File] = []
    with _copies(plan) as folder, ThreadPoolExecutor(REQUESTS) as pool:
        for opened in pool.map(partial(_try_open, overwrite=overwrite, folder=folder, on_note=on_note), plan):
            if isinstance(opened, Outcome):
                yield opened
            else:
                files.append(opened)
        how = _How(denoiser, strength or Strength(), channels, high_band, quality)
        yield from _denoise_all(files, how, jobs or os.cpu_count() or 1, progress)


@dataclass
class _File:
    """A file to be denoised, and what has become of it; near are local copies of what is remote, else the files."""

    source: Path
    target: Path
    near_source: Path
    near_target: Path
    info: AudioInfo
    repaired: int = 0
    limited: int = 0
    failure: Exception | None = None
    notes: list[str] = field(default_factory=list)
    on_note: Callable[[Path, str], object] | None = None

    def note(self, notes: Iterable[str]) -> None:
        """Keep sentences about the file, each once."""
        for text in notes:
            if text not in self.notes:
                self.notes.append(text)
                if self.on_note:
                    self.on_note(self.source, text)

    def fail(self, error: Exception) -> None:
        """Keep an error, which shall not name the copies."""
        message = str(error).replace(str(self.near_source), str(self.source))
        message = message.replace(str(self.near_target), str(self.target))
        self.failure = error if message == str(error) else AudioError(message)

    def outcome(self) -> Outcome:
        if self.failure:
            return replace(failed(self.source, self.target, self.failure), notes=tuple(self.notes))
        counts = self.info.duration_s, self.repaired, self.limited
        return Outcome(self.source, self.target, *counts, notes=tuple(self.notes))


@dataclass(frozen=True)
class _How:
    """By what and how much files are denoised."""

    denoiser: PretrainedDenoiser
    strength: Strength
    channels: str
    high_band: str
    quality: str


def failed(source: Path, target: Path, error: Exception) -> Outcome:
    """The outcome of a file with this error, which then names it."""
    message = str(error) or type(error).__name__
    return Outcome(source, target, error=message if str(source) in message else f"{source}: {message}")


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse to write what must not be replaced.

    Raises:
        AudioError: the target is a folder, is the source, or exists and is not to be overwritten.
    """
    if target.is_dir():
        raise AudioError(f"{target}: is a folder, expected a file name for the output")
    if target.exists():
        if _same_file(source, target):
            raise AudioError(f"{target}: input and output are the same file; choose another output")
        if not overwrite:
            raise AudioError(f"{target}: exists already; choose another output, or --overwrite")


def _copies(plan: Sequence[tuple[Path, Path]]) -> AbstractContextManager[str | None]:
    """A temporary folder for what is remote in a plan; none if nothing is."""
    if any(is_remote(path) for pair in plan for path in pair):
        return tempfile.TemporaryDirectory(prefix="hushwork-")
    return nullcontext()


def _open(
    pair: tuple[Path, Path],
    overwrite: bool,
    folder: str | None,
    on_note: Callable[[Path, str], object] | None = None,
) -> _File:
    """A file ready to be denoised: checked, and a remote one fetched to the folder."""
    source, target = near_source, near_target = pair
    own = Path(tempfile.mkdtemp(dir=folder)) if folder else Path()
    if is_remote(source):
        near_source = own / f"source{source.suffix}"
        fetch(source, near_source)
    if is_remote(target):
        near_target = own / f"target{target.suffix}"
    if is_apple_double(near_source):
        raise AudioError(f"{source}: holds a Mac's metadata of another file (AppleDouble), no audio; leave it out")
    try:
        info = audio_info(near_source, search=True)
    except AudioError as error:
        raise AudioError(str(error).replace(str(near_source), str(source))) from error
    check_target(source, target, overwrite)
    if info.num_samples == 0:
        raise AudioError(f"{source}: holds no samples")
    file = _File(source, target, near_source, near_target, info, on_note=on_note)
    file.note(info.notes)
    return file


def _try_open(
    pair: tuple[Path, Path], overwrite: bool, folder: str | None, on_note: Callable[[Path, str], object] | None
) -> _File | Outcome:
    try:
        return _open(pair, overwrite, folder, on_note)
    except FAILURES as error:
        return failed(*pair, error)


def _same_file(source: Path, target: Path) -> bool:
    if is_remote(source) or is_remote(target):
        return source == target
    return source.exists() and source.samefile(target)


def _lacked_memory(error: Exception | None) -> bool:
    # onnxruntime has no exception of its own for it.
    return isinstance(error, MemoryError) or (error is not None and "alloc" in str(error).lower())


def _batches(files: Sequence[_File], denoiser: PretrainedDenoiser) -> list[list[_File]]:
    """Files of like length together, longest first; each alone if the model looks ahead, which would hear padding."""
    batches: list[list[_File]] = []
    channels = 0
    for file in sorted(files, key=lambda file: -file.info.duration_s):
        channels += file.info.num_channels
        if not batches or channels > MAX_CHANNELS or not denoiser.is_causal:
            batches.append([])
            channels = file.info.num_channels
        batches[-1].append(file)
    return batches


def _denoise_all(
    files: Sequence[_File], how: _How, jobs: int, progress: Callable[[float], object] | None
) -> Iterator[Outcome]:
    """Denoise files in batches on several threads; outcomes come as they are done."""
    batches = _batches(files, how.denoiser)
    total_s = sum(file.info.duration_s for file in files)

    def run(batch: list[_File]) -> list[_File]:
        _denoise_batch(batch, how, progress, total_s)
        if len(batch) > 1 and all(_lacked_memory(file.failure) for file in batch):
            halves = batch[: len(batch) // 2], batch[len(batch) // 2 :]
            return [
                file
                for half in halves
                for file in run([replace(file, repaired=0, limited=0, failure=None) for file in half])
            ]
        return batch

    with ThreadPoolExecutor(min(jobs, max(1, len(batches)))) as pool:
        running = [pool.submit(run, batch) for batch in batches]
        try:
            for each in as_completed(running):
                yield from (file.outcome() for file in each.result())
        finally:
            pool.shutdown(cancel_futures=True)


def _denoise_batch(
    files: Sequence[_File], how: _How, progress: Callable[[float], object] | None, total_s: float
) -> None:
    """Denoise files side by side; failures are kept in the files."""
    running: list[tuple[_File, Writer, RecordingStream, list[str]]] = []
    try:
        for file in files:
            info = file.info
            try:
                file.near_target.parent.mkdir(parents=True, exist_ok=True)
                writer = open_writer(file.near_target, info, file.near_source)
                file.note(writer.notes)
            except FAILURES as error:
                file.fail(error)
                continue
            notes: list[str] = []
            recording = RecordingStream(
                read_blocks(file.near_source, round(BLOCK_S * info.sample_rate), notes),
                info.sample_rate,
                info.num_channels,
                how.denoiser.sample_rate,
                how.strength,
                writer.write,
                how.high_band,
            )
            running.append((file, writer, recording, notes))
        recordings = [recording for _, _, recording, _ in running]
        for seconds in denoise_together(recordings, how.denoiser, how.strength, how.channels, how.quality):
            if progress:
                progress(seconds / total_s)
        if running:
            with ThreadPoolExecutor(len(running)) as pool:
                list(pool.map(lambda each: _finish(*each), running))
    except FAILURES as error:  # that hit them all, such as too little memory
        for file, *_ in running:
            file.fail(file.failure or error)
    finally:
        for _, writer, *_ in running:
            writer.discard()


def _finish(file: _File, writer: Writer, recording: RecordingStream, notes: list[str]) -> None:
    file.repaired, file.limited = recording.repaired, writer.limited
    file.note(notes)
    try:
        if recording.failure:
            raise recording.failure
        writer.commit()
        file.note(writer.notes)
        if is_remote(file.target):
            publish(file.near_target, file.target)
    except FAILURES as error:
        file.fail(error)
