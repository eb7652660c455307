"""Many files denoised by several workers, so that all cores work and one bad file harms no other.

A worker is a process of this machine, :class:`LocalWorker`, or of a cluster, see :mod:`hushwork.files.cluster`.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from hushwork.audio.remote import Stamp, absolute_name, stamps
from hushwork.files.denoise import Outcome, check_target, failed
from hushwork.files.ledger import Ledger
from hushwork.streaming.strength import Strength

CHUNK_FILES = 16
CHUNK_BYTES = 64e6
WORKER = [sys.executable, "-m", "hushwork.files.worker"]
BEGINNINGS = 3  # of workers that die before they began, until there must be another reason than chance
Plan = list[tuple[Path, Path]]


class WorkerDiedError(Exception):
    """A worker is gone in the middle of its work; the message says how, as "was ended by SIGKILL"."""


class Worker(Protocol):
    """What denoises chunks of files, one after the other, in a process of its own that may die."""

    def begin(self) -> None:
        """Wait until it is ready. Raises :class:`WorkerDiedError`."""

    def run(self, chunk: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        """Denoise (source, target) pairs; yields messages as of :class:`hushwork.files.worker.ChunkDenoiser`.

        Raises:
            WorkerDiedError: before the chunk was done.
        """

    def end(self) -> None:
        """End it at once, whatever it does; another thread may wait for it in ``begin`` or ``run``."""


class LocalWorker:
    """A process of this machine.

    Args:
        settings: "model", the folder, and "strength", "channels", "high_band" and "quality", JSON-able.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # an interrupt from the keyboard is for us alone
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
        with suppress(BrokenPipeError):  # of one that died: its output has ended too, which is looked for
            self._process.stdin.write(json.dumps(message) + "\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _ending(self) -> str:
        """Wait for the process, which is ending; returns how it ended."""
        with suppress(BrokenPipeError), self._process:
            pass
        status = self._process.wait()
        if status >= 0:
            return f"ended with status {status}"
        return f"was ended by {signal.Signals(-status).name}"


def denoise_in_processes(
    plan: Iterable[tuple[Path, Path]],
    model: Path,
    strength: Strength | None = None,
    *,
    channels: str = "linked",
    high_band: str = "mask",
    quality: str = "standard",
    overwrite: bool = False,
    jobs: int | None = None,
    ledger: Ledger | None = None,
    progress: Callable[[float], object] | None = None,
    on_note: Callable[[Path, str], object] | None = None,
    new_worker: Callable[[dict[str, Any]], Worker] = LocalWorker,
) -> Generator[Outcome, None, None]:
    """Denoise files, one :class:`Outcome` each as they are done; a file that fails is reported there.

    A worker that dies is replaced, and the files that it had are tried again, once, each alone.

    Args:
        plan: (source, target) pairs, as of :func:`hushwork.files.plan.plan_targets`.
        model: a model folder.
        strength, channels, high_band, quality: as of :func:`hushwork.denoise`.
        overwrite: replace targets that exist. Without it, what the ledger knows as ours is still replaced if the source
            or the settings have changed.
        jobs: workers; None takes as many as there are cores here.
        ledger: of the output folder: what it knows as done is skipped, and everything is noted there.
        progress: called with the share of all bytes done since the last call, from any thread.
        on_note: as of :func:`hushwork.files.denoise.denoise_files`.
        new_worker: makes a worker from "model" and settings, as :class:`LocalWorker`.

    Raises:
        ValueError: a URL of memory://, which other processes do not see.
        RuntimeError: workers die before they begin.
    """
    plan = list(plan)
    if any(getattr(path, "protocol", None) == "memory" for pair in plan for path in pair):
        raise ValueError("memory:// lies in this process alone; batches are denoised by others")
    known = stamps(path for pair in plan for path in pair)
    waiting: Plan = []
    for source, target in plan:
        if ledger and not overwrite and ledger.is_done(source, target, known):
            yield Outcome(source, target, skipped=True)
            continue
        try:
            if target in known:
                check_target(source, target, overwrite or bool(ledger and ledger.is_ours(target)))
            waiting.append((source, target))
        except (OSError, ValueError) as error:
            yield failed(source, target, error)
    settings = {"strength": asdict(strength or Strength()), "channels": channels, "high_band": high_band}
    settings |= {"quality": quality, "model": str(model.resolve())}
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
    """The workers, each looked after by a thread that hands it chunks of the work."""

    def __init__(
        self,
        new_worker: Callable[[], Worker],
        waiting: Plan,
        known: Mapping[Path, Stamp],
        ledger: Ledger | None,
        progress: Callable[[float], object] | None,
        on_note: Callable[[Path, str], object] | None,
    ) -> None:
        self.outcomes: queue.SimpleQueue[Outcome | Exception] = queue.SimpleQueue()
        self._new_worker = new_worker
        self._ledger = ledger
        self._noting = threading.Lock()
        self._progress = progress
        self._on_note = on_note
        self._known = known
        self._total = max(1, sum(self._size(source) for source, _ in waiting))
        self._chunks: queue.SimpleQueue[Plan | None] = queue.SimpleQueue()
        self._num_chunks = 0
        self._retried: set[Path] = set()
        chunk: Plan = []
        held = 0
        # Like sizes side by side, the longest first, so that all end together.
        for pair in sorted(waiting, key=lambda pair: -self._size(pair[0])):
            size = self._size(pair[0])
            if chunk and (len(chunk) == CHUNK_FILES or held + size > CHUNK_BYTES):
                self._add(chunk)
                chunk, held = [], 0
            chunk.append(pair)
            held += size
        if chunk:
            self._add(chunk)
        self._workers: list[Worker] = []
        self._threads: list[threading.Thread] = []
        self._stopping = False

    def start(self, jobs: int) -> None:
        for _ in range(min(jobs, self._num_chunks)):
            thread = threading.Thread(target=self._look_after, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End all workers at once, whatever they do."""
        self._stopping = True
        for _ in self._threads:
            self._chunks.put(None)
        for worker in list(self._workers):
            worker.end()
        for thread in self._threads:
            thread.join()

    def _size(self, source: Path) -> int:
        return int(self._known[source][0]) if source in self._known else 0

    def _add(self, chunk: Plan) -> None:
        self._chunks.put(chunk)
        self._num_chunks += 1

    def _look_after(self) -> None:
        worker: Worker | None = None
        try:
            while not self._stopping:
                # Ready first: one that a cluster has no room for yet must hold no work.
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
        deaths = 0
        while True:
            worker = self._new_worker()
            self._workers.append(worker)
            try:
                if not self._stopping:
                    worker.begin()
                return worker
            except WorkerDiedError as death:
                worker.end()
                deaths += 1
                if self._stopping or deaths == BEGINNINGS:
                    raise RuntimeError(f"a process that should denoise {death} before it began") from death

    def _run(self, worker: Worker, chunk: Plan, unfinished: dict[str, tuple[Path, Path]]) -> None:
        """Have a chunk denoised; what is finished is taken out of ``unfinished``, which is keyed by target."""
        share = sum(self._size(source) for source, _ in chunk) / self._total
        sources = {absolute_name(source): source for source, _ in chunk}
        for message in worker.run([(absolute_name(source), target) for target, (source, _) in unfinished.items()]):
            if "outcome" in message:
                source, target = unfinished.pop(message["outcome"]["target"])
                more = {"source": source, "target": target, "notes": tuple(message["outcome"]["notes"])}
                outcome = Outcome(**{**message["outcome"], **more})
                self._finish(outcome, message["account"])
            elif "note" in message:
                if self._on_note:
                    name, note = message["note"]
                    self._on_note(sources[name], note)
            elif self._progress:
                self._progress(message["progress"] * share)

    def _retry(self, unfinished: Plan, death: WorkerDiedError) -> None:
        """Have the files that a worker died with denoised each alone; those that were retried before have failed."""
        if self._ledger:
            with self._noting:
                self._ledger.start([target for _, target in unfinished])
        for source, target in unfinished:
            if target in self._retried:
                error = RuntimeError(f"the process that denoised it {death}; the file may be damaged")
                self._finish(failed(source, target, error), {})
            else:
                self._retried.add(target)
                self._chunks.put([(source, target)])

    def _finish(self, outcome: Outcome, account: dict[str, Any]) -> None:
        if self._ledger:
            more: dict[str, Any] = {"notes": outcome.notes} if outcome.notes else {}
            if not outcome.error:
                more |= {"duration_s": outcome.duration_s, "repaired": outcome.repaired, "limited": outcome.limited}
                more |= {"stamp": self._known.get(outcome.source), **account}
            with self._noting:
                self._ledger.finish(outcome.source, outcome.target, outcome.error, **more)
        self.outcomes.put(outcome)
