"""Metadata of tracks and channels is kept to the byte, and `check` compares it."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from hushwork.audio.io import AudioError, audio_info, open_writer
from hushwork.audio.lengths import tracks
from hushwork.files.check import check_pair
from hushwork.files.denoise import denoise_file
from hushwork.network.pretrained import PretrainedDenoiser
from sounds import broken, decoded_s, encoded, noise, pcm_format, riff, samples, written

RATE = 48000


def film(muxer: str, video: str, tag: str | None, sound: str = "aac") -> bytes:
    """Ten pictures and a second of noise; the pictures' codec has this tag."""
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as container:
        pictures = container.add_stream(video, rate=10, width=64, height=64, pix_fmt="yuv420p")
        pictures.options = {"x265-params": "log-level=none", "preset": "ultrafast"}
        if tag:
            pictures.codec_context.codec_tag = tag
        track = container.add_stream(sound, rate=RATE, layout="mono")
        for number in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(noise(1.0, RATE), format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "muxer", "video", "tag"),
    [
        ("a.mov", "mov", "libx265", "hvc1"),
        ("b.mov", "mov", "libx265", "hev1"),
        ("a.mp4", "mp4", "libx265", "hvc1"),
        ("a.m4v", "mp4", "libx264", "avc1"),
        ("b.mp4", "mp4", "libx264", "avc3"),
        ("c.mp4", "mp4", "mpeg4", "mp4v"),
        ("a.avi", "avi", "mpeg4", "XVID"),
        ("b.avi", "avi", "mpeg4", "DIVX"),
    ],
)
def test_codec_tags_stay(
    name: str, muxer: str, video: str, tag: str, model: PretrainedDenoiser, tmp_path: Path
) -> None:
    source, target = tmp_path / name, tmp_path / "out" / name
    source.write_bytes(film(muxer, video, tag, "libmp3lame" if muxer == "avi" else "aac"))
    assert tag.encode() in source.read_bytes()
    outcome = denoise_file(source, target, model)
    with av.open(str(target)) as file:
        assert file.streams.video[0].codec_context.codec_tag == tag
    assert tag.encode() in target.read_bytes()
    assert broken(source, target) == []
    assert outcome.notes == ()


def test_another_tag_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.mov").write_bytes(film("mov", "libx265", "hvc1"))
    (tmp_path / "b.mov").write_bytes((tmp_path / "a.mov").read_bytes().replace(b"hvc1", b"hev1"))
    (tmp_path / "c.mov").write_bytes(encoded("mov", "aac", 1.0, RATE))
    for name, lost in (("b.mov", "lost: video hevc hvc1"), ("c.mov", "lost: video hevc hvc1")):
        promises = {promise.name: promise for promise in check_pair(tmp_path / "a.mov", tmp_path / name)}
        assert (promises["tracks"].kept, promises["tracks"].found) == (False, lost)
    assert tracks(tmp_path / "a.mov")[0]["video", "hevc", "hvc1"] == 1


def test_where_a_container_has_no_tags_the_picture_goes_along(model: PretrainedDenoiser, tmp_path: Path) -> None:
    (tmp_path / "a.mov").write_bytes(film("mov", "libx265", "hvc1"))
    denoise_file(tmp_path / "a.mov", tmp_path / "a.mkv", model)
    with av.open(str(tmp_path / "a.mov")) as before, av.open(str(tmp_path / "a.mkv")) as after:
        assert after.streams.video[0].codec_context.name == "hevc"
        packets = [[packet.size for packet in file.demux(video=0) if packet.size] for file in (before, after)]
    assert packets[0] == packets[1]


def mask_of(content: bytes) -> bytes:
    """dwChannelMask, which stands 20 bytes behind the beginning of WAVEFORMATEXTENSIBLE."""
    at = content.index(b"fmt ") + 8
    assert content[at : at + 2] == b"\xfe\xff"
    return content[at + 20 : at + 24]


@pytest.mark.parametrize("kind", ["wav", "rf64", "bw64"])
@pytest.mark.parametrize(("bits", "is_float"), [(16, False), (24, False), (32, True)])
@pytest.mark.parametrize(
    ("channels", "mask"),
    [(6, 0x60F), (6, 0x3F), (8, 0x63F), (3, 0xB), (2, 0x3), (1, 0x4), (4, 0x33), (4, 0), (2, 1 << 31)],
)
def test_channel_masks_stay(
    channels: int, mask: int, bits: int, is_float: bool, kind: str, model: PretrainedDenoiser, tmp_path: Path
) -> None:
    data = samples(0.05, RATE, channels, bits, is_float)
    content = riff(data, pcm_format(RATE, channels, bits, mask, is_float))
    if kind != "wav":
        sizes = len(content) + 28, len(data), len(data) // (channels * bits // 8)
        ds64 = struct.pack("<4sIQQQI", b"ds64", 28, *sizes, 0)
        content = kind.upper().encode() + b"\xff" * 4 + b"WAVE" + ds64 + content[12:]
    source, target = tmp_path / f"a.{kind}", tmp_path / "out" / f"a.{kind}"
    source.write_bytes(content)
    outcome = denoise_file(source, target, model)
    assert target.read_bytes()[:4] == content[:4]
    assert mask_of(target.read_bytes()) == struct.pack("<I", mask)
    assert broken(source, target) == []
    assert outcome.notes == ()


def test_another_mask_is_found(tmp_path: Path) -> None:
    for name, mask in (("a.wav", 0x60F), ("b.wav", 0x3F)):
        (tmp_path / name).write_bytes(riff(samples(0.5, RATE, 6, 16), pcm_format(RATE, 6, 16, mask)))
    promise = next(one for one in check_pair(tmp_path / "a.wav", tmp_path / "b.wav") if one.name == "metadata")
    assert (promise.kept, promise.found) == (False, "lost: channel mask")


def adpcm() -> bytes:
    """IMA ADPCM with blocks of 36 bytes and 65 samples, which FFmpeg and libsndfile read but do not write."""
    rng = np.random.default_rng(0)
    data = b"".join(struct.pack("<hBB", 0, 20, 0) + rng.bytes(32) for _ in range(400))
    fmt = struct.pack("<HHIIHHHH", 0x11, 1, 22050, 22050 * 36 // 65, 36, 4, 2, 65)
    return riff(data, fmt)


def test_formats_that_cannot_be_written_are_refused_first(tmp_path: Path) -> None:
    """By the writer, which is opened before anything is denoised."""
    cases = {
        "mp3.wav": (encoded("wav", "libmp3lame"), "MPEG_LAYER_III cannot be written .* it becomes PCM_16"),
        "mp2_called.mp3": (encoded("mp2", "mp2"), "MPEG_LAYER_II cannot be written .* it becomes MPEG_LAYER_III"),
        "adpcm.wav": (adpcm(), "IMA_ADPCM fills its last block: [0-9]+ samples"),
    }
    for name, (content, note) in cases.items():
        source = tmp_path / name
        source.write_bytes(content)
        writer = open_writer(tmp_path / f"out_{name}", audio_info(source), source)
        assert re.search(note, " ".join(writer.notes)), name
        writer.discard()


def test_mp2_stays_mp2(model: PretrainedDenoiser, tmp_path: Path) -> None:
    (tmp_path / "a.mp2").write_bytes(encoded("mp2", "mp2"))
    outcome = denoise_file(tmp_path / "a.mp2", tmp_path / "out" / "a.mp2", model)
    assert outcome.notes == ()
    assert audio_info(tmp_path / "out" / "a.mp2").subtype == "MPEG_LAYER_II"
    assert broken(tmp_path / "a.mp2", tmp_path / "out" / "a.mp2") == []


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("codec", ["adpcm_ima_wav", "adpcm_ms"])
def test_adpcm_keeps_its_length_and_its_blocks(
    codec: str, channels: int, model: PretrainedDenoiser, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(encoded("wav", codec, rate=22050, channels=channels))
    outcome = denoise_file(tmp_path / "a.wav", tmp_path / "out.wav", model)
    contents = [(tmp_path / name).read_bytes() for name in ("a.wav", "out.wav")]
    blocks = [content[content.index(b"fmt ") + 20 :][:2] for content in contents]
    assert blocks[0] == blocks[1]
    assert decoded_s(contents[0]) == decoded_s(contents[1])
    assert outcome.notes == ()
    assert broken(tmp_path / "a.wav", tmp_path / "out.wav") == []


def test_adpcm_with_odd_blocks_grows_within_its_last_one(model: PretrainedDenoiser, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(adpcm())
    outcome = denoise_file(tmp_path / "a.wav", tmp_path / "out.wav", model)
    before, after = (audio_info(tmp_path / name) for name in ("a.wav", "out.wav"))
    longer = after.num_samples - before.num_samples
    assert 0 < longer < after.padding
    assert outcome.notes == (f"IMA_ADPCM fills its last block: {longer} samples of silence follow the sound",)
    assert broken(tmp_path / "a.wav", tmp_path / "out.wav") == []


def test_formats_that_are_read_only_are_refused_with_a_remedy(model: PretrainedDenoiser, tmp_path: Path) -> None:
    (tmp_path / "a.wv").write_bytes(encoded("wv", "wavpack"))
    with pytest.raises(AudioError, match=r"a\.ape: \.ape can be read but not written; name an output such as a\.flac"):
        denoise_file(tmp_path / "a.wv", tmp_path / "a.ape", model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wv"]


@pytest.mark.parametrize(
    ("name", "content", "subtype"),
    [
        ("a.m4a", lambda: encoded("mp4", "alac", form="s32p"), "PCM_24"),
        ("a.m4a", lambda: encoded("mp4", "alac", form="s16p"), "PCM_16"),
        ("a.mov", lambda: encoded("mov", "pcm_s24le"), "PCM_24"),
        ("a.flac", lambda: written("FLAC", "PCM_24"), "PCM_24"),
    ],
)
def test_a_wav_of_it_has_all_its_bits(
    name: str, content: Callable[[], bytes], subtype: str, model: PretrainedDenoiser, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content())
    denoise_file(tmp_path / name, tmp_path / "out.wav", model)
    assert audio_info(tmp_path / "out.wav").subtype == subtype
