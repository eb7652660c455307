"""Timing in turns, and CPU time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def in_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Least seconds of each, run in turns; the first turn warms up.

    The clock counts the CPU time of this process, which other work on the machine hardly changes. Where other
    processes do the work, pass ``time.perf_counter``.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(rounds + 1):
        for name, run in runs.items():
            started = clock()
            run()
            if round_number:
                times[name].append(clock() - started)
    return {name: min(values) for name, values in times.items()}


def cpu_s(pid: int) -> float:
    """Seconds that a process and its threads have computed for; on Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
