"""Denoising in real time: pipes, and the microphone.

Shapes: C channels, n samples of a block.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.chunks import denoise_in_chunks
from hushwork.streaming.recordings import RecordingStream
from hushwork.streaming.stream import DenoiserStream
from hushwork.streaming.strength import Processing, Strength

METER_FLOOR_DB = -60


def denoise_pipe(
    source: BinaryIO,
    sink: BinaryIO,
    denoiser: PretrainedDenoiser,
    strength: Strength,
    *,
    dtype: str,
    sample_rate: int,
    num_channels: int,
    channels: str = "linked",
    high_band: str = "mask",
) -> None:
    """Denoise raw interleaved samples as they come; as many go out as came in.

    Args:
        source: read until its end, as data arrives.
        sink: written and flushed after each block.
        denoiser: if it is not causal, the output lags by its windows.
        strength: how much of the noise is removed.
        dtype: "<i2" (full scale 32768) or "<f4" (full scale 1).
        sample_rate: Hz, of both.
        num_channels: C.
        channels, high_band: see :func:`hushwork.denoise`.

    Raises:
        ValueError: a rate or number of channels below 1, or an incomplete sample at the end.
    """
    if sample_rate < 1 or num_channels < 1:
        raise ValueError(f"sample rate ({sample_rate}) and channels ({num_channels}) of a pipe must be at least 1")
    kind = np.dtype(dtype)
    scale = 32768.0 if kind.kind == "i" else 1.0
    frame_bytes = kind.itemsize * num_channels

    def blocks() -> Iterator[np.ndarray]:
        left = b""
        while data := source.read1(1 << 16):  # type: ignore[attr-defined]
            data = left + data
            whole = len(data) // frame_bytes * frame_bytes
            left = data[whole:]
            samples = np.frombuffer(data[:whole], kind).reshape(-1, num_channels)
            yield np.ascontiguousarray(samples.T, np.float32) / np.float32(scale)
        if left:
            raise ValueError(f"the pipe ended within a sample: {len(left)} of its {frame_bytes} bytes arrived")

    def write(audio: np.ndarray) -> None:
        samples = audio.T * scale
        if kind.kind == "i":
            samples = np.rint(samples).clip(-32768, 32767)
        sink.write(samples.astype(kind).tobytes())
        sink.flush()

    processing = Processing(strength, channels, high_band)
    recording = RecordingStream(blocks(), sample_rate, num_channels, denoiser.sample_rate, processing, write)
    options: dict[str, Any] = {"channels": channels, "with_gains": recording.high_band == "mask"}
    new_stream = DenoiserStream if denoiser.is_causal else denoise_in_chunks
    stream = new_stream(denoiser, num_channels, strength.without_blend(), **options)
    while not recording.is_over:
        finished = stream.process(recording.read())
        recording.write(finished[:num_channels], finished[-num_channels:])
    if not recording.failure:
        finished = stream.flush()
        recording.write(finished[:num_channels], finished[-num_channels:], last=True)
    if recording.failure:
        raise recording.failure


def meter(audio: np.ndarray, width: int = 24) -> str:
    """A bar for the level of a block: ``width`` characters from -60 dB to full scale."""
    power = float(np.mean(np.square(audio))) if audio.size else 0.0
    level = max(METER_FLOOR_DB, 10 * np.log10(power + 1e-12))
    filled = round(width * (1 - level / METER_FLOOR_DB))
    return f"{'█' * filled}{'·' * (width - filled)} {level:6.1f} dB"


class LiveDenoiser:
    """Turns blocks of a microphone into equally long denoised blocks, ``latency_samples`` later.

    Args:
        denoiser: causal.
        strength: how much of the noise is removed while it is on.

    Attributes:
        bypassed: whether the input passes unchanged, with the same delay.
    """

    def __init__(self, denoiser: PretrainedDenoiser, strength: Strength) -> None:
        self._stream = DenoiserStream(denoiser, 1, strength)
        self._strength = strength
        # Fills the first blocks, so that as many samples go out as came in.
        self._waiting = np.zeros(self._stream.latency_samples, np.float32)

    @property
    def bypassed(self) -> bool:
        return self._stream.strength.mix == 0

    def toggle(self) -> None:
        """Switch between denoised and unchanged sound, without a click."""
        self._stream.strength = self._strength if self.bypassed else Strength(mix=0.0)

    def process(self, block: np.ndarray) -> np.ndarray:
        """The next block (n,) → a block (n,)."""
        self._waiting = np.concatenate([self._waiting, self._stream.process(block)])
        audio, self._waiting = self._waiting[: len(block)], self._waiting[len(block) :]
        return audio


def list_devices() -> str:
    """The audio devices of this machine, as sounddevice prints them."""
    return str(_sounddevice().query_devices())


def run_live(
    denoiser: PretrainedDenoiser, strength: Strength, source: str | None, sink: str | None, block_s: float
) -> None:
    """Denoise the microphone until q is entered; Enter alone switches the denoiser off and on.

    Args:
        denoiser: causal.
        strength: how much of the noise is removed.
        source, sink: device names or numbers; None takes the system's.
        block_s: seconds of a block.

    Raises:
        ValueError: the model is bidirectional, sounddevice is missing, or there is no such device.
    """
    live = LiveDenoiser(denoiser, strength)
    sounddevice = _sounddevice()
    shown = threading.Event()

    def callback(recorded: np.ndarray, played: np.ndarray, frames: int, time: Any, status: Any) -> None:
        clean = live.process(recorded[:, 0])
        played[:] = clean[:, None]
        if not shown.is_set():
            state = "plain   " if live.bypassed else "denoised"
            line = f"\r{state} in {meter(recorded[:, 0])}  out {meter(clean)} {'overload' if status else '        '}"
            sys.stderr.write(line)
            sys.stderr.flush()

    devices = tuple(int(name) if name and name.isdigit() else name for name in (source, sink))
    try:
        with sounddevice.Stream(
            samplerate=denoiser.sample_rate,
            blocksize=round(block_s * denoiser.sample_rate),
            device=devices,
            channels=1,
            dtype="float32",
            callback=callback,
        ):
            for line in sys.stdin:
                if line.strip().lower() == "q":
                    break
                live.toggle()
            shown.set()
    except sounddevice.PortAudioError as error:
        raise ValueError(f"the sound device cannot be opened: {error}; see hushwork live --devices") from error
    sys.stderr.write("\n")


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise ValueError("the microphone needs sounddevice: pip install 'hushwork[live]'") from error
    except OSError as error:
        raise ValueError(f"sounddevice finds no PortAudio ({error}): apt-get install libportaudio2") from error
    return sounddevice
