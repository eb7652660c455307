"""Damaged model folders, manifests and audio files are read or refused, and nothing else comes of them.

Every run tries the same few hundred; the slow test tries thousands, in bounded memory. ``scripts/fuzz/fuzz.py`` goes on
as long as one likes.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fuzz_targets import TARGETS, make_seeds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))
NUMBERS = (0, 1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (None, True, False, "", "x", "os.system", "x" * 5000, "\ud800")
LISTS = ([], {}, [[]], [1, 2], {"_target_": "os.system"}, [10**9] * 2, list(range(1, 2000)))
FIGURES = (0, 1, -1, 2, 3, 100, 10**3, 10**5, 10**9, 10**30, 0.5, 1e-300, 16.0, float("nan"), float("inf"))
RAW = ("@1e400", "@" + "9" * 5000, "@" + "[" * 5000 + "]" * 5000)  # what json.dumps does not write
ODD: tuple[Any, ...] = (*WORDS, *LISTS, *FIGURES, *RAW)


def examples(count: int) -> Any:
    """The same ``count`` examples in every run, times what the slow test asks for."""
    checks = (HealthCheck.too_slow, HealthCheck.data_too_large)
    every_run = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": checks}
    return settings(max_examples=count * TIMES, **every_run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))  # else it writes into the working directory
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def seeds(folder: Path) -> dict[str, list[bytes]]:
    return make_seeds(folder)


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A good file after a few accidents, most of them near its beginning."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        end = len(content) if draw(st.booleans()) else min(len(content), 120)
        at = draw(st.integers(0, end))
        match draw(st.sampled_from(("flip", "number", "cut", "remove", "repeat", "splice"))):
            case "flip":
                content[at : at + 1] = bytes(byte ^ (1 << draw(st.integers(0, 7))) for byte in content[at : at + 1])
            case "number":
                size, number = draw(st.sampled_from((1, 2, 4, 8))), draw(st.sampled_from(NUMBERS))
                little = (number % 256**size).to_bytes(size, "little")
                content[at : at + size] = little if draw(st.booleans()) else little[::-1]
            case "cut":
                del content[at:]
            case "remove":
                del content[at : at + draw(st.integers(1, 64))]
            case "repeat":
                content[at:at] = content[at : at + draw(st.integers(1, 64))] * draw(st.sampled_from((1, 2, 100)))
            case "splice":
                other = draw(st.sampled_from(seeds))
                content[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(content)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inner for place in [(*path, key), *places(item, (*path, key))]]


@st.composite
def changed(draw: st.DrawFn, good: bytes) -> bytes:
    """A JSON object in which a few values were replaced, left out, added or given twice."""
    odd = st.sampled_from(ODD).map(copy.deepcopy)  # later changes may lie inside it
    value = json.loads(good)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(value)))
        inside = value
        for key in way:
            inside = inside[key]
        match draw(st.sampled_from(("replace", "replace", "replace", "remove", "add", "copy"))):
            case "replace":
                inside[last] = draw(odd)
            case "remove":
                del inside[last]
            case "add" if isinstance(inside, dict):
                key = draw(st.sampled_from(("input_size", "num_bins", "a\nb", "k" * 1000)))
                inside[key] = draw(odd)
            case "copy":
                from_where = draw(st.sampled_from(places(value) or [()]))
                copied = value
                for key in from_where:
                    copied = copied[key]
                inside[last] = copy.deepcopy(copied)
        if not places(value):
            break
    text = json.dumps(value)
    for raw in RAW:
        text = text.replace(json.dumps(raw), raw[1:])
    if draw(st.integers(0, 9)) == 0:
        text = text[0] + '"path": "twice", "model": {}, ' + text[1:]
    return text.encode()


def test_good_input_is_accepted(seeds: dict[str, list[bytes]], folder: Path) -> None:
    for name, target in TARGETS.items():
        for content in seeds[name]:
            assert target(folder / name, content), name


@pytest.mark.parametrize(
    ("name", "count"),
    [("config", 30), ("weights", 30), ("sums", 30), ("manifest", 60), ("arrow", 60), ("audio", 120), ("metadata", 120)],
)
def test_damaged_bytes(name: str, count: int, seeds: dict[str, list[bytes]], folder: Path) -> None:
    @examples(count)
    @given(damaged(seeds[name]))
    def feed(content: bytes) -> None:
        TARGETS[name](folder / name, content)

    feed()


@pytest.mark.parametrize("name", ["audio", "metadata"])
def test_an_aiff_that_ends_within_the_head_of_its_samples(
    name: str, seeds: dict[str, list[bytes]], folder: Path
) -> None:
    content = bytes.fromhex(
        "464f524d0000068e41494646434f4d4d00000012000100000320001040 0bfa00000000000000 53534e4400000648"
    )
    TARGETS[name](folder / name, content)


def test_damaged_configuration(seeds: dict[str, list[bytes]], folder: Path) -> None:
    @examples(80)
    @given(changed(seeds["config"][0]))
    def feed(content: bytes) -> None:
        TARGETS["config"](folder / "config", content)

    feed()


def test_damaged_header_of_weights(seeds: dict[str, list[bytes]], folder: Path) -> None:
    good = seeds["weights"][0]
    end = 8 + int.from_bytes(good[:8], "little")

    @examples(40)
    @given(changed(good[8:end]))
    def feed(header: bytes) -> None:
        TARGETS["weights"](folder / "weights", len(header).to_bytes(8, "little") + header + good[end:])

    feed()


def test_damaged_manifest_lines(seeds: dict[str, list[bytes]], folder: Path) -> None:
    lines = seeds["manifest"][0].splitlines()

    @examples(60)
    @given(st.lists(st.one_of(st.sampled_from(lines), *(changed(line) for line in lines)), max_size=len(lines)))
    def feed(damaged: list[bytes]) -> None:
        TARGETS["manifest"](folder / "manifest", b"\n".join(damaged))

    feed()


@pytest.mark.slow
def test_thousands_in_bounded_memory(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "scripts" / "fuzz")!r})
import pytest
from fuzz_targets import limit_memory
limit_memory(2**30)
sys.exit(pytest.main([{__file__!r}, "-q", "-p", "no:cacheprovider", "--basetemp", {str(tmp_path / "base")!r}]))
"""
    environment = {**os.environ, "FUZZ_TIMES": "10"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
