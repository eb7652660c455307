"""The speech of the starter corpus: sentences spoken by the text-to-speech model Kokoro-82M, checked and selected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.progress import track

from hushwork.atomic import write_atomically
from hushwork.data.recordings import SPLITS
from hushwork.prepare.items import PrepareError
from hushwork.prepare.kokoro import (
    MODEL_RATE,
    MODEL_SHA256,
    SPEEDS,
    VOICES,
    ModelFiles,
    count_sounds,
    phonemise,
    synthesiser,
)
from hushwork.prepare.utterances import (
    SAMPLE_RATE,
    master_speech,
    predict_quality,
    seed_of,
    speech_problems,
)

SENTENCES = Path(__file__).with_name("sentences.txt")
SECONDS_PER_VOICE = 21.5
MIN_DNSMOS_OVRL = 2.9


@dataclass(frozen=True)
class Sentence:
    split: str
    language: str
    text: str


@dataclass(frozen=True)
class Utterance:
    """A file of speech to be synthesised; ``number`` counts the candidates of a voice from 1."""

    voice: str
    split: str
    language: str
    number: int
    text: str
    speed: float


def read_sentences(path: Path = SENTENCES) -> list[Sentence]:
    """The sentence file: ``split | language | sentence`` a line; empty lines and lines starting with # are skipped."""
    sentences = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != 3 or fields[0] not in SPLITS or not fields[2]:
            raise PrepareError(f"{path}, line {number}: expected 'split | language | sentence', got {line!r}")
        sentences.append(Sentence(*fields))
    return sentences


def plan_voice(voice: str, split: str, language: str, sentences: Iterable[Sentence]) -> list[Utterance]:
    """The utterances that ``voice`` may speak, in order: one or two sentences each, each sentence at most once."""
    candidates = [
        sentence.text for sentence in sentences if (sentence.split, sentence.language) == (split, language[:2])
    ]
    texts: list[str] = []
    for text in sorted(candidates, key=lambda text: seed_of(voice, text)):
        # About 16 letters a second: an utterance shorter than 4 s gets a second sentence.
        if texts and len(texts[-1]) < 64:
            texts[-1] += f" {text}"
        else:
            texts.append(text)
    low, high = SPEEDS
    return [
        Utterance(voice, split, language, number, text, low + (high - low) * (seed_of(voice, number) % 1000) / 999)
        for number, text in enumerate(texts, 1)
    ]


@dataclass(frozen=True)
class Take:
    """A finished utterance and its predicted quality (DNSMOS overall, 1 to 5), or why it was dropped."""

    utterance: Utterance
    audio: np.ndarray
    ovrl: float
    problems: tuple[str, ...]


def speak_voice(plan: Sequence[Utterance], files: ModelFiles, work: Path) -> list[Take]:
    """Speak utterances of one voice until ``SECONDS_PER_VOICE`` pass the checks; failed takes are returned too."""
    takes: list[Take] = []
    seconds = 0.0
    for utterance in plan:
        if seconds >= SECONDS_PER_VOICE:
            break
        take = _speak(utterance, files, work)
        takes.append(take)
        if not take.problems:
            seconds += len(take.audio) / SAMPLE_RATE
    return takes


def _speak(utterance: Utterance, files: ModelFiles, work: Path) -> Take:
    phonemes = phonemise(utterance.text, utterance.language)
    key = f"{seed_of(MODEL_SHA256, utterance.voice, utterance.speed, phonemes):040x}"
    cached = work / "utterances" / f"{utterance.voice}_{key[:16]}.wav"
    if not cached.exists():
        audio = synthesiser(files).speak(phonemes, utterance.voice, utterance.speed)
        with write_atomically(cached) as part:
            soundfile.write(part, audio, MODEL_RATE, format="WAV", subtype="FLOAT")
    audio = master_speech(soundfile.read(cached, dtype="float32")[0])
    problems = speech_problems(audio, count_sounds(phonemes))
    ovrl = float("nan")
    if not problems:
        ovrl = predict_quality(audio)
        if ovrl < MIN_DNSMOS_OVRL:
            problems.append(f"has a DNSMOS of {ovrl:.2f}")
    return Take(utterance, audio, ovrl, tuple(problems))


def speak_all(files: ModelFiles, work: Path, jobs: int, console: Console) -> list[Take]:
    """Speak the utterances of all voices in ``jobs`` processes; good takes only, in the order of ``VOICES``."""
    (work / "utterances").mkdir(parents=True, exist_ok=True)
    sentences = read_sentences()
    plans = [
        plan_voice(voice, split, language, sentences)
        for split, voices in VOICES.items()
        for voice, language in voices.items()
    ]
    spoken: dict[int, list[Take]] = {}
    # Threads of the model runtime do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(speak_voice, plan, files, work): index for index, plan in enumerate(plans)}
        done = track(as_completed(futures), "speaking", total=len(futures), console=console)
        for future in done:
            spoken[futures[future]] = future.result()
    good = []
    for index in range(len(plans)):
        for take in spoken[index]:
            if take.problems:
                name = f"{take.utterance.voice}, utterance {take.utterance.number}"
                console.print(f"dropped {name}: it {', '.join(take.problems)}")
            else:
                good.append(take)
    return good
