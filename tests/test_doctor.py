"""hushwork doctor: missing and broken parts are reported with a remedy, and the other checks still run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
from email.message import Message
from pathlib import Path

import numpy as np
import pytest

from hushwork import doctor
from hushwork.cli import main
from hushwork.doctor import BROKEN, EXTRAS, MISSING, OK, Finding, examine
from hushwork.network.model_folder import SHIPPED, read_config
from hushwork.streaming.stream import DenoiserStream

ROOT = Path(__file__).parents[1]
RUNTIME = {"numpy": "2.1.0", "tqdm": "4.70"}
REQUIRES = [
    "numpy>=2.0",
    "tqdm>=4.66",
    'torch>=2.11; extra == "train"',
    "hydra-core<2,>=1.3.2; extra == 'train'",
    "rich>=13; extra == 'train'",
    "scipy>=1.13; extra == 'train'",
    "sounddevice>=0.5; extra == 'live'",
]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What seems to be installed, to be changed: the packages that denoising needs."""
    versions = dict(RUNTIME)

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    package = Message()
    for extra in ("live", "train"):
        package["Provides-Extra"] = extra
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRES)
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: package)
    return versions


def test_a_small_installation_works(installed: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for line in (
        "OK       numpy              2.1.0",
        "missing  train              training, and everything else that needs torch; "
        "lacks torch, hydra-core, rich and 1 more; pip install 'hushwork[train]'",
        "missing  live               the microphone: hushwork live; lacks sounddevice; pip install 'hushwork[live]'",
        "missing  torch              not needed for denoising; for training: pip install 'hushwork[train]'",
        "OK       model              default",
    ):
        assert f"  {line}\n" in printed
    assert printed.endswith("\ndenoising works\n")


def test_the_real_installation_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["works"] is True
    found = {finding["subject"]: finding for section in report["sections"].values() for finding in section}
    assert found["numpy"] == {"subject": "numpy", "state": "OK", "detail": np.__version__, "advice": ""}
    assert found["torch"]["state"] == "OK"
    assert found["torch"]["detail"] == importlib.metadata.version("torch")
    assert (
        found["default"]["detail"] == f"{read_config(SHIPPED / 'default')['parameters']:,} parameters, checksums match"
    )
    assert {found[name]["state"] for name in ("wav", "flac", "ogg", "opus", "mp3")} == {"OK"}
    assert {found[name]["state"] for name in ("array", "stream", "file")} == {"OK"}


@pytest.mark.parametrize(
    ("change", "section", "expected"),
    [
        ({"numpy": None}, "packages", Finding("numpy", MISSING, "", "pip install hushwork")),
        (
            {"numpy": "1.26.4"},
            "packages",
            Finding("numpy", BROKEN, "1.26.4, required: >=2.0", "pip install hushwork"),
        ),
        (
            {"numpy": "2.0.0rc1"},
            "packages",
            Finding("numpy", BROKEN, "2.0.0rc1, required: >=2.0", "pip install hushwork"),
        ),
        ({"numpy": "2.1.0rc1"}, "packages", Finding("numpy", OK, "2.1.0rc1")),
        ({"sounddevice": "0.5"}, "extras", Finding("live", OK, EXTRAS["live"])),
        (
            {"torch": "2.5.1+cpu", "hydra-core": "2.0", "rich": "13.7", "scipy": "1.13"},
            "extras",
            Finding(
                "train",
                BROKEN,
                f"{EXTRAS['train']}; torch is 2.5.1+cpu, required: >=2.11; hydra-core is 2.0, required: <2,>=1.3.2",
                "pip install 'hushwork[train]'",
            ),
        ),
        (
            {"torch": "2.11.0+cpu", "hydra-core": "1.3.2", "rich": "15", "scipy": "1.13"},
            "extras",
            Finding("train", OK, EXTRAS["train"]),
        ),
    ],
)
def test_versions_are_compared(
    change: dict[str, str | None], section: str, expected: Finding, installed: dict[str, str]
) -> None:
    for name, version in change.items():
        installed.pop(name, None)
        installed.update({name: version} if version else {})
    check = {"packages": doctor._packages, "extras": doctor._extras}[section]
    assert expected in list(check())


def test_every_extra_has_a_purpose() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["optional-dependencies"].keys() == EXTRAS.keys()


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ("raise OSError('libtorch.so')", [("torch", BROKEN, "3.0 cannot be imported: OSError: libtorch.so")]),
        ("import os; os.abort()", [("torch", BROKEN, "3.0 cannot be imported: ended with -6")]),
        ("import threading; threading.Event().wait()", [("torch", BROKEN, "3.0 cannot be imported in 1 s")]),
        (
            "print('[]'); raise ImportError('libcudart.so')",
            [
                ("torch", OK, "3.0"),
                ("GPU", MISSING, "training runs on the CPU"),
                ("torchaudio", BROKEN, "cannot be imported: ImportError: libcudart.so"),
            ],
        ),
        (
            "print('warning'); print('[\"one\", \"two\"]')",
            [("torch", OK, "3.0"), ("GPU", OK, "one, two"), ("torchaudio", OK, "2.9")],
        ),
    ],
)
def test_a_broken_torch_breaks_nothing_else(
    probe: str,
    expected: list[tuple[str, str, str]],
    installed: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed.update(torch="3.0", torchaudio="2.9")
    monkeypatch.setattr(doctor, "PROBE", probe)
    monkeypatch.setattr(doctor, "PROBE_S", 1)
    assert [(each.subject, each.state, each.detail) for each in doctor._torch()] == expected


def test_another_model_is_tested_instead(
    installed: dict[str, str], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSHWORK_MODEL", str(model_folder))
    report = examine()
    assert report.sections["denoising"][0] == Finding("model", OK, f"{model_folder}, by HUSHWORK_MODEL")


def test_a_damaged_model_is_named(
    installed: dict[str, str],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = Path(shutil.copytree(model_folder, tmp_path / "model"))
    with (damaged / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    monkeypatch.setenv("HUSHWORK_MODEL", str(damaged))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert f"  broken   model              {damaged / 'model.safetensors'}: changed since it was exported" in printed
    assert "; unset HUSHWORK_MODEL to take the default\n" in printed
    assert "  OK       default            " in printed
    assert printed.endswith("\ndenoising does not work: see the lines marked broken\n")


def test_a_stream_that_differs_is_noticed(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    flush = DenoiserStream.flush
    monkeypatch.setattr(DenoiserStream, "flush", lambda self: flush(self) + np.float32(0.01))
    report = examine()
    assert not report.works
    (stream,) = [each for each in report.sections["denoising"] if each.subject == "stream"]
    assert stream.state == BROKEN
    assert stream.detail.endswith("largest difference 0.01, allowed 0.0001")


def test_without_a_writable_folder_the_other_checks_run(
    installed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    report = examine()
    assert not report.works
    (disk,) = report.sections["disk"]
    assert (disk.state, disk.advice) == (BROKEN, "set TMPDIR to a writable folder")
    assert "FileNotFoundError" in disk.detail
    states = {each.subject: each.state for each in report.sections["denoising"]}
    assert states == {"model": OK, "array": OK, "stream": OK, "this check": BROKEN}


@pytest.mark.parametrize(
    ("lacking", "status"), [("", 0), ("packaging", 0), ("onnxruntime", 1), ("numpy", 1), ("soundfile", 1)]
)
def test_it_runs_on_the_available_cores(lacking: str, status: int) -> None:
    code = f"""
import sys
for name in ("torch", "rich", "scipy", "hydra", {lacking!r}):
    if name:
        sys.modules[name] = None
from hushwork import doctor
from hushwork.cli import main
doctor.PROBE = "print([])"
status = main(["doctor"])
print(status, [name for name in ("torch", "rich", "librosa") if sys.modules.get(name)])
"""
    environment = {name: value for name, value in os.environ.items() if name != "HUSHWORK_MODEL"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{status} []"
    if lacking:
        assert sum("ModuleNotFoundError" in line and lacking in line for line in lines) >= 1
    assert any(line.startswith("  OK       temporary folder") for line in lines)
