"""``hushwork doctor``: what is installed, what is missing, and whether denoising works.

Versions are read without importing packages, and the checks are independent: if one fails, the others still run.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hushwork import __version__

if TYPE_CHECKING:
    import numpy as np
    from packaging.requirements import Requirement

OK, MISSING, BROKEN = "OK", "missing", "broken"
EXTRAS = {
    "train": "training, and everything else that needs torch",
    "live": "the microphone: hushwork live",
    "eval": "PESQ, DNSMOS, DistillMOS and word error rates",
    "corpora": "preparing corpora: hushwork prepare debian",
    "shards": "manifests of millions of lines, and tar shards",
    "lhotse": "CutSets: hushwork prepare lhotse",
    "ray": "batches on a Ray cluster (--engine ray)",
    "remote": "files at URLs such as s3://",
    "sweep": "sweeps on Ray and Slurm, and searches",
    "wandb": "logging to Weights & Biases",
    "pipecat": "the filter for Pipecat agents",
    "livekit": "the filter for LiveKit agents",
    "docs": "building the documentation",
    "dev": "the tests of this project",
}
"""The purpose of each extra."""

PROGRAMS = {
    "ffmpeg": "hushwork prepare debian",
    "espeak-ng": "hushwork prepare tts and scripts/corpora/make_starter.py",
    "npm": "hushwork prepare tts and scripts/corpora/make_starter.py",
}
FORMATS = ("wav", "flac", "ogg", "opus", "mp3", "m4a")
LOSSY_TOLERANCE = 0.1  # of samples up to 1, for lossy formats
ROUNDING_TOLERANCE = 1e-4
LEAST_REDUCTION_DB = 3.0
LEAST_FREE = 200e6  # bytes
PROBE_S = 120  # to import torch, from a slow disk too
PROBE = """
import json, torch
gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps(gpus))
import torchaudio
"""


@dataclass(frozen=True)
class Finding:
    """One line: its ``subject``, "OK", "missing" or "broken", details, and what to do."""

    subject: str
    state: str
    detail: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """The findings on an installation by section, and whether denoising ``works``."""

    hushwork: str
    python: str
    system: str
    cpus: int
    works: bool
    sections: dict[str, list[Finding]]

    def as_json(self) -> str:
        """An object with the attributes as keys, findings likewise."""
        return json.dumps(asdict(self), indent=2)

    def as_text(self) -> str:
        """A line for each finding."""
        last = "denoising works" if self.works else "denoising does not work: see the lines marked broken"
        lines = [f"hushwork {self.hushwork}, Python {self.python}, {self.system}, {self.cpus} CPUs"]
        for section, findings in self.sections.items():
            lines += ["", section]
            for each in findings:
                rest = "; ".join(filter(None, (each.detail, each.advice)))
                lines.append(f"  {each.state:8} {each.subject:18} {rest}".rstrip())
        return "\n".join([*lines, "", last])


def examine() -> Report:
    """Run all checks. Takes seconds, and writes to temporary folders only."""
    again = "pip install --force-reinstall hushwork"
    sections = {
        "packages": _run(_packages, again),
        "extras": _run(_extras, again),
        "torch": _run(_torch, "pip install --force-reinstall torch"),
        "programs and libraries": _run(_programs, "check PATH"),
        "disk": _run(_disk, "set TMPDIR to a writable folder"),
        "audio files": _run(_formats, again),
        "models in the package": _run(_models, again),
        "denoising": _run(_denoising, again),
    }
    return Report(
        hushwork=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        cpus=os.cpu_count() or 1,
        works=all(finding.state == OK for finding in sections["denoising"]),
        sections=sections,
    )


def _run(check: Callable[[], Iterable[Finding]], advice: str) -> list[Finding]:
    """The findings of a check; an exception becomes the last of them."""
    found = []
    try:
        for finding in check():
            found.append(finding)  # noqa: PERF402 those before an exception count too
    except Exception as error:  # a broken package may raise anything
        found.append(Finding("this check", BROKEN, f"{type(error).__name__}: {error}", advice))
    return found


def _packages() -> Iterator[Finding]:
    for requirement in _requirements():
        state, detail = _installed(requirement)
        yield Finding(requirement.name, state, detail, "" if state == OK else "pip install hushwork")


def _extras() -> Iterator[Finding]:
    for extra in importlib.metadata.metadata("hushwork").get_all("Provides-Extra") or []:
        found = {requirement.name: _installed(requirement) for requirement in _requirements(extra)}
        missing = [name for name, (state, _) in found.items() if state == MISSING]
        broken = [f"{name} is {detail}" for name, (state, detail) in found.items() if state == BROKEN]
        purpose = EXTRAS.get(extra, "")
        if not missing and not broken:
            yield Finding(extra, OK, purpose)
            continue
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        lacks = [f"lacks {', '.join(missing[:3])}{more}"] if missing else []
        detail = "; ".join([purpose, *lacks, *broken])
        yield Finding(extra, MISSING if missing else BROKEN, detail, f"pip install 'hushwork[{extra}]'")


def _requirements(extra: str | None = None) -> Iterator[Requirement]:
    """The requirements of the installed package on this system, or those that one of its extras adds."""
    from packaging.requirements import Requirement  # not at the top: without it, the other checks still run

    for line in importlib.metadata.requires("hushwork") or []:
        requirement = Requirement(line)
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always if extra is None else not always and marker is not None and marker.evaluate({"extra": extra}):
            yield requirement


def _installed(requirement: Requirement) -> tuple[str, str]:
    """State and version of a package."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return MISSING, ""
    if not requirement.specifier.contains(version, prereleases=True):
        return BROKEN, f"{version}, required: {requirement.specifier}"
    return OK, version


def _torch() -> Iterator[Finding]:
    """Checked in a process of its own: a broken torch may crash or hang."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        yield Finding("torch", MISSING, "not needed for denoising", "for training: pip install 'hushwork[train]'")
        return
    advice = "pip install --force-reinstall torch torchaudio, both from one index"
    command = [sys.executable, "-P", "-c", PROBE]
    try:
        probe = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        yield Finding("torch", BROKEN, f"{version} cannot be imported in {PROBE_S} s", advice)
        return
    *_, reason = probe.stderr.splitlines() or [f"ended with {probe.returncode}"]
    if not probe.stdout:
        yield Finding("torch", BROKEN, f"{version} cannot be imported: {reason}", advice)
        return
    yield Finding("torch", OK, version)
    gpus = json.loads(probe.stdout.splitlines()[-1])
    yield Finding("GPU", OK if gpus else MISSING, ", ".join(gpus) or "training runs on the CPU")
    if probe.returncode:
        yield Finding("torchaudio", BROKEN, f"cannot be imported: {reason}", advice)
    else:
        yield Finding("torchaudio", OK, importlib.metadata.version("torchaudio"))


def _programs() -> Iterator[Finding]:
    for name, scripts in PROGRAMS.items():
        if path := shutil.which(name):
            yield Finding(name, OK, path)
        else:
            yield Finding(name, MISSING, f"needed for {scripts}", f"apt-get install {name}")
    if sys.platform == "linux":  # elsewhere it comes with sounddevice
        library = ctypes.util.find_library("portaudio")
        advice = "" if library else "apt-get install libportaudio2"
        yield Finding("PortAudio", OK if library else MISSING, library or "needed for hushwork live", advice)


def _disk() -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "file").write_bytes(b"written")
        yield _free("temporary folder", Path(tempfile.gettempdir()), "set TMPDIR to another disk")
    yield _free("this folder", Path.cwd(), "write to another disk")


def _free(subject: str, folder: Path, advice: str) -> Finding:
    free = shutil.disk_usage(folder).free
    detail = f"{folder}, {free / 1e9:.1f} GB free"
    return (
        Finding(subject, OK, detail)
        if free >= LEAST_FREE
        else Finding(subject, BROKEN, detail, f"make room, or {advice}")
    )


def _formats() -> Iterator[Finding]:
    import numpy as np

    from hushwork.audio.io import LIBSNDFILE_VERSION, read_audio, write_audio

    yield Finding("libsndfile", OK, LIBSNDFILE_VERSION)
    rate = 16_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    inner = slice(rate // 8, -rate // 8)  # encoders differ at the ends
    with tempfile.TemporaryDirectory() as folder:
        for suffix in FORMATS:
            path = Path(folder, f"tone.{suffix}")
            try:
                write_audio(path, tone, rate)
                yield _compared(suffix, read_audio(path)[0][0, inner], tone[inner], LOSSY_TOLERANCE)
            except (ValueError, OSError) as error:
                yield Finding(suffix, BROKEN, str(error), "pip install --upgrade soundfile av")


def _models() -> Iterator[Finding]:
    from hushwork.network.model_folder import SHIPPED, shipped_models
    from hushwork.network.pretrained import load_pretrained

    again = "pip install --force-reinstall hushwork"
    names = shipped_models()
    if "default" not in names:
        yield Finding("default", MISSING, f"not in {SHIPPED}", again)
    for name in names:
        try:
            count = load_pretrained(name).network.num_parameters
            yield Finding(name, OK, f"{count:,} parameters, checksums match")
        except (ValueError, OSError) as error:
            yield Finding(name, BROKEN, str(error), again)


def _denoising() -> Iterator[Finding]:
    """Denoise noise and a tone with the model of ``hushwork denoise``: as an array, a stream and a file."""
    import numpy as np

    from hushwork.audio.io import read_audio, write_audio
    from hushwork.files.denoise import denoise, denoise_file
    from hushwork.network.model_folder import find_model
    from hushwork.network.pretrained import load_pretrained
    from hushwork.streaming.stream import DenoiserStream

    chosen = os.environ.get("HUSHWORK_MODEL")
    other = "unset HUSHWORK_MODEL to take the default" if chosen else "pip install --force-reinstall hushwork"
    try:
        folder = find_model()
        model = load_pretrained(folder)
    except (ValueError, OSError) as error:
        yield Finding("model", BROKEN, str(error), other)
        return
    yield Finding("model", OK, f"{folder}, by HUSHWORK_MODEL" if chosen else "default")
    rate = model.sample_rate
    time = np.arange(2 * rate) / rate
    tones = (time > 1) * sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 9))
    noisy = (0.1 * tones + np.random.default_rng(0).normal(0, 0.05, len(time))).astype(np.float32)
    clean = denoise(noisy, rate, model)
    noise_alone = slice(rate // 2, rate)
    before, after = (float(np.square(audio[noise_alone]).mean()) for audio in (noisy, clean))
    reduction_db = 10 * np.log10(before / max(after, 1e-20))
    if not np.isfinite(clean).all():
        yield Finding("array", BROKEN, "the output has samples that are NaN or infinite", other)
    elif reduction_db < LEAST_REDUCTION_DB:
        yield Finding("array", BROKEN, f"noise is attenuated by only {reduction_db:.1f} dB", other)
    else:
        yield Finding("array", OK, f"noise is attenuated by {reduction_db:.0f} dB")
    if model.is_causal:
        stream = DenoiserStream(model)
        chunks = [stream.process(chunk) for chunk in np.array_split(noisy, 100)]
        yield _compared("stream", np.concatenate([*chunks, stream.flush()]), clean, ROUNDING_TOLERANCE)
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "noisy.wav"), Path(scratch, "clean.wav")
        write_audio(source, noisy, rate, "FLOAT")
        denoise_file(source, target, model)
        yield _compared("file", read_audio(target)[0][0], clean, ROUNDING_TOLERANCE)


def _compared(subject: str, actual: np.ndarray, expected: np.ndarray, tolerance: float) -> Finding:
    """Compare arrays (N,) up to a tolerance."""
    difference = float(abs(actual - expected).max()) if actual.shape == expected.shape else float("inf")
    if difference <= tolerance:
        return Finding(subject, OK, f"equal to {difference:.1g}")
    detail = f"{actual.size} of {expected.size} samples, largest difference {difference:.2g}, allowed {tolerance:g}"
    return Finding(subject, BROKEN, detail, "pip install --upgrade hushwork")
