"""Atomic writes: readers see the old or the new file, and no temporary file is left."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from hushwork.atomic import file_sha256, temporary_path, write_atomically


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    for text in ("one", "two"):
        before = path.read_text() if path.exists() else None
        with write_atomically(path) as part:
            part.write_text(text)
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == text
        assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError), write_atomically(path) as part:
        part.write_text("half\udcff", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), write_atomically(path) as part:
        part.write_text("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_one_that_holds_files(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for name in ("old", "new"):
        with write_atomically(path) as part:
            part.mkdir()
            (part / name).write_text(name)
    assert [file.name for file in path.iterdir()] == ["new"]
    with pytest.raises(FileNotFoundError), write_atomically(path) as part:
        shutil.copytree(tmp_path / "model", part).rename(tmp_path / "absent" / "x")
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["雨" * 83 + ".txt", "a" * 251 + ".txt", os.fsdecode(b"\xff" * 255)])
def test_the_longest_names_can_be_written(tmp_path: Path, name: str) -> None:
    assert 250 < len(os.fsencode(name)) <= 255
    with write_atomically(tmp_path / name) as part:
        assert len(part.name) < 80
        part.write_text("x")
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208, pathlib gives the same


def test_targets_have_different_temporary_files(tmp_path: Path) -> None:
    names = {temporary_path(tmp_path / name).name for name in ("a", "b", "a.b", "A")}
    assert len(names) == 4
    assert all(name.startswith(".") for name in names)


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
