"""Telephone audio: frames of G.711 at 8 kHz, as telephony providers stream them."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from hushwork.integrations.frames import FrameFilter
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.strength import Strength

RATE = 8000
CODINGS = {"mulaw": "ULAW", "alaw": "ALAW"}


class TelephoneFilter:
    """Denoises the G.711 frames of one caller: as many bytes come out as go in, ``latency_ms`` later.

    Args:
        coding: "mulaw" (North America, Japan, most providers' streams) or "alaw" (elsewhere).
        denoiser: causal; None takes the default model. Callers may share it.
        strength: how much of the noise is removed.

    Raises:
        ValueError: an unknown coding, or the denoiser is not causal.
    """

    def __init__(
        self, coding: str = "mulaw", denoiser: PretrainedDenoiser | None = None, strength: Strength | None = None
    ) -> None:
        if coding not in CODINGS:
            raise ValueError(f"coding is {coding!r}; choose one of {', '.join(CODINGS)}")
        self.frames = FrameFilter(RATE, 1, denoiser, strength)
        self._samples, self._codes = g711(CODINGS[coding])

    @property
    def latency_ms(self) -> float:
        """Delay of the output in milliseconds."""
        return self.frames.latency_ms

    def process(self, payload: bytes) -> bytes:
        """The next codes, one byte a sample, any number → as many."""
        clean = self.frames.process(self._samples[np.frombuffer(payload, np.uint8)])
        return self._codes[clean.view(np.uint16)].tobytes()


def g711(subtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The samples of all codes, int16 (256,), and the codes of all samples, read as uint16, uint8 (65536,).

    Args:
        subtype: "ULAW" or "ALAW".
    """
    every_code = io.BytesIO(bytes(range(256)))
    samples, _ = soundfile.read(every_code, dtype="int16", samplerate=RATE, channels=1, format="RAW", subtype=subtype)
    codes = io.BytesIO()
    every_sample = np.arange(65536, dtype=np.uint16).view(np.int16)
    soundfile.write(codes, every_sample, RATE, format="RAW", subtype=subtype)
    return samples, np.frombuffer(codes.getvalue(), np.uint8)
