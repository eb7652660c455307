"""Plans: which source becomes which target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hushwork.audio.io import AudioError
from hushwork.files.plan import plan_manifest, plan_targets, shard_of


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_one_file_goes_to_the_output(tmp_path: Path) -> None:
    source = tmp_path / "a.wav"
    assert plan_targets([source], tmp_path / "b.flac") == [(source, tmp_path / "b.flac")]
    assert plan_targets([source], f"{tmp_path}/new/") == [(source, tmp_path / "new" / "a.wav")]
    (tmp_path / "there").mkdir()
    assert plan_targets([source], tmp_path / "there") == [(source, tmp_path / "there" / "a.wav")]


def test_folders_keep_their_tree(tmp_path: Path) -> None:
    one, two, out = tmp_path / "one", tmp_path / "two", tmp_path / "out"
    touch(one / "a.wav", one / "deep" / "a.wav", one / "deep" / "B.FLAC", one / "notes.txt", two / "a.wav")
    assert plan_targets([one], out) == [
        (one / "a.wav", out / "a.wav"),
        (one / "deep" / "B.FLAC", out / "deep" / "B.FLAC"),
        (one / "deep" / "a.wav", out / "deep" / "a.wav"),
    ]
    several = plan_targets([one, two], out)
    assert (two / "a.wav", out / "two" / "a.wav") in several
    assert (one / "a.wav", out / "one" / "a.wav") in several
    assert len(several) == 4


def test_outputs_inside_the_input_are_no_input(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav", tmp_path / "out" / "a.wav")
    assert plan_targets([tmp_path], tmp_path / "out") == [(tmp_path / "a.wav", tmp_path / "out" / "a.wav")]


def test_two_sources_never_share_a_target(tmp_path: Path) -> None:
    touch(tmp_path / "one" / "a.wav", tmp_path / "two" / "a.wav")
    with pytest.raises(AudioError, match=r"out/a\.wav: is the output of both .*one/a\.wav and .*two/a\.wav; give"):
        plan_targets([tmp_path / "one" / "a.wav", tmp_path / "two" / "a.wav"], tmp_path / "out")


def test_a_folder_without_audio_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "texts" / "a.txt")
    with pytest.raises(AudioError, match="texts: no audio files in this folder"):
        plan_targets([tmp_path / "texts"], tmp_path / "out")


def test_shards_divide_the_work(tmp_path: Path) -> None:
    touch(*(tmp_path / "in" / f"{number}.wav" for number in range(20)))
    plan = plan_targets([tmp_path / "in"], f"{tmp_path / 'out'}/")
    parts = [shard_of(plan, tmp_path / "out", f"{part}/3") for part in (1, 2, 3)]
    assert sorted(pair for part in parts for pair in part) == plan
    assert all(parts)
    assert parts == [shard_of(plan[::-1], tmp_path / "out", f"{part}/3")[::-1] for part in (1, 2, 3)]
    for wrong in ("0/3", "4/3", "1/0", "1", "1/3/5", "-1/3"):
        with pytest.raises(ValueError, match="it must look like 1/4"):
            shard_of(plan, tmp_path / "out", wrong)


def test_a_manifest_names_files_and_outputs(tmp_path: Path) -> None:
    lines = [{"path": "a/b.wav"}, {"path": "/far/c.wav"}, {"path": "../d.wav"}, {"path": "e.wav", "output": "x/y.flac"}]
    (tmp_path / "list.jsonl").write_text("\n\n".join(map(json.dumps, lines)), "utf-8")
    assert plan_manifest(tmp_path / "list.jsonl", "out") == [
        (tmp_path / "a/b.wav", Path("out/a/b.wav")),
        (Path("/far/c.wav"), Path("out/c.wav")),
        (tmp_path / "../d.wav", Path("out/d.wav")),
        (tmp_path / "e.wav", Path("out/x/y.flac")),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "a.wav"}\nnonsense', "line 2: expected"),
        ('"a.wav"', "line 1: expected"),
        ('{"path": 3}', "line 1: expected"),
        ('{"path": "a.wav", "output": "../b.wav"}', "leads out of the output folder"),
        ("\n", "names no files"),
        ('{"path": "x/a.wav"}\n{"path": "/y/x/a.wav", "output": "x/a.wav"}', "is the output of both"),
    ],
)
def test_an_invalid_manifest_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text(text, "utf-8")
    with pytest.raises(AudioError, match=message):
        plan_manifest(tmp_path / "list.jsonl", "out")
