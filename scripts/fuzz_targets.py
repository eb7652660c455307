"""What damaged input is fed to, in ``tests/test_fuzz.py`` and ``scripts/fuzz.py``.

A target takes a folder of its own and the bytes of one file. They are read and what was read is used (True), or they
are refused with the error that is documented, which names the file (False). Anything else is a finding.
"""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hushwork.audio.io import AudioError, audio_info, read_audio, read_blocks, write_audio
from hushwork.audio.stft import StftConfig
from hushwork.data.manifest import SPLITS, ManifestError, Recording, load_manifest, write_manifest
from hushwork.export import export_model, load_for_training
from hushwork.inference.files import denoise, denoise_file
from hushwork.inference.pretrained import CARD, CONFIG, SUMS, WEIGHTS, ModelError, PretrainedDenoiser, load_pretrained
from hushwork.inference.stream import DenoiserStream
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.masker import RecurrentMasker

RATE = 8000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(800)).astype(np.float32)
SOUNDS = {
    **{suffix: (suffix, None) for suffix in ("wav", "flac", "ogg", "opus", "mp3", "aiff", "w64", "rf64", "caf", "au")},
    "ima_adpcm": ("wav", "IMA_ADPCM"),
    "float": ("wav", "FLOAT"),
}
MANY_CHANNELS = 16


def feed_config(folder: Path, content: bytes) -> bool:
    """As ``config.json`` of a model whose checksums are right."""
    (folder / "model" / CONFIG).write_bytes(content)
    _sign(folder / "model")
    return _use_model(folder / "model")


def feed_weights(folder: Path, content: bytes) -> bool:
    """As ``model.safetensors`` of a model whose checksums are right."""
    (folder / "model" / WEIGHTS).write_bytes(content)
    _sign(folder / "model")
    return _use_model(folder / "model")


def feed_sums(folder: Path, content: bytes) -> bool:
    """As ``SHA256SUMS`` of a model."""
    (folder / "model" / SUMS).write_bytes(content)
    return _use_model(folder / "model")


def feed_manifest(folder: Path, content: bytes) -> bool:
    """As a manifest beside the recordings of a good one."""
    path = folder / "fed.jsonl"
    path.write_bytes(content)
    try:
        manifest = load_manifest(path, RATE)
    except ManifestError as error:
        return _refused(error, path)
    for split in SPLITS:
        manifest.contents(split)
    write_manifest(folder / "again.jsonl", manifest.recordings)
    assert set(load_manifest(folder / "again.jsonl", RATE).recordings) == set(manifest.recordings)
    return True


def feed_audio(folder: Path, content: bytes) -> bool:
    """As an audio file, of which the content tells the format."""
    path = folder / "fed"
    path.write_bytes(content)
    try:
        info = audio_info(path)
        audio, _ = read_audio(path)
        blocks = list(read_blocks(path, 1000))
        if info.num_channels <= MANY_CHANNELS:
            denoise_file(path, folder / "denoised.wav", _good_model(folder), overwrite=True)
    except AudioError as error:
        return _refused(error, folder)
    # How many samples there are is not asked: of a damaged mp3 that depends on where reading begins.
    assert audio.dtype == np.float32
    assert audio.shape[0] == info.num_channels
    assert all(block.shape[0] == info.num_channels and 0 < block.shape[1] <= 1000 for block in blocks)
    return True


TARGETS: dict[str, Callable[[Path, bytes], bool]] = {
    "config": feed_config,
    "weights": feed_weights,
    "sums": feed_sums,
    "manifest": feed_manifest,
    "audio": feed_audio,
}


def make_seeds(folder: Path) -> dict[str, list[bytes]]:
    """Make a folder for each target below ``folder``, called as it; returns good input of each."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clock: dict[str, Any] = {
            "hidden_sizes": [4, 3],
            "periods": [1, 3],
            "offsets": [0, 1],
            "pool": "learned",
            "num_layers": 1,
        }
        recurrence = partial(StackedClockworkRNN, cell="gru", **clock)
        masker = partial(RecurrentMasker, recurrence=recurrence, projection_size=5)
        stft = StftConfig(n_fft=64, hop_length=32)
        denoiser = Denoiser(sample_rate=RATE, stft=stft, masker=masker, num_bands=8, mean_time_constant_s=1.0)
    for target in TARGETS:
        (folder / target).mkdir()
    for target in ("config", "weights", "sums", "audio"):
        export_model(denoiser, {"name": "seed"}, "card\n", folder / target / "model")
    model = folder / "config" / "model"
    recordings = []
    for split in ("train", "test"):
        for kind, names in (("speech", ("s",)), ("noise", ("n",)), ("pair", ("c", "x"))):
            paths = [f"{name}_{split}.wav" for name in names]
            for path in paths:
                write_audio(folder / "manifest" / path, NOISE, RATE)
            source = f"{kind} {split}"
            recordings.append(
                Recording(
                    path=paths[0],
                    noisy_path=paths[1] if kind == "pair" else None,
                    kind=kind,
                    split=split,
                    sample_rate=RATE,
                    duration_s=len(NOISE) / RATE,
                    source=source,
                    licence="CC0-1.0",
                    speaker=None if kind == "noise" else source,
                    noise_class="rain" if kind == "noise" else None,
                    snr_db=3.5 if kind == "pair" else None,
                )
            )
    write_manifest(folder / "manifest" / "good.jsonl", recordings)
    for name, (suffix, subtype) in SOUNDS.items():
        write_audio(folder / "audio" / f"{name}.{suffix}", np.stack([NOISE, -NOISE]), RATE, subtype)
    return {
        "config": [(model / CONFIG).read_bytes()],
        "weights": [(model / WEIGHTS).read_bytes()],
        "sums": [(model / SUMS).read_bytes()],
        "manifest": [(folder / "manifest" / "good.jsonl").read_bytes()],
        "audio": [path.read_bytes() for path in sorted((folder / "audio").glob("*.*"))],
    }


def limit_memory(more_bytes: int) -> None:
    """From now on this process gets only so much more address space: a larger allocation is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@cache
def _good_model(folder: Path) -> PretrainedDenoiser:
    return load_pretrained(folder / "model")


def _sign(folder: Path) -> None:
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in (CARD, CONFIG, WEIGHTS)]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def _use_model(folder: Path) -> bool:
    """Load a model for use and for training, and denoise with it; what can be used can be trained too."""
    try:
        model = load_pretrained(folder)
        with np.errstate(all="ignore"):  # weights may be as large as float32 goes
            assert denoise(NOISE, model.sample_rate, model).shape == NOISE.shape
            if model.is_causal:
                stream = DenoiserStream(model)
                assert len(stream.process(NOISE)) + len(stream.flush()) == len(NOISE)
    except ModelError as error:
        _refused(error, folder)
    try:
        denoiser = load_for_training(folder)
    except ModelError as error:
        return _refused(error, folder)
    with torch.inference_mode():
        assert denoiser(torch.from_numpy(NOISE)[None]).shape == (1, len(NOISE))
    return True


def _refused(error: ValueError, where: Path) -> bool:
    """Check what an error says; it names the place, and is no longer than people read."""
    message = str(error)
    assert message.startswith(str(where)), message
    assert len(message) < 10_000, message
    assert isinstance(error, ManifestError) or len(message.splitlines()) == 1, message
    return False
