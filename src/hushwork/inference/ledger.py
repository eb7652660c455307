"""What has become of the files of a folder, on disk, so that an interrupted run goes on where it was.

A ledger is a folder ``.hushwork`` in the output, with files of JSON lines that are only ever appended to. A line says
of one target that work on it began ("started"), that it was written ("done"), or why not ("failed"). The last line of a
target counts; a line that a power cut left unfinished does not.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

FOLDER = ".hushwork"


class LedgerError(ValueError):
    """A ledger that another process is writing, or that is not ours."""


class Ledger:
    """The ledger of an output folder; a context manager.

    Args:
        output: the folder; is made.
        identity: what results depend on besides their source: model and settings, JSON-able. Files done with another
            identity are done again.
        shard: "i/n", if this is one of several runs side by side; each writes a file of its own.

    Raises:
        LedgerError: another process is at work on this output (and shard), or a file in it is no ledger.
    """

    def __init__(self, output: str | Path, identity: Mapping[str, Any], shard: str | None = None) -> None:
        self.output = Path(output)
        self._identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        folder = self.output / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        mine = folder / f"ledger{'-' + shard.replace('/', '-of-') if shard else ''}.jsonl"
        self._last: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("ledger*.jsonl")):
            self._read(path)
        # Unbuffered and append-only: a line is written in one piece or not at all.
        self._file = mine.open("ab", buffering=0)
        if not _lock(self._file.fileno()):
            self._file.close()
            raise LedgerError(f"{mine}: another process is writing it; wait for it, or divide the work with --shard")
        if self._file.tell() and mine.read_bytes()[-1:] != b"\n":
            self._file.write(b"\n")  # ends what a power cut left unfinished

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def is_done(self, source: Path, target: Path) -> bool:
        """Whether the target is what would be made of the source now."""
        entry = self._last.get(self._name(target))
        if entry is None or entry["status"] != "done" or entry["identity"] != self._identity:
            return False
        try:
            if target.stat().st_size != entry["bytes"]:
                return False
            # Rewritten in place within the clock's step and with the same size: only the content tells.
            return _stamp(source) == entry["stamp"] or file_sha256(source) == entry["sha256"]
        except OSError:
            return False

    def is_ours(self, target: Path) -> bool:
        """Whether a run of ours made the target, or began to."""
        return self._name(target) in self._last

    def start(self, targets: Iterable[Path]) -> None:
        """Work on these begins; what earlier runs left unfinished of them is removed."""
        lines = []
        for target in targets:
            for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
                part.unlink(missing_ok=True)
            lines.append({"target": self._name(target), "status": "started"})
        self._append(lines)

    def finish(self, source: Path, target: Path, error: str | None = None, **more: Any) -> None:
        """The target stands as it should, or why not."""
        entry = {"target": self._name(target), "source": os.fspath(source), "identity": self._identity, **more}
        if error is None:
            entry |= {"status": "done", "bytes": target.stat().st_size, "stamp": _stamp(source)}
            entry["sha256"] = file_sha256(source)
        else:
            entry |= {"status": "failed", "error": error}
        self._append([{**entry, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}])

    def _name(self, target: Path) -> str:
        return os.path.relpath(target, self.output)

    def _append(self, entries: list[dict[str, Any]]) -> None:
        self._file.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        os.fsync(self._file.fileno())
        self._last.update((entry["target"], entry) for entry in entries)

    def _read(self, path: Path) -> None:
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                entry = json.loads(line)
                self._last[entry["target"]] = entry
            except (ValueError, TypeError, KeyError) as error:
                # The last line of what a power cut interrupted may be cut off; a later run has ended it.
                if not line.startswith(b'{"target"'):
                    raise LedgerError(f"{path}, line {number}: not written by hushwork; remove the file") from error


def file_sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


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
