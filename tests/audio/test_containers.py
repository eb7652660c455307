"""Audio in containers: after denoising all else is unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from films import RATE, add_sound, encode_sound, first_time_s, make, packets, sound
from hushwork.audio import av_writer
from hushwork.audio.formats import CONTAINERS
from hushwork.audio.io import AudioError, audio_info, open_writer, read_audio, read_blocks, write_audio
from hushwork.files.denoise import denoise_file, denoise_files
from hushwork.files.plan import plan_targets
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming import recordings
from hushwork.streaming.strength import Strength
from sounds import broken, copied, leftovers

SOUNDS = {
    "a.m4a": ("aac", None),
    "b.m4a": ("alac", None),
    "a.mp4": ("aac", "libx264"),
    "a.mkv": ("libopus", "mpeg4"),
    "b.mkv": ("aac", "mpeg4"),
    "a.webm": ("libopus", "libvpx"),
    "a.mov": ("pcm_s16le", "mpeg4"),
    "a.mka": ("flac", None),
    "a.ts": ("aac", "mpeg2video"),
    "a.avi": ("libmp3lame", "mpeg4"),
    "a.aac": ("aac", None),
    "a.ac3": ("ac3", None),
    "a.wma": ("wmav2", None),
}


@pytest.mark.parametrize(("name", "codec", "video"), [(name, *how) for name, how in SOUNDS.items()])
def test_all_promises_are_kept_and_the_video_is_the_same(
    name: str, codec: str, video: str | None, model: PretrainedDenoiser, tmp_path: Path
) -> None:
    if codec == "wmav2":  # has no bit rate of its own
        write_audio(tmp_path / "a.wav", sound(), RATE)
        source = copied(tmp_path / "a.wav", tmp_path / name)
    else:
        source = make(tmp_path / name, codec, video)
    target = tmp_path / "out" / name
    denoise_file(source, target, model)
    assert broken(source, target) == []
    before, after = audio_info(source), audio_info(target)
    assert (before.sample_rate, before.num_channels) == (RATE, 2)
    assert after.subtype == before.subtype
    if name.endswith((".m4a", ".mp4", ".mov")):
        assert before.num_samples == after.num_samples
    if video:
        assert len(packets(source, "video")) == 12
        assert packets(target, "video") == packets(source, "video")
    assert abs(first_time_s(target) - first_time_s(source)) < 0.002
    assert leftovers(tmp_path) == []


def test_encoded_audio_keeps_its_sound_and_position(tmp_path: Path) -> None:
    for name in ("a.m4a", "a.aac", "a.ac3", "b.mkv", "a.webm", "a.ts"):
        source = make(tmp_path / name, SOUNDS[name][0])
        before = read_audio(source)[0]
        after = read_audio(copied(source, tmp_path / f"out{source.suffix}"))[0]
        assert after.shape == before.shape, name
        inner = slice(3000, -3000)
        assert np.corrcoef(before[0, inner], after[0, inner])[0, 1] > 0.9, name


@pytest.mark.parametrize(
    ("name", "codec", "form"),
    [("a.m4a", "alac", "s16p"), ("a.m4a", "alac", "s32p"), ("a.mov", "pcm_s24le", None), ("a.mka", "flac", "s16")],
)
def test_lossless_is_lossless(
    name: str, codec: str, form: str | None, model: PretrainedDenoiser, tmp_path: Path
) -> None:
    source = make(tmp_path / name, codec, form=form)
    denoise_file(source, tmp_path / f"out{source.suffix}", model, Strength(mix=0))
    before, after = (np.concatenate(list(read_blocks(path, 9000)), 1) for path in sorted(tmp_path.iterdir()))
    assert before.shape == (2, 40000)
    np.testing.assert_array_equal(after, before)
    np.testing.assert_allclose(before, sound(), atol=2**-15)


def test_further_tracks_subtitles_attachments_and_chapters_are_copied(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.mkv", "aac", "mpeg4", second=True)
    (tmp_path / "a.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,600\nHello\n\n2\n00:00:00,700 --> 00:00:00,800\nBye\n"
    )
    source = tmp_path / "in.mkv"
    with av.open(str(plain)) as film, av.open(str(tmp_path / "a.srt")) as words, av.open(str(source), "w") as file:
        file.set_chapters(
            [{"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "First"}}]
        )
        copies = {stream: file.add_stream_from_template(stream, opaque=True) for stream in film.streams}
        copies[words.streams[0]] = file.add_stream_from_template(words.streams[0], opaque=True)
        copies[words.streams[0]].metadata["language"] = "eng"
        file.add_attachment("a.txt", "text/plain", b"attached")
        for packet in (*film.demux(), *words.demux()):
            if packet.size:
                packet.stream = copies[packet.stream]
                file.mux(packet)
    target = copied(source, tmp_path / "out.mkv")
    assert broken(source, target) == []
    with av.open(str(source)) as before, av.open(str(target)) as after:
        kinds = [stream.type for stream in after.streams]
        assert kinds == [stream.type for stream in before.streams]
        assert kinds == ["video", "audio", "audio", "subtitle", "attachment"]
        assert bytes(after.streams[4].data) == b"attached"
        assert after.streams[3].metadata["language"] == "eng"
        assert [chapter["metadata"] for chapter in after.chapters()] == [{"title": "First"}]
        assert [int(stream.disposition) for stream in after.streams] == [int(s.disposition) for s in before.streams]
    for kind, index in (("video", 0), ("audio", 1), ("subtitle", 0)):
        assert packets(target, kind, index) == packets(source, kind, index) != []
    assert packets(target, "audio", 0) != packets(source, "audio", 0)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "aac"), ("a.mov", "pcm_s16le"), ("a.ts", "aac")]
)
def test_sound_that_begins_later_than_the_video_still_does(name: str, codec: str, tmp_path: Path) -> None:
    source = make(tmp_path / name, codec, "mpeg4", start=24000)
    target = copied(source, tmp_path / f"out{source.suffix}")
    assert broken(source, target) == []
    assert first_time_s(source) == pytest.approx(0.5, abs=0.03)
    assert first_time_s(target) == pytest.approx(first_time_s(source), abs=0.0015)
    assert packets(target, "video") == packets(source, "video")


def test_silence_stands_where_time_stamps_leave_a_gap(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        track = add_sound(file, "pcm_s16le", 1)
        encode_sound(file, track, sound(8000, 1))
        encode_sound(file, track, sound(8000, 1), 36000)
    audio, _ = read_audio(tmp_path / "a.mkv")
    assert audio.shape == (1, 44000)
    np.testing.assert_allclose(audio[:, :8000], sound(8000, 1), atol=2**-15)
    np.testing.assert_allclose(audio[:, 36000:], sound(8000, 1), atol=2**-15)
    assert not audio[:, 8000:36000].any()


def test_all_channels_keep_their_places(tmp_path: Path) -> None:
    loudness = np.array([[1.0], [0.5], [0.25], [0.1], [2.0], [1.5]], np.float32)
    write_audio(tmp_path / "a.wav", sound(channels=6) * loudness, RATE)
    for name in ("a.m4a", "a.mkv", "a.webm", "a.ac3"):
        target = copied(copied(tmp_path / "a.wav", tmp_path / name), tmp_path / f"out.{name}")
        rms = np.sqrt(np.square(read_audio(target)[0]).mean(1))
        audible = [0, 1, 2, 4, 5]  # the fourth is a bass channel, limited to low frequencies
        np.testing.assert_allclose(rms[audible], 0.05 * loudness[audible, 0], rtol=0.2, err_msg=name)


def test_a_cover_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "a.m4a"
    with av.open(str(source), "w", format="mp4") as file:
        track, cover = add_sound(file, "aac"), file.add_stream("png", rate=1, width=16, height=16, pix_fmt="rgb24")
        cover.disposition = cover.disposition.attached_pic
        file.mux(cover.encode(av.VideoFrame(16, 16, "rgb24")))
        encode_sound(file, track, sound())
        file.mux(track.encode(None))
    target = copied(source, tmp_path / "out.m4a")
    assert broken(source, target) == []
    assert [packet[2] for packet in packets(target, "video")] == [packet[2] for packet in packets(source, "video")]
    with av.open(str(target)) as file:
        assert file.metadata["major_brand"] == "M4A "
        assert file.streams.video[0].disposition.name == "attached_pic"


def test_from_and_to_other_formats(model: PretrainedDenoiser, tmp_path: Path) -> None:
    film = make(tmp_path / "a.mp4", "aac", "mpeg4")
    for name in ("a.wav", "a.m4a", "a.mkv", "a.flac"):
        denoise_file(film, tmp_path / "out" / name, model)
        assert broken(film, tmp_path / "out" / name) == []
    assert packets(tmp_path / "out" / "a.mkv", "video")[3][2] == packets(film, "video")[3][2]
    with av.open(str(tmp_path / "out" / "a.m4a")) as file:
        assert [stream.type for stream in file.streams] == ["audio"]
    assert audio_info(tmp_path / "out" / "a.flac").tags["title"] == "A talk"
    for name in ("b.m4a", "b.mp4"):
        denoise_file(tmp_path / "out" / "a.flac", tmp_path / name, model)
        assert broken(tmp_path / "out" / "a.flac", tmp_path / name) == []
        assert audio_info(tmp_path / name).tags == {"title": "A talk", "artist": "Someone"}


def test_streams_that_a_container_cannot_hold_are_refused(tmp_path: Path) -> None:
    film = make(tmp_path / "a.mp4", "aac", "mpeg4")
    with pytest.raises(AudioError, match=r"out\.webm: cannot hold the mpeg4 video of .*a\.mp4; choose \.mp4 or \.mkv"):
        copied(film, tmp_path / "out.webm")
    lossless = make(tmp_path / "b.mka", "flac")
    assert audio_info(copied(lossless, tmp_path / "b.aac")).subtype == "aac"
    write_audio(tmp_path / "a.wav", sound(), 44100)
    with pytest.raises(AudioError, match=r"out\.webm: cannot hold sound of 44100 Hz and 2 channels; choose another"):
        copied(tmp_path / "a.wav", tmp_path / "out.webm")
    with pytest.raises(AudioError, match=r"out\.mp4: cannot be written \(.*a\.mp4\)"):
        copied(film, tmp_path / "a.mp4" / "out.mp4")  # below a file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.wav", "b.aac", "b.mka"]


def test_samples_beyond_full_scale_are_counted_where_they_are_limited(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", sound() * 40, RATE, "FLOAT")
    for name, codec in (("a.mov", "pcm_s16le"), ("a.m4a", "aac")):
        source = make(tmp_path / name, codec)
        with open_writer(tmp_path / f"out{source.suffix}", audio_info(source), source) as writer:
            writer.write(sound() * 40)
        assert writer.limited == (np.count_nonzero(np.abs(sound() * 40) > 1) if codec == "pcm_s16le" else 0)


def bad_files(folder: Path) -> Iterator[tuple[Path, str]]:
    (folder / "text.mp4").write_text("hello " * 100)
    yield folder / "text.mp4", "cannot be read as audio"
    (folder / "list.m4a").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    yield folder / "list.m4a", "cannot be read as audio"
    (folder / "nothing.mkv").write_bytes(b"")
    yield folder / "nothing.mkv", "the file is empty"
    whole = make(folder / "whole.m4a").read_bytes()
    (folder / "headless.m4a").write_bytes(whole[: len(whole) // 2])
    yield folder / "headless.m4a", "cannot be read as audio"
    whole = make(folder / "fast.m4a", options={"movflags": "faststart"}).read_bytes()
    (folder / "cut.m4a").write_bytes(whole[: len(whole) // 2])
    yield folder / "cut.m4a", r"is cut off; it ends after 0\.\d s of 0\.8 s"
    whole = make(folder / "fast.mov", "pcm_s16le", options={"movflags": "faststart"}).read_bytes()
    (folder / "cut.mov").write_bytes(whole[: len(whole) // 2])
    yield folder / "cut.mov", r"is cut off; it ends after 0\.\d s of 0\.8 s"
    with av.open(str(folder / "silent.mp4"), "w") as file:
        pictures = file.add_stream("mpeg4", rate=12, width=64, height=48)
        file.mux(pictures.encode(av.VideoFrame(64, 48, "yuv420p")))
        file.mux(pictures.encode(None))
    yield folder / "silent.mp4", "has no audio"


def test_unreadable_files_are_named_and_the_others_are_denoised(model: PretrainedDenoiser, tmp_path: Path) -> None:
    bad = dict(bad_files(tmp_path))
    plan = plan_targets([tmp_path], tmp_path / "out")
    outcomes = {outcome.source: outcome for outcome in denoise_files(plan, model)}
    assert len(outcomes) == len(bad) + 3
    for path, message in bad.items():
        assert outcomes[path].error is not None
        with pytest.raises(AudioError, match=message) as caught:
            denoise_file(path, tmp_path / "again" / path.name, model)
        assert str(caught.value).startswith(f"{path}: ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fast.m4a", "fast.mov", "whole.m4a"]


def test_a_truncated_matroska_is_read_to_its_end(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.mka", "pcm_s16le").read_bytes()
    (tmp_path / "cut.mka").write_bytes(whole[: len(whole) // 2])
    assert sum(block.shape[1] for block in read_blocks(tmp_path / "cut.mka", 1000)) < 40000


@pytest.mark.parametrize(("start", "count"), [(0, 10), (100, 9000), (39990, 100), (12345, -1)])
def test_a_part_is_read(start: int, count: int, tmp_path: Path) -> None:
    source = make(tmp_path / "a.m4a", "alac")
    part, rate = read_audio(source, start, count)
    np.testing.assert_array_equal(part, read_audio(source)[0][:, start : None if count < 0 else start + count])
    assert (rate, part.dtype) == (RATE, np.float32)
    with pytest.raises(AudioError, match=r"a\.m4a: has 40000 samples"):
        read_audio(source, 40001)


def test_a_failure_midway_leaves_nothing(
    model: PretrainedDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "a.mp4", "aac", "mpeg4")
    monkeypatch.setattr(recordings, "BLOCK_S", 0.1)
    written = []
    original = av_writer.ContainerWriter.write

    def write(self: Any, block: np.ndarray) -> None:
        written.append(block)
        if len(written) == 3:
            assert leftovers(tmp_path)
            raise OSError("out of breath")
        original(self, block)

    monkeypatch.setattr(av_writer.ContainerWriter, "write", write)
    with pytest.raises(OSError, match="out of breath"):
        denoise_file(source, tmp_path / "out.mp4", model)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("suffix", sorted(CONTAINERS))
def test_each_suffix_is_written_and_read_again(suffix: str, tmp_path: Path) -> None:
    rate, channels = (8000, 1) if suffix == ".amr" else (RATE, 2)
    write_audio(tmp_path / "a.wav", sound(rate, channels), rate)
    target = copied(tmp_path / "a.wav", tmp_path / f"a{suffix}")
    info = audio_info(target)
    assert (info.sample_rate, info.num_channels) == (rate, channels)
    assert read_audio(target)[0].shape[1] == pytest.approx(rate, abs=info.padding)
    again = copied(target, tmp_path / f"b{suffix}")
    # Nothing was denoised: a codec may add a little to noise.
    assert [name for name in broken(target, again) if not name.startswith("not louder")] == []
