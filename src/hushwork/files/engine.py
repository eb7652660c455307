"""Denoise many files with several workers, so that all cores are used and a crash costs one file.

A worker is a process on this machine, :class:`LocalWorker`, or on a cluster, see :mod:`hushwork.files.cluster`.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from hushwork.audio.remote import Stamp, absolute_name, stamps
from hushwork.files.job import OnNote, Outcome, check_target, failed
from hushwork.files.ledger import Ledger
from hushwork.streaming.strength import Processing

CHUNK_FILES = 16
CHUNK_BYTES = 64e6
WORKER = [sys.executable, "-m", "hushwork.files.worker"]
MAX_STARTS = 3  # of a worker process that dies before it is ready
Plan = list[tuple[Path, Path]]


class WorkerDiedError(Exception):
    """A worker process has ended; the message is the rest of a sentence, such as "was ended by SIGKILL"."""


class Worker(Protocol):
    """Denoises chunks of files one after the other, in a process of its own that may die."""

    def begin(self) -> None:
        """Wait until it is ready. Raises :class:`WorkerDiedError`."""

    def run(self, chunk: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        """Denoise (source, target) pairs; yields the messages of :class:`hushwork.files.worker.ChunkWorker`.

        Raises:
            WorkerDiedError: before the chunk was done.
        """

    def end(self) -> None:
        """End it at once; another thread may be waiting in ``begin`` or ``run``."""


class LocalWorker:
    """A worker process on this machine.

    Args:
        settings: "model", a folder, and the fields of :class:`Processing`, JSON-able.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl+C is handled by the parent process alone
        )
        self._send(settings)

    def begin(self) -> None:
        if not self._process.stdout.readline():  # type: ignore[union-attr]
            raise WorkerDiedError(self._ending())

    def run(self, chunk: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        self._send(chunk)
        for line in self._process.stdout:  # type: ignore[union-attr]
            message = json.loads(line)
            if "done" in message:
                return
            yield message
        raise WorkerDiedError(self._ending())

    def end(self) -> None:
        self._process.kill()
        self._ending()

    def _send(self, message: Any) -> None:
        with suppress(BrokenPipeError):  # the process has died; reading its output notices that
            self._process.stdin.write(json.dumps(message) + "\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _ending(self) -> str:
        """Wait for the end of the process; returns how it ended."""
        with suppress(BrokenPipeError), self._process:
            pass
        status = self._process.wait()
        return f"ended with status {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"


def denoise_in_processes(
    plan: Iterable[tuple[Path, Path]],
    model: Path,
    processing: Processing | None = None,
    *,
    overwrite: bool = False,
    jobs: int | None = None,
    ledger: Ledger | None = None,
    progress: Callable[[float], object] | None = None,
    on_note: OnNote | None = None,
    new_worker: Callable[[dict[str, Any]], Worker] = LocalWorker,
) -> Generator[Outcome, None, None]:
    """Denoise files and yield one :class:`Outcome` each as they are done; a file that fails has its error there.

    A worker that dies is replaced, and each of its unfinished files is tried once more, alone.

    Args:
        plan: (source, target) pairs, see :func:`hushwork.files.plan.plan_targets`.
        model: a model folder.
        processing: strength and options; default as of :func:`hushwork.denoise`.
        overwrite: replace targets that exist. Without it, a target that the ledger lists is still replaced if the
            source or the settings have changed.
        jobs: workers; default the number of cores of this machine.
        ledger: of the output folder: files that it lists as done are skipped, and all results are recorded there.
        progress: called from any thread with the share of all bytes done since the last call.
        on_note: see :func:`hushwork.files.denoise.denoise_files`.
        new_worker: makes a worker from "model" and settings, like :class:`LocalWorker`.

    Raises:
        ValueError: a URL of memory://, which other processes cannot read.
        RuntimeError: worker processes die before they are ready.
    """
    plan = list(plan)
    if any(getattr(path, "protocol", None) == "memory" for pair in plan for path in pair):
        raise ValueError(
            "memory:// exists in this process only, but worker processes denoise batches; use files or another URL"
        )
    known = stamps(path for pair in plan for path in pair)
    waiting: Plan = []
    for source, target in plan:
        if ledger and not overwrite and ledger.is_done(source, target, known):
            yield Outcome(source, target, skipped=True)
            continue
        try:
            if target in known:
                check_target(source, target, overwrite or bool(ledger and ledger.lists(target)))
            waiting.append((source, target))
        except (OSError, ValueError) as error:
            yield failed(source, target, error)
    settings = {**asdict(processing or Processing()), "model": str(model.resolve())}
    crew = _Crew(lambda: new_worker(settings), waiting, known, ledger, progress, on_note)
    try:
        if ledger:
            ledger.start([target for _, target in waiting])
        crew.start(jobs or os.cpu_count() or 1)
        for _ in waiting:
            outcome = crew.outcomes.get()
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
    finally:
        crew.stop()


class _Crew:
    """The workers, each supervised by a thread that gives it chunks of files."""

    def __init__(
        self,
        new_worker: Callable[[], Worker],
        waiting: Plan,
        known: Mapping[Path, Stamp],
        ledger: Ledger | None,
        progress: Callable[[float], object] | None,
        on_note: OnNote | None,
    ) -> None:
        self.outcomes: queue.SimpleQueue[Outcome | Exception] = queue.SimpleQueue()
        self._new_worker = new_worker
        self._ledger, self._ledger_lock = ledger, threading.Lock()
        self._progress, self._on_note = progress, on_note
        self._known = known
        self._total = max(1, sum(self._size(source) for source, _ in waiting))
        self._chunks: queue.SimpleQueue[Plan | None] = queue.SimpleQueue()
        chunks = self._divided(waiting)
        for chunk in chunks:
            self._chunks.put(chunk)
        self._num_chunks = len(chunks)
        self._retried: set[Path] = set()
        self._workers: list[Worker] = []
        self._threads: list[threading.Thread] = []
        self._stopping = False

    def start(self, jobs: int) -> None:
        for _ in range(min(jobs, self._num_chunks)):
            thread = threading.Thread(target=self._supervise, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End all workers at once."""
        self._stopping = True
        for _ in self._threads:
            self._chunks.put(None)
        for worker in list(self._workers):
            worker.end()
        for thread in self._threads:
            thread.join()

    def _size(self, source: Path) -> int:
        return int(self._known[source][0]) if source in self._known else 0

    def _divided(self, waiting: Plan) -> list[Plan]:
        """Chunks of files of similar size, the largest first, so that all workers end at about the same time."""
        chunks: list[Plan] = []
        held = 0
        for pair in sorted(waiting, key=lambda pair: -self._size(pair[0])):
            size = self._size(pair[0])
            if not chunks or len(chunks[-1]) == CHUNK_FILES or held + size > CHUNK_BYTES:
                chunks.append([])
                held = 0
            chunks[-1].append(pair)
            held += size
        return chunks

    def _supervise(self) -> None:
        worker: Worker | None = None
        try:
            while not self._stopping:
                # A worker first, then a chunk: one that waits for room on a cluster must hold no work.
                worker = worker or self._begin()
                chunk = self._chunks.get()
                if chunk is None:
                    return
                unfinished = {absolute_name(target): (source, target) for source, target in chunk}
                try:
                    self._run(worker, chunk, unfinished)
                except WorkerDiedError as death:
                    if self._stopping:
                        return
                    worker.end()
                    worker = None
                    self._retry(list(unfinished.values()), death)
        except Exception as error:
            if not self._stopping:
                self.outcomes.put(error)
        finally:
            if worker:
                worker.end()

    def _begin(self) -> Worker:
        starts = 0
        while True:
            worker = self._new_worker()
            self._workers.append(worker)
            try:
                if not self._stopping:
                    worker.begin()
                return worker
            except WorkerDiedError as death:
                worker.end()
                starts += 1
                if self._stopping or starts == MAX_STARTS:
                    message = f"the worker process {death} before it had loaded the model, {starts} times in a row"
                    raise RuntimeError(f"{message}; see above for its error, or run hushwork doctor") from death

    def _run(self, worker: Worker, chunk: Plan, unfinished: dict[str, tuple[Path, Path]]) -> None:
        """Let a worker denoise a chunk; finished files are removed from ``unfinished``, whose keys are targets."""
        share = sum(self._size(source) for source, _ in chunk) / self._total
        sources = {absolute_name(source): source for source, _ in chunk}
        for message in worker.run([(absolute_name(source), target) for target, (source, _) in unfinished.items()]):
            if "outcome" in message:
                outcome = Outcome(**{**message["outcome"], "notes": tuple(message["outcome"]["notes"])})
                source, target = unfinished.pop(str(outcome.target))
                self._finish(replace(outcome, source=source, target=target), message["account"])
            elif "note" in message:
                if self._on_note:
                    name, note = message["note"]
                    self._on_note(sources[name], note)
            elif self._progress:
                self._progress(message["progress"] * share)

    def _retry(self, unfinished: Plan, death: WorkerDiedError) -> None:
        """Queue the files of a worker that died again, each alone; those that were retried before have failed."""
        if self._ledger:
            with self._ledger_lock:
                self._ledger.start([target for _, target in unfinished])
        for source, target in unfinished:
            if target in self._retried:
                error = RuntimeError(f"the worker process {death} while it denoised this file, which may be damaged")
                self._finish(failed(source, target, error), {})
            else:
                self._retried.add(target)
                self._chunks.put([(source, target)])

    def _finish(self, outcome: Outcome, fingerprint: dict[str, Any]) -> None:
        if self._ledger:
            more: dict[str, Any] = {"notes": outcome.notes} if outcome.notes else {}
            if not outcome.error:
                more |= {"duration_s": outcome.duration_s, "repaired": outcome.repaired, "limited": outcome.limited}
                more |= {"stamp": self._known.get(outcome.source), **fingerprint}
            with self._ledger_lock:
                self._ledger.finish(outcome.source, outcome.target, outcome.error, **more)
        self.outcomes.put(outcome)
