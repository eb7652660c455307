"""One file of a batch: checked before the work, fetched if it is remote, and its outcome."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from hushwork.audio.folders import is_apple_double
from hushwork.audio.io import AudioError, AudioInfo, audio_info
from hushwork.audio.remote import fetch, is_remote, publish

OnNote = Callable[[Path, str], object]
"""Called with a source and a note on it."""


@dataclass(frozen=True)
class Outcome:
    """The result of one file.

    Attributes:
        source, target: input and output.
        duration_s: seconds of audio.
        repaired: input samples that were NaN, infinite or out of range and were set to 0.
        limited: output samples beyond full scale that the format cannot hold.
        error: why the file was not written; None if it was.
        skipped: an earlier run has already written it.
        notes: sentences about anything unusual: a wrong header, another codec, a track that was left out, …
    """

    source: Path
    target: Path
    duration_s: float = 0.0
    repaired: int = 0
    limited: int = 0
    error: str | None = None
    skipped: bool = False
    notes: tuple[str, ...] = ()


def failed(source: Path, target: Path, error: Exception) -> Outcome:
    """The outcome of a file that ended with this error; the message names the source."""
    message = str(error) or type(error).__name__
    return Outcome(source, target, error=message if str(source) in message else f"{source}: {message}")


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse to replace what must stay.

    Raises:
        AudioError: the target is a folder, is the source, or exists and must not be overwritten.
    """
    if target.is_dir():
        raise AudioError(f"{target}: is a folder, expected a file name for the output")
    if target.exists():
        if _same_file(source, target):
            raise AudioError(f"{target}: input and output are the same file; choose another output")
        if not overwrite:
            raise AudioError(f"{target}: exists already; choose another output, or --overwrite")


def copies_folder(plan: Sequence[tuple[Path, Path]]) -> AbstractContextManager[str | None]:
    """A temporary folder for local copies of remote files; None if a plan has no remote files."""
    if any(is_remote(path) for pair in plan for path in pair):
        return tempfile.TemporaryDirectory(prefix="hushwork-")
    return nullcontext()


@dataclass
class FileJob:
    """A file to denoise, and its result so far. Remote files are read and written as local copies."""

    source: Path
    target: Path
    local_source: Path
    local_target: Path
    info: AudioInfo
    repaired: int = 0
    limited: int = 0
    failure: Exception | None = None
    notes: list[str] = field(default_factory=list)
    on_note: OnNote | None = None

    @classmethod
    def open(cls, source: Path, target: Path, overwrite: bool, folder: str | None, on_note: OnNote | None) -> FileJob:
        """Check a pair, and fetch a remote source into ``folder``.

        Raises:
            AudioError: the source cannot be read or is empty, or see :func:`check_target`.
        """
        copies = Path(tempfile.mkdtemp(dir=folder)) if folder else Path()
        local_source = copies / f"source{source.suffix}" if is_remote(source) else source
        local_target = copies / f"target{target.suffix}" if is_remote(target) else target
        if is_remote(source):
            fetch(source, local_source)
        if is_apple_double(local_source):
            raise AudioError(f"{source}: is a macOS AppleDouble file, which holds metadata and no audio; omit it")
        try:
            info = audio_info(local_source, search=True)
        except AudioError as error:
            raise AudioError(str(error).replace(str(local_source), str(source))) from error
        check_target(source, target, overwrite)
        if info.num_samples == 0:
            raise AudioError(f"{source}: holds no samples")
        job = cls(source, target, local_source, local_target, info, on_note=on_note)
        job.note(info.notes)
        return job

    def note(self, notes: Iterable[str]) -> None:
        """Add notes that are new."""
        for text in notes:
            if text not in self.notes:
                self.notes.append(text)
                if self.on_note:
                    self.on_note(self.source, text)

    def fail(self, error: Exception) -> None:
        """Keep an error; its message names the files, not their local copies."""
        message = str(error).replace(str(self.local_source), str(self.source))
        message = message.replace(str(self.local_target), str(self.target))
        self.failure = error if message == str(error) else AudioError(message)

    def upload(self) -> None:
        """Copy the result to a remote target. Raises :class:`AudioError`."""
        if is_remote(self.target):
            publish(self.local_target, self.target)

    def outcome(self) -> Outcome:
        notes = tuple(self.notes)
        if self.failure:
            return replace(failed(self.source, self.target, self.failure), notes=notes)
        return Outcome(
            self.source, self.target, self.info.duration_s, repaired=self.repaired, limited=self.limited, notes=notes
        )


def _same_file(source: Path, target: Path) -> bool:
    if is_remote(source) or is_remote(target):
        return source == target
    return source.exists() and source.samefile(target)
