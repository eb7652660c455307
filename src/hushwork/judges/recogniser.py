"""Moonshine tiny-en, an English speech recogniser: the only user of the package moonshine_voice."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np


def recognise(audio: np.ndarray, sample_rate: int) -> str:
    """The English text of speech; needs the extra ``eval``.

    The recogniser's own voice activity detector is off: it drops quiet speech and depends on the audio of earlier
    calls. The whole recording is recognised, in pieces of 15 s.

    Args:
        audio: (N,), float.
        sample_rate: Hz; the package resamples to 16 kHz.

    Source: Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024. Package
    moonshine-voice 0.0.44 (MIT licence), the last one whose wheel carries the weights.
    """
    transcript = _transcriber().transcribe_without_streaming(audio.tolist(), sample_rate)
    return " ".join(line.text for line in transcript.lines)


def words(text: str) -> list[str]:
    """Words in lower case, without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower().replace("-", " "))


@cache
def _transcriber() -> Any:
    from moonshine_voice import ModelArch, Transcriber, get_model_path

    return Transcriber(str(get_model_path("tiny-en")), ModelArch.TINY, options={"vad_threshold": 0.0})
