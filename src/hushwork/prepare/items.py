"""The audio files of a corpus, and metadata from their folders and names.

A preparer (``hushwork.prepare.<corpus>``) lists them as :class:`Item`; :mod:`hushwork.prepare.corpus` does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hushwork.audio.folders import Skipped, find_audio_files
from hushwork.audio.io import CONTAINER_SUFFIXES
from hushwork.data.recordings import SPLITS


class PrepareError(ValueError):
    """A corpus or file cannot be prepared. The message names the path and what to do."""


@dataclass(frozen=True)
class AudioFile:
    """A file of a corpus: where it is, and its place (``relative`` in ``tree``) among the converted files.

    ``split`` is set where the corpus itself has train, valid and test folders.
    """

    path: Path
    tree: str
    relative: PurePosixPath
    split: str | None = None

    @property
    def root(self) -> Path:
        """The folder that ``relative`` starts from."""
        return self.path.parents[len(self.relative.parts) - 1]

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders it is in, without the split's."""
        return self.relative.parts[1 if self.split else 0 : -1]

    @property
    def stem(self) -> str:
        return self.relative.with_suffix("").as_posix()

    @property
    def is_container(self) -> bool:
        """Whether reading from its middle is slow."""
        return self.path.suffix.lower() in CONTAINER_SUFFIXES

    @property
    def output(self) -> str:
        return f"audio/{self.tree}/{self.stem}.flac"


@dataclass(frozen=True)
class Item:
    """A future line of the manifest: its file (of a pair the clean and the noisy one), and its other fields.

    ``labels`` are keyword arguments of :class:`~hushwork.data.manifest.Recording`: kind, split, source, licence, ….
    A split of None is drawn, by speaker or noise source, once the usable files are known.
    """

    files: tuple[AudioFile, ...]
    labels: dict[str, Any]


def find_audio(folder: Path, tree: str) -> list[AudioFile]:
    """All audio files below ``folder``, sorted.

    Raises :class:`PrepareError` if there is no folder or no audio in it, or a folder below it cannot be listed.

    If the first folder level is train, valid and test (or train and one of them) and nothing else, it is the split.
    """
    if not folder.is_dir():
        raise PrepareError(f"{folder}: no such folder; check the path")
    root = folder.resolve()
    others = Skipped()
    relatives = [PurePosixPath(path.relative_to(root).as_posix()) for path in find_audio_files(root, others)]
    if others.unreadable:
        raise PrepareError("; ".join(others.unreadable))
    if not relatives:
        raise PrepareError(f"{folder}: no audio file in it or below it; expected .wav, .flac, .ogg, .mp3 or the like")
    tops = {relative.parts[0] for relative in relatives}
    has_splits = "train" in tops and len(tops) > 1 and tops <= set(SPLITS)
    return [AudioFile(root / name, tree, name, name.parts[0] if has_splits else None) for name in relatives]


def match_pairs(
    clean: Iterable[AudioFile],
    noisy: Iterable[AudioFile],
    skipped: list[str],
    key: Callable[[AudioFile], str] = lambda file: file.stem,
) -> list[tuple[AudioFile, AudioFile]]:
    """Clean and noisy files with the same ``key``; those without a partner are added to ``skipped``.

    Raises:
        PrepareError: two files of one side have the same key.
    """
    sides = []
    for files in (clean, noisy):
        side: dict[str, AudioFile] = {}
        for file in files:
            if (other := side.setdefault(key(file), file)) is not file:
                raise PrepareError(
                    f"{file.path}: has the same name as {other.path}, apart from the suffix; remove one of them"
                )
        sides.append(side)
    for side, others, missing in ((sides[0], sides[1], "noisy"), (sides[1], sides[0], "clean")):
        skipped += [f"{file.path}: has no {missing} file" for name, file in side.items() if name not in others]
    return [(file, sides[1][name]) for name, file in sides[0].items() if name in sides[1]]


def speaker_of(file: AudioFile, pattern: re.Pattern[str] | None) -> str:
    """The speaker: the match of ``pattern`` in the relative path, or the first folder, or the file's own name.

    Raises:
        PrepareError: the pattern does not match.
    """
    if pattern is None:
        return file.folders[0] if file.folders else file.stem
    match = pattern.search(file.relative.as_posix())
    speaker = match[1 if pattern.groups else 0] if match else None
    if not speaker:
        raise PrepareError(f"{file.path}: {pattern.pattern!r} finds no speaker in {file.relative}; check the pattern")
    return speaker


def noise_items(folder: Path, licence: str) -> list[Item]:
    """The noise files below ``folder``: the first folder level is the class, each file a source of its own."""
    items = []
    for file in find_audio(folder, "noise"):
        noise_class = file.folders[0] if file.folders else "noise"
        labels = {"kind": "noise", "split": file.split, "source": file.stem, "licence": licence}
        items.append(Item((file,), labels | {"noise_class": noise_class}))
    return items
