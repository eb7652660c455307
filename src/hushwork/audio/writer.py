"""Files that appear under their name when they are complete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import numpy as np

from hushwork.atomic import temporary_path
from hushwork.audio.info import AudioError
from hushwork.audio.metadata import Metadata, put_metadata


class Writer:
    """Writes blocks (C, n) to ``path``; the file appears under its name only when everything was written.

    Usable as a context manager: leaving it by an exception removes the unfinished file and touches nothing else.

    Args:
        path: the file to make; its folder must exist. An existing file is replaced at the end.
        metadata: what it shall hold besides, of a file of the same kind.

    Attributes:
        limited: samples beyond full scale so far, which were brought down to it; none in formats that can hold them.
        notes: sentences about what differs from the source besides the sound: another codec, a track left out, …
    """

    def __init__(self, path: str | Path, metadata: Metadata | None = None) -> None:
        self.path = Path(path)
        self.limited = 0
        self.notes: list[str] = []
        self._metadata = metadata
        self._part = temporary_path(self.path)

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
        if self._metadata:
            try:
                put_metadata(self._part, self._metadata)
            except OSError as error:
                raise AudioError(f"{self.path}: cannot be written ({error.strerror}); is the disk full?") from error
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self.path)

    def discard(self) -> None:
        """Remove what was written, unless it was committed."""
        self._abandon()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.discard()
