#!/usr/bin/env python3
"""Measure how many streams of 20 ms frames one core denoises in real time.

    python scripts/benchmarks/benchmark_streams.py                             # default and small at 16 kHz
    python scripts/benchmarks/benchmark_streams.py --rate 8000 --seconds 20

One thread on one core serves N streams, whose frames arrive evenly spread over each 20 ms. A frame is late if its
result is ready more than 20 ms after its arrival. The rows of a model: 1 stream, the largest N found with at most 1 %
of late frames, the smallest N found with more, and the N of "free core", an estimate for a core without other load: the
largest N if each frame took its CPU time.
"""

from __future__ import annotations

import argparse
import bisect
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hushwork.integrations.frames import FrameFilter
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained
from hushwork.runs.numbers import Column, Numbers

FRAME_S = 0.02
MIN_IN_TIME = 0.99  # share of frames that must be in time
COLUMNS = {
    "model": Column("model"),
    "streams": Column("streams"),
    "wall": Column("ms", 2),
    "wall_99": Column("99 % ms", 2),
    "cpu": Column("CPU ms", 2),
    "cpu_99": Column("99 % CPU ms", 2),
    "in_time": Column("in time, %", 1),
    "free": Column("free core"),
}


@dataclass(frozen=True)
class Load:
    """Wall and CPU seconds of each frame of N streams, and the share of frames in time."""

    num_streams: int
    wall_s: np.ndarray
    cpu_s: np.ndarray
    in_time: float

    def row(self, model: str) -> dict[str, Any]:
        """By the names of ``COLUMNS``, times in milliseconds, shares in per cent."""
        times = {"wall": self.wall_s.mean(), "wall_99": np.percentile(self.wall_s, 99)}
        times |= {"cpu": self.cpu_s.mean(), "cpu_99": np.percentile(self.cpu_s, 99)}
        milliseconds = {name: 1e3 * float(value) for name, value in times.items()}
        in_time = 100 * self.in_time
        return {"model": model, "streams": self.num_streams, **milliseconds, "in_time": in_time, "free": self.free}

    @property
    def free(self) -> int:
        """The largest number of streams in time, if each frame takes its CPU time."""
        return bisect.bisect(range(1, 1000), False, key=lambda count: in_time_if_free(self.cpu_s, count) < MIN_IN_TIME)


def in_time_if_free(cpu_s: np.ndarray, num_streams: int, seconds: float = 10.0) -> float:
    """The share of frames in time if ``num_streams`` run for some seconds and frames take these times, repeated."""
    times = np.resize(cpu_s, round(seconds / FRAME_S) * num_streams)
    arrivals = np.arange(len(times)) * FRAME_S / num_streams
    # A frame is done its time after the later of its arrival and the end of the frame before it.
    worked = np.cumsum(times)
    done = worked + np.maximum.accumulate(arrivals - worked + times)
    return float(np.mean(done - arrivals <= FRAME_S))


def measure(denoiser: PretrainedDenoiser, num_streams: int, rate: int, seconds: float) -> Load:
    """Serve ``num_streams`` participants for some seconds, frame by frame in the order of their arrival."""
    filters = [FrameFilter(rate, 1, denoiser) for _ in range(num_streams)]
    size = round(rate * FRAME_S)
    frames = np.random.default_rng(0).normal(0, 3000, (50, size)).astype(np.int16)
    num_frames = max(1, round(seconds / FRAME_S)) * num_streams
    wall, cpu, late = np.zeros(num_frames), np.zeros(num_frames), 0
    started = time.perf_counter()
    for number in range(num_frames):
        arrival = started + number * FRAME_S / num_streams
        time.sleep(max(0.0, arrival - time.perf_counter()))
        before, cpu_before = time.perf_counter(), time.thread_time()
        filters[number % num_streams].process(frames[number // num_streams % len(frames)])
        done = time.perf_counter()
        wall[number], cpu[number] = done - before, time.thread_time() - cpu_before
        late += done - arrival > FRAME_S
    return Load(num_streams, wall, cpu, 1 - late / num_frames)


def most_streams(denoiser: PretrainedDenoiser, rate: int, seconds: float) -> list[Load]:
    """Loads of 1 stream, of the largest number in time, of the smallest found that is not, and of a full core."""
    one = measure(denoiser, 1, rate, seconds)
    if one.in_time < MIN_IN_TIME:
        return [one]
    carried, failed = one, None
    while failed is None or failed.num_streams - carried.num_streams > max(1, carried.num_streams // 20):
        number = 2 * carried.num_streams if failed is None else (carried.num_streams + failed.num_streams) // 2
        load = measure(denoiser, number, rate, seconds)
        if load.in_time >= MIN_IN_TIME:
            carried = load
        else:
            failed = load
    full = carried  # many streams keep the weights in the cache, so that frames cost less: estimate again with as many
    while full.free > full.num_streams:
        full = measure(denoiser, full.free, rate, seconds)
    return [one, carried, failed, full]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="may be repeated; default: default and small")
    parser.add_argument("--rate", type=int, default=16000, help="of the frames, in Hz")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    result = Path("runs/benchmarks/voice_agents.json")
    parser.add_argument("--out", type=Path, default=result, help="results (default: %(default)s)")
    options = parser.parse_args(arguments)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    for name in options.model or ["default", "small"]:
        rows += [load.row(name) for load in most_streams(load_pretrained(name), options.rate, options.seconds)]
    numbers = Numbers.measured("Streams of 20 ms frames on one core in real time", COLUMNS, rows)
    numbers.write(options.out)
    print(f"{numbers.markdown()}\n{numbers.source}")


if __name__ == "__main__":
    main()
