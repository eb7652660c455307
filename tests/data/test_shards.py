"""Corpora in tar shards give the same mixtures as files, on disk and at URLs."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("pyarrow")
pytest.importorskip("upath")

from fsspec.implementations.memory import MemoryFileSystem

from hushwork import cli
from hushwork.audio.io import AudioError, read_audio, split_shard
from hushwork.audio.remote import locate
from hushwork.data.cache import Cache
from hushwork.data.datasets import PairedDataset
from hushwork.data.manifest import Manifest, load_manifest
from hushwork.data.recordings import ManifestError, Recording
from hushwork.data.shards import ShardOrder
from sharded import RATE, same, shard, training_mixtures


@pytest.fixture(scope="module")
def sharded(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    shard(str(corpus), "-o", str(folder))
    return folder / "manifest.arrow"


def test_another_process_maps_the_file_again(corpus: Path, sharded: Path) -> None:
    dataset = training_mixtures(load_manifest(sharded, RATE))
    packed = pickle.dumps(dataset)
    assert np.array_equal(pickle.loads(packed)[0, 0].noisy, dataset[0, 0].noisy)
    assert b"train0" not in pickle.dumps(load_manifest(sharded, RATE))
    assert b"train0" in pickle.dumps(load_manifest(corpus, RATE))


# Shards


def test_shards_give_the_mixtures_of_the_files(corpus: Path, sharded: Path) -> None:
    files, shards = load_manifest(corpus, RATE), load_manifest(sharded, RATE)
    assert all(split_shard(recording.path) for recording in shards.recordings)
    assert same(files, shards)
    assert files.contents("train") == shards.contents("train")
    for line, inside in zip(files.recordings, shards.recordings, strict=True):
        assert replace(inside, path=line.path) == line
        for stretch in ((0, -1), (100, 50)):
            ours, theirs = (read_audio(m.file(r.path), *stretch)[0] for m, r in ((shards, inside), (files, line)))
            assert np.array_equal(ours, theirs)


def test_pairs_lie_in_shards_together(paired_corpus: Path, tmp_path: Path) -> None:
    shard(str(paired_corpus), "-o", str(tmp_path))
    options: dict[str, Any] = {"sample_rate": RATE, "seed": 0, "segment_s": 0.2, "num_mixtures": 4}
    shards = load_manifest(tmp_path / "manifest.arrow", RATE)
    one, other = (PairedDataset(m, "train", **options) for m in (load_manifest(paired_corpus, RATE), shards))
    for index in range(4):
        assert np.array_equal(one[0, index].noisy, other[0, index].noisy)
        assert np.array_equal(one[0, index].clean, other[0, index].clean)
    turn = partial(ShardOrder, seed=0, lanes=1, window=1)
    once = PairedDataset(shards, "train", order=turn, **{**options, "num_mixtures": 2})
    assert {once[0, index].speaker for index in range(2)} == {"train0", "train1"}


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")  # it closes no file
def test_webdataset_reads_the_shards(corpus: Path, sharded: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    lines = {recording.path: recording for recording in load_manifest(corpus, RATE).recordings}
    names = sorted(str(path) for path in sharded.parent.glob("*.tar"))
    assert len(names) > 6
    found = list(webdataset.WebDataset(names, shardshuffle=False).decode())
    assert {sample["json"]["path"] for sample in found} == set(lines)
    for sample in found:
        line = lines[sample["json"]["path"]]
        assert Recording(**sample["json"]) == line
        assert sample["__url__"].rpartition("/")[2].startswith(f"{line.kind}-{line.split}-")
        audio, _ = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        assert np.array_equal(audio, soundfile.read(corpus.parent / line.path, dtype="float32")[0])


def test_stated_places_are_those_of_the_tar_files(many: Manifest) -> None:
    stated = {split_shard(recording.path) for recording in many.recordings}
    found = set()
    for path in many.root.glob("*.tar"):
        with tarfile.open(path) as tar:
            found |= {(path.name, m.offset_data, m.size) for m in tar if m.name.endswith(".wav")}
    assert stated == found


def test_equal_corpora_give_equal_shards_and_a_second_run_does_what_is_missing(
    many: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = many.root.parent / "manifest.jsonl"
    shard(str(source), "-o", str(tmp_path))
    expected = {path.name: path.read_bytes() for path in many.root.iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected
    order_inside = [json.loads(line)["path"] for line in source.read_text("utf-8").splitlines()][:60]
    with tarfile.open(next(iter(sorted(tmp_path.glob("speech*.tar"))))) as tar:
        names = [json.load(tar.extractfile(m))["path"] for m in tar if m.name.endswith(".json")]  # type: ignore[arg-type]
    assert names != order_inside[: len(names)]
    first, second, *_ = sorted(tmp_path.glob("*.tar"))
    first.unlink()
    second.write_bytes(b"half")
    capsys.readouterr()
    shard(str(source), "-o", str(tmp_path))
    assert " 2 of them written now" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected
    assert cli.main(["prepare", "shards", str(source), "-o", str(tmp_path), "--shard-size", "1MB"]) == 1
    assert "holds shards of another manifest or size" in capsys.readouterr().err


def test_a_lost_or_shortened_shard_is_named(corpus: Path, tmp_path: Path) -> None:
    shard(str(corpus), "-o", str(tmp_path))
    first, second, *_ = sorted(tmp_path.glob("*.tar"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:1000])
    with pytest.raises(ManifestError) as caught:
        load_manifest(tmp_path / "manifest.arrow", RATE)
    assert f"{first}: no such file; copy it there" in str(caught.value)
    assert f"{second}: has 1000 bytes, expected" in str(caught.value)


@pytest.mark.parametrize("place", ["#9999999+400", "#0+400", "#512+0", "#512+99999999999"])
def test_a_wrong_place_in_a_shard_is_an_error(place: str, sharded: Path) -> None:
    path = sorted(sharded.parent.glob("*.tar"))[0]
    if place == "#512+99999999999":  # the stretch ends with the file
        assert read_audio(f"{path}{place}")[0].size
        return
    with pytest.raises(AudioError, match=r"\.tar#.* cannot be read as audio"):
        read_audio(f"{path}{place}")


# URLs


def count_reads(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    reads: Counter[str] = Counter()
    for name in ("cat_file", "get_file"):
        original = getattr(MemoryFileSystem, name)

        def counting(self: Any, path: str, *a: Any, _name: str = name, _original: Any = original, **k: Any) -> Any:
            reads[f"{_name} {path.rpartition('/')[2]}"] += 1
            return _original(self, path, *a, **k)

        monkeypatch.setattr(MemoryFileSystem, name, counting)
    return reads


def test_shards_at_urls_give_the_same_mixtures(
    memory: MemoryFileSystem, corpus: Path, sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard(str(corpus), "-o", "memory://bucket/corpus")
    for path in sharded.parent.iterdir():
        assert memory.cat_file(f"/bucket/corpus/{path.name}") == path.read_bytes()
    url = "memory://bucket/corpus/manifest.arrow"
    with pytest.raises(ManifestError, match=r"needs a folder for a copy of it; set data\.cache"):
        load_manifest(url, RATE)
    reads = count_reads(memory, monkeypatch)
    by_range = load_manifest(url, RATE, cache=Cache(tmp_path / "a"))
    assert same(by_range, load_manifest(corpus, RATE))
    assert reads["get_file manifest.arrow"] == 1
    assert not any(name.startswith("get_file") and name.endswith(".tar") for name in reads)
    reads.clear()
    whole = load_manifest(url, RATE, cache=Cache(tmp_path / "b", 10**9))
    assert same(whole, load_manifest(corpus, RATE))
    assert same(load_manifest(corpus, RATE, [url], Cache(tmp_path / "b", 10**9)), load_manifest(corpus, RATE, [corpus]))
    assert set(reads.values()) == {1}  # each file once, and never in part
    assert all(name.startswith("get_file") for name in reads)


def test_the_cache_keeps_what_was_used_last(memory: MemoryFileSystem, tmp_path: Path) -> None:
    for name in "abc":
        memory.pipe_file(f"/x/{name}.tar", 1000 * name.encode())
    cache = Cache(tmp_path, 2500)

    def kept() -> set[str]:
        return {path.name.rpartition("-")[2][0] for path in tmp_path.glob("*.tar")}

    for step, (name, expected) in enumerate([("a", "a"), ("b", "ab"), ("a", "ab"), ("c", "ac"), ("b", "bc")]):
        path = cache.member(locate(f"memory://x/{name}.tar#10+20"))
        shard_, offset, size = split_shard(str(path)) or ("", 0, 0)
        assert Path(shard_).read_bytes()[offset : offset + size] == 20 * name.encode()
        assert kept() == set(expected)
        os.utime(shard_, (step, step))
    assert cache.member(tmp_path / "local.tar#1+2") == tmp_path / "local.tar#1+2"


def test_missing_files_at_urls_are_named(memory: MemoryFileSystem, many: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"memory://x/m\.arrow: no such file"):
        load_manifest("memory://x/m.arrow", RATE, cache=Cache(tmp_path))
    with pytest.raises(ManifestError, match=r"only Arrow manifests may be URLs"):
        load_manifest("memory://x/m.jsonl", RATE)
    for path in many.root.iterdir():
        memory.pipe_file(f"/y/{path.name}", path.read_bytes())
    memory.rm_file("/y/speech-train-000003.tar")
    with pytest.raises(ManifestError, match=r"memory://y/speech-train-000003\.tar: no such file"):
        load_manifest("memory://y/manifest.arrow", RATE, cache=Cache(tmp_path))
