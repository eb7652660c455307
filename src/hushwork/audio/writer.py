"""Audio files that appear under their name when they are complete."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np

from hushwork.atomic import write_atomically
from hushwork.audio.info import AudioError
from hushwork.audio.metadata import Metadata, put_metadata


class Writer:
    """Writes blocks (C, n) to ``path``; the file appears under its name only when everything was written.

    A context manager: leaving it by an exception removes the unfinished file and changes nothing else.

    Args:
        path: the file to write; its folder is made. An existing file is replaced at the end.
        metadata: metadata of another file of the same kind, to be added.

    Attributes:
        limited: samples beyond full scale so far, which were limited to it; none in formats that can hold them.
        notes: sentences about other differences from the source than its sound: another codec, a track left out, …

    Raises:
        AudioError: the folder cannot be made.
    """

    def __init__(self, path: str | Path, metadata: Metadata | None = None) -> None:
        self.path = Path(path)
        self.limited = 0
        self.notes: list[str] = []
        self._metadata = metadata
        self._unfinished = ExitStack()
        try:
            self._part = self._unfinished.enter_context(write_atomically(self.path))
        except OSError as error:
            raise AudioError(f"{self.path}: cannot be written ({error.strerror}: {self.path.parent})") from error

    def write(self, block: np.ndarray) -> None:
        """Raises :class:`AudioError` if it cannot be written."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Complete the unfinished file, and close it."""
        raise NotImplementedError

    def _abandon(self) -> None:
        """Close the unfinished file, if it is open."""
        raise NotImplementedError

    def commit(self) -> None:
        """Everything was written: let the file appear. Raises :class:`AudioError` if it cannot be written."""
        self._finish()
        try:
            if self._metadata:
                put_metadata(self._part, self._metadata)
            self._unfinished.close()
        except OSError as error:
            hint = "; is the disk full?" if error.errno == errno.ENOSPC else ""
            raise AudioError(f"{self.path}: cannot be written ({error.strerror}){hint}") from error

    def discard(self) -> None:
        """Remove the unfinished file; does nothing after :meth:`commit`."""
        self._abandon()
        self._unfinished.__exit__(InterruptedError, InterruptedError(), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.discard()
