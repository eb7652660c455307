"""Commands and options in README and site exist."""

import re
import shlex
from importlib.util import find_spec
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
TRAIN = (ROOT / "docs/train.md").read_text(encoding="utf-8")
SITE = "\n".join(
    (ROOT / f"docs/{page}.md").read_text(encoding="utf-8") for page in ("quick-start", "denoise", "models")
)
PAGES = README + TRAIN + SITE


def commands(start: str) -> list[list[str]]:
    """The words of every command in a bash block that begins with ``start``, once, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGES, re.DOTALL)
    parts = [part.strip() for block in blocks for line in block.splitlines() for part in re.split(r"&&|\||>", line)]
    unique = {tuple(shlex.split(part, comments=True)): None for part in parts if part.startswith(start)}
    return [list(words) for words in unique]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 100


@pytest.mark.parametrize("words", commands("python train.py"), ids=" ".join)
def test_train_commands_compose(words: list[str]) -> None:
    overrides = [word for word in words[2:] if word != "-m"]
    if "-m" in words:
        overrides = [re.sub(r",.*", "", word) for word in overrides]
    assert compose_quickly(*overrides).model


@pytest.mark.parametrize("words", commands("hushwork"), ids=" ".join)
def test_hushwork_commands_parse(words: list[str]) -> None:
    assert parse_arguments(words[1:]).command == words[1]


def test_scripts_exist_and_have_the_options() -> None:
    scripts = re.findall(r"(scripts/[\w/]+\.py)((?: --[a-z-]+(?: [A-Zfs]\w+)?)*)", PAGES)
    preparers = re.findall(r"hushwork prepare ([a-z-]+)((?: --[a-z-]+(?: [A-Zfs]\w+)?)*)", PAGES)
    assert "scripts/benchmarks/benchmark_peers.py" in {name for name, _ in scripts}
    assert set(CORPORA) <= {name for name, _ in preparers} <= set(CORPORA | FORMATS)
    named = [(ROOT / script, options) for script, options in scripts]
    for name, options in preparers:
        found = find_spec(f"hushwork.prepare.{name.replace('-', '_')}")
        assert found is not None
        named.append((Path(str(found.origin)), options))
    shared = (ROOT / "src/hushwork/prepare/corpus.py").read_text(encoding="utf-8")
    for path, options in named:
        files = path.parent.glob("*.py") if path.stem == "__init__" else [path]
        source = "".join(file.read_text("utf-8") for file in files)
        for option in re.findall(r"--[a-z-]+", options):
            assert f'"{option}"' in source + shared, f"{path} has no {option}"


def test_named_choices_exist() -> None:
    for heading, folder in (("Experiments", "experiment"), ("Losses", "loss")):
        table = TRAIN.split(f"## {heading}\n")[1].split("\n## ")[0]
        first_column = "".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| `"))
        known = {path.stem for path in (ROOT / "conf" / folder).glob("*.yaml")}
        assert known == set(re.findall(r"`(\w+)`", first_column))


def test_python_examples_run() -> None:
    rng = np.random.default_rng(0)
    noisy, mono = (0.1 * rng.standard_normal(shape).astype(np.float32) for shape in ((2, 22050), 8000))
    played: list[np.ndarray] = []
    names: dict[str, Any] = {"noisy": noisy, "chunks": np.array_split(mono, 7), "play": played.append}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["clean"].shape == noisy.shape
    assert np.abs(names["clean"]).max() < 0.5 * np.abs(noisy).max()  # it is noise alone
    assert len(played) == 8
    np.testing.assert_allclose(np.concatenate(played), denoise(mono, 16000, names["denoiser"]), atol=1e-4)


def test_python_examples_of_the_site_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", SITE, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        names: dict[str, Any] = {"noisy": np.zeros((2, 4410), np.float32)}
        exec(compile(block, "docs", "exec"), names)
        assert names["denoiser"].sample_rate == 16000
