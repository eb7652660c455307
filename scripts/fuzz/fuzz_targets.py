"""Fuzz targets of ``tests/test_fuzz.py`` and ``scripts/fuzz/fuzz.py``: readers of untrusted input.

A target takes a folder of its own and the bytes of one file. It returns True if the file is read and its content can
be used, False if it is refused with the documented error, which names the file. Anything else is a finding.
"""

from __future__ import annotations

import hashlib
import resource
import shutil
import struct
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hushwork.audio.io import AudioError, audio_info, read_audio, read_blocks, write_audio
from hushwork.audio.metadata import SPEAKERS, Metadata, put_metadata, read_metadata
from hushwork.audio.metadata_items import MAX_BYTES, TAG, Item
from hushwork.audio.stft import StftConfig
from hushwork.data.arrow import write_arrow
from hushwork.data.manifest import load_manifest, write_manifest
from hushwork.data.recordings import SPLITS, ManifestError, Recording
from hushwork.files.denoise import denoise, denoise_file
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.export import export_model, load_for_training
from hushwork.models.masker import RecurrentMasker
from hushwork.network.model_folder import CARD, CONFIG, SUMS, WEIGHTS, ModelError
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained
from hushwork.streaming.stream import DenoiserStream

RATE = 8000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(800)).astype(np.float32)
FORMATS = {
    **{suffix: (suffix, None) for suffix in ("wav", "flac", "ogg", "opus", "mp3", "aiff", "w64", "rf64", "caf", "au")},
    **{suffix: (suffix, None) for suffix in ("m4a", "mka", "tta", "wv", "aac", "bw64")},
    "ima_adpcm": ("wav", "IMA_ADPCM"),
    "float": ("wav", "FLOAT"),
}
TAGS = [(TAG + b"title", b"A talk"), (TAG + b"artist", b"x=y" * 200)]
PICTURE = struct.pack(">II9sI5s5I", 3, 9, b"image/png", 5, b"front", 1, 1, 24, 0, 99) + bytes(99)
APE = b"8 bytes." + struct.pack("<8s4I8x", b"APETAGEX", 2000, 40, 0, 0)
METADATA: dict[str, list[Item]] = {  # by suffix
    "wav": [(TAG + b"INAM", b"A talk"), (b"bext", bytes(99))],
    "rf64": [(b"iXML", b"<BWFXML/>")],
    "aiff": [(b"NAME", b"A talk"), (b"ID3 ", b"ID3\4\0\0\0\0\0\0")],
    "flac": [*TAGS, (b"PICTURE", PICTURE)],
    "ogg": TAGS,
    "opus": TAGS,
    "mp3": [
        (b"ID3v2", b"ID3\4\0\0\0\0\1\0" + bytes(128)),
        (b"APEv2", APE),
        (b"ID3v1", b"TAG" + bytes(125)),
    ],
    "mov": [(b"udta", struct.pack(">I4s", 8, b"\xa9nam"))],
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
    """As a JSONL manifest in a folder with the recordings of a valid one."""
    return _use_manifest(folder / "fed.jsonl", content, write_manifest)


def feed_arrow(folder: Path, content: bytes) -> bool:
    """As an Arrow manifest, whose recordings are not checked."""
    return _use_manifest(folder / "fed.arrow", content, write_arrow)


def _use_manifest(path: Path, content: bytes, write: Callable[..., object]) -> bool:
    path.write_bytes(content)
    try:
        manifest = load_manifest(path, RATE)
    except ManifestError as error:
        return _refused(error, path)
    for split in SPLITS:
        manifest.contents(split)
    again = path.with_stem("again")
    write(again, manifest.recordings)
    assert set(load_manifest(again, RATE).recordings) == set(manifest.recordings)
    return True


def feed_audio(folder: Path, content: bytes) -> bool:
    """As an audio file, whose format is found by its content."""
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
    # The number of samples is not checked: in a damaged mp3 it depends on where reading begins.
    assert audio.dtype == np.float32
    assert audio.shape[0] == info.num_channels
    assert all(block.shape[0] == info.num_channels and 0 < block.shape[1] <= 1000 for block in blocks)
    return True


def feed_metadata(folder: Path, content: bytes) -> bool:
    """As an audio file whose tags are copied to another one, which must then hold them, and its own audio unchanged."""
    path = folder / "fed"
    path.write_bytes(content)
    metadata = read_metadata(path)
    assert sum(len(part) for _, part in metadata.items) <= MAX_BYTES
    try:
        if metadata.kind != "mov":  # made here without audio
            audio_info(path)
    except AudioError as error:
        return _refused(error, path)
    for good in folder.glob("good.*"):
        copy = folder / f"copy{good.suffix}"
        shutil.copyfile(good, copy)
        put_metadata(copy, metadata)
        if read_metadata(good).kind == metadata.kind:
            assert _items(copy) == (_without_speakers(metadata.items) or _items(good))
            assert metadata.kind == "mov" or np.array_equal(read_audio(copy)[0], read_audio(good)[0])
        else:
            assert copy.read_bytes() == good.read_bytes()
    return True


TARGETS: dict[str, Callable[[Path, bytes], bool]] = {
    "config": feed_config,
    "weights": feed_weights,
    "sums": feed_sums,
    "manifest": feed_manifest,
    "arrow": feed_arrow,
    "audio": feed_audio,
    "metadata": feed_metadata,
}


def make_seeds(folder: Path) -> dict[str, list[bytes]]:
    """Make ``folder``/TARGET for each target; returns valid input by target."""
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
                for listed in ("manifest", "arrow"):
                    write_audio(folder / listed / path, NOISE, RATE)
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
    write_arrow(folder / "arrow" / "good.arrow", recordings)
    for name, (suffix, subtype) in FORMATS.items():
        write_audio(folder / "audio" / f"{name}.{suffix}", np.stack([NOISE, -NOISE]), RATE, subtype)
    tagged = [_tagged(folder / "metadata", *each) for each in METADATA.items()]
    return {
        "config": [(model / CONFIG).read_bytes()],
        "weights": [(model / WEIGHTS).read_bytes()],
        "sums": [(model / SUMS).read_bytes()],
        "manifest": [(folder / "manifest" / "good.jsonl").read_bytes()],
        "arrow": [(folder / "arrow" / "good.arrow").read_bytes()],
        "audio": [path.read_bytes() for path in sorted((folder / "audio").glob("*.*"))],
        "metadata": tagged,
    }


def _tagged(folder: Path, suffix: str, items: list[Item]) -> bytes:
    """Write ``good.<suffix>`` without tags; returns the content of a copy with these tags."""
    good = folder / f"good.{suffix}"
    if suffix == "mov":
        good.write_bytes(struct.pack(">I8sI4sI4s", 12, b"ftypqt  ", 16, b"moov", 8, b"trak"))
    else:
        write_audio(good, NOISE, RATE)
    copy = good.with_stem("tagged")
    shutil.copyfile(good, copy)
    put_metadata(copy, Metadata(read_metadata(good).kind, items))
    assert _items(copy) == items
    return copy.read_bytes()


def _items(path: Path) -> list[Item]:
    return _without_speakers(read_metadata(path).items)


def _without_speakers(items: list[Item]) -> list[Item]:
    """The items without the channel mask, which not every header can hold."""
    return [item for item in items if item[0] != SPEAKERS]


def limit_memory(more_bytes: int) -> None:
    """Limit the address space of this process to its present size and ``more_bytes``: beyond is a MemoryError."""
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
    """Load a model for use and for training, and denoise with it; a model that can be used can also be trained."""
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
    """Check that the message of an error names the path, and is short enough to be read."""
    message = str(error)
    assert message.startswith(str(where)), message
    assert len(message) < 10_000, message
    assert isinstance(error, ManifestError) or len(message.splitlines()) == 1, message
    return False
