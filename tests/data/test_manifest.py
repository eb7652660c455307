"""Manifests are written and read again, and invalid ones are refused with the reason."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hushwork.data.manifest import PROBLEMS_SHOWN, load_manifest, printable, write_manifest
from hushwork.data.recordings import ManifestError, Recording

RATE = 16000


def make_recordings(folder: Path) -> list[Recording]:
    common = {"sample_rate": RATE, "duration_s": 0.1, "licence": "CC0-1.0"}
    recordings = []
    for split in ("train", "test"):
        speech = {"kind": "speech", "source": "books", "speaker": f"Žofie {split}", "language": "cs"}
        noise = {"kind": "noise", "source": f"street {split}", "noise_class": "rain", "weight": 0.5}
        pair = {"kind": "pair", "source": "pairs", "speaker": f"p{split}", "snr_db": 2.5}
        recordings += [
            Recording(path=f"s_{split}.wav", split=split, **speech, **common),
            Recording(path=f"n_{split}.wav", split=split, **noise, **common),
            Recording(path=f"c_{split}.wav", noisy_path=f"x_{split}.wav", split=split, **pair, **common),
        ]
    for recording in recordings:
        for name in filter(None, (recording.path, recording.noisy_path)):
            soundfile.write(folder / name, np.zeros(RATE // 10), RATE)
    return recordings


def test_written_recordings_are_read_again(tmp_path: Path) -> None:
    recordings = make_recordings(tmp_path)
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, recordings)
    manifest = load_manifest(path, RATE)
    assert set(manifest.recordings) == set(recordings)
    assert manifest.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [r.path for r in manifest.select("noise", "test")] == ["n_test.wav"]
    assert not manifest.select("noise", "valid")
    assert manifest.file("a/b.wav") == tmp_path / "a" / "b.wav"
    assert not list(tmp_path.glob(".*"))


def test_a_further_corpus_is_only_trained_on(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        own = [
            replace(r, speaker=r.speaker and f"{folder.name} {r.speaker}", source=f"{folder.name} {r.source}")
            for r in make_recordings(folder)
        ]
        write_manifest(folder / "manifest.jsonl", own)
    alone = load_manifest(first / "manifest.jsonl", RATE)
    both = load_manifest(first / "manifest.jsonl", RATE, [second / "manifest.jsonl"])
    for kind in ("speech", "noise", "pair"):
        assert list(both.select(kind, "valid")) == list(alone.select(kind, "valid"))
        assert list(both.select(kind, "test")) == list(alone.select(kind, "test"))
        added = [r for r in both.select(kind, "train") if r not in alone.select(kind, "train")]
        assert [r.source.split()[0] for r in added] == ["second"]
        assert all(both.file(path).is_file() for r in added for path in (r.path, r.noisy_path) if path)
    hashes = [hashlib.sha256((folder / "manifest.jsonl").read_bytes()).hexdigest() for folder in (first, second)]
    assert both.sha256 == hashlib.sha256(f"{hashes[0]}\n{hashes[1]}\n".encode()).hexdigest()


def test_a_speaker_must_not_be_tested_in_one_corpus_and_trained_on_in_another(tmp_path: Path) -> None:
    write_manifest(tmp_path / "first.jsonl", make_recordings(tmp_path))
    taken = next(r for r in make_recordings(tmp_path) if r.split == "test" and r.kind == "speech")
    write_manifest(tmp_path / "second.jsonl", [replace(taken, split="train")])
    with pytest.raises(ManifestError, match=r"is in the splits test and train"):
        load_manifest(tmp_path / "first.jsonl", RATE, [tmp_path / "second.jsonl"])


def test_equal_corpora_give_equal_sorted_bytes(tmp_path: Path) -> None:
    recordings = make_recordings(tmp_path)
    write_manifest(tmp_path / "a.jsonl", recordings)
    random.Random(3).shuffle(recordings)
    write_manifest(tmp_path / "b.jsonl", recordings)
    content = (tmp_path / "a.jsonl").read_bytes()
    assert content == (tmp_path / "b.jsonl").read_bytes()
    entries = [json.loads(line) for line in content.decode("utf-8").splitlines()]
    assert [entry["path"] for entry in entries] == sorted(recording.path for recording in recordings)
    assert "Žofie" in content.decode("utf-8")
    assert all(value is not None for entry in entries for value in entry.values())


def test_paths_may_hold_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    recordings = make_recordings(tmp_path)
    try:
        (tmp_path / recordings[0].path).rename(tmp_path / name)
    except OSError:
        pytest.skip("no such names here")
    write_manifest(tmp_path / "manifest.jsonl", [replace(recordings[0], path=name), *recordings[1:]])
    manifest = load_manifest(tmp_path / "manifest.jsonl", RATE)
    assert name in {recording.path for recording in manifest.recordings}
    assert b'"caf\\udce9.wav"' in (tmp_path / "manifest.jsonl").read_bytes()
    assert printable(name) == "caf\\xe9.wav"


def test_a_failed_write_leaves_the_old_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text("old", encoding="utf-8")
    unwritable: Any = replace(make_recordings(tmp_path)[0], path="z.wav", snr_db=np.float32(1))
    with pytest.raises(TypeError, match="float32 is not JSON serializable"):
        write_manifest(path, [*make_recordings(tmp_path), unwritable])
    assert path.read_text("utf-8") == "old"


def test_the_error_of_a_missing_manifest_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"absent\.jsonl: no such manifest; write it first .*hushwork prepare"):
        load_manifest(tmp_path / "absent.jsonl", RATE)


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="lists no recording"):
        load_manifest(tmp_path / "manifest.jsonl", RATE)


def refused(entries: list[dict[str, Any]], path: Path) -> str:
    """The message for a manifest of these lines, which has one problem."""
    path.write_text("\n".join(json.dumps(entry) for entry in entries), encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        load_manifest(path, RATE)
    assert str(caught.value).startswith(f"{path}: 1 problem(s)")
    return str(caught.value)


def entries_in(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in asdict(r).items() if v is not None} for r in make_recordings(folder)]


@pytest.mark.parametrize(
    ("index", "changed", "expected"),
    [
        (0, {"colour": "blue"}, r"line 1: unknown key 'colour'; known are .*noise_class"),
        (0, {"licence": None}, r"line 1: .*'licence'"),
        (0, {"sample_rate": 44100}, r"s_train\.wav: the manifest states 44100 Hz, its header 16000 Hz"),
        (0, {"duration_s": 7.5}, r"s_train\.wav: the manifest states 7\.5 s, its header 0\.10 s"),
        (0, {"duration_s": 0}, r"line 1 \(s_train\.wav\): duration_s is 0, expected more than 0"),
        (
            3,
            {"speaker": "Žofie train"},
            "speaker 'Žofie train' is in the splits test and train; move it into one",
        ),
        (
            4,
            {"source": "street train"},
            "noise source 'street train' is in the splits test and train; move",
        ),
        (0, {"kind": "music"}, r"line 1 \(s_train\.wav\): kind 'music' is not one of speech, noise, pair"),
        (0, {"split": "dev"}, r"line 1 \(s_train\.wav\): split 'dev' is not one of train, valid, test"),
        (0, {"speaker": None}, r"line 1 \(s_train\.wav\): a speech recording needs a speaker"),
        (1, {"noise_class": None}, r"line 2 \(n_train\.wav\): a noise recording needs a noise_class"),
        (2, {"noisy_path": None}, r"line 3 \(c_train\.wav\): a pair needs a noisy_path"),
        (1, {"weight": -1}, r"line 2 \(n_train\.wav\): weight is -1, expected 0 or more"),
    ],
)
def test_each_fault_of_a_line_is_named(index: int, changed: dict[str, Any], expected: str, tmp_path: Path) -> None:
    entries = entries_in(tmp_path)
    entries[index] = {key: value for key, value in (entries[index] | changed).items() if value is not None}
    assert re.search(expected, refused(entries, tmp_path / "manifest.jsonl"))


@pytest.mark.parametrize(
    ("name", "spoil", "expected"),
    [
        ("s_train.wav", Path.unlink, "no such file"),
        ("s_train.wav", lambda path: soundfile.write(path, np.zeros(0), RATE), "holds no samples"),
        ("s_train.wav", lambda path: path.write_bytes(b""), "the file is empty"),
        ("s_train.wav", lambda path: path.write_text("words"), "cannot be read as audio"),
        (
            "s_train.wav",
            lambda path: soundfile.write(path, np.zeros(800), 8000),
            r"is at 8000 Hz, training is set to 16000 Hz; prepare .* or set sample_rate=8000",
        ),
        (
            "x_train.wav",
            lambda path: soundfile.write(path, np.zeros(1700), RATE),
            "has 1700 samples, its clean file 1600",
        ),
    ],
)
def test_each_fault_of_a_file_is_named(name: str, spoil: Callable[[Path], Any], expected: str, tmp_path: Path) -> None:
    entries = entries_in(tmp_path)
    spoil(tmp_path / name)
    assert re.search(f"{name}: {expected}", refused(entries, tmp_path / "manifest.jsonl"))


def test_a_file_in_two_lines_is_named(tmp_path: Path) -> None:
    entries = entries_in(tmp_path)
    assert "n_train.wav is listed 2 times" in refused([*entries, entries[1]], tmp_path / "manifest.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{not json", "Expecting property name"),
        (b"[1, 2]", r"expected a JSON object, found \[1, 2\]"),
        (b'"text"', "expected a JSON object, found 'text'"),
        (b"17", "expected a JSON object, found 17"),
        (b"\xff\xfe", "'utf-8' codec can't decode"),
        (b'{"path": "a", "path": "b"}', "the key 'path' occurs twice"),
        (b'{"path": ' * 100_000, "lists and objects are nested too deeply"),
        (b'{"path": 5}', "path is 5, expected str"),
        (b'{"path": "s3://bucket/a.wav"}', "path is 's3://bucket/a.wav', a URL; expected a file"),
        (b'{"path": "\\ud800"}', ".* surrogates not allowed"),
        (b'{"speaker": "\\udce9"}', ".* surrogates not allowed"),
        (b'{"sample_rate": true}', "sample_rate is True, expected int"),
        (b'{"duration_s": "1"}', "duration_s is '1', expected float"),
        (b'{"duration_s": 1e400}', r"duration_s is inf, expected a number up to 1e\+09"),
        (b'{"weight": NaN}', "weight is nan, expected a number"),
        (b'{"weight": 1' + 400 * b"0" + b"}", "weight is 10.*00, expected a number"),
    ],
)
def test_a_malformed_line_is_named(line: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, make_recordings(tmp_path))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ManifestError, match=rf"1 problem\(s\)\n  line 7: {message}"):
        load_manifest(path, RATE)


def test_a_problem_of_a_further_corpus_names_its_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path / "first.jsonl", make_recordings(tmp_path))
    (tmp_path / "second.jsonl").write_text("17\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"first\.jsonl: 1 problem\(s\)\n  .*second\.jsonl: line 1: expected"):
        load_manifest(tmp_path / "first.jsonl", RATE, [tmp_path / "second.jsonl"])


def test_text_may_hold_any_character(tmp_path: Path) -> None:
    recordings = [replace(r, text="one\u2028two\x85three\x0bfour") for r in make_recordings(tmp_path)]
    write_manifest(tmp_path / "manifest.jsonl", recordings)
    assert set(load_manifest(tmp_path / "manifest.jsonl", RATE).recordings) == set(recordings)


def test_a_file_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    names = ["a\0b.wav", "n" * 5000 + ".wav", ".", "pipe"]
    os.mkfifo(tmp_path / "pipe")
    recordings = [replace(make_recordings(tmp_path)[0], path=name) for name in names]
    write_manifest(tmp_path / "manifest.jsonl", recordings)
    with pytest.raises(ManifestError) as caught:
        load_manifest(tmp_path / "manifest.jsonl", RATE)
    assert {problem.rpartition(": ")[2] for problem in str(caught.value).splitlines()[1:]} == {
        "is a folder, expected an audio file",
        "is not a regular file, expected an audio file",
        "cannot be opened (embedded null byte)",
        "cannot be opened (File name too long)",
    }


def test_many_problems_are_counted_and_cut_short(tmp_path: Path) -> None:
    recording = make_recordings(tmp_path)[0]
    absent = [replace(recording, path=f"absent{i:02}.wav") for i in range(PROBLEMS_SHOWN + 5)]
    write_manifest(tmp_path / "manifest.jsonl", absent)
    with pytest.raises(ManifestError) as caught:
        load_manifest(tmp_path / "manifest.jsonl", RATE)
    lines = str(caught.value).splitlines()
    assert "25 problem(s)" in lines[0]
    assert len(lines) == PROBLEMS_SHOWN + 2
    assert lines[-1] == "  … and 5 more"
