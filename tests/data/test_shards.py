"""Manifests as Arrow files and corpora in tar shards: the same mixtures, in an order that suits shards, also by URL."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("pyarrow")
pytest.importorskip("upath")

import pyarrow as pa
from fsspec.implementations.memory import MemoryFileSystem

from hushwork import cli
from hushwork.audio.io import AudioError, audio_info, read_audio, split_shard
from hushwork.audio.remote import locate
from hushwork.data.arrow import ArrowRecordings, write_arrow
from hushwork.data.cache import Cache
from hushwork.data.datamodule import NoisySpeechDataModule
from hushwork.data.datasets import FixedMixtureDataset, PairedDataset
from hushwork.data.manifest import Manifest, load_manifest, write_manifest
from hushwork.data.mixtures import MixingConfig, NoisyMixtureDataset
from hushwork.data.pool import Reader
from hushwork.data.recordings import ManifestError, Recording, Recordings
from hushwork.data.shards import ShardOrder

RATE = 16000
MIXING = MixingConfig(segment_s=0.3, synthetic_noises={"babble": 0.3}, eq_probability=0.5)


def mixtures(manifest: Manifest, **options: Any) -> NoisyMixtureDataset:
    return NoisyMixtureDataset(manifest, MIXING, num_mixtures=8, sample_rate=RATE, seed=1, **options)


def same(one: Manifest, other: Manifest) -> bool:
    """Training and validation mixtures of both are equal to the last bit."""
    fixed = {"num_mixtures": 6, "snr_db": [0.0, 10.0], "max_s": 0.5, "sample_rate": RATE, "seed": 0}
    pairs = [
        *((mixtures(each)[epoch, index] for each in (one, other)) for epoch in (0, 3) for index in range(6)),
        *((FixedMixtureDataset(each, "valid", **fixed)[0, index] for each in (one, other)) for index in range(6)),
    ]
    return all(np.array_equal(a.noisy, b.noisy) and np.array_equal(a.clean, b.clean) for a, b in pairs)


def shard(*words: str) -> None:
    assert cli.main(["prepare", "shards", *words, "--shard-size", "40KB"]) == 0


@pytest.fixture(scope="module")
def sharded(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    shard(str(corpus), "-o", str(folder))
    return folder / "manifest.arrow"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """60 utterances of 6 speakers, and a noise; in about twenty shards of speech."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    common = {"split": "train", "sample_rate": RATE, "licence": "x"}
    lines = []
    for k in range(60):
        soundfile.write(folder / f"{k:02}.wav", 0.1 * rng.standard_normal(int(rng.integers(1600, 6400))), RATE)
        seconds = audio_info(folder / f"{k:02}.wav").duration_s
        who = {"kind": "speech", "speaker": f"s{k % 6}", "source": "x"}
        lines.append(Recording(path=f"{k:02}.wav", duration_s=seconds, **who, **common))
    soundfile.write(folder / "noise.wav", 0.1 * rng.standard_normal(RATE), RATE)
    lines.append(Recording(path="noise.wav", kind="noise", noise_class="n", source="y", duration_s=1.0, **common))
    write_manifest(folder / "manifest.jsonl", lines)
    shard(str(folder / "manifest.jsonl"), "-o", str(folder / "shards"))
    return load_manifest(folder / "shards" / "manifest.arrow", RATE)


def order(manifest: Manifest, lanes: int = 4, window: int = 2, seed: int = 0) -> ShardOrder:
    speech = manifest.select("speech", "train")
    return ShardOrder(speech, Reader(manifest), seed=seed, lanes=lanes, window=window)


# Arrow


def test_an_arrow_manifest_says_what_its_lines_say(corpus: Path, paired_corpus: Path, tmp_path: Path) -> None:
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


def test_another_process_maps_the_file_again(corpus: Path, sharded: Path) -> None:
    dataset = mixtures(load_manifest(sharded, RATE))
    packed = pickle.dumps(dataset)
    assert np.array_equal(pickle.loads(packed)[0, 0].noisy, dataset[0, 0].noisy)
    assert b"train0" not in pickle.dumps(load_manifest(sharded, RATE))
    assert b"train0" in pickle.dumps(load_manifest(corpus, RATE))


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


def test_what_is_no_arrow_manifest_is_named(tmp_path: Path) -> None:
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


# Order


@pytest.mark.parametrize(("lanes", "window"), [(1, 1), (1, 100), (4, 2), (5, 3)])
def test_each_utterance_comes_once_in_each_pass_of_its_lane(many: Manifest, lanes: int, window: int) -> None:
    drawn = order(many, lanes, window)
    of_lane: dict[int, list[str]] = defaultdict(list)
    for number in range(60 * 3 * lanes):
        of_lane[number % lanes].append(drawn.draw(number)[0].path)
    passes = [[paths[: len(set(paths))], paths[len(set(paths)) : 2 * len(set(paths))]] for paths in of_lane.values()]
    assert sum(len(first) for first, _ in passes) == 60
    assert len({path for first, _ in passes for path in first}) == 60
    for first, second in passes:
        assert sorted(first) == sorted(second)
        assert first != second
    sizes = [len(first) for first, _ in passes]
    assert max(sizes) - min(sizes) <= 4  # about a shard


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_each_shard_is_read_by_one_device(many: Manifest, num_devices: int) -> None:
    drawn, readers = order(many), defaultdict(set)
    for number in range(200):
        recording, pool = drawn.draw(number)
        readers[recording.shard].add(number % num_devices)
        readers[pool.draw(pool.names[0], np.random.default_rng(number)).shard].add(number % num_devices)
    assert len(readers) > 10
    assert all(len(devices) == 1 for devices in readers.values())
    assert len({device for devices in readers.values() for device in devices}) == num_devices


def test_few_shards_are_open_at_a_time_and_their_utterances_shuffled(many: Manifest) -> None:
    drawn = order(many, lanes=1, window=2)
    recordings = [drawn.draw(number)[0] for number in range(60)]
    shards = [recording.shard for recording in recordings]
    ends = {name: len(shards) - 1 - shards[::-1].index(name) for name in shards}
    for number, name in enumerate(shards):
        open_now = {each for each in shards[: number + 1] if ends[each] >= number}
        assert len(open_now) <= 2, name
    changes = sum(one != other for one, other in pairwise(shards))
    assert changes > len(set(shards))  # not one after another
    assert [order(many, 1, 2, seed=1).draw(n)[0] for n in range(60)] != recordings


def test_the_order_is_a_pure_function(many: Manifest) -> None:
    in_turn = partial(ShardOrder, seed=5, lanes=4, window=2)
    dataset = mixtures(many, order=in_turn)
    keys = [(epoch, index) for epoch in (0, 9, 3) for index in (5, 0, 7)]
    first = [dataset[key] for key in keys]
    again = mixtures(many, order=in_turn)
    for key, mixture in reversed(list(zip(keys, first, strict=True))):
        assert np.array_equal(again[key].noisy, mixture.noisy)
        number = key[0] * 8 + key[1]
        assert mixture.speaker == order(many, seed=5).draw(number)[0].speaker


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loaders_go_shard_after_shard(many: Manifest, num_workers: int) -> None:
    data = NoisySpeechDataModule(
        manifest=str(many.root / "manifest.arrow"),
        sample_rate=RATE,
        seed=1,
        mixing=MIXING,
        mixtures_per_epoch=8,
        num_valid=0,
        num_test=0,
        eval_snr_db=[],
        eval_max_s=1.0,
        batch_size=4,
        num_workers=num_workers,
        order="shards",
        lanes=2,
        window=1,
    )
    expected = mixtures(many, order=partial(ShardOrder, seed=1, lanes=2, window=1))
    loaded = [noisy for batch in data.train_dataloader() for noisy in batch.noisy.numpy()]
    assert len(loaded) == 8
    assert all(np.array_equal(noisy, expected[0, index].noisy) for index, noisy in enumerate(loaded))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: [replace(line, path="a.wav") for line in lines], "needs all speech in shards"),
        (lambda lines: [replace(line, weight=2.0) for line in lines], "weights other than 0 and 1"),
        (lambda lines: lines[:2], "data.lanes is 4, but there are [12] shards"),
    ],
)
def test_impossible_orders_are_refused(spoil: Callable[[list[Recording]], Any], message: str, many: Manifest) -> None:
    speech = Recordings(spoil(list(many.select("speech", "train"))))
    with pytest.raises(ManifestError, match=message):
        ShardOrder(speech, Reader(many), seed=0, lanes=4, window=2)
    with pytest.raises(ValueError, match=r"data\.lanes is 0 and data\.window 2"):
        order(many, lanes=0)


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


def test_what_a_url_lacks_is_named(memory: MemoryFileSystem, many: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"memory://x/m\.arrow: no such file"):
        load_manifest("memory://x/m.arrow", RATE, cache=Cache(tmp_path))
    with pytest.raises(ManifestError, match=r"only Arrow manifests may be URLs"):
        load_manifest("memory://x/m.jsonl", RATE)
    for path in many.root.iterdir():
        memory.pipe_file(f"/y/{path.name}", path.read_bytes())
    memory.rm_file("/y/speech-train-000003.tar")
    with pytest.raises(ManifestError, match=r"memory://y/speech-train-000003\.tar: no such file"):
        load_manifest("memory://y/manifest.arrow", RATE, cache=Cache(tmp_path))
