"""Jobs that make the files of the corpus from unpacked packages, and what they leave behind for later runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hushwork.audio.io import AudioError, read_audio, resample, write_audio
from hushwork.data.manifest import Recording
from hushwork.prepare.debian_audio import (
    fade,
    fingerprint,
    frame_levels,
    gate,
    highpass,
    level,
    mono,
    noise_spectrum,
    trim,
    voiced_share,
)
from hushwork.prepare.debian_packages import Place
from hushwork.prepare.debian_rules import bcp47

RECIPE = 1  # raised when processing changes, so that finished work of an older recipe is done again

# Speech
SPEECH_MIN_RATE = 16000  # Hz; a lower rate has no energy above 8 kHz, and the model would learn to cut it
SYNTHETIC = {"qa_": 24000}  # speaker prefix -> rate in Hz of the clips that a speech synthesiser made
MIN_CLIP_S, MIN_ACTIVE_S, MIN_FILE_S, MIN_FILL_S, MAX_FILL_S = 0.2, 0.15, 1.5, 6.0, 10.0
MAX_CLIPPED = 2e-3  # share of samples at full scale
MIN_SNR_DB = 20.0
SILENT = 1e-3  # peak amplitude
GATE_NEIGHBOURS, GATE_MIN_CLIP_S = 12, 0.6
TIER_WEIGHTS = {"A": 1.0, "B": 0.7, "C": 0.4}

# Noise
NOISE_MIN_RATE, NOISE_MIN_RATE_TRAIN = 11000, 16000  # Hz
LOW_RATE_CLASSES = ("babble_crowd", "engine_vehicle")  # too rare in train to insist on the higher rate
NOISE_MIN_S = {"misc_fx": 2.0, "impacts": 0.5}
NOISE_MIN_OTHER_S, MUSIC_MAX_S = 0.3, 120.0
MAX_VOICED, VOICED_CHECK_S = 0.10, 60.0  # share of the first minute in which the detector hears speech


@dataclass(frozen=True)
class Rejected:
    """A recording that is not in the corpus."""

    kind: str
    package: str
    path: str
    reason: str


@dataclass(frozen=True)
class Product:
    """A recording of the corpus with what the manifest does not hold."""

    recording: Recording
    package: str
    original: str
    tier: str | None = None
    active_s: float | None = None
    fingerprint: str | None = None


@dataclass
class Outcome:
    """What a job made."""

    products: list[Product] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Outcome:
        products = [Product(**{**row, "recording": Recording(**row["recording"])}) for row in entry["products"]]
        return cls(products, [Rejected(**row) for row in entry["rejected"]])


@dataclass(frozen=True)
class SpeechJob:
    """The clips of one speaker."""

    speaker: str
    language: str
    split: str
    tier: str
    package: str
    version: str
    licence: str
    clips: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"speech/{self.speaker}"

    @property
    def effort(self) -> int:
        return len(self.clips)


@dataclass(frozen=True)
class NoiseItem:
    """A recording to make a noise file of."""

    path: str
    noise_class: str
    split: str
    source: str
    weight: float


@dataclass(frozen=True)
class NoiseJob:
    """Some recordings of one package; with ``typing`` they are key clicks to string together."""

    package: str
    version: str
    licence: str
    number: int
    items: tuple[NoiseItem, ...]
    typing: bool = False

    @property
    def name(self) -> str:
        return f"noise/{self.package}-{'typing' if self.typing else f'{self.number:03d}'}"

    @property
    def effort(self) -> int:
        return len(self.items)


Job = SpeechJob | NoiseJob


def run_job(job: Job, place: Place) -> Outcome:
    if isinstance(job, SpeechJob):
        return make_speech(job, place)
    return make_typing(job, place) if job.typing else make_noise(job, place)


def job_key(job: Job, place: Place) -> str:
    """Changes whenever the job's result would."""
    text = json.dumps([RECIPE, place.sample_rate, asdict(job)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def finished_outcome(job: Job, place: Place, marker: Path) -> Outcome | None:
    """What an earlier run made of ``job``, None if it did not, or did it otherwise, or its files are gone."""
    try:
        entry = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if entry["key"] != job_key(job, place):
        return None
    outcome = Outcome.from_json(entry["outcome"])
    paths = [product.recording.path for product in outcome.products]
    return outcome if all((place.out / path).is_file() or place.unused(path).is_file() for path in paths) else None


# ---------------------------------------------------------------- speech


@dataclass(frozen=True)
class Clip:
    path: str
    audio: np.ndarray


def make_speech(job: SpeechJob, place: Place) -> Outcome:
    """Clean, trim, level and join the clips of one speaker to files of 6 to 10 s."""
    rate = place.sample_rate
    outcome = Outcome()

    def reject(path: str, reason: str) -> None:
        outcome.rejected.append(Rejected("speech", job.package, path, reason))

    clips = usable_clips(job, place, reject)
    if job.tier != "A":
        clips = gated_clips(list(clips), rate)
    packer = Packer(job, place)
    for number, clip in enumerate(clips):
        trimmed = trim(clip.audio, rate)
        if trimmed is None or trimmed.active_s < MIN_ACTIVE_S:
            reject(clip.path, "no active part")
        elif trimmed.snr_db < MIN_SNR_DB:
            reject(clip.path, f"SNR {trimmed.snr_db:.0f} dB")
        else:
            packer.add(clip.path, fade(level(trimmed.audio, rate), rate), trimmed.active_s, pause_s(number))
    packer.flush()
    outcome.products = packer.products
    return outcome


def pause_s(number: int) -> float:
    """Seconds between two joined clips, 0.12 to 0.30, scattered but the same in every run."""
    return 0.12 + 0.18 * (number * 7919 % 101) / 100


def usable_clips(job: SpeechJob, place: Place, reject: Callable[[str, str], None]) -> Iterator[Clip]:
    """The clips of ``job`` that can be decoded and are wide, long and clean enough, at the corpus' sample rate."""
    synthetic_rate = next((rate for prefix, rate in SYNTHETIC.items() if job.speaker.startswith(prefix)), None)
    for path in job.clips:
        try:
            channels, native_rate = read_audio(place.tree(job.package) / path)
        except AudioError:
            reject(path, "cannot be decoded")
            continue
        audio = mono(channels)
        if native_rate < SPEECH_MIN_RATE:
            reject(path, f"narrow band ({native_rate} Hz)")
        elif native_rate == synthetic_rate:
            reject(path, f"synthetic speech ({native_rate} Hz)")
        elif len(audio) < MIN_CLIP_S * native_rate:
            reject(path, "too short")
        elif (clipped := float((np.abs(audio) >= 0.999).mean())) > MAX_CLIPPED:
            reject(path, f"clipped ({100 * clipped:.1f} % of the samples)")
        else:
            audio = highpass(resample(audio, native_rate, place.sample_rate), place.sample_rate)
            if np.abs(audio).max() < SILENT:
                reject(path, "silent")
            else:
                yield Clip(path, audio)


def gated_clips(clips: list[Clip], sample_rate: int) -> Iterator[Clip]:
    """``clips`` with less background, judged from each clip and the 24 around it, which were recorded together."""
    spectra = [
        noise_spectrum(clip.audio, sample_rate) if len(clip.audio) > GATE_MIN_CLIP_S * sample_rate else None
        for clip in clips
    ]
    for number, clip in enumerate(clips):
        around = spectra[max(0, number - GATE_NEIGHBOURS) : number + GATE_NEIGHBOURS + 1]
        known = [spectrum for spectrum in around if spectrum is not None]
        yield Clip(clip.path, gate(clip.audio, np.median(known, axis=0), sample_rate)) if known else clip


class Packer:
    """Joins clips of one speaker with short pauses and writes a file whenever there is enough for one."""

    def __init__(self, job: SpeechJob, place: Place) -> None:
        self.products: list[Product] = []
        self._job, self._place = job, place
        self._parts: list[np.ndarray] = []
        self._length, self._active_s, self._first = 0, 0.0, ""

    def add(self, path: str, audio: np.ndarray, active_s: float, gap_s: float) -> None:
        rate = self._place.sample_rate
        pause = np.zeros(int(rate * gap_s), dtype=np.float32)
        if self._length and self._length + len(audio) > MAX_FILL_S * rate:
            self.flush()
        self._parts += [audio, pause]
        self._length += len(audio) + len(pause)
        self._active_s += active_s
        self._first = self._first or path
        if self._length > MIN_FILL_S * rate:
            self.flush()

    def flush(self) -> None:
        """Write what is there, unless it is too little for a file."""
        job, rate = self._job, self._place.sample_rate
        if self._length > MIN_FILE_S * rate:
            path = f"speech/{job.split}/{job.speaker}/{job.speaker}_{len(self.products):04d}.flac"
            recording = Recording(
                path=path, kind="speech", split=job.split, sample_rate=rate, duration_s=self._length / rate,
                source=job.package, licence=job.licence, speaker=job.speaker, language=bcp47(job.language),
                weight=TIER_WEIGHTS[job.tier],
            )  # fmt: skip
            write_flac(self._place.out / path, np.concatenate(self._parts), rate)
            active_s = round(self._active_s, 2)
            self.products.append(Product(recording, job.package, self._first, tier=job.tier, active_s=active_s))
        self._parts = []
        self._length, self._active_s, self._first = 0, 0.0, ""


def write_flac(path: Path, audio: np.ndarray, sample_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, audio, sample_rate, subtype="PCM_16")


# ---------------------------------------------------------------- noise


def make_noise(job: NoiseJob, place: Place) -> Outcome:
    """Trim, check and level recordings of one package."""
    outcome = Outcome()
    for item in job.items:
        try:
            audio = noise_audio(job.package, item, place)
        except (AudioError, ValueError) as error:
            reason = "cannot be decoded" if isinstance(error, AudioError) else str(error)
            outcome.rejected.append(Rejected("noise", job.package, item.path, reason))
            continue
        path = f"noise/{item.split}/{item.noise_class}/{noise_name(job.package, item.path)}.flac"
        write_flac(place.out / path, audio, place.sample_rate)
        recording = noise_recording(path, audio, item, job, place)
        print_of = fingerprint(audio, place.sample_rate)
        outcome.products.append(Product(recording, job.package, item.path, fingerprint=print_of))
    return outcome


def noise_audio(package: str, item: NoiseItem, place: Place) -> np.ndarray:
    """The recording at the corpus' rate and level. ValueError says why it is none to train on."""
    rate = place.sample_rate
    channels, native_rate = read_audio(place.tree(package) / item.path)
    strict = item.split == "train" and item.noise_class not in LOW_RATE_CLASSES
    if native_rate < (NOISE_MIN_RATE_TRAIN if strict else NOISE_MIN_RATE):
        raise ValueError(f"narrow band ({native_rate} Hz)")
    audio = resample(mono(channels), native_rate, rate)
    if np.abs(audio).max(initial=0) < SILENT:
        raise ValueError("silent")
    audio = audio - audio.mean()
    levels = frame_levels(audio, rate)
    if len(levels) < 5:
        raise ValueError("too short")
    active = np.flatnonzero(levels > np.percentile(levels, 98) - 50)
    frame = rate // 50
    audio = audio[active[0] * frame : (active[-1] + 1) * frame]
    if len(audio) < NOISE_MIN_S.get(item.noise_class, NOISE_MIN_OTHER_S) * rate:
        raise ValueError("too short")
    if item.noise_class == "music":
        return level(audio[: int(MUSIC_MAX_S * rate)], rate)
    voiced = 0.0 if item.noise_class == "babble_crowd" else voiced_share(audio[: int(VOICED_CHECK_S * rate)], rate)
    if voiced > MAX_VOICED:
        raise ValueError(f"speech in {100 * voiced:.0f} % of it")
    return level(audio, rate)


def noise_recording(path: str, audio: np.ndarray, item: NoiseItem, job: NoiseJob, place: Place) -> Recording:
    return Recording(
        path=path, kind="noise", split=item.split, sample_rate=place.sample_rate,
        duration_s=len(audio) / place.sample_rate, source=item.source, licence=job.licence,
        noise_class=item.noise_class, weight=item.weight,
    )  # fmt: skip


def noise_name(package: str, path: str) -> str:
    """A file name that says where it is from; the digits keep equal names of different folders apart."""
    parts = PurePosixPath(path).with_suffix("").parts[-2:]
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join((package, *parts)).lower()).strip("-")
    return f"{slug}-{hashlib.sha256(path.encode()).hexdigest()[:4]}"


def make_typing(job: NoiseJob, place: Place) -> Outcome:
    """Recordings of single keys, strung together to six stretches of typing of 20 s."""
    rate, outcome = place.sample_rate, Outcome()
    keys = []
    for item in job.items:
        try:
            channels, native_rate = read_audio(place.tree(job.package) / item.path)
        except AudioError:
            outcome.rejected.append(Rejected("noise", job.package, item.path, "cannot be decoded"))
            continue
        key = resample(mono(channels), native_rate, rate)
        if 0.02 * rate < len(key) < 1.5 * rate and np.abs(key).max() > SILENT:
            keys.append(key)
        else:
            outcome.rejected.append(Rejected("noise", job.package, item.path, "not a single key"))
    random = np.random.default_rng(int(hashlib.sha256(job.package.encode()).hexdigest()[:8], 16))
    for number in range(6 if keys else 0):
        item = job.items[0]
        path = f"noise/{item.split}/keyboard/{job.package}-typing-{number}.flac"
        audio = level(typing(keys, 20.0, rate, random), rate)
        write_flac(place.out / path, audio, rate)
        recording = noise_recording(path, audio, item, job, place)
        outcome.products.append(Product(recording, job.package, f"{len(keys)} key clicks"))
    return outcome


def typing(keys: list[np.ndarray], seconds: float, sample_rate: int, random: np.random.Generator) -> np.ndarray:
    """Clicks at the pace of someone who types, with a pause for thought now and then."""
    audio = np.zeros(int((seconds + 2) * sample_rate), dtype=np.float32)
    time_s = 0.2
    while time_s < seconds:
        key = keys[random.integers(len(keys))]
        start = int(time_s * sample_rate)
        audio[start : start + len(key)] += key[: len(audio) - start] * random.uniform(0.5, 1)
        time_s += random.uniform(0.06, 0.32)
        if random.random() < 0.08:
            time_s += random.uniform(0.4, 1.2)
    return audio[: int(seconds * sample_rate)]
