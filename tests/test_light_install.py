"""Denoising and --help need no torch, and errors of other functions name the extra to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import hushwork

SOURCES = Path(hushwork.__file__).parents[1]


def run_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_help_does_not_wait_for_torch() -> None:
    code = """
import sys
from hushwork.cli import main
for words in (["--help"], ["denoise", "--help"], ["--version"]):
    try:
        main(words)
    except SystemExit as ended:
        assert ended.code == 0
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "numpy", "hydra", "librosa", "rich"}))
"""
    printed = run_python(code)
    assert "denoise files and folders" in printed
    assert f"hushwork {hushwork.__version__}" in printed
    assert printed.endswith("[]\n")


def test_denoising_imports_no_torch(model_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.wav"
    soundfile.write(source, np.zeros(5000), 16000)
    code = f"""
import sys
from hushwork.cli import main
status = main(["denoise", {str(source)!r}, "-o", {str(tmp_path / "out.wav")!r}, "--model", {str(model_folder)!r}])
print(status, sorted({{name.split(".")[0] for name in sys.modules}} & {{"torch", "librosa", "scipy", "hydra", "rich"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_names_that_need_torch_say_how_to_install_it(model_folder: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
import hushwork
for name in ("ClockworkRNN", "load_for_training"):
    try:
        getattr(hushwork, name)
    except ImportError as error:
        print(error)
from hushwork.cli import main
print(main(["evaluate", "--model", {str(model_folder)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    sentence = "needs torch, which is installed for training: pip install 'hushwork[train]'"
    assert done.stdout.splitlines() == [
        f"hushwork.ClockworkRNN {sentence}",
        f"hushwork.load_for_training {sentence}",
        "1",
    ]
    assert done.stderr == f"hushwork evaluate {sentence}\n"


def test_the_package_exports_its_public_names() -> None:
    for name in hushwork.__all__:
        assert getattr(hushwork, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'separate'"):
        _ = hushwork.separate
