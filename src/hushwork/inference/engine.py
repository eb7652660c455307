"""Many files denoised by several processes, so that all cores work and one bad file harms no other."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hushwork.inference.files import Outcome, check_target, failed
from hushwork.inference.ledger import Ledger
from hushwork.inference.stream import Strength

CHUNK_FILES = 16
CHUNK_BYTES = 64e6
WORKER = [sys.executable, "-m", "hushwork.inference.worker"]
Plan = list[tuple[Path, Path]]


def denoise_in_processes(
    plan: Iterable[tuple[Path, Path]],
    model: Path,
    strength: Strength | None = None,
    *,
    channels: str = "linked",
    high_band: str = "mask",
    overwrite: bool = False,
    jobs: int | None = None,
    ledger: Ledger | None = None,
    progress: Callable[[float], object] | None = None,
) -> Iterator[Outcome]:
    """Denoise files, one :class:`Outcome` each as they are done; a file that fails is reported there.

    A process that dies is replaced, and the files that it had are tried again, each alone.

    Args:
        plan: (source, target) pairs, as of :func:`hushwork.inference.files.plan_targets`.
        model: a model folder.
        strength, channels, high_band: as of :func:`hushwork.denoise`.
        overwrite: replace targets that exist. Without it, what the ledger knows as ours is still replaced if the source
            or the settings have changed.
        jobs: processes; None takes as many as there are cores.
        ledger: of the output folder: what it knows as done is skipped, and everything is noted there.
        progress: called with the share of all bytes done since the last call, from any thread.
    """
    waiting: Plan = []
    for source, target in plan:
        if ledger and not overwrite and ledger.is_done(source, target):
            yield Outcome(source, target, skipped=True)
            continue
        try:
            check_target(source, target, overwrite or bool(ledger and ledger.is_ours(target)))
            waiting.append((source, target))
        except (OSError, ValueError) as error:
            yield failed(source, target, error)
    settings = {"strength": asdict(strength or Strength()), "channels": channels, "high_band": high_band}
    crew = _Crew({"model": str(model.resolve()), **settings}, waiting, ledger, progress)
    try:
        crew.start(jobs or os.cpu_count() or 1)
        for _ in waiting:
            outcome = crew.outcomes.get()
            if isinstance(outcome, Exception):
                raise outcome
            if ledger:
                crew.note(outcome)
            yield outcome
    finally:
        crew.stop()


class _Crew:
    """The processes, each looked after by a thread that hands it chunks of the work."""

    def __init__(
        self,
        settings: dict[str, Any],
        waiting: Plan,
        ledger: Ledger | None,
        progress: Callable[[float], object] | None,
    ) -> None:
        self.outcomes: queue.SimpleQueue[Outcome | Exception] = queue.SimpleQueue()
        self._settings = settings
        self._ledger = ledger
        self._noting = threading.Lock()
        self._progress = progress
        sizes = {source: _size(source) for source, _ in waiting}
        self._total = max(1, sum(sizes.values()))
        self._sizes = sizes
        self._chunks: queue.SimpleQueue[Plan | None] = queue.SimpleQueue()
        self._num_chunks = 0
        chunk: Plan = []
        held = 0
        # Like sizes side by side, the longest first, so that all end together.
        for pair in sorted(waiting, key=lambda pair: -sizes[pair[0]]):
            if chunk and (len(chunk) == CHUNK_FILES or held + sizes[pair[0]] > CHUNK_BYTES):
                self._add(chunk)
                chunk, held = [], 0
            chunk.append(pair)
            held += sizes[pair[0]]
        if chunk:
            self._add(chunk)
        self._left = len(waiting)
        self._workers: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []
        self._stopping = False

    def start(self, jobs: int) -> None:
        for _ in range(min(jobs, self._num_chunks)):
            thread = threading.Thread(target=self._look_after, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End all processes at once, whatever they do."""
        self._stopping = True
        for worker in self._workers:
            worker.kill()
        for _ in self._threads:
            self._chunks.put(None)
        for thread in self._threads:
            thread.join()

    def note(self, outcome: Outcome) -> None:
        assert self._ledger
        with self._noting:
            more = {"duration_s": outcome.duration_s, "repaired": outcome.repaired, "limited": outcome.limited}
            self._ledger.finish(outcome.source, outcome.target, outcome.error, **({} if outcome.error else more))

    def _add(self, chunk: Plan) -> None:
        self._chunks.put(chunk)
        self._num_chunks += 1

    def _look_after(self) -> None:
        worker: subprocess.Popen[str] | None = None
        try:
            while (chunk := self._chunks.get()) is not None:
                if self._ledger:
                    with self._noting:
                        self._ledger.start(target for _, target in chunk)
                worker = worker or self._begin()
                if self._stopping:
                    return
                unfinished = self._run(worker, chunk)
                if unfinished is None:
                    continue
                if self._stopping:
                    return
                reason = _end(worker)
                worker = None
                if len(chunk) == 1:
                    error = RuntimeError(f"the process that denoised it {reason}; the file may be damaged")
                    self.outcomes.put(failed(*chunk[0], error))
                for pair in unfinished if len(chunk) > 1 else ():
                    self._chunks.put([pair])
        except Exception as error:
            if not self._stopping:
                self.outcomes.put(error)
        finally:
            if worker:
                worker.kill()
                _end(worker)

    def _begin(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # an interrupt from the keyboard is for us alone
        )
        self._workers.append(worker)
        _send(worker, self._settings)
        if not worker.stdout.readline():  # type: ignore[union-attr]
            raise RuntimeError(f"a process that should denoise {_end(worker)} before it began")
        return worker

    def _run(self, worker: subprocess.Popen[str], chunk: Plan) -> Plan | None:
        """Have a chunk denoised; returns None, or what was not finished when the process died."""
        unfinished = {str(target): (source, target) for source, target in chunk}
        share = sum(self._sizes[source] for source, _ in chunk) / self._total
        _send(worker, [(str(source), str(target)) for source, target in chunk])
        for line in worker.stdout:  # type: ignore[union-attr]
            message = json.loads(line)
            if "done" in message:
                return None
            if "outcome" in message:
                source, target = unfinished.pop(message["outcome"]["target"])
                self.outcomes.put(Outcome(**{**message["outcome"], "source": source, "target": target}))
            elif self._progress:
                self._progress(message["progress"] * share)
        return list(unfinished.values())


def _send(worker: subprocess.Popen[str], message: Any) -> None:
    with suppress(BrokenPipeError):  # of one that died: its output has ended too, which is looked for
        worker.stdin.write(json.dumps(message) + "\n")  # type: ignore[union-attr]
        worker.stdin.flush()  # type: ignore[union-attr]


def _end(worker: subprocess.Popen[str]) -> str:
    """Wait for a process that is ending; returns how it ended."""
    with suppress(BrokenPipeError), worker:
        pass
    status = worker.wait()
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
