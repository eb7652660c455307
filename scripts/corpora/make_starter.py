#!/usr/bin/env python3
"""Build the starter corpus of the package: synthetic speech of many voices, and synthetic noise.

    python scripts/corpora/make_starter.py                # into src/hushwork/data/starter

Speech is spoken by the neural text-to-speech model Kokoro-82M (Apache-2.0) from the sentences in
``starter_corpus/sentences.txt``; noise is synthesised as ``starter_corpus/noises.py`` lists. Nothing was recorded.
The first run downloads the model, about 100 MB, to ``--work``. Utterances are cached there too, so that an interrupted
run resumes.

Equal versions of the model runtime, espeak-ng and libsndfile give equal bytes: voices, sentences and noises are drawn
from SHA-1 seeds, and the serial number that libsndfile draws from the clock for each Ogg stream is replaced.

Shapes: N samples. Audio is mono float32 (N,), full scale 1.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.progress import track
from starter_corpus.noises import NOISES, make_noise, with_voices
from starter_corpus.voices import Take, speak_all

from hushwork.audio.io import audio_info
from hushwork.data.manifest import load_manifest, write_manifest
from hushwork.data.recordings import SPLITS, Recording
from hushwork.prepare.items import PrepareError
from hushwork.prepare.kokoro import check_tools, fetch_model
from hushwork.prepare.utterances import SAMPLE_RATE, seed_of

ROOT = Path(__file__).resolve().parents[2]
LICENCE = "Apache-2.0"
MAX_BYTES = 12_000_000
SPEECH_BITRATE = 36_000
NOISE_BITRATE = 40_000


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
            raise PrepareError(f"no Ogg page at byte {start}")
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
    # Callers add the other fields by replace(); load_manifest checks the line.
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
        chosen = [recording for recording in recordings if split in (None, recording.split)]
        speech = [recording for recording in chosen if recording.kind == "speech"]
        noise = [recording for recording in chosen if recording.kind == "noise"]
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

Speech and noise of `data=starter`, to try hushwork without a download.

**All of it is synthetic.** The speech was spoken by a neural text-to-speech model, Kokoro-82M, not by people; the
noise was computed by the functions in `scripts/corpora/starter_corpus`. Nothing was recorded.

| split | speech, min | voices | languages | noise, min | noise sources |
|---|---|---|---|---|---|
{rows}

* Files are mono Ogg Opus at 16 kHz. Speech is at an active level of -26 dBFS, noise at -26 dBFS rms; coding takes up
  to 2 dB from the brightest noises.
* A voice is in one split, and so are a sentence and a noise source. The noise classes are in every split, so the test
  noises are new, but of known classes: {classes}.
  Babble is made of the voices of its own split.
* Some voices of the model resemble each other closely (`ef_dora` and `pf_dora`, `em_alex` and `pm_alex`), so there
  are fewer distinct speakers than voices. Such voices share a split.
* Mandarin, Japanese and Hindi voices speak European languages here, with an accent.
* Every utterance passed checks of length, speaking rate, pauses and clicks, and a DNSMOS overall score of at least 2.9.
  They are predictions of a model; nobody rated the files by ear.

## Good for, and not good for

Good for checking an installation, trying the pipeline end to end, tests and teaching: a small model trained on it
learns to remove such noises from such voices. It is far too small, too clean and too regular to train a denoiser for
real recordings, and scores on it do not predict those on recordings. Train on recorded speech and noise for that.

## Licence

Apache-2.0, sentences and noises included. The voices are those of Kokoro-82M by hexgrad (Apache-2.0), used through
its int8 ONNX export by thewh1teagle (MIT); phonemes were made with espeak-ng.

## Rebuilding it

    apt-get install espeak-ng npm
    pip install -e '.[corpora,eval]'
    python scripts/corpora/make_starter.py

This takes about a quarter of an hour on two cores. The same versions of onnxruntime, espeak-ng and libsndfile give the
same bytes; others give speech that sounds the same and differs in its samples.
"""


def install(built: Path, out: Path) -> None:
    """Replace the corpus at ``out`` by the one at ``built``; refuse to remove a folder that is not a corpus."""
    if out.exists() and any(out.iterdir()) and not (out / "manifest.jsonl").exists():
        raise PrepareError(f"{out} is not empty and holds no manifest.jsonl; choose another --out or remove it")
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
    parser.add_argument("--jobs", type=int, default=2, help="processes that synthesise speech (default: %(default)s)")
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
            raise PrepareError(f"the corpus has {size / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB may be shipped")
        install(built, options.out)
    except (PrepareError, ValueError) as error:
        console.print(f"make_starter: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    report(recordings, takes, size, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
