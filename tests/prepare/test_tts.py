"""hushwork prepare tts: sentences, and voices that often fail the checks."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hushwork.prepare import tts
from hushwork.prepare.items import PrepareError
from hushwork.prepare.kokoro import Synthesiser


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


def test_blends_are_of_two_training_voices_and_the_same_each_time() -> None:
    blends = tts.blends()
    train = tts.VOICES["train"]
    assert list(blends) == list(tts.blends())
    assert len(blends) == len({frozenset(name.split("+")) for name in blends}) == len(train) * (len(train) - 1) / 2
    for name, language in blends.items():
        first, second = name.split("+")
        assert first in train
        assert second in train
        assert language == train[first]


def test_a_blend_has_the_mean_timbre_and_the_prosody_of_the_first_voice(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((5, 256)).astype(np.float32) for _ in range(2))
    first.tofile(tmp_path / "first.bin")
    second.tofile(tmp_path / "second.bin")
    synthesiser: Any = SimpleNamespace(voices=tmp_path)
    style = Synthesiser._style(synthesiser, "first+second", 3)
    assert style.shape == (1, 256)
    np.testing.assert_allclose(style[0, :128], (first[3, :128] + second[3, :128]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(style[0, 128:], first[3, 128:])
    np.testing.assert_array_equal(Synthesiser._style(synthesiser, "second", 2)[0], second[2])


@pytest.mark.parametrize("number", ["-1", "667"])
def test_a_number_of_blends_that_do_not_exist_is_refused_before_downloads(number: str, tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=f"--blends is {number}; choose a number from 0 to 666"):
        tts.main(["--out", str(tmp_path), f"--blends={number}"])
    assert not list(tmp_path.iterdir())
