"""Noise files: recordings are checked, trimmed and levelled, key clicks joined to typing."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

import numpy as np

from hushwork.audio.io import AudioError, read_audio, resample
from hushwork.data.recordings import Recording
from hushwork.prepare.debian.audio import fingerprint, frame_levels, level, mono, voiced_share
from hushwork.prepare.debian.jobs import SILENT, NoiseItem, NoiseJob, Outcome, Product, Rejected, write_flac
from hushwork.prepare.debian.packages import Workspace

NOISE_MIN_RATE, NOISE_MIN_RATE_TRAIN = 11000, 16000  # Hz
LOW_RATE_CLASSES = ("babble_crowd", "engine_vehicle")  # too rare in train for the higher limit
NOISE_MIN_S = {"misc_fx": 2.0, "impacts": 0.5}
NOISE_MIN_OTHER_S, MUSIC_MAX_S = 0.3, 120.0
MAX_VOICED, VOICED_CHECK_S = 0.10, 60.0  # share of the first minute in which the detector finds speech


def make_noise(job: NoiseJob, workspace: Workspace) -> Outcome:
    """Check, trim and level the recordings of a job."""
    outcome = Outcome()
    for item in job.items:
        try:
            audio = noise_audio(job.package, item, workspace)
        except (AudioError, ValueError) as error:
            reason = "cannot be decoded" if isinstance(error, AudioError) else str(error)
            outcome.rejected.append(Rejected("noise", job.package, item.path, reason))
            continue
        path = f"noise/{item.split}/{item.noise_class}/{noise_name(job.package, item.path)}.flac"
        write_flac(workspace.out / path, audio, workspace.sample_rate)
        recording = noise_recording(path, audio, item, job, workspace)
        hash_of_audio = fingerprint(audio, workspace.sample_rate)
        outcome.products.append(Product(recording, job.package, item.path, fingerprint=hash_of_audio))
    return outcome


def noise_audio(package: str, item: NoiseItem, workspace: Workspace) -> np.ndarray:
    """The recording at the corpus' sample rate and level. Raises ValueError with the reason if it is not usable."""
    rate = workspace.sample_rate
    channels, native_rate = read_audio(workspace.tree(package) / item.path)
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


def noise_recording(path: str, audio: np.ndarray, item: NoiseItem, job: NoiseJob, workspace: Workspace) -> Recording:
    return Recording(
        path=path, kind="noise", split=item.split, sample_rate=workspace.sample_rate,
        duration_s=len(audio) / workspace.sample_rate, source=item.source, licence=job.licence,
        noise_class=item.noise_class, weight=item.weight,
    )  # fmt: skip


def noise_name(package: str, path: str) -> str:
    """A file name of package, folder and file; a hash tells equal names of different folders apart."""
    parts = PurePosixPath(path).with_suffix("").parts[-2:]
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join((package, *parts)).lower()).strip("-")
    return f"{slug}-{hashlib.sha256(path.encode()).hexdigest()[:4]}"


def make_typing(job: NoiseJob, workspace: Workspace) -> Outcome:
    """Join recordings of single keys to six files of typing, of 20 s each."""
    rate, outcome = workspace.sample_rate, Outcome()
    keys = []
    for item in job.items:
        try:
            channels, native_rate = read_audio(workspace.tree(job.package) / item.path)
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
        write_flac(workspace.out / path, audio, rate)
        recording = noise_recording(path, audio, item, job, workspace)
        outcome.products.append(Product(recording, job.package, f"{len(keys)} key clicks"))
    return outcome


def typing(keys: list[np.ndarray], seconds: float, sample_rate: int, random: np.random.Generator) -> np.ndarray:
    """Clicks at the pace of typing, with pauses."""
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
