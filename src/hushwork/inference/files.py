"""Denoising arrays, files and folders: what goes in comes out cleaner, and otherwise the same.

Shapes: C channels, N samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch

from hushwork.audio.io import AUDIO_SUFFIXES, AudioError, AudioWriter, audio_info, read_blocks
from hushwork.inference.stream import denoise_in_blocks
from hushwork.models.denoiser import Denoiser

BLOCK_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How much is taken away.

    Args:
        mix: share of the denoised signal in the output, in [0, 1]; the rest is the input, 0 gives the input unchanged.
        max_attenuation_db: no frequency is turned down by more than this many dB; None sets no limit.

    Raises:
        ValueError: a value outside its range.
    """

    mix: float = 1.0
    max_attenuation_db: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mix <= 1:
            raise ValueError(f"mix is {self.mix}; it must lie between 0 (the input) and 1 (fully denoised)")
        if self.max_attenuation_db is not None and not self.max_attenuation_db >= 0:
            raise ValueError(f"max_attenuation_db is {self.max_attenuation_db}; it must be 0 or more")

    @property
    def min_gain(self) -> float:
        return 0.0 if self.max_attenuation_db is None else float(10 ** (-self.max_attenuation_db / 20))


@dataclass(frozen=True)
class Outcome:
    """What became of one file: ``error`` is None if it was written; ``repaired`` counts NaN or infinite samples."""

    source: Path
    target: Path
    duration_s: float = 0.0
    repaired: int = 0
    error: str | None = None


def denoise(audio: np.ndarray, sample_rate: int, denoiser: Denoiser, strength: Strength | None = None) -> np.ndarray:
    """Denoise an array (N,) or (C, N) of float samples at ``sample_rate`` Hz; the result has the same shape.

    Channels are denoised alike and apart. Samples that are NaN or infinite count as 0.

    Raises:
        ValueError: another number of dimensions.
    """
    if audio.ndim not in (1, 2):
        raise ValueError(f"expected audio of shape (samples,) or (channels, samples), got {audio.shape}")
    channels = np.atleast_2d(audio).astype(np.float32, copy=False)
    cleaned = list(denoise_blocks([channels], sample_rate, denoiser, strength or Strength()))
    return np.concatenate([channels[:, :0], *cleaned], axis=1).reshape(audio.shape)


def denoise_blocks(
    blocks: Iterable[np.ndarray], sample_rate: int, denoiser: Denoiser, strength: Strength
) -> Iterator[np.ndarray]:
    """Consecutive blocks (C, n) → consecutive blocks (C, m): as many samples, aligned, in bounded memory."""
    down: _Resampler | None = None
    stream = denoise_in_blocks(denoiser, strength.min_gain)
    waiting = received = emitted = None
    for block in blocks:
        if down is None or waiting is None:
            down = _Resampler(sample_rate, denoiser.sample_rate, len(block))
            up = _Resampler(denoiser.sample_rate, sample_rate, len(block))
            waiting, received, emitted = block[:, :0], 0, 0
        block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        waiting = np.concatenate([waiting, block], axis=1)
        received += block.shape[1]
        cleaned = up.push(stream.push(torch.from_numpy(down.push(block))).numpy())[:, : received - emitted]
        emitted += cleaned.shape[1]
        yield _mixed(waiting[:, : cleaned.shape[1]], cleaned, strength.mix)
        waiting = waiting[:, cleaned.shape[1] :]
    if down is None or waiting is None:
        return
    last = torch.from_numpy(down.flush())
    tail = torch.cat([stream.push(last), stream.flush()], dim=1).numpy()
    tail = np.concatenate([up.push(tail), up.flush()], axis=1)[:, : waiting.shape[1]]
    tail = np.pad(tail, ((0, 0), (0, waiting.shape[1] - tail.shape[1])))  # rates' ratio may round a sample away
    yield _mixed(waiting, tail, strength.mix)


def denoise_file(
    source: str | Path,
    target: str | Path,
    denoiser: Denoiser,
    strength: Strength | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Outcome:
    """Denoise one file, of any length, with its sample rate, channels, length and subtype.

    Args:
        source: whatever libsndfile reads.
        target: the suffix decides the format; its folder is made. The file appears when it is complete.
        denoiser: from :func:`load_pretrained` or training.
        strength: default full.
        overwrite: replace an existing target.
        progress: called with the share done, in [0, 1].

    Raises:
        AudioError: the source cannot be read, the target cannot be written, exists, or is the source itself.
    """
    source, target = Path(source), Path(target)
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
    target.parent.mkdir(parents=True, exist_ok=True)
    repaired = done = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal repaired
        for block in read_blocks(source, round(BLOCK_S * info.sample_rate)):
            repaired += int(np.count_nonzero(~np.isfinite(block)))
            yield block

    with AudioWriter(target, info.sample_rate, info.num_channels, info.subtype) as writer:
        for block in denoise_blocks(counted(), info.sample_rate, denoiser, strength or Strength()):
            writer.write(block)
            done += block.shape[1]
            if progress:
                progress(done / info.num_samples)
    return Outcome(source, target, info.duration_s, repaired)


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


def denoise_files(
    plan: Iterable[tuple[Path, Path]],
    denoiser: Denoiser,
    strength: Strength | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Outcome]:
    """Denoise file after file, one :class:`Outcome` each; a file that fails is reported there and the rest go on."""
    for source, target in plan:
        try:
            yield denoise_file(source, target, denoiser, strength, overwrite=overwrite, progress=progress)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            message = str(error) or type(error).__name__
            yield Outcome(source, target, error=message if str(source) in message else f"{source}: {message}")


class _Resampler:
    """soxr over consecutive blocks (C, n), aligned with its input once flushed; does nothing if the rates agree."""

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


def _mixed(noisy: np.ndarray, clean: np.ndarray, mix: float) -> np.ndarray:
    return clean if mix == 1 else noisy * np.float32(1 - mix) + clean * np.float32(mix)
