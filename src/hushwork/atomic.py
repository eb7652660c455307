"""Files and folders that appear under their names when they are complete, and the hash of a file."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = re.compile(r"\.([0-9a-f]{16})\.\d+-\d+\.part")
"""Names of temporary files; the group is the :func:`name_key` of the target."""


def temporary_path(path: Path) -> Path:
    """Temporary path at which this thread writes ``path``: a hidden name in the same folder, matched by :data:`PART`.

    The name is short, so that it fits where the target's name has the 255 bytes that file systems allow.
    """
    if PART.fullmatch(path.name):  # a rewritten temporary file
        return path.with_stem(f"{path.stem}0")
    return path.with_name(f".{name_key(path.name)}.{os.getpid()}-{threading.get_ident()}.part")


def name_key(name: str) -> str:
    """The part of a temporary file's name that identifies the target: 16 hexadecimal digits of a SHA-256."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; the file or folder that the block writes there becomes ``path`` when the block ends.

    Parent folders are made. The content is on the disk before it appears, and replaces an existing file or folder as a
    whole. If the block raises, ``path`` stays as it was, and the temporary file or folder is removed.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)
    old = part.with_suffix(".old")
    try:
        yield part
        for written in (part, *part.rglob("*")):
            if written.is_file():
                with written.open("r+b") as file:
                    os.fsync(file.fileno())
        if part.is_dir() and path.exists():
            path.replace(old)  # a rename replaces no folder that holds files
        part.replace(path)
    finally:
        for left in (part, old):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
