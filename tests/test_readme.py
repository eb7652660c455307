"""What the README tells people to type is what the project takes."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configurations import compose_quickly
from hushwork import denoise
from hushwork.cli import parse_arguments
from hushwork.cli.prepare import CORPORA, FORMATS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(start: str) -> list[list[str]]:
    """The words of every command in a bash block that begins with ``start``, comments and chains cut off."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    parts = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return [shlex.split(part, comments=True) for part in parts if part.startswith(start)]


@pytest.mark.parametrize("words", commands("python train.py"), ids=" ".join)
def test_train_commands_compose(words: list[str]) -> None:
    overrides = [word for word in words[2:] if word != "-m"]
    if "-m" in words:
        overrides = [re.sub(r",.*", "", word) for word in overrides]
    assert compose_quickly(*overrides).model


@pytest.mark.parametrize("words", commands("hushwork"), ids=" ".join)
def test_hushwork_commands_parse(words: list[str]) -> None:
    assert parse_arguments(words[1:]).command == words[1]


def test_scripts_exist_and_know_their_options() -> None:
    scripts = re.findall(r"(scripts/[\w/]+\.py)((?: --[a-z-]+(?: [A-Zfs]\w+)?)*)", README)
    preparers = re.findall(r"hushwork prepare ([a-z-]+)((?: --[a-z-]+(?: [A-Zfs]\w+)?)*)", README)
    assert len(scripts) >= 2
    assert {name for name, _ in preparers} - set(FORMATS) == set(CORPORA)
    named = [(ROOT / script, options) for script, options in scripts]
    prepare = ROOT / "src/hushwork/prepare"
    for name, options in preparers:
        file = prepare / f"{name.replace('-', '_')}.py"
        named.append((file if file.is_file() else file.with_suffix("") / "__init__.py", options))
    shared = (prepare / "corpus.py").read_text(encoding="utf-8")
    for path, options in named:
        source = path.read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z-]+", options):
            assert f'"{option}"' in source + shared, f"{path} has no {option}"


def test_named_choices_exist() -> None:
    text = README.split("Experiments:")[1].split("Measure any model")[0]
    experiments, losses = text.split("`loss=`")
    known = {path.stem for path in (ROOT / "conf/experiment").glob("*.yaml")}
    assert known == set(re.findall(r"`(\w+)`", experiments))
    known = {path.stem for path in (ROOT / "conf/loss").glob("*.yaml")}
    assert known == set(re.findall(r"`(\w+)`", losses.split(";")[0]))


def test_python_examples_run() -> None:
    rng = np.random.default_rng(0)
    noisy, mono = (0.1 * rng.standard_normal(shape).astype(np.float32) for shape in ((2, 22050), 8000))
    played: list[np.ndarray] = []
    names: dict[str, Any] = {"noisy": noisy, "chunks": np.array_split(mono, 7), "play": played.append}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["clean"].shape == noisy.shape
    assert np.abs(names["clean"]).max() < 0.5 * np.abs(noisy).max()  # it is noise alone
    assert len(played) == 8
    np.testing.assert_allclose(np.concatenate(played), denoise(mono, 16000, names["denoiser"]), atol=1e-4)
