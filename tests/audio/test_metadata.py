"""Tags and pictures, written and read by another library, are kept in denoised files."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hushwork.atomic import PART, name_key, temporary_path
from hushwork.audio.io import audio_info, read_audio
from hushwork.audio.metadata import read_metadata
from hushwork.audio.metadata_items import MAX_BYTES
from hushwork.files.check import check_pair
from hushwork.files.denoise import denoise_file
from hushwork.network.pretrained import PretrainedDenoiser
from sounds import copied

mutagen = pytest.importorskip("mutagen")
from mutagen import apev2, flac, id3, mp4  # noqa: E402

RATE = 48000
NAMES = ("a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff", "a.wav")
WITH_PYAV = ("a.m4a", "a.mp4", "a.mov", "a.aac")
PICTURE = b"\x89PNG\r\n\x1a\n" + np.random.default_rng(0).bytes(150_000)  # more than one page of Ogg


def make(path: Path) -> Path:
    audio = 0.05 * np.random.default_rng(0).standard_normal((9600, 2)).astype(np.float32)
    if path.name in WITH_PYAV:
        pytest.importorskip("av")
        soundfile.write(path.with_name("plain.wav"), audio, RATE)
        return copied(path.with_name("plain.wav"), path)
    more = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, audio, RATE, **more)
    return path


def tag(path: Path, picture: bytes = PICTURE) -> Path:
    """What such files hold in people's collections: letters, several values, names of programs' own, a cover."""
    if path.suffix in (".flac", ".ogg", ".opus"):
        file = mutagen.File(path)
        file["title"], file["artist"] = "Größe 静か", ["A", "B"]
        file["replaygain_track_gain"], file["musicbrainz_trackid"] = "-3 dB", "x=y"
        cover = flac.Picture()
        cover.data, cover.mime, cover.type, cover.desc = picture, "image/png", 3, "front"
        if path.suffix == ".flac":
            file.add_picture(cover)
        else:
            file["metadata_block_picture"] = base64.b64encode(cover.write()).decode()
    elif path.suffix in (".m4a", ".mp4", ".mov"):
        file = mp4.MP4(path)
        if file.tags is None:
            file.add_tags()
        file["\xa9nam"], file["\xa9ART"], file["tmpo"], file["soal"] = "Größe 静か", ["A", "B"], [120], "sort"
        file["----:com.apple.iTunes:MusicBrainz Track Id"] = mp4.MP4FreeForm(b"xyz")
        file["covr"] = [mp4.MP4Cover(b"\x89PNG" + picture, mp4.MP4Cover.FORMAT_PNG)]
    else:
        file = None if path.suffix == ".aac" else mutagen.File(path)
        if file is not None and file.tags is None:
            file.add_tags()
        tags = id3.ID3() if file is None else file.tags
        frames: list[Any] = [id3.TIT2(3, ["Größe 静か"]), id3.TPE1(3, ["A", "B"]), id3.TXXX(3, "own", ["bar"])]
        frames += [id3.POPM("me", 3, 4), id3.PRIV("o", b"private"), id3.APIC(3, "image/png", 3, "front", picture)]
        for frame in frames:
            tags.add(frame)
        if file is None:
            tags.save(path)
            return path
    file.save()
    return path


def tags_of(path: Path) -> dict[str, Any]:
    file = id3.ID3(path) if path.suffix == ".aac" else mutagen.File(path)
    tags = file if path.suffix == ".aac" else file.tags
    found = {name: str(value) if len(str(value)) < 1000 else hash(str(value)) for name, value in dict(tags).items()}
    if isinstance(tags, id3.ID3):
        found |= {f"picture {frame.desc}": frame.data for frame in tags.getall("APIC")}
    return found | {f"picture {one.desc}": one.data for one in getattr(file, "pictures", [])}


def promise(source: Path, target: Path, name: str) -> tuple[bool, str]:
    return next((one.kept, one.found) for one in check_pair(source, target) if one.name == name)


@pytest.mark.parametrize("name", [*NAMES, *WITH_PYAV])
def test_tags_and_pictures_are_kept_and_the_sound_is_that_of_a_file_without(
    name: str, model: PretrainedDenoiser, tmp_path: Path
) -> None:
    plain = make(tmp_path / name)
    denoise_file(plain, tmp_path / "plain" / name, model)
    tagged = tag(plain)
    denoise_file(tagged, tmp_path / "out" / name, model)
    assert tags_of(tmp_path / "out" / name) == tags_of(tagged)
    assert promise(tagged, tmp_path / "out" / name, "metadata")[0]
    sounds = [read_audio(tmp_path / folder / name)[0] for folder in ("plain", "out")]
    np.testing.assert_array_equal(*sounds)
    assert [path.name for path in tmp_path.rglob("*.part")] == []


@pytest.mark.parametrize("name", [*NAMES, *WITH_PYAV])
def test_differences_are_named(name: str, tmp_path: Path) -> None:
    source = tag(make(tmp_path / name))
    target = copied(source, tmp_path / "out" / name)
    if source.suffix in (".flac", ".ogg", ".opus"):
        file = mutagen.File(target)
        file["title"], file["artist"] = "another", "A"
        file.save()
        assert promise(source, target, "metadata") == (False, "lost: title, artist")
        if source.suffix == ".flac":
            file.clear_pictures()
            file.save()
            assert promise(source, target, "metadata") == (False, "lost: title, artist, PICTURE")
    else:
        lost = {".aiff": "ID3", ".wav": "id3", ".m4a": "udta", ".mp4": "udta", ".mov": "udta"}
        tag(target, PICTURE + b"another")
        kept, found = promise(source, target, "metadata")
        assert not kept
        assert found == f"lost: {lost.get(source.suffix, 'ID3v2')}"


def test_tags_at_the_end_of_an_mp3_are_kept(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp3")
    ape = apev2.APEv2()
    ape["Title"], ape["Own"] = "Größe", "bar"
    ape.save(source)
    tags = id3.ID3()
    tags.add(id3.TIT2(3, ["Both"]))
    tags.save(source, v1=2)
    target = copied(source, tmp_path / "out" / "a.mp3")
    assert dict(apev2.APEv2(target)) == dict(ape)
    assert target.read_bytes()[-128:] == source.read_bytes()[-128:]
    assert source.read_bytes()[-128:-125] == b"TAG"
    assert [name for name, _ in read_metadata(target).items] == [b"ID3v2", b"APEv2", b"ID3v1"]


def test_all_tags_of_a_wav_are_kept_in_their_own_letters(tmp_path: Path) -> None:
    source = make(tmp_path / "a.wav")
    tags = {b"INAM": "Größe".encode("latin-1"), b"IENG": b"Someone", b"IKEY": b"one; two"}
    listed = b"".join(
        struct.pack("<4sI", name, len(text) + 1) + text + b"\0" * (2 - len(text) % 2) for name, text in tags.items()
    )
    content = source.read_bytes() + struct.pack("<4sI", b"LIST", 4 + len(listed)) + b"INFO" + listed
    source.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    target = copied(source, tmp_path / "out" / "a.wav")
    assert target.read_bytes().endswith(listed)
    assert audio_info(target).tags["title"] == audio_info(source).tags["title"]


@pytest.mark.parametrize("name", ["a.m4a", "a.mp3"])
def test_how_itunes_counted_its_own_samples_is_not_believed_any_more(name: str, tmp_path: Path) -> None:
    source, numbers = make(tmp_path / name), " 00000000 00000840 00000ABC 0000000000002580"
    if name == "a.m4a":
        file = mp4.MP4(source)
        file["----:com.apple.iTunes:iTunSMPB"] = mp4.MP4FreeForm(numbers.encode())
        file.save()
    else:
        tags = id3.ID3()
        tags.add(id3.COMM(0, "eng", "iTunSMPB", [numbers]))
        tags.save(source)
    target = copied(source, tmp_path / "out" / name)
    assert not any("iTunSMPB" in key for key in tags_of(target))
    assert any("old SMPB" in key for key in tags_of(target))
    assert promise(source, target, "metadata")[0]


def test_a_cover_in_matroska_is_kept(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    make(tmp_path / "a.m4a")
    plain, source = copied(tmp_path / "plain.wav", tmp_path / "plain.mka"), tmp_path / "a.mka"
    with av.open(str(plain)) as old, av.open(str(source), "w", format="matroska") as new:
        new.metadata["REPLAYGAIN_TRACK_GAIN"] = "-3 dB"
        track = new.add_stream_from_template(old.streams.audio[0])
        new.add_attachment("front.png", "image/png", PICTURE)
        for packet in old.demux():
            if packet.size:
                packet.stream = track
                new.mux(packet)
    target = copied(source, tmp_path / "out" / "a.mka")
    for path in (source, target):
        with av.open(str(path)) as file:
            cover = file.streams.video[0]
            assert file.metadata["REPLAYGAIN_TRACK_GAIN"] == "-3 dB"
            assert (cover.metadata["filename"], cover.metadata["mimetype"]) == ("front.png", "image/png")
            assert next(bytes(packet) for packet in file.demux(cover)) == PICTURE


@pytest.mark.parametrize("name", NAMES)
def test_too_large_and_truncated_items_are_dropped(name: str, tmp_path: Path) -> None:
    source = tag(make(tmp_path / name))
    whole = read_metadata(source).items
    content = source.read_bytes()
    for end in (0, 3, 11, 40, 200, 5000, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:end])
        parts = read_metadata(tmp_path / "cut").items
        assert parts == whole[: len(parts)]
    if name in ("a.flac", "a.wav", "a.aiff", "a.mp3"):
        for size, is_kept in ((MAX_BYTES // 2, True), (MAX_BYTES + 1, False)):
            picture = PICTURE * (size // len(PICTURE) + 1)
            sizes = [len(part) for _, part in read_metadata(tag(make(tmp_path / f"{size}_{name}"), picture)).items]
            assert sum(sizes) <= MAX_BYTES
            assert (max(sizes, default=0) >= len(picture)) is is_kept


def test_the_unfinished_copy_is_known_as_such() -> None:
    part = temporary_path(Path("a b.flac"))
    assert (found := PART.fullmatch(temporary_path(part).name))
    assert found[1] == name_key("a b.flac") != name_key("a c.flac")
