"""The state of each file of an output folder, on disk, so that an interrupted run can resume.

A ledger is a folder ``.hushwork`` in the output, with files of JSON lines. A line states of one target that a run is
going to write it ("started"), that it was written ("done"), or why not ("failed"). The last line of a target counts; a
line that a power cut left incomplete is ignored.

In a local folder there is one file for each shard, only ever appended to, line by line, and locked by the run that
writes it. Remote files often cannot be appended to; there each run writes segments,
``ledger-<time>-<run>-<number>.jsonl``: one that names all targets, before it begins; then one after every
``SEGMENT_LINES`` lines, or when a file is done ``SEGMENT_S`` seconds after the last segment; and one at its end. If a
run is killed (kill -9, power cut), the files done since its last segment are not recorded: the next run denoises them
again, with the same result to rounding. No file is lost or half written. Remote ledgers have no locks: two runs at once
on the same output and shard do the work twice, but harm nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from hushwork.atomic import PART, file_sha256, name_key
from hushwork.audio.remote import REQUESTS, Stamp, appears_whole, is_remote, locate, name_below

FOLDER = ".hushwork"
SEGMENT_LINES = 10_000
SEGMENT_S = 30.0


class LedgerError(ValueError):
    """A ledger that another process is writing, or a file that is not a ledger."""


class Ledger:
    """The ledger of an output folder; a context manager.

    Args:
        output: the folder, or its URL; is made.
        identity: model and settings, JSON-able: all that results depend on besides their source. Files done with
            another identity are done again.
        shard: "i/n", for one of several runs side by side; each writes a file of its own.

    Raises:
        LedgerError: another process is writing to this output (and shard), or a file in it is no ledger.
    """

    def __init__(self, output: str | Path, identity: Mapping[str, Any], shard: str | None = None) -> None:
        self.output = locate(output)
        self._identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        folder = self.output / FOLDER
        remote = is_remote(folder)
        if not (remote and appears_whole(folder)):  # object stores have no folders
            folder.mkdir(parents=True, exist_ok=True)
        self._last: dict[str, dict[str, Any]] = {}
        paths = sorted(folder.glob("ledger*.jsonl"), key=lambda path: path.name)
        with ThreadPoolExecutor(REQUESTS) as pool:
            for path, content in zip(paths, pool.map(lambda path: path.read_bytes(), paths), strict=True):
                self._read(path, content)
        part = "-" + shard.replace("/", "-of-") if shard else ""
        self._journal: _Journal = _Segments(folder, part) if remote else _Lines(folder / f"ledger{part}.jsonl")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._journal.close()

    def is_done(self, source: Path, target: Path, stamps: Mapping[Path, Stamp]) -> bool:
        """Whether the target was made from the source as it is now, with the same model and settings.

        Args:
            source, target: the pair.
            stamps: of both, if they exist; see :func:`hushwork.audio.remote.stamps`.
        """
        entry = self._last.get(self._name(target))
        if entry is None or entry["status"] != "done" or entry["identity"] != self._identity:
            return False
        if source not in stamps or target not in stamps or stamps[target][0] != entry["bytes"]:
            return False
        if stamps[source] == entry["stamp"]:
            return True
        try:
            # The time differs; the content may still be the same.
            return not is_remote(source) and file_sha256(source) == entry.get("sha256")
        except OSError:
            return False

    def lists(self, target: Path) -> bool:
        """Whether a run has written the target, or was going to."""
        return self._name(target) in self._last

    def start(self, targets: Sequence[Path]) -> None:
        """Record targets that are going to be written; temporary files that a killed run left of them are removed."""
        by_folder: dict[Path, set[str]] = {}
        for target in targets:
            if not (is_remote(target) and appears_whole(target)):
                by_folder.setdefault(target.parent, set()).add(name_key(target.name))
        for folder, keys in by_folder.items():
            with suppress(FileNotFoundError, NotADirectoryError):
                for path in folder.iterdir():
                    if (part := PART.fullmatch(path.name)) and part[1] in keys:
                        path.unlink(missing_ok=True)
        self._append([{"target": self._name(path), "status": "started"} for path in targets if not self.lists(path)])
        self._journal.put()

    def finish(self, source: Path, target: Path, error: str | None = None, **more: Any) -> None:
        """Record that a target was written, or why not.

        Args:
            source, target: the pair.
            error: why the target was not written.
            more: of a target that was written :func:`fingerprint` and the source's "stamp" before it was read, and
                further fields.
        """
        entry = {"target": self._name(target), "source": str(source), "identity": self._identity, **more}
        entry |= {"status": "done"} if error is None else {"status": "failed", "error": error}
        self._append([{**entry, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}])

    def _name(self, target: Path) -> str:
        return name_below(target, self.output)

    def _append(self, entries: list[dict[str, Any]]) -> None:
        self._journal.write([json.dumps(entry).encode() + b"\n" for entry in entries])
        self._last.update((entry["target"], entry) for entry in entries)

    def _read(self, path: Path, content: bytes) -> None:
        for number, line in enumerate(content.split(b"\n"), 1):
            if not line:
                continue
            try:
                entry = json.loads(line)
                self._last[entry["target"]] = entry
            except (ValueError, TypeError, KeyError) as error:
                # A power cut may have cut a line off; the next run has ended it.
                if not line.startswith(b'{"target"'):
                    raise LedgerError(f"{path}, line {number}: not written by hushwork; remove the file") from error


class _Journal(Protocol):
    """Where a run writes its lines; ``put`` makes sure that all lines so far are stored."""

    def write(self, lines: list[bytes]) -> None: ...
    def put(self) -> None: ...
    def close(self) -> None: ...


class _Lines:
    """Lines at the end of a local file."""

    def __init__(self, path: Path) -> None:
        # Unbuffered and append-only: a line is written in one piece or not at all.
        self._file = path.open("ab", buffering=0)
        if not _lock(self._file.fileno()):
            self._file.close()
            raise LedgerError(f"{path}: another process is writing it; wait for it, or divide the work with --shard")
        if self._file.tell() and path.read_bytes()[-1:] != b"\n":
            self._file.write(b"\n")  # ends a line that a power cut left incomplete

    def write(self, lines: list[bytes]) -> None:
        self._file.write(b"".join(lines))
        self.put()

    def put(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class _Segments:
    """Lines in remote files, each written once; their names sort by time."""

    def __init__(self, folder: Path, part: str) -> None:
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        begun = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds)) + f".{nanoseconds:09}Z"
        self._folder = folder
        self._name = f"ledger-{begun}-{uuid.uuid4().hex[:8]}{part}"
        self._waiting: list[bytes] = []
        self._number = 0
        self._put_at = time.monotonic()

    def write(self, lines: list[bytes]) -> None:
        self._waiting += lines
        if len(self._waiting) >= SEGMENT_LINES or time.monotonic() - self._put_at >= SEGMENT_S:
            self.put()

    def put(self) -> None:
        if self._waiting:
            (self._folder / f"{self._name}-{self._number:06}.jsonl").write_bytes(b"".join(self._waiting))
            self._number += 1
        self._waiting = []
        self._put_at = time.monotonic()

    def close(self) -> None:
        self.put()


def fingerprint(source: Path, target: Path) -> dict[str, Any]:
    """Size of the target and hash of a local source, by which :meth:`Ledger.is_done` recognises the pair later."""
    size = target.stat().st_size
    return {"bytes": size} if is_remote(source) else {"bytes": size, "sha256": file_sha256(source)}


def _lock(descriptor: int) -> bool:
    """Whether no other process holds this file; a lock ends with its process. True where there are no locks."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have none
        return True
    return True
