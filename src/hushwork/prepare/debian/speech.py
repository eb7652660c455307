"""Speech files of one speaker: clips are checked, gated, trimmed, levelled and joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from hushwork.audio.io import AudioError, read_audio, resample
from hushwork.data.recordings import Recording
from hushwork.prepare.debian.audio import fade, gate, highpass, level, mono, noise_spectrum, trim
from hushwork.prepare.debian.jobs import SILENT, Outcome, Product, Rejected, SpeechJob, write_flac
from hushwork.prepare.debian.packages import Workspace
from hushwork.prepare.debian.rules import bcp47
from hushwork.prepare.restoration import restored

SPEECH_MIN_RATE = 16000  # Hz; the model would learn to remove bands that recordings at a lower rate do not have
SYNTHETIC = {"qa_": 24000}  # speaker prefix -> rate in Hz of the clips that a speech synthesiser made
MIN_CLIP_S, MIN_ACTIVE_S, MIN_FILE_S, MIN_FILL_S, MAX_FILL_S = 0.2, 0.15, 1.5, 6.0, 10.0
MAX_CLIPPED = 2e-3  # share of samples at full scale
MIN_SNR_DB = 20.0
GATE_NEIGHBOURS, GATE_MIN_CLIP_S = 12, 0.6
TIER_WEIGHTS = {"A": 1.0, "B": 0.7, "C": 0.4, "N": 0.7}
RESTORED_WEIGHT = 0.7


@dataclass(frozen=True)
class Clip:
    path: str
    audio: np.ndarray


def make_speech(job: SpeechJob, workspace: Workspace) -> Outcome:
    """Gate, trim, level and join the clips of one speaker to files of 6 to 10 s, and clean these if the job says so."""
    rate = workspace.sample_rate
    outcome = Outcome()

    def reject(path: str, reason: str) -> None:
        outcome.rejected.append(Rejected("speech", job.package, path, reason))

    clips = usable_clips(job, workspace, reject)
    if job.tier not in ("A", "N"):
        clips = gated_clips(list(clips), rate)
    packer = Packer(job, workspace, reject)
    for number, clip in enumerate(clips):
        trimmed = trim(clip.audio, rate)
        if trimmed is None or trimmed.active_s < MIN_ACTIVE_S:
            reject(clip.path, "no active part")
        elif trimmed.snr_db < MIN_SNR_DB and job.tier != "N":
            reject(clip.path, f"SNR {trimmed.snr_db:.0f} dB")
        else:
            packer.add(clip.path, fade(level(trimmed.audio, rate), rate), trimmed.active_s, pause_s(number))
    packer.flush()
    outcome.products = packer.products
    return outcome


def pause_s(number: int) -> float:
    """Seconds between two joined clips, 0.12 to 0.30, scattered but the same in every run."""
    return 0.12 + 0.18 * (number * 7919 % 101) / 100


def usable_clips(job: SpeechJob, workspace: Workspace, reject: Callable[[str, str], None]) -> Iterator[Clip]:
    """The clips of ``job`` of sufficient bandwidth, length and quality, at the corpus' sample rate."""
    synthetic_rate = next((rate for prefix, rate in SYNTHETIC.items() if job.speaker.startswith(prefix)), None)
    for path in job.clips:
        try:
            channels, native_rate = read_audio(workspace.tree(job.package) / path)
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
            audio = highpass(resample(audio, native_rate, workspace.sample_rate), workspace.sample_rate)
            if np.abs(audio).max() < SILENT:
                reject(path, "silent")
            else:
                yield Clip(path, audio)


def gated_clips(clips: list[Clip], sample_rate: int) -> Iterator[Clip]:
    """``clips`` after the noise gate; the noise is estimated from each clip and the 24 around it, recorded together."""
    spectra = [
        noise_spectrum(clip.audio, sample_rate) if len(clip.audio) > GATE_MIN_CLIP_S * sample_rate else None
        for clip in clips
    ]
    for number, clip in enumerate(clips):
        neighbours = spectra[max(0, number - GATE_NEIGHBOURS) : number + GATE_NEIGHBOURS + 1]
        known = [spectrum for spectrum in neighbours if spectrum is not None]
        yield Clip(clip.path, gate(clip.audio, np.median(known, axis=0), sample_rate)) if known else clip


class Packer:
    """Joins clips of one speaker with short pauses, and writes a file as soon as it is long enough."""

    def __init__(self, job: SpeechJob, workspace: Workspace, reject: Callable[[str, str], None]) -> None:
        self.products: list[Product] = []
        self._job, self._place, self._reject = job, workspace, reject
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
        """Write the clips collected so far, or drop them if they are too short for a file."""
        if self._length > MIN_FILE_S * self._place.sample_rate:
            self._write(np.concatenate(self._parts))
        self._parts = []
        self._length, self._active_s, self._first = 0, 0.0, ""

    def _write(self, audio: np.ndarray) -> None:
        job, rate = self._job, self._place.sample_rate
        source, weight = job.package, TIER_WEIGHTS[job.tier]
        clean = restored(audio, rate, is_noisy=job.tier == "N") if job.restored else None
        if clean is not None:
            audio, source, weight = clean, f"{job.package}, cleaned by DeepFilterNet 3", RESTORED_WEIGHT
        elif job.tier == "N":
            self._reject(self._first, "not clean, even when denoised")
            return
        path = f"speech/{job.split}/{job.speaker}/{job.speaker}_{len(self.products):04d}.flac"
        recording = Recording(
            path=path, kind="speech", split=job.split, sample_rate=rate, duration_s=len(audio) / rate,
            source=source, licence=job.licence, speaker=job.speaker, language=bcp47(job.language), weight=weight,
        )  # fmt: skip
        write_flac(self._place.out / path, audio, rate)
        active_s = round(self._active_s, 2)
        self.products.append(Product(recording, job.package, self._first, tier=job.tier, active_s=active_s))
