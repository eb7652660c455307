"""Denoising arrays, files and folders: what goes in comes out cleaner, and otherwise the same.

Shapes: C channels, N samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hushwork.audio.io import AUDIO_SUFFIXES, AudioError, AudioInfo, AudioWriter, audio_info, read_blocks
from hushwork.inference.batch import BLOCK_S, FAILURES, Recording, denoise_together
from hushwork.inference.pretrained import PretrainedDenoiser
from hushwork.inference.stream import Strength

MAX_CHANNELS = 8  # denoised at once, of all files of a batch


@dataclass(frozen=True)
class Outcome:
    """What became of one file: ``error`` is None if it was written; ``repaired`` counts samples that were no sound."""

    source: Path
    target: Path
    duration_s: float = 0.0
    repaired: int = 0
    error: str | None = None


def denoise(
    audio: np.ndarray, sample_rate: int, denoiser: PretrainedDenoiser, strength: Strength | None = None
) -> np.ndarray:
    """Denoise an array (N,) or (C, N) of float samples at ``sample_rate`` Hz; the result has the same shape.

    Channels are denoised alike and apart. Samples that are NaN, infinite or beyond 1e12 count as 0.

    Raises:
        ValueError: another number of dimensions.
    """
    if audio.ndim not in (1, 2):
        raise ValueError(f"expected audio of shape (samples,) or (channels, samples), got {audio.shape}")
    strength = strength or Strength()
    channels = np.atleast_2d(audio).astype(np.float32, copy=False)
    block = round(BLOCK_S * sample_rate)
    blocks = (channels[:, start : start + block] for start in range(0, channels.shape[1], block))
    cleaned = [channels[:, :0]]
    recording = Recording(blocks, sample_rate, len(channels), denoiser.sample_rate, strength, cleaned.append)
    for _ in denoise_together([recording], denoiser, strength):
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
    overwrite: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Outcome:
    """Denoise one file, of any length, with its sample rate, channels, length and subtype.

    Args:
        source: whatever libsndfile reads.
        target: the suffix decides the format; its folder is made. The file appears when it is complete.
        denoiser: from :func:`load_pretrained`.
        strength: default full.
        overwrite: replace an existing target.
        progress: called with the share of the file done since the last call; in all 1.

    Raises:
        AudioError: the source cannot be read, the target cannot be written, exists, or is the source itself.
    """
    file = _File(Path(source), Path(target), _check(Path(source), Path(target), overwrite))
    _denoise_batch([file], denoiser, strength or Strength(), progress, file.info.duration_s)
    if file.failure:
        raise file.failure
    return file.outcome()


def denoise_files(
    plan: Iterable[tuple[Path, Path]],
    denoiser: PretrainedDenoiser,
    strength: Strength | None = None,
    *,
    overwrite: bool = False,
    jobs: int | None = None,
    progress: Callable[[float], object] | None = None,
) -> Iterator[Outcome]:
    """Denoise many files, one :class:`Outcome` each as they are done; a file that fails is reported there.

    Files of like length are denoised side by side, up to ``MAX_CHANNELS`` channels at a time, and such batches on all
    cores. Each result is that of :func:`denoise_file`, to rounding.

    Args:
        plan: (source, target) pairs, as of :func:`plan_targets`.
        denoiser, strength, overwrite: as of :func:`denoise_file`.
        jobs: batches at the same time; None takes as many as there are cores.
        progress: called with the share of all audio done since the last call, from any thread.
    """
    files: list[_File] = []
    for source, target in plan:
        try:
            files.append(_File(source, target, _check(source, target, overwrite)))
        except FAILURES as error:
            yield _failed(source, target, error)
    batches = _batches(files, denoiser)
    total_s = sum(file.info.duration_s for file in files)

    def run(batch: list[_File]) -> list[_File]:
        _denoise_batch(batch, denoiser, strength or Strength(), progress, total_s)
        return batch

    with ThreadPoolExecutor(min(jobs or os.cpu_count() or 1, max(1, len(batches)))) as pool:
        running = [pool.submit(run, batch) for batch in batches]
        try:
            for each in as_completed(running):
                yield from (file.outcome() for file in each.result())
        finally:
            pool.shutdown(cancel_futures=True)


def plan_targets(sources: Sequence[str | Path], output: str | Path) -> list[tuple[Path, Path]]:
    """Which file becomes which: (source, target) pairs.

    One file goes to ``output`` itself, or into it if it is a folder or ends in a slash. Folders keep their tree below
    ``output``; of several sources each folder also keeps its own name.

    Raises:
        AudioError: a source is missing or a folder without audio, or two sources would become one file.
    """
    into_folder = len(sources) > 1 or os.fspath(output).endswith(("/", os.sep)) or Path(output).is_dir()
    plan: list[tuple[Path, Path]] = []
    for source in map(Path, sources):
        if not source.is_dir():
            plan.append((source, Path(output) / source.name if into_folder else Path(output)))
            continue
        if source.resolve() == Path(output).resolve():
            raise AudioError(f"{source}: input and output are the same folder; choose another output")
        base = source.parent if len(sources) > 1 else source
        found = sorted(p for p in source.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
        # The output may lie inside the source: what was written there is no input.
        found = [p for p in found if Path(output).resolve() not in p.resolve().parents]
        if not found:
            raise AudioError(f"{source}: no audio files in this folder")
        plan += [(path, Path(output) / path.relative_to(base)) for path in found]
    taken: dict[Path, Path] = {}
    for path, target in plan:
        other = taken.setdefault(target.resolve(), path)
        if other is not path:
            raise AudioError(f"{target}: would be made from both {other} and {path}; give them different outputs")
    return plan


@dataclass
class _File:
    """A file to be denoised, and what has become of it."""

    source: Path
    target: Path
    info: AudioInfo
    repaired: int = 0
    failure: Exception | None = None

    def outcome(self) -> Outcome:
        if self.failure:
            return _failed(self.source, self.target, self.failure)
        return Outcome(self.source, self.target, self.info.duration_s, self.repaired)


def _failed(source: Path, target: Path, error: Exception) -> Outcome:
    message = str(error) or type(error).__name__
    return Outcome(source, target, error=message if str(source) in message else f"{source}: {message}")


def _check(source: Path, target: Path, overwrite: bool) -> AudioInfo:
    info = audio_info(source)
    if target.exists():
        if source.samefile(target):
            raise AudioError(f"{target}: input and output are the same file; choose another output")
        if target.is_dir():
            raise AudioError(f"{target}: is a folder, expected a file name for the output")
        if not overwrite:
            raise AudioError(f"{target}: exists already; choose another output, or --overwrite")
    if info.num_samples == 0:
        raise AudioError(f"{source}: holds no samples")
    return info


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


def _denoise_batch(
    files: Sequence[_File],
    denoiser: PretrainedDenoiser,
    strength: Strength,
    progress: Callable[[float], object] | None,
    total_s: float,
) -> None:
    """Denoise files side by side; failures are kept in the files."""
    running: list[tuple[_File, AudioWriter, Recording]] = []
    try:
        for file in files:
            info = file.info
            try:
                file.target.parent.mkdir(parents=True, exist_ok=True)
                writer = AudioWriter(file.target, info.sample_rate, info.num_channels, info.subtype)
            except FAILURES as error:
                file.failure = error
                continue
            blocks = read_blocks(file.source, round(BLOCK_S * info.sample_rate))
            recording = Recording(
                blocks, info.sample_rate, info.num_channels, denoiser.sample_rate, strength, writer.write
            )
            running.append((file, writer, recording))
        for seconds in denoise_together([recording for *_, recording in running], denoiser, strength):
            if progress:
                progress(seconds / total_s)
        for file, writer, recording in running:
            file.repaired, file.failure = recording.repaired, recording.failure
            try:
                if not file.failure:
                    writer.commit()
            except FAILURES as error:
                file.failure = error
    except FAILURES as error:  # that hit them all, such as too little memory
        for file, *_ in running:
            file.failure = file.failure or error
    finally:
        for _, writer, _ in running:
            writer.discard()
