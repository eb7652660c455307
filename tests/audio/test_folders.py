"""Which files of a folder are audio, and which files of operating systems are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hushwork.audio.folders import Skipped, find_audio_files, is_apple_double
from hushwork.audio.io import AUDIO_SUFFIXES, CONTAINER_SUFFIXES
from hushwork.audio.remote import locate

APPLE_DOUBLE = bytes.fromhex("0005160700020000") + bytes(74)


def put(root: Path, *names: str, content: bytes = b"") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def found(root: Path, **options: Any) -> tuple[list[str], Skipped]:
    skipped = Skipped()
    names = [path.relative_to(root).as_posix() for path in find_audio_files(root, skipped, **options)]
    return names, skipped


def test_only_audio_is_found_and_the_rest_counted_in_one_line(tmp_path: Path) -> None:
    put(tmp_path, "b.WAV", "deep/er/a.flac", "talk.mp4", "notes.txt", "deep/x.TXT", "picture.jpg", "README")
    names, skipped = found(tmp_path)
    assert names == ["b.WAV", "deep/er/a.flac", "talk.mp4"]
    assert str(skipped) == "4 files of other types skipped: .txt 2, .jpg 1, without suffix 1"
    put(tmp_path, *(f"{number}.type{number}" for number in range(9)))
    assert str(found(tmp_path)[1]).endswith(", …")
    put(tmp_path / "plain", "a.wav")
    assert str(found(tmp_path / "plain")[1]) == ""


def test_files_that_macos_adds_are_skipped(tmp_path: Path) -> None:
    put(tmp_path, "._a.wav", "deep/._b.mp3", "__MACOSX/._c.wav", content=APPLE_DOUBLE)
    put(tmp_path, "a.wav", ".DS_Store")
    names, skipped = found(tmp_path)
    assert names == ["a.wav"]
    assert (skipped.apple_double, skipped.has_apple_double) == (2, True)
    assert str(skipped) == "2 AppleDouble files skipped; folders skipped: __MACOSX 1"
    assert is_apple_double(tmp_path / "._a.wav")
    assert not is_apple_double(tmp_path / "a.wav")
    assert not is_apple_double(tmp_path / "absent.wav")


TRASH = (
    ".Trash-1000/files",
    ".Trashes/501",
    "$RECYCLE.BIN/S-1",
    "$Recycle.Bin",
    "#recycle",
    "lost+found",
    "@eaDir/a.wav",
)


@pytest.mark.parametrize("folder", [*TRASH, ".git", "System Volume Information", "deep/.cache/deeper"])
def test_trash_and_hidden_folders_are_skipped_unless_named(folder: str, tmp_path: Path) -> None:
    put(tmp_path, f"{folder}/a.wav", "b.wav")
    names, skipped = found(tmp_path)
    assert names == ["b.wav"]
    assert skipped.folders.total() == 1
    assert found(tmp_path / folder)[0] == ["a.wav"]


def test_hidden_files_are_counted_if_they_are_audio(tmp_path: Path) -> None:
    put(tmp_path, ".a.wav", ".b.mp3", ".nomedia", "c.wav")
    names, skipped = found(tmp_path)
    assert names == ["c.wav"]
    assert str(skipped) == "2 hidden files skipped"


def test_folders_with_results_are_no_input(tmp_path: Path) -> None:
    put(tmp_path / "real", "a.wav", "out/a.wav", "deep/out/b.wav", "page_files/removed-01.flac")
    written = [tmp_path / "real" / "out", tmp_path / "real" / "page_files"]
    assert found(tmp_path / "real", written=written)[0] == ["a.wav", "deep/out/b.wav"]
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert found(tmp_path / "link", written=written)[0] == ["a.wav", "deep/out/b.wav"]


@pytest.mark.parametrize(
    ("content", "is_sound"),
    [
        ((b"\x47" + bytes(187)) * 10, True),
        ((bytes(4) + b"\x47" + bytes(187)) * 10, True),  # of a Blu-ray
        ((b"\x47" + bytes(203)) * 10, True),
        (b"export const answer = 42;\n" * 100, False),
        (b"Greetings".ljust(200, b"."), False),
        (b"G" + b"//" * 400, False),
        (b"", False),
    ],
)
def test_ts_is_a_transport_stream_or_typescript(content: bytes, is_sound: bool, tmp_path: Path) -> None:
    put(tmp_path, "a.ts", content=content)
    names, skipped = found(tmp_path)
    assert (names, skipped.others[".ts"]) == ((["a.ts"], 0) if is_sound else ([], 1))


def test_folders_that_cannot_be_listed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.wav", "locked/b.wav")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    names, skipped = found(tmp_path)
    assert names == ["a.wav"]
    assert skipped.unreadable == [f"{tmp_path / 'locked'}: the folder cannot be listed (Permission denied)"]


def test_links_to_files_are_found_and_those_to_nowhere_counted(tmp_path: Path) -> None:
    put(tmp_path, "b.wav", "deep/c.wav")
    (tmp_path / "a.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "d.wav").symlink_to(tmp_path / "b.wav")
    (tmp_path / "again").symlink_to(tmp_path / "deep")
    names, skipped = found(tmp_path)
    assert names == ["b.wav", "d.wav", "deep/c.wav"]
    assert str(skipped) == "1 broken links or special files skipped"


def test_folders_at_urls_are_searched_alike(memory: Any) -> None:
    pytest.importorskip("upath")
    for name in (
        "a.wav",
        "deep/b.mp3",
        ".Trash-1/c.wav",
        "deep/.d/e.wav",
        "deep/.d/f.wav",
        "out/a.wav",
        "._a.wav",
        "x.txt",
    ):
        memory.pipe_file(f"/in/{name}", b"")
    memory.pipe_file("/in/tv.ts", (b"\x47" + bytes(187)) * 10)
    memory.pipe_file("/in/app.ts", b"export const answer = 42;\n" * 100)
    skipped = Skipped()
    paths = find_audio_files(locate("memory://in"), skipped, [locate("memory://in/out")])
    assert [str(path) for path in paths] == ["memory://in/a.wav", "memory://in/deep/b.mp3", "memory://in/tv.ts"]
    assert skipped.folders == {".Trash-1": 1, ".d": 1}
    assert (skipped.others, skipped.apple_double) == ({".txt": 1, ".ts": 1}, 1)


def extensions(av: Any, mode: str, *names: str) -> Iterator[str]:
    for name in names:
        yield from (f".{suffix}" for suffix in av.ContainerFormat(name, mode).extensions)


def test_files_that_ffmpeg_reads_are_found() -> None:
    av = pytest.importorskip("av")
    sound = (
        "aac",
        "ac3",
        "ape",
        "dts",
        "dtshd",
        "eac3",
        "flac",
        "gsm",
        "mlp",
        "mp3",
        "mpc",
        "ogg",
        "oma",
        "shn",
        "tak",
    )
    films = ("avi", "flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "nut")
    known = {*extensions(av, "r", *sound, "truehd", "tta", *films)}
    written = (
        "adts",
        "aiff",
        "amr",
        "asf",
        "au",
        "caf",
        "mp2",
        "mpegts",
        "mpeg",
        "mxf",
        "oga",
        "ogv",
        "opus",
        "rm",
        "spx",
    )
    known |= {*extensions(av, "w", *written, "vob", "voc", "w64", "wav", "webm", "wv")}
    no_sound = {".avif", ".heic", ".heif", ".mks"}  # pictures and subtitles
    other = {".ism", ".afc", ".apl", ".mac", ".dif"}  # a list of addresses, and what other files are called too
    assert known - no_sound - other <= AUDIO_SUFFIXES | CONTAINER_SUFFIXES
    assert not AUDIO_SUFFIXES & CONTAINER_SUFFIXES
    assert {".weba", ".mts", ".m2t", ".qt", ".bwf", ".aifc"} <= AUDIO_SUFFIXES | CONTAINER_SUFFIXES
