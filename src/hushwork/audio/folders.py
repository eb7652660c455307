"""The audio files of a folder; all other files are counted, so that none is skipped silently."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hushwork.audio.io import AUDIO_SUFFIXES, CONTAINER_SUFFIXES, AudioError
from hushwork.audio.remote import fetch_range, is_remote

MAC_ARCHIVE = "__macosx"  # the folder of AppleDouble files in archives made by macOS
SKIPPED_FOLDERS = {
    *("$recycle.bin", "recycler", "#recycle", "@recycle", "lost+found", "system volume information"),
    *(MAC_ARCHIVE, "@eadir", "#snapshot", "@recently-snapshot"),
}
"""Folders of operating systems and storage servers, besides the hidden ones (``.Trash-1000``, ``.Trashes``)."""
APPLE_DOUBLE = b"\x00\x05\x16\x07"  # first bytes of a file with the metadata of another one, RFC 1740
SYNC = b"\x47"  # the first byte of each packet of an MPEG transport stream
PACKETS = ((188, 0), (192, 4), (204, 0))  # their sizes in bytes, and the offset of the first: plain, Blu-ray, DVB
SUFFIXES_SHOWN = 8


@dataclass
class Skipped:
    """Files and folders that were skipped.

    Attributes:
        others: files of other types, by suffix in lower case.
        apple_double: files named like AppleDouble files (``._a.wav``), in which macOS keeps metadata of others.
        hidden: hidden audio files.
        no_files: broken links, pipes and the like, with the suffix of audio.
        folders: names of hidden folders and those of :data:`SKIPPED_FOLDERS`.
        unreadable: folders that could not be listed, with the reason.
    """

    others: Counter[str] = field(default_factory=Counter)
    apple_double: int = 0
    hidden: int = 0
    no_files: int = 0
    folders: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    @property
    def has_apple_double(self) -> bool:
        return bool(self.apple_double or any(name.lower() == MAC_ARCHIVE for name in self.folders))

    def add(self, further: Skipped) -> None:
        """Add the counts of another folder."""
        self.others += further.others
        self.apple_double += further.apple_double
        self.hidden += further.hidden
        self.no_files += further.no_files
        self.folders += further.folders
        self.unreadable += further.unreadable

    def __str__(self) -> str:
        """One line, such as "3 files of other types skipped: .txt 2, .jpg 1"; empty if there is nothing to say."""
        parts = []
        if count := self.others.total():
            parts.append(f"{_files(count)} of other types skipped: {_most_common(self.others)}")
        if self.apple_double:
            parts.append(f"{_files(self.apple_double, 'AppleDouble ')} skipped")
        if self.hidden:
            parts.append(f"{_files(self.hidden, 'hidden ')} skipped")
        if self.no_files:
            parts.append(f"{self.no_files} broken links or special files skipped")
        if self.folders:
            parts.append(f"folders skipped: {_most_common(self.folders)}")
        return "; ".join(parts)


def find_audio_files(folder: Path, skipped: Skipped, written: Collection[Path] = ()) -> list[Path]:
    """All audio files in a folder and the folders in it, sorted.

    Files are chosen by suffix; ``.ts`` files, which are mostly TypeScript, by content. Hidden files and folders, trash
    folders and AppleDouble files are skipped, unless ``folder`` itself lies in one. Links to folders are not followed.

    Args:
        folder: a folder, or its URL.
        skipped: collects what was skipped.
        written: resolved folders of results, which are skipped.
    """
    found: list[Path] = []

    def enters(path: Path) -> bool:
        if path.name.startswith(".") or path.name.lower() in SKIPPED_FOLDERS:
            skipped.folders[path.name] += 1
            return False
        return path not in written

    for path in _files_below(folder, enters, skipped.unreadable):
        suffix = path.suffix.lower()
        known = suffix in AUDIO_SUFFIXES or suffix in CONTAINER_SUFFIXES
        if path.name.startswith("._"):
            skipped.apple_double += 1
        elif path.name.startswith("."):
            skipped.hidden += known
        elif known and not (is_remote(path) or path.is_file()):
            skipped.no_files += 1
        elif known and (suffix != ".ts" or _is_transport_stream(path)):
            found.append(path)
        else:
            skipped.others[suffix or "without suffix"] += 1
    return sorted(found)


def is_apple_double(path: Path) -> bool:
    """Whether a local file is an AppleDouble file, by its content."""
    return _begin(path, len(APPLE_DOUBLE)) == APPLE_DOUBLE


def _files_below(folder: Any, enters: Callable[[Path], bool], unreadable: list[str]) -> Iterator[Path]:
    """All files in a folder and in those folders below it that ``enters`` accepts."""
    if not is_remote(folder):
        below = folder.resolve()  # links below it are not followed

        def failed(error: OSError) -> None:
            unreadable.append(f"{error.filename}: the folder cannot be listed ({error.strerror})")

        for root, folders, names in os.walk(folder, onerror=failed):
            real = below / os.path.relpath(root, folder)
            folders[:] = sorted(name for name in folders if enters(real / name))
            yield from (Path(root, name) for name in names)
        return
    folder.fs.invalidate_cache()
    entered: dict[Any, bool] = {}
    for name in folder.fs.find(folder.path):
        path = folder / os.path.relpath(name, folder.path)
        parents = [parent for parent in path.parents if folder in parent.parents]
        for parent in reversed(parents):
            if parent not in entered:
                entered[parent] = enters(parent)
            if not entered[parent]:
                break
        else:
            yield path


def _is_transport_stream(path: Path) -> bool:
    begin = _begin(path, 4 * max(PACKETS)[0])
    return any(len(begin) > size + offset and set(begin[offset::size]) == set(SYNC) for size, offset in PACKETS)


def _begin(path: Path, size: int) -> bytes:
    """The first bytes of a file; nothing if it cannot be read."""
    with suppress(OSError, AudioError):
        if is_remote(path):
            return fetch_range(path, 0, size)
        with path.open("rb") as file:
            return file.read(size)
    return b""


def _files(count: int, kind: str = "") -> str:
    return f"{count} {kind}file{'' if count == 1 else 's'}"


def _most_common(counts: Counter[str]) -> str:
    shown = [f"{name} {count}" for name, count in counts.most_common(SUFFIXES_SHOWN)]
    return ", ".join([*shown, "…"] if len(counts) > SUFFIXES_SHOWN else shown)
