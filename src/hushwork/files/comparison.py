"""Compare a recording before and after denoising: numbers, spectrograms, and the difference as audio.

Files are read in blocks, so that their length does not matter.

Shapes: C channels, N samples, n samples of a block, T frames, F bins.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hushwork.audio.io import AudioInfo, AudioWriter, audio_info, read_blocks
from hushwork.audio.stft import TINY, StftConfig, StreamingStft
from hushwork.network.features import band_weights
from hushwork.streaming.recordings import BLOCK_S

Judge = Callable[[np.ndarray, int], float]
SILENT = 1e-12
"""Power that counts as silence, -120 dB."""
CLIPPED = 0.999
"""Samples of this magnitude and more count as clipped."""
SCORED_S = 60.0
"""Scores are of the first minute, of the first channel."""
EXCERPT_S = 300.0
"""Audio for players is written up to here."""

VOICE_FRAME_S = 0.064
VOICE_HZ = (100.0, 4000.0)
PITCH_HZ = (80.0, 400.0)
PERIODIC = 0.5
"""Least periodicity of speech: the harmonics have at least the power of all else."""
STANDS_OUT_DB = 10.0
TURNED_DOWN_DB = 10.0
FLAGGED = 0.1
"""Files with this speech loss or more are flagged."""

PICTURE_SIZE = (400, 120)
PICTURE_FRAME_S = 0.032
PICTURE_RANGE_DB = 80.0
LONG_S = 30.0
"""Longer recordings get half the frames in their picture."""
COLOURS = 64
MAGMA = np.array(
    [
        [0, 0, 4],
        [28, 16, 68],
        [79, 18, 123],
        [129, 37, 129],
        [181, 54, 122],
        [229, 80, 100],
        [251, 135, 97],
        [254, 194, 135],
        [252, 253, 191],
    ]
)
"""matplotlib's map of that name at nine points, evenly spaced."""


@dataclass(frozen=True)
class Measures:
    """A recording before and after denoising, in numbers; NaN where one is not defined.

    Attributes:
        snr_db: estimated SNR of the input: the power of the denoised signal over the power of what was removed. It
            takes all that the denoiser keeps for speech, and is too high if some noise is meant to stay. NaN for
            silence.
        level_db: (before, after) root mean square of all channels, dB relative to full scale (1.0), at least -120.
        clipped: (before, after) share of samples at full scale.
        speech_loss: see :func:`speech_loss`.
        quality: (before, after) scores of the first minute of the first channel, by the name of the judge.
        notes: sentences about scores that could not be computed.
    """

    snr_db: float
    level_db: tuple[float, float]
    clipped: tuple[float, float]
    speech_loss: float
    quality: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def seems_to_lose_speech(self) -> bool:
        """Whether the speech loss is high enough to be flagged."""
        return self.speech_loss >= FLAGGED


def measure(source: str | Path, target: str | Path, judges: Mapping[str, Judge] | None = None) -> Measures:
    """Measure a recording and its denoised form, of the same rate and channels.

    Args:
        source: before; samples that are NaN or infinite count as 0, as they do for the denoiser.
        target: after.
        judges: functions by name that score speech (N,) at a sample rate in Hz.

    Raises:
        AudioError: one of them cannot be read.
    """
    info = audio_info(source)
    signals = _Signal(info, bool(judges)), _Signal(info, bool(judges))
    removed_energy = 0.0
    for pair in _pairs(source, target, info.sample_rate):
        removed_energy += _energy(pair[0] - pair[1])
        for signal, block in zip(signals, pair, strict=True):
            signal.push(block)
    for signal in signals:
        signal.push()

    before, after = signals
    count = max(before.count, 1)
    levels_db = [
        10 * math.log10(max(energy / count, SILENT)) for energy in (before.energy, after.energy, removed_energy)
    ]
    quality, notes = {}, []
    for name, judge in (judges or {}).items():
        scores = [math.nan, math.nan]
        for k, when in enumerate(("before", "after")):
            try:
                scores[k] = judge(np.concatenate(signals[k].beginning), info.sample_rate)
            except Exception as error:  # the packages behind a judge raise errors of their own
                notes.append(f"{name} {when} failed ({type(error).__name__}: {error})")
        quality[name] = (scores[0], scores[1])
    (power, periodicity), (power_after, _) = (np.concatenate(signal.frames, axis=1) for signal in signals)
    return Measures(
        snr_db=levels_db[1] - levels_db[2] if before.energy or after.energy else math.nan,
        level_db=(levels_db[0], levels_db[1]),
        clipped=(before.clipped / count, after.clipped / count),
        speech_loss=speech_loss(power, periodicity, power_after),
        quality=quality,
        notes=tuple(notes),
    )


def speech_loss(before: np.ndarray, periodicity: np.ndarray, after: np.ndarray) -> float:
    """The share of the energy of speech that was attenuated strongly, 0 to 1; NaN if no frame seems to be speech.

    A heuristic, since there is no clean reference. A frame counts as speech if it stands at least 10 dB
    above the recording's own noise floor (the 10th percentile of its frames) and is voiced, and it counts as lost if it
    came out at least 10 dB lower.

    It misses unvoiced speech, and speech at a low SNR. Other voiced sounds that come and go
    (an animal, a horn, background talk) count as speech, and a file may be flagged because they were removed. A mix of
    the input, or a limit on attenuation, hides losses.

    Args:
        before: power (T,) of frames of 64 ms between 100 and 4000 Hz.
        periodicity: of these frames (T,): the highest autocorrelation at lags of a voice's pitch; voiced from 0.5 on,
            where harmonics have at least the power of all else.
        after: power (T,) of the frames, denoised.

    Source of the periodicity: Boersma, "Accurate short-term analysis of the fundamental frequency and the
    harmonics-to-noise ratio of a sampled sound", 1993, eq. 9.
    """
    floor = max(np.percentile(before, 10), SILENT)
    speech = (before >= floor * 10 ** (STANDS_OUT_DB / 10)) & (periodicity >= PERIODIC)
    lost = speech & (after <= before * 10 ** (-TURNED_DOWN_DB / 10))
    return float(before[lost].sum() / before[speech].sum()) if speech.any() else math.nan


def draw(source: str | Path, target: str | Path) -> dict[str, bytes]:
    """Spectrograms "before", "after" and "removed" as PNG, at most 400 pixels wide and 120 high.

    Frequencies rise to half the sample rate in bands that follow the ear; the picture of a long recording is averaged
    into its columns. All three have one scale, 80 dB up to the loudest point of the first.

    Raises:
        AudioError: a file cannot be read.
    """
    info = audio_info(source)
    pictures = {
        kind: _Spectrogram(info.sample_rate, info.num_channels, info.num_samples)
        for kind in ("before", "after", "removed")
    }
    for before, after in _pairs(source, target, info.sample_rate):
        for picture, block in zip(pictures.values(), (before, after, before - after), strict=True):
            picture.push(block)
    for picture in pictures.values():
        picture.push()
    levels_db = {kind: picture.levels_db() for kind, picture in pictures.items()}
    return {kind: _png(levels, levels_db["before"].max()) for kind, levels in levels_db.items()}


def write_sounds(source: str | Path, target: str | Path, paths: Mapping[str, Path]) -> None:
    """Write audio for players, with 16 bits; of a long recording the first five minutes.

    Args:
        source: before.
        target: after.
        paths: files to write, by content: "before", "after" or "removed", which is before minus after.

    Raises:
        AudioError: a file cannot be read, or the format of one in ``paths`` cannot hold the rate or the channels.
    """
    info = audio_info(source)
    missing = round(EXCERPT_S * info.sample_rate)
    with ExitStack() as stack:
        form = info.sample_rate, info.num_channels, "PCM_16"
        writers = {kind: stack.enter_context(AudioWriter(path, *form)) for kind, path in paths.items()}
        for before, after in _pairs(source, target, info.sample_rate):
            sounds = {"before": before, "after": after, "removed": before - after}
            for kind, writer in writers.items():
                writer.write(sounds[kind][:, :missing])
            missing -= min(missing, before.shape[1])
            if not missing:
                break


def _pairs(source: str | Path, target: str | Path, sample_rate: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks (C, n) before and after; a lossy format may have given the latter another length."""
    block = round(BLOCK_S * sample_rate)
    for before, after in zip(read_blocks(source, block), read_blocks(target, block), strict=False):
        n = min(before.shape[1], after.shape[1])
        yield np.where(np.isfinite(before), before, np.float32(0))[:, :n], after[:, :n]


def _energy(block: np.ndarray) -> float:
    return float(np.sum(np.square(block, dtype=np.float64)))


def _stft(frame_s: float, overlap: int, sample_rate: int) -> StftConfig:
    hop = max(2, round(frame_s * sample_rate / overlap))
    return StftConfig(n_fft=overlap * hop, hop_length=hop, window="hann")


def _powers(stft: StreamingStft, block: np.ndarray | None = None) -> np.ndarray:
    """Powers (T, F), summed over channels, of the frames complete with the next block (C, n); None ends the signal."""
    if block is None:
        count = stft.finish()
    else:
        stft.push(block)
        count = stft.waiting_frames
    if count <= 0:
        return np.zeros((0, stft.config.num_bins), np.float32)
    return np.square(np.abs(stft.analyse(count))).sum(axis=0)


class _Signal:
    """Statistics of one signal, gathered block by block.

    Args:
        info: its rate and channels.
        keep_beginning: whether to keep the beginning of its first channel.

    Attributes:
        count, clipped: numbers of samples, of all channels.
        energy: sum of squares.
        frames: arrays (2, T): power in the range of a voice, relative to full scale, and periodicity.
        beginning: arrays (n,).
    """

    def __init__(self, info: AudioInfo, keep_beginning: bool) -> None:
        config = _stft(VOICE_FRAME_S, 2, info.sample_rate)
        self.count = self.clipped = 0
        self.energy = 0.0
        self.frames: list[np.ndarray] = []
        self.beginning: list[np.ndarray] = []
        self._missing = round(SCORED_S * info.sample_rate) if keep_beginning else 0
        self._stft = StreamingStft(config, info.num_channels)
        hz = np.linspace(0, info.sample_rate / 2, config.num_bins)
        window = config.window_values()
        full_scale = np.float32(config.n_fft * np.square(window).sum() / 2)  # by Parseval's theorem, for half the bins
        self._in_voice = ((hz >= VOICE_HZ[0]) & (hz <= VOICE_HZ[1])) / full_scale
        self._lags = np.arange(int(info.sample_rate / PITCH_HZ[1]), int(info.sample_rate / PITCH_HZ[0]) + 1)
        # The window's autocorrelation attenuates that of a frame, the more the longer the lag.
        own = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, 2 * config.n_fft))))
        self._attenuation = own[self._lags] / own[0]

    def push(self, block: np.ndarray | None = None) -> None:
        """The next block (C, n); None at the end."""
        if block is not None:
            self.count += block.size
            self.clipped += int(np.count_nonzero(np.abs(block) >= CLIPPED))
            self.energy += _energy(block)
            self.beginning.append(block[0, : self._missing].copy())  # a view would keep all blocks in memory
            self._missing -= len(self.beginning[-1])
        powers = _powers(self._stft, block) * self._in_voice
        correlation = np.fft.irfft(powers, self._stft.config.n_fft)
        periodicity = (correlation[:, self._lags] / self._attenuation).max(axis=1) / np.maximum(correlation[:, 0], TINY)
        self.frames.append(np.stack([powers.sum(axis=1), periodicity]))


class _Spectrogram:
    """A picture of a recording of any length: the mean power of each column's frames.

    Args:
        sample_rate: Hz.
        num_channels: C.
        num_samples: of the whole recording.
    """

    def __init__(self, sample_rate: int, num_channels: int, num_samples: int) -> None:
        overlap = 4 if num_samples < LONG_S * sample_rate else 2
        config = _stft(PICTURE_FRAME_S, overlap, sample_rate)
        self._stft = StreamingStft(config, num_channels)
        self._num_frames = config.num_frames(num_samples)
        self._seen = 0
        self._sums = np.zeros((min(PICTURE_SIZE[0], self._num_frames), config.num_bins))
        self._counts = np.zeros((len(self._sums), 1))
        self._bands, _ = band_weights(config.num_bins, min(PICTURE_SIZE[1], config.num_bins), sample_rate)

    def push(self, block: np.ndarray | None = None) -> None:
        """The next block (C, n); None at the end."""
        powers = _powers(self._stft, block)
        frames = np.arange(self._seen, self._seen + len(powers))
        columns = np.minimum(frames * len(self._sums) // self._num_frames, len(self._sums) - 1)
        starts = np.flatnonzero(np.diff(columns, prepend=-1))
        self._sums[columns[starts]] += np.add.reduceat(powers, starts, axis=0, dtype=np.float64)
        self._counts[:, 0] += np.bincount(columns, minlength=len(self._sums))
        self._seen += len(powers)

    def levels_db(self) -> np.ndarray:
        """Levels (rows, columns), high frequencies on top."""
        powers = self._sums / np.maximum(self._counts, 1) @ self._bands
        return 10 * np.log10(np.maximum(powers, SILENT)).T[::-1]


def _png(levels_db: np.ndarray, top_db: float) -> bytes:
    """A picture of levels (rows, columns), the brightest at ``top_db``: PNG with a palette (ISO/IEC 15948)."""
    shares = np.clip((levels_db - top_db) / PICTURE_RANGE_DB + 1, 0, 1)
    pixels = (shares * (COLOURS - 1)).round().astype(np.uint8)
    points = np.linspace(0, COLOURS - 1, len(MAGMA))
    palette = np.stack([np.interp(np.arange(COLOURS), points, channel) for channel in MAGMA.T], axis=1)
    rows, columns = pixels.shape
    unfiltered = np.pad(pixels, ((0, 0), (1, 0)))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0),
        b"PLTE": palette.round().astype(np.uint8).tobytes(),
        b"IDAT": zlib.compress(unfiltered.tobytes()),
        b"IEND": b"",
    }
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
