#!/usr/bin/env python3
"""Measure how loading scales with the size of a manifest: seconds to open it, mixtures per second, memory.

    python scripts/benchmarks/benchmark_data.py --out data/benchmark --sizes 100000 1000000 10000000

The script makes the corpus: shards of 64 short utterances and 16 noises, which the lines of the manifest name again
and again, with one speaker per 100 lines. Each size is measured in a process of its own, which opens the manifest as
training does and draws mixtures in loader processes.

Times are CPU times, so that other load on the machine matters little; mixtures per second of wall time are also given.

Memory is read from ``/proc/PID/smaps_rollup`` while mixtures are drawn: *own* is memory that no other process shares;
*Pss* adds a proportional share of shared pages, such as those of the mapped manifest, so that the sum over all
processes is the memory in use. The memory of a manifest of 1,000 lines is mostly torch.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from turns import cpu_s

from hushwork.runs.numbers import Column, Numbers

RATE = 16000
LINES_OF_A_SPEAKER = 100
NOISES, UTTERANCES = 16, 64
BASE = 1000
COLUMNS = {
    "lines": Column("lines"),
    "form": Column("form"),
    "open_s": Column("open, s", 2),
    "dataset_s": Column("pools, s", 2),
    "mixtures_per_cpu_s": Column("mixtures per second of a core"),
    "mixtures_per_s": Column("mixtures/s"),
    "main_own_mb": Column("main own, MB"),
    "main_pss_mb": Column("main Pss, MB"),
    "worker_own_mb": Column("worker own, MB"),
    "worker_pss_mb": Column("worker Pss, MB"),
    "peak_mb": Column("peak of main, MB"),
    "file_mb": Column("file, MB"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("data/benchmark"), help="where to write (default: %(default)s)"
    )
    result = Path("runs/benchmarks/data_scale.json")
    parser.add_argument("--numbers", type=Path, default=result, help="results (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], help="lines")
    parser.add_argument(
        "--jsonl-up-to", type=int, default=100_000, help="lines; larger sizes are not measured as JSONL"
    )
    parser.add_argument("--workers", type=int, default=2, help="loader processes (default: %(default)s)")
    parser.add_argument("--start", choices=("fork", "spawn"), default="fork", help="start method of loader processes")
    parser.add_argument("--order", choices=("random", "shards"), default="random", help="order of the utterances")
    parser.add_argument("--mixtures", type=int, default=2000, help="number that is drawn (default: %(default)s)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # for the process that measures one size
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, options)))
        return 0
    rows = []
    for size in [BASE, *options.sizes]:
        for path in write_manifests(options.out, size, options.jsonl_up_to):
            passed = (sys.argv[1:] if arguments is None else list(arguments)) + ["--measure", str(path)]
            done = subprocess.run([sys.executable, __file__, *passed], capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{path}: failed\n{done.stderr[-2000:]}", file=sys.stderr)
                return 1
            rows.append({"lines": size, "form": path.suffix[1:], **json.loads(done.stdout.splitlines()[-1])})
            print(rows[-1], file=sys.stderr)
    numbers = Numbers.measured("Loading from manifests of many lines", COLUMNS, rows)
    numbers.write(options.numbers)
    print(f"{numbers.markdown()}\n{numbers.source}")
    return 0


def write_manifests(folder: Path, size: int, jsonl_up_to: int) -> list[Path]:
    """Manifests of ``size`` lines, as Arrow and, up to ``jsonl_up_to``, as JSONL; existing ones are kept."""
    import pyarrow as pa

    from hushwork.data.arrow import SCHEMA, ArrowRecordings, write_arrow, write_table
    from hushwork.data.manifest import write_manifest

    folder.mkdir(parents=True, exist_ok=True)
    first = folder / f"{BASE}.arrow"
    if not first.exists():
        write_arrow(first, _corpus(folder), {path.name: path.stat().st_size for path in folder.glob("*.tar")})
    target = folder / f"{size}.arrow"
    if not target.exists():
        # The speech is repeated, with other speakers; the noises are not.
        table = pa.ipc.open_file(pa.memory_map(str(first))).read_all()
        speech = table.slice(NOISES).take(np.arange(size - NOISES) % (len(table) - NOISES))
        speakers = np.arange(size - NOISES, dtype=np.int32) // LINES_OF_A_SPEAKER
        names = pa.DictionaryArray.from_arrays(speakers, pa.array([f"speaker{k}" for k in range(speakers[-1] + 1)]))
        speech = speech.set_column(SCHEMA.get_field_index("speaker"), SCHEMA.field("speaker"), names)
        recordings = ArrowRecordings(first)
        write_table(target, pa.concat_tables([table.slice(0, NOISES), speech]), "0" * 64, recordings.shards)
    found = [target]
    if size <= jsonl_up_to:
        # JSONL manifests must not name a file twice, so each line names a link of its own.
        jsonl = folder / f"jsonl_{size}" / "manifest.jsonl"
        if not jsonl.exists():
            write_manifest(jsonl, _links(ArrowRecordings(target), jsonl.parent))
        found.append(jsonl)
    return found


def _corpus(folder: Path) -> list[Any]:
    """The recordings of the smallest manifest, whose audio is in shards."""
    from hushwork.data.recordings import Recording

    rng = np.random.default_rng(0)
    places: dict[tuple[str, int], str] = {}
    for kind, count in (("noise", NOISES), ("speech", UTTERANCES)):
        # Two shards of speech, for two lanes.
        for shard in range(1 if kind == "noise" else 2):
            path = folder / f"{kind}-train-{shard:06d}.tar"
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for k in range(shard, count, 1 if kind == "noise" else 2):
                    buffer = io.BytesIO()
                    audio = 0.05 * rng.standard_normal(5 * RATE)
                    soundfile.write(buffer, audio, RATE, format="FLAC", subtype="PCM_16")
                    header = tarfile.TarInfo(f"{k:09d}.flac")
                    header.size = len(buffer.getvalue())
                    tar.addfile(header, io.BytesIO(buffer.getvalue()))
            with tarfile.open(path) as tar:
                places |= {(kind, int(m.name[:9])): f"{path.name}#{m.offset_data}+{m.size}" for m in tar}
    common: dict[str, Any] = {"split": "train", "sample_rate": RATE, "duration_s": 5.0, "licence": "CC0-1.0"}
    noises = [
        Recording(path=places["noise", k], kind="noise", noise_class=f"class{k % 4}", source=f"n{k}", **common)
        for k in range(NOISES)
    ]
    common |= {"text": "a sentence of usual length, as a transcript may have it", "language": "en"}
    return noises + [
        Recording(path=places["speech", k % UTTERANCES], kind="speech", speaker=f"speaker{k}", source="s", **common)
        for k in range(BASE - NOISES)
    ]


def _links(recordings: Any, folder: Path) -> list[Any]:
    from hushwork.audio.io import read_audio, write_audio

    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, recording in enumerate(recordings):
        original = folder.parent / f"{recording.path.replace('#', '_').replace('+', '_')}.flac"
        if not original.exists():
            audio, rate = read_audio(folder.parent / recording.path)
            write_audio(original, audio, rate, "PCM_16")
        link = folder / str(number % 1000) / f"{number}.flac"
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(original.resolve())
        found.append(replace(recording, path=f"{link.parent.name}/{link.name}"))
    return found


def measure(path: Path, options: argparse.Namespace) -> dict[str, float]:
    """Open a manifest, draw mixtures, and measure the memory of this process and of the loader processes."""
    from torch.utils.data import DataLoader

    from hushwork.data.batch import collate
    from hushwork.data.datasets import EpochSampler
    from hushwork.data.manifest import load_manifest
    from hushwork.data.mixtures import MixingConfig, NoisyMixtureDataset
    from hushwork.data.shards import ShardOrder

    started = time.process_time()
    manifest = load_manifest(path, RATE)
    manifest.contents("train")
    opened = time.process_time()
    order = partial(ShardOrder, seed=0, lanes=2, window=1) if options.order == "shards" else None
    dataset = NoisyMixtureDataset(
        manifest, MixingConfig(segment_s=4.0), num_mixtures=options.mixtures, sample_rate=RATE, seed=0, order=order
    )
    built = time.process_time()
    loader: Any = DataLoader(
        dataset,
        batch_size=8,
        sampler=EpochSampler(dataset),
        num_workers=options.workers,
        collate_fn=collate,
        multiprocessing_context=options.start if options.workers else None,
    )
    batches = iter(loader)
    next(batches)  # the loader processes have started
    workers = [worker.pid for worker in getattr(batches, "_workers", [])]
    drawing, worked = time.perf_counter(), sum(map(cpu_s, workers or [os.getpid()]))
    count = sum(len(batch.names) for batch in _most(batches, loader))
    seconds = time.perf_counter() - drawing
    worked = sum(map(cpu_s, workers or [os.getpid()])) - worked
    memory = [_memory(pid) for pid in (os.getpid(), *workers)]
    return {
        "open_s": opened - started,
        "dataset_s": built - opened,
        "mixtures_per_s": count / seconds,
        "mixtures_percpu_s": count / worked,
        "main_own_mb": memory[0]["own"],
        "main_pss_mb": memory[0]["pss"],
        "worker_own_mb": float(np.mean([each["own"] for each in memory[1:]])) if memory[1:] else 0.0,
        "worker_pss_mb": float(np.mean([each["pss"] for each in memory[1:]])) if memory[1:] else 0.0,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "file_mb": path.stat().st_size / 1e6,
    }


def _most(batches: Any, loader: Any) -> Iterator[Any]:
    """All but the last batches, so that the loader processes still run when they are measured."""
    for _ in range(len(loader) - 1 - 2 * loader.num_workers):
        yield next(batches)


def _memory(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split()[0].rstrip(":"): int(line.split()[1]) for line in lines}
    return {"own": (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024, "pss": kib["Pss"] / 1024}


if __name__ == "__main__":
    sys.exit(main())
