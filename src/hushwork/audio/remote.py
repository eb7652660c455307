"""Remote files, named by URLs that fsspec supports: s3, gs, az, sftp, file, memory and many more.

A local file is a :class:`pathlib.Path`, a remote one a ``UPath`` of universal-pathlib, which has the same methods;
annotations say ``Path`` for both. Neither universal-pathlib nor fsspec is imported before a URL is named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hushwork.atomic import temporary_path
from hushwork.audio.info import AudioError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
# Object stores, where a file appears when it is complete; elsewhere it is first written under a temporary name.
APPEARS_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2"}
REQUESTS = 32  # at the same time
FEW = 16  # files of a folder that are queried one by one instead of listing the folder

Stamp = list[int | str]


def locate(name: str | Path) -> Path:
    """The file or folder of this name; of a URL as ``UPath``.

    Raises:
        AudioError: an unknown kind of URL, or its package is not installed.
        ModuleNotFoundError: a URL, but universal-pathlib is not installed.
    """
    if not isinstance(name, str):
        return name
    if not URL.match(name):
        return Path(name)
    from upath import UPath

    try:
        path: Any = UPath(name)
        _ = path.fs  # imports the package for this kind of URL
    except (ImportError, ValueError) as error:
        raise AudioError(f"{name}: {error}") from error
    found: Path = path
    return found


def is_url(name: str | None) -> bool:
    return bool(name and URL.match(name))


def is_remote(path: Path) -> bool:
    return not isinstance(path, Path)


def appears_whole(path: Any) -> bool:
    """Whether a remote file appears only when it is complete."""
    return path.protocol in APPEARS_WHOLE


def absolute_name(path: Path) -> str:
    """The absolute name of a path, for processes with another working folder."""
    return str(path if is_remote(path) else path.absolute())


def name_below(path: Path, folder: Path) -> str:
    """A path relative to a folder; both local or both remote."""
    return os.path.relpath(str(path), str(folder))


def stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """Size in bytes and version of each path that exists: its modification time in ns, or the ETag of a remote file.

    A remote folder with many of the files is listed; other remote files are queried one by one, in parallel.
    """
    found: dict[Path, Stamp] = {}
    remote: dict[Any, list[Any]] = {}
    for path in paths:
        if is_remote(path):
            remote.setdefault(path.parent, []).append(path)
            continue
        with suppress(OSError):
            status = path.stat()
            found[path] = [status.st_size, status.st_mtime_ns]
    if remote:
        with ThreadPoolExecutor(REQUESTS) as pool:
            for part in pool.map(_remote_stamps, remote.keys(), remote.values()):
                found |= part
    return found


def fetch(source: Any, copy: Path) -> None:
    """Copy a remote file to a local one. Raises :class:`AudioError`."""
    with _named_errors(source):
        source.fs.get_file(source.path, str(copy))


def fetch_range(source: Any, offset: int, size: int) -> bytes:
    """``size`` bytes of a remote file from ``offset``; fewer if it ends there. Raises :class:`AudioError`."""
    with _named_errors(source):
        content: bytes = source.fs.cat_file(source.path, start=offset, end=offset + size)
    return content


@contextmanager
def _named_errors(source: Any) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise AudioError(f"{source}: no such file") from error
    except Exception as error:  # every kind of store has its own exceptions
        raise AudioError(f"{source}: cannot be fetched ({error})") from error


def publish(copy: Path, target: Any) -> None:
    """Copy a local file to a remote one, which appears when it is complete. Raises :class:`AudioError`."""
    fs, size = target.fs, copy.stat().st_size
    try:
        if appears_whole(target):
            fs.put_file(str(copy), target.path)
        else:
            part: Any = temporary_path(target)
            fs.makedirs(target.parent.path, exist_ok=True)
            try:
                fs.put_file(str(copy), part.path)
                fs.mv(part.path, target.path)
            except Exception:
                with suppress(Exception):
                    part.unlink()
                raise
        arrived = _remote_stamp(fs.info(target.path))[0]
    except Exception as error:  # every kind of store has its own exceptions
        raise AudioError(f"{target}: cannot be written ({error})") from error
    if arrived != size:
        raise AudioError(f"{target}: {arrived} of {size} bytes arrived; try again")


def _remote_stamps(folder: Any, paths: list[Any]) -> dict[Path, Stamp]:
    fs = folder.fs
    fs.invalidate_cache(folder.path)
    if len(paths) > FEW:
        with suppress(FileNotFoundError, NotADirectoryError):
            listed = {info["name"].rstrip("/").rpartition("/")[2]: info for info in fs.ls(folder.path, detail=True)}
            return {path: _remote_stamp(listed[path.name]) for path in paths if path.name in listed}
        return {}
    found = {}
    for path in paths:
        with suppress(FileNotFoundError):
            found[path] = _remote_stamp(fs.info(path.path))
    return found


def _remote_stamp(info: dict[str, Any]) -> Stamp:
    kinds = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "modified", "created")
    version = next((info[kind] for kind in kinds if info.get(kind)), "")
    return [info.get("size") or 0, str(version)]
