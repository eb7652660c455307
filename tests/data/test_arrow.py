"""Manifests as Arrow files hold what JSONL manifests hold, and faults are named."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("pyarrow")
pytest.importorskip("upath")

import pyarrow as pa

from hushwork import cli
from hushwork.data.arrow import ArrowRecordings, write_arrow
from hushwork.data.manifest import Manifest, load_manifest, write_manifest
from hushwork.data.recordings import ManifestError, Recording
from sharded import RATE, same

# Arrow


def test_an_arrow_manifest_holds_the_fields_of_its_lines(corpus: Path, paired_corpus: Path, tmp_path: Path) -> None:
    for path in (corpus, paired_corpus):
        lines = load_manifest(path, RATE)
        arrow = path.with_name(f"{tmp_path.name}.arrow")
        assert cli.main(["prepare", "shards", str(path), "-o", str(arrow)]) == 0
        columns = load_manifest(arrow, RATE)
        assert list(columns.recordings) == list(lines.recordings)
        assert columns.sha256 == lines.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        for split in ("train", "valid", "test"):
            assert columns.contents(split) == lines.contents(split)
        assert columns.recordings[-1] == lines.recordings[-1]
        with pytest.raises(IndexError):
            columns.recordings[len(lines.recordings)]
        if path == corpus:
            assert same(columns, lines)


def test_every_value_survives(tmp_path: Path) -> None:
    full = Recording(
        path="ö/a#1+2.wav",
        noisy_path="b c.wav",
        kind="pair",
        split="valid",
        sample_rate=44100,
        duration_s=2,
        source="s",
        licence="l",
        speaker="Žofie",
        noise_class="rain",
        snr_db=-2.5,
        language="cs",
        text="one\u2028two",
        weight=0.5,
    )
    bare = Recording(
        path="n", kind="noise", split="test", sample_rate=1, duration_s=0.1, source="", licence="", noise_class="x"
    )
    write_arrow(tmp_path / "m.arrow", [full, bare])
    assert list(ArrowRecordings(tmp_path / "m.arrow")) == [full, bare]


def test_corpora_of_both_forms_are_trained_on_together(corpus: Path, many: Manifest, tmp_path: Path) -> None:
    arrow = many.root / "manifest.arrow"
    jsonl = many.root.parent / "manifest.jsonl"
    together = [load_manifest(corpus, RATE, [path]) for path in (arrow, jsonl)]
    assert len(together[0].recordings) == len(load_manifest(corpus, RATE).recordings) + 61
    assert same(*together)
    first = load_manifest(arrow, RATE, [corpus])
    assert first.recordings[-1].speaker in (None, "train2")
    assert {r.speaker for r in first.select("speech", "train")} == {
        *(f"s{k}" for k in range(6)),
        "train0",
        "train1",
        "train2",
    }
    taken = [replace(r, split="test", speaker="s1") for r in load_manifest(corpus, RATE).select("speech", "test")]
    write_manifest(corpus.parent / f"{tmp_path.name}.jsonl", taken)
    with pytest.raises(ManifestError, match=r"speaker 's1' is in the splits test and train"):
        load_manifest(corpus.parent / f"{tmp_path.name}.jsonl", RATE, [arrow])


def good(**changed: Any) -> Recording:
    common: dict[str, Any] = {"kind": "speech", "split": "train", "source": "x", "licence": "x", "speaker": "a"}
    return Recording(**{"path": "a.wav", "sample_rate": RATE, "duration_s": 0.1, **common, **changed})


def test_arrow_refuses_names_that_are_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"Arrow has no names that are not UTF-8, such as 'caf.udce9\.wav'"):
        write_arrow(tmp_path / "m.arrow", [good(path=os.fsdecode(b"caf\xe9.wav"))])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "music"}, r"row 1 \(b\.wav\), and 0 more: kind is not one of"),
        ({"split": "dev"}, "split is not one of train"),
        ({"speaker": None}, "a speaker is needed"),
        ({"kind": "noise"}, "a noise_class is needed"),
        ({"kind": "pair"}, "a pair needs a noisy_path"),
        ({"duration_s": -1}, "duration_s is wrong"),
        ({"duration_s": float("nan")}, "duration_s is wrong"),
        ({"weight": float("inf")}, "weight is wrong"),
        ({"sample_rate": 8000}, "is not at 16000 Hz"),
        ({"path": "http://example.org/a.wav"}, "path is a URL"),
        ({"split": "test"}, "speaker 'a' is in the splits test and train"),
        ({}, r"b\.wav: no such file"),
    ],
    ids=str,
)
def test_each_fault_of_an_arrow_manifest_is_named(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE // 10), RATE)
    write_arrow(tmp_path / "m.arrow", [good(), good(**{"path": "b.wav", **changed})])
    with pytest.raises(ManifestError, match=message):
        load_manifest(tmp_path / "m.arrow", RATE)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("field", ["licence", "text"])  # a dictionary, a column
def test_a_compressed_manifest_is_refused(field: str, compression: str, tmp_path: Path) -> None:
    path = tmp_path / "m.arrow"
    write_arrow(path, [good(**{field: "x" * 2**16})])
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    assert getattr(ArrowRecordings(path)[0], field) == "x" * 2**16
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)
    assert path.stat().st_size < 2**14
    with pytest.raises(ManifestError, match=r"m\.arrow: is compressed; write it again with hushwork prepare shards"):
        load_manifest(path, RATE)


def test_files_that_are_not_arrow_manifests_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.arrow"
    with pytest.raises(ManifestError, match=r"m\.arrow: no such manifest; write it with hushwork prepare shards"):
        load_manifest(path, RATE)
    path.write_bytes(b"")
    with pytest.raises(ManifestError, match=r"m\.arrow: cannot be read as a manifest"):
        load_manifest(path, RATE)
    write_arrow(path, [good()] * 3)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=4):
            damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged[: int(rng.integers(1, len(content) + 1))] if rng.random() < 0.2 else damaged)
        with pytest.raises(ManifestError, match=r"m\.arrow"):  # and if nothing else is wrong, a.wav is missing
            load_manifest(path, RATE)
