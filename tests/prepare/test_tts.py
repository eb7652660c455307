"""hushwork prepare tts: sentences, and voices that often fail the checks."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hushwork.prepare import tts


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every utterance is 2 s long; every third passes the checks, until ten have. Returns what was spoken."""
    spoken: list[str] = []

    def speak(phonemes: str, voice: str, speed: float) -> np.ndarray:
        spoken.append(phonemes)
        return np.random.default_rng(len(spoken)).uniform(-0.1, 0.1, 32000).astype(np.float32)

    def problems(audio: Any, sounds: Any, max_pause_s: float) -> list[str]:
        number = list(dict.fromkeys(spoken)).index(spoken[-1]) + 1
        return [] if number % 3 == 0 and number <= 30 else ["too quiet"]

    fakes: dict[str, Any] = {
        "phonemise": lambda text, language: text,
        "count_sounds": len,
        "master_speech": lambda audio: audio,
        "synthesiser": lambda files: SimpleNamespace(speak=speak),
        "speech_problems": problems,
        "predict_quality": lambda audio: 3.0,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(tts, name, fake)
    return spoken


def speak(seconds: float, out: Path) -> list[Any]:
    files: Any = None
    return tts.speak_voice("af_alloy", "train", "en-US", seconds, files, out)


def test_a_voice_speaks_until_enough_utterances_pass_and_none_twice(spoken: list[str], tmp_path: Path) -> None:
    first = speak(7.0, tmp_path)
    assert [recording.duration_s for recording in first] == [2.0] * 4
    assert [recording.text for recording in first] == spoken[2:12:3]
    assert all((tmp_path / recording.path).exists() for recording in first)
    before = len(spoken)
    assert speak(8.0, tmp_path)[:4] == first
    assert not set(spoken[:before]) & set(spoken[before:])


def test_a_voice_that_fails_too_often_keeps_what_is_good(spoken: list[str], tmp_path: Path) -> None:
    recordings = speak(1000.0, tmp_path)
    assert len(recordings) == 10
    assert len(spoken) == 10 + tts.MAX_FAILURES + 1


def test_all_voices_read_sentences_of_some_length_that_differ() -> None:
    languages = tts.voices()
    assert sum(map(len, languages.values())) == 54
    for group in languages.values():
        for voice, language in group.items():
            texts = [text for _, text, _ in islice(tts.utterances(voice, language), 20)]
            assert len(set(texts)) == 20
            assert min(map(len, texts)) >= tts.MIN_LETTERS
