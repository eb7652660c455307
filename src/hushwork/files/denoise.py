"""Denoise arrays and files; rate, channels, length, format and metadata are kept.

Shapes: C channels, N samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from hushwork.audio.io import Writer, open_writer, read_blocks
from hushwork.audio.remote import REQUESTS, locate
from hushwork.files.job import FileJob, OnNote, Outcome, copies_folder, failed
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.recordings import BLOCK_S, FAILURES, RecordingStream, denoise_together
from hushwork.streaming.strength import Processing, Strength

MAX_CHANNELS = 8  # denoised side by side, of all files of a batch
Progress = Callable[[float], object]


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
        strength: how much of the noise is removed; default all.
        channels: "linked" runs the network on each channel and attenuates all channels alike, which keeps the stereo
            image; "independent" treats each channel alone; "mid" runs the network on the mean of the channels and
            attenuates them alike.
        high_band: how frequencies above the network's band are treated: "mask" attenuates them like the upper half of
            that band, "keep" leaves them unchanged, "drop" removes them.
        quality: "standard", or "best": the mean of two passes, one shifted by half a hop; takes twice the time.

    Raises:
        ValueError: another number of dimensions, or an unknown value of an option.

    Example:
        >>> import numpy as np
        >>> from hushwork import load_pretrained
        >>> noise = 0.1 * np.random.default_rng(0).standard_normal((2, 44100)).astype(np.float32)
        >>> clean = denoise(noise, 44100, load_pretrained("small"))
        >>> clean.shape, bool(np.abs(clean).max() < 0.5 * np.abs(noise).max())
        ((2, 44100), True)
    """
    if audio.ndim not in (1, 2):
        raise ValueError(f"expected audio of shape (samples,) or (channels, samples), got {audio.shape}")
    processing = Processing(strength or Strength(), channels, high_band, quality)
    rows = np.atleast_2d(audio).astype(np.float32, copy=False)
    block = round(BLOCK_S * sample_rate)
    blocks = (rows[:, start : start + block] for start in range(0, rows.shape[1], block))
    clean = [rows[:, :0]]
    recording = RecordingStream(blocks, sample_rate, len(rows), denoiser.sample_rate, processing, clean.append)
    for _ in denoise_together([recording], denoiser, processing):
        pass
    if recording.failure:
        raise recording.failure
    return np.concatenate(clean, axis=1).reshape(audio.shape)


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
    progress: Progress | None = None,
) -> Outcome:
    """Denoise one file of any length; sample rate, channels, length, subtype and tags are kept.

    Args:
        source: a file that libsndfile or FFmpeg reads, or its URL; the video of films is copied.
        target: the suffix decides the format; parent folders are made. The file appears when it is complete. May be a
            URL.
        denoiser: from :func:`load_pretrained`.
        strength, channels, high_band, quality: see :func:`denoise`.
        overwrite: replace an existing target.
        progress: called with the share of the file done since the last call; the shares add up to 1.

    Raises:
        AudioError: the source cannot be read; the target cannot be written, exists, or is the source itself.

    Example:
        >>> import tempfile
        >>> import hushwork
        >>> source = Path(hushwork.__file__).parent / "data/example.flac"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = Path(folder) / "clean.wav"
        ...     outcome = denoise_file(source, target, hushwork.load_pretrained("small"))
        ...     outcome.error, target.is_file()
        (None, True)
    """
    pair = locate(source), locate(target)
    processing = Processing(strength or Strength(), channels, high_band, quality)
    with copies_folder([pair]) as folder:
        job = FileJob.open(*pair, overwrite, folder, None)
        _denoise_batch([job], denoiser, processing, progress, job.info.duration_s)
    if job.failure:
        raise job.failure
    return job.outcome()


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
    progress: Progress | None = None,
    on_note: OnNote | None = None,
) -> Generator[Outcome, None, None]:
    """Denoise many files and yield one :class:`Outcome` each as they are done; a file that fails has its error there.

    Files of similar length are denoised side by side, up to ``MAX_CHANNELS`` channels at a time or as memory allows,
    and several such batches at the same time. Each result equals that of :func:`denoise_file`, to rounding. Remote
    sources are all fetched to a temporary folder first; for many, :func:`hushwork.files.engine.denoise_in_processes`
    fetches them in chunks.

    Args:
        plan: (source, target) pairs, see :func:`hushwork.files.plan.plan_targets`.
        denoiser, strength, channels, high_band, quality, overwrite: see :func:`denoise_file`.
        jobs: batches at the same time; default the number of cores.
        progress: called from any thread with the share of all audio done since the last call.
        on_note: called from any thread with a source and each note on it, as soon as it is known.

    Example:
        >>> import tempfile
        >>> import hushwork
        >>> source = Path(hushwork.__file__).parent / "data/example.flac"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plan = [(source, Path(folder) / "a.wav"), (Path(folder) / "missing.wav", Path(folder) / "b.wav")]
        ...     outcomes = list(denoise_files(plan, hushwork.load_pretrained("small")))
        >>> sorted((outcome.source.name, outcome.error is None) for outcome in outcomes)
        [('example.flac', True), ('missing.wav', False)]
    """
    plan = list(plan)
    processing = Processing(strength or Strength(), channels, high_band, quality)
    with copies_folder(plan) as folder:

        def opened(pair: tuple[Path, Path]) -> FileJob | Outcome:
            try:
                return FileJob.open(*pair, overwrite, folder, on_note)
            except FAILURES as error:
                return failed(*pair, error)

        files: list[FileJob] = []
        with ThreadPoolExecutor(REQUESTS) as pool:
            for each in pool.map(opened, plan):
                if isinstance(each, Outcome):
                    yield each
                else:
                    files.append(each)
        total_s = sum(file.info.duration_s for file in files)
        batches = _batches(files, denoiser)
        with ThreadPoolExecutor(min(jobs or os.cpu_count() or 1, max(1, len(batches)))) as pool:
            running = [pool.submit(_denoise_batch, batch, denoiser, processing, progress, total_s) for batch in batches]
            try:
                for done in as_completed(running):
                    yield from (file.outcome() for file in done.result())
            finally:
                pool.shutdown(cancel_futures=True)


def _batches(files: Sequence[FileJob], denoiser: PretrainedDenoiser) -> list[list[FileJob]]:
    """Files of similar length together, longest first; each alone if the model is not causal: padding would matter."""
    batches: list[list[FileJob]] = []
    channels = 0
    for file in sorted(files, key=lambda file: -file.info.duration_s):
        channels += file.info.num_channels
        if not batches or channels > MAX_CHANNELS or not denoiser.is_causal:
            batches.append([])
            channels = file.info.num_channels
        batches[-1].append(file)
    return batches


def _denoise_batch(
    files: Sequence[FileJob],
    denoiser: PretrainedDenoiser,
    processing: Processing,
    progress: Progress | None,
    total_s: float,
) -> list[FileJob]:
    """Denoise files side by side, or in halves if memory does not suffice; errors are kept in the files returned."""
    running: list[tuple[FileJob, Writer, RecordingStream, list[str]]] = []
    try:
        for file in files:
            try:
                writer = open_writer(file.local_target, file.info, file.local_source)
            except FAILURES as error:
                file.fail(error)
                continue
            file.note(writer.notes)
            rate = file.info.sample_rate
            notes: list[str] = []
            blocks = read_blocks(file.local_source, round(BLOCK_S * rate), notes)
            form = rate, file.info.num_channels, denoiser.sample_rate
            running.append((file, writer, RecordingStream(blocks, *form, processing, writer.write), notes))
        for seconds in denoise_together([recording for _, _, recording, _ in running], denoiser, processing):
            if progress:
                progress(seconds / total_s)
        if running:
            with ThreadPoolExecutor(len(running)) as pool:
                list(pool.map(lambda each: _finish(*each), running))
    except FAILURES as error:  # of all of them, such as too little memory
        for file, *_ in running:
            file.fail(file.failure or error)
    finally:
        for _, writer, *_ in running:
            writer.discard()
    if len(files) > 1 and all(_lacked_memory(file.failure) for file in files):
        fresh = [replace(file, repaired=0, limited=0, failure=None) for file in files]
        halves = fresh[: len(fresh) // 2], fresh[len(fresh) // 2 :]
        return [file for half in halves for file in _denoise_batch(half, denoiser, processing, progress, total_s)]
    return list(files)


def _finish(file: FileJob, writer: Writer, recording: RecordingStream, notes: Sequence[str]) -> None:
    """Let the output of a recording appear under its name; an error is kept in the file."""
    file.repaired, file.limited = recording.repaired, writer.limited
    file.note(notes)
    try:
        if recording.failure:
            raise recording.failure
        writer.commit()
        file.note(writer.notes)
        file.upload()
    except FAILURES as error:
        file.fail(error)


def _lacked_memory(error: Exception | None) -> bool:
    # onnxruntime has no exception class of its own for it.
    return isinstance(error, MemoryError) or (error is not None and "alloc" in str(error).lower())
