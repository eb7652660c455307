"""``hushwork check`` finds each fault, in files with just that fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hushwork.cli import main
from hushwork.files.check import check_pair
from hushwork.files.denoise import denoise_file
from hushwork.network.pretrained import PretrainedDenoiser
from sounds import broken

RATE = 16000


def noisy() -> np.ndarray:
    """(N, 2): noise, a second of digital silence, noise."""
    audio = 0.1 * np.random.default_rng(0).standard_normal((3 * RATE, 2))
    audio[RATE : 2 * RATE] = 0
    return audio


def leave(path: Path, audio: np.ndarray, rate: int = RATE, subtype: str = "PCM_16", **tags: str) -> Path:
    with soundfile.SoundFile(path, "w", samplerate=rate, channels=audio.shape[1], subtype=subtype) as file:
        for name, text in tags.items():
            setattr(file, name, text)
        file.write(audio)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return leave(tmp_path / "in.wav", noisy(), title="A talk")


def test_denoised_files_keep_all_promises(source: Path, model: PretrainedDenoiser, tmp_path: Path) -> None:
    denoise_file(source, tmp_path / "out.wav", model)
    assert len(check_pair(source, tmp_path / "out.wav")) == 12
    assert broken(source, tmp_path / "out.wav") == []


def spoilt(**changes: Any) -> Callable[[Path], Path]:
    """Writes the same file, but for the changes."""

    def write(path: Path) -> Path:
        how = {"audio": noisy(), "title": "A talk", **changes}
        return leave(path, **how)

    return write


def in_silence() -> np.ndarray:
    audio = noisy()
    audio[RATE + RATE // 2] = 0.001
    return audio


def with_clipping() -> np.ndarray:
    audio = noisy() * 0.5
    audio[5] = 1.0
    return audio


def with_nan() -> np.ndarray:
    audio = noisy()
    audio[7, 1] = np.nan
    return audio


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (spoilt(rate=RATE // 2), ["sample rate", "length"]),
        (spoilt(audio=noisy()[:, :1]), ["channels"]),
        (spoilt(audio=noisy()[:-1]), ["samples"]),
        (spoilt(subtype="PCM_24"), ["format"]),
        (spoilt(title="A walk"), ["tags", "metadata"]),
        (spoilt(audio=np.roll(noisy(), 3, axis=0)), ["no delay"]),
        (spoilt(audio=noisy() * 1.1), ["not louder"]),
        (spoilt(audio=in_silence()), ["silence stays"]),
        (spoilt(audio=with_clipping()), ["no clipping added"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_broken_parts_are_named(
    write: Callable[[Path], Path], expected: list[str], source: Path, tmp_path: Path
) -> None:
    assert broken(source, write(tmp_path / "out.wav")) == expected


def test_samples_that_are_not_finite_are_named(tmp_path: Path) -> None:
    source = leave(tmp_path / "in.wav", noisy(), subtype="FLOAT")
    assert broken(source, leave(tmp_path / "out.wav", with_nan(), subtype="FLOAT")) == ["finite"]


def test_another_container_may_hold_other_tags(source: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "out.flac", noisy(), RATE)
    assert broken(source, tmp_path / "out.flac") == []


def test_silent_files_have_no_delay(tmp_path: Path) -> None:
    source = leave(tmp_path / "in.wav", np.zeros((RATE, 1)))
    assert broken(source, leave(tmp_path / "out.wav", np.zeros((RATE, 1)))) == []


def test_the_command_prints_the_differences(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(source), str(source)]) == 0
    assert "BROKEN" not in capsys.readouterr().out
    leave(tmp_path / "out.wav", noisy()[:-2], title="A talk")
    assert main(["check", str(source), str(tmp_path / "out.wav")]) == 1
    assert "BROKEN samples            47998, was 48000" in capsys.readouterr().out
    assert main(["check", str(source), str(tmp_path / "missing.wav")]) == 1
    assert "missing.wav: no such file" in capsys.readouterr().err
