"""Unusual and damaged files: each gives a clean file or an error that names it, and no file is harmed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hushwork.cli import main
from hushwork.files.check import check_pair

RATE = 16000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)


def wav(audio: np.ndarray = NOISE, rate: int = RATE, subtype: str = "PCM_16", container: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate, subtype, format=container)
    return buffer.getvalue()


def run(model: Path, *words: object) -> int:
    return main(["denoise", *map(str, words), "--model", str(model)])


GOOD: dict[str, tuple[str, Callable[[], bytes]]] = {
    "one sample": ("a.wav", lambda: wav(NOISE[:1])),
    "ten samples": ("a.wav", lambda: wav(NOISE[:10])),
    "all NaN": ("a.wav", lambda: wav(np.full(5000, np.nan, np.float32), subtype="FLOAT")),
    "a constant": ("a.wav", lambda: wav(np.full(RATE, 0.5, np.float32))),
    "a square wave at full scale": ("a.wav", lambda: wav(np.sign(np.sin(np.arange(RATE) / 20)))),
    "digital silence": ("a.flac", lambda: wav(np.zeros(RATE), container="FLAC")),
    "100 channels": ("a.wav", lambda: wav(np.tile(NOISE[:2000, None], (1, 100)))),
    "100 Hz": ("a.wav", lambda: wav(NOISE[:200], rate=100)),
    "8 kHz": ("a.wav", lambda: wav(rate=8000)),
    "11.025 kHz": ("a.wav", lambda: wav(rate=11025)),
    "192 kHz": ("a.wav", lambda: wav(rate=192000)),
    "cut off": ("a.wav", lambda: wav()[:10001]),
    "of another format than its suffix": ("a.wav", lambda: wav(container="FLAC")),
    "for more than 4 GB": ("a.wav", lambda: wav(container="RF64")),
    "extensible": ("a.wav", lambda: wav(container="WAVEX")),
    "a name with a space": ("a b.wav", wav),
    "a name with a line break": ("a\nb.wav", wav),
    "a name in other letters": ("größe 音.wav", wav),
    "a name like an option": ("-v.wav", wav),
}


@pytest.mark.parametrize(("name", "content"), GOOD.values(), ids=GOOD)
def test_unusual_files_are_denoised(
    name: str, content: Callable[[], bytes], model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content())
    assert run(model_folder, tmp_path / name, "-o", tmp_path / "out" / name) == 0
    assert [promise for promise in check_pair(tmp_path / name, tmp_path / "out" / name) if not promise.kept] == []


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "the file is empty"),
    "half a header": (lambda: wav()[:30], "cannot be read as audio"),
    "a header alone": (lambda: wav()[:44], "holds no samples"),
    "a text": (lambda: b"hello " * 100, "cannot be read as audio"),
    "half a flac": (lambda: wav(container="FLAC")[:5000], "cannot be read as audio"),
    "1 Hz": (lambda: wav(NOISE[:20], rate=1), "its header states 1 Hz, expected 100 to 1000000"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(1000), "cannot be read as audio"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_unreadable_files_are_named(
    content: Callable[[], bytes], message: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.wav").write_bytes(content())
    assert run(model_folder, tmp_path / "bad.wav", "-o", tmp_path / "out.wav") == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"{tmp_path / 'bad.wav'}: ")
    assert message in printed
    assert not (tmp_path / "out.wav").exists()


def test_an_unreadable_file_does_not_stop_the_others(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (content, _) in BAD.items():
        (tmp_path / f"{name}.wav").write_bytes(content())
    (tmp_path / "good.wav").write_bytes(wav())
    assert run(model_folder, tmp_path, "-o", tmp_path / "out") == 1
    assert [path.name for path in (tmp_path / "out").glob("*.wav")] == ["good.wav"]
    printed = capsys.readouterr().err
    for name, (_, message) in BAD.items():
        assert any(f"{name}.wav: " in line and message in line for line in printed.splitlines())


def test_a_target_that_cannot_be_is_named(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.wav").write_bytes(wav())
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder.wav").mkdir()
    for target, message in (
        (tmp_path / "file" / "out.wav", "file"),  # a folder cannot be made below a file
        (tmp_path / "in.wav", "input and output are the same file"),
        (tmp_path / "out.xyz", "no audio format has the suffix"),
    ):
        assert run(model_folder, tmp_path / "in.wav", "-o", target) == 1
        assert message in capsys.readouterr().err
    assert (tmp_path / "in.wav").read_bytes() == wav()
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="who may do all is refused nothing")
def test_missing_rights_are_named(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.wav").write_bytes(wav())
    (tmp_path / "locked").mkdir(mode=0o555)
    assert run(model_folder, tmp_path / "in.wav", "-o", tmp_path / "locked" / "out.wav") == 1
    assert "out.wav" in capsys.readouterr().err
    (tmp_path / "in.wav").chmod(0o000)
    assert run(model_folder, tmp_path / "in.wav", "-o", tmp_path / "out.wav") == 1
    assert "in.wav" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit that Windows has not")
def test_a_full_disk_is_named_and_leaves_nothing(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.wav").write_bytes(wav(np.tile(NOISE, 10)))
    (tmp_path / "out").mkdir()
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from hushwork.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["denoise", tmp_path / "in.wav", "-o", tmp_path / "out" / "a.wav", "--model", model_folder]
    ended = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "out/a.wav: cannot be written; is the disk full?" in ended.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_links_in_circles_end(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.wav").write_bytes(wav())
    (tmp_path / "in" / "sub" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "nowhere.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "in" / "self.wav").symlink_to(tmp_path / "in" / "self.wav")
    assert run(model_folder, tmp_path / "in", "-o", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").rglob("*.wav")] == ["a.wav"]


def test_no_source_or_conflicting_options_are_refused(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model_folder, "-o", tmp_path / "out") == 1
    assert "name audio files or folders" in capsys.readouterr().err
    assert run(model_folder, tmp_path / "missing.wav", "-o", tmp_path / "out.wav") == 1
    assert "missing.wav: no such file" in capsys.readouterr().err
