"""Audio files are written and read again, and errors of unreadable files name the reason."""

import os
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from hushwork.audio.info import MAX_BLOCK
from hushwork.audio.io import (
    AUDIO_SUFFIXES,
    AudioError,
    AudioWriter,
    audio_info,
    read_audio,
    read_blocks,
    resample,
    write_audio,
)

RATE = 16000


@pytest.fixture
def audio():
    """Two channels of half full scale, of a length that nothing divides."""
    return (np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4001))).astype(np.float32)


def smooth(seconds=0.5, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize(
    ("suffix", "subtype", "step"),
    [
        (".wav", "PCM_16", 2**-15),
        (".wav", "PCM_24", 2**-23),
        (".wav", "PCM_U8", 2**-7),
        (".wav", "FLOAT", 0),
        (".wav", "DOUBLE", 0),
        (".WAV", None, 2**-15),
        (".flac", "PCM_16", 2**-15),
        (".flac", "PCM_24", 2**-23),
        (".aif", "PCM_16", 2**-15),
        (".w64", "FLOAT", 0),
        (".rf64", "PCM_16", 2**-15),
    ],
)
def test_round_trip_to_the_step_of_the_subtype(tmp_path, audio, suffix, subtype, step):
    path = tmp_path / f"a{suffix}"
    write_audio(path, audio, RATE, subtype)
    back, rate = read_audio(path)
    assert rate == RATE
    assert back.dtype == np.float32
    assert back.shape == audio.shape
    assert back.flags.c_contiguous
    np.testing.assert_allclose(back, audio, rtol=0, atol=step)
    info = audio_info(path)
    assert (info.sample_rate, info.num_samples, info.num_channels) == (RATE, 4001, 2)
    assert info.subtype == (subtype or "PCM_16")
    assert info.duration_s == 4001 / RATE
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [(".ogg", "VORBIS"), (".oga", "VORBIS"), (".opus", "OPUS"), (".opus", None), (".ogg", None), (".mp3", None)],
)
def test_a_lossy_round_trip_is_near(tmp_path, suffix, subtype):
    path = tmp_path / f"a{suffix}"
    wave = smooth()
    write_audio(path, wave, RATE, subtype)
    back, rate = read_audio(path)
    assert rate == RATE
    assert back.shape[0] == 1
    assert back.shape[1] == pytest.approx(len(wave), abs=0 if suffix != ".mp3" else 1152)
    inner = slice(1000, 6000)
    error = back[0, inner] - wave[inner]
    assert np.sqrt(np.mean(error**2)) < 0.05 * np.sqrt(np.mean(wave[inner] ** 2))
    if subtype:
        assert audio_info(path).subtype == subtype


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.flac", "FLOAT"), ("a.wav", "MPEG_LAYER_III"), ("a.wav", "VORBIS"), ("a.wav", "GSM610")]
)
def test_a_subtype_that_the_format_lacks_becomes_its_default(tmp_path, audio, name, subtype):
    write_audio(tmp_path / name, audio, RATE, subtype)
    assert audio_info(tmp_path / name).subtype == "PCM_16"
    np.testing.assert_allclose(read_audio(tmp_path / name)[0], audio, rtol=0, atol=2**-15)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("subtype", [None, "PCM_16", "VORBIS"])
def test_opus_is_written_from_any_source(tmp_path, subtype):
    write_audio(tmp_path / "a.opus", smooth(), RATE, subtype)
    assert audio_info(tmp_path / "a.opus").subtype == "OPUS"


def test_a_format_can_be_named_apart_from_the_suffix(tmp_path, audio):
    with AudioWriter(tmp_path / "a.part", RATE, 2, format="FLAC") as writer:
        writer.write(audio)
    assert audio_info(tmp_path / "a.part").format == "FLAC"


@pytest.mark.parametrize(("start", "num_samples"), [(0, 10), (100, 10), (100, -1), (3990, 100), (4001, -1)])
def test_a_part_is_read(tmp_path, audio, start, num_samples):
    write_audio(tmp_path / "a.wav", audio, RATE, "FLOAT")
    part, _ = read_audio(tmp_path / "a.wav", start, num_samples)
    stop = None if num_samples < 0 else start + num_samples
    np.testing.assert_array_equal(part, audio[:, start:stop])


def test_a_start_behind_the_end_is_an_error(tmp_path, audio):
    write_audio(tmp_path / "a.wav", audio, RATE)
    with pytest.raises(AudioError, match=r"a\.wav"):
        read_audio(tmp_path / "a.wav", start=4002)


@pytest.mark.parametrize("size", [1000, 4001, 5000])
def test_blocks_make_up_the_file(tmp_path, audio, size):
    write_audio(tmp_path / "a.wav", audio, RATE, "FLOAT")
    blocks = list(read_blocks(tmp_path / "a.wav", size))
    assert [b.shape[1] for b in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert 0 < blocks[-1].shape[1] <= size
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), audio)


def test_a_writer_takes_blocks(tmp_path, audio):
    with AudioWriter(tmp_path / "a.wav", RATE, 2, "FLOAT") as writer:
        for start in range(0, 4001, 700):
            writer.write(audio[:, start : start + 700])
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0], audio)


@pytest.mark.parametrize("old", [None, b"precious"])
def test_an_exception_while_writing_leaves_things_as_they_were(tmp_path, audio, old):
    path = tmp_path / "a.wav"
    if old:
        path.write_bytes(old)

    def fail():
        with AudioWriter(path, RATE, 2) as writer:
            writer.write(audio)
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == (["a.wav"] if old else [])
    if old:
        assert path.read_bytes() == old


def test_the_file_appears_at_the_end_and_replaces_the_old_one(tmp_path, audio):
    path = tmp_path / "a.wav"
    with AudioWriter(path, RATE, 2, "FLOAT") as writer:
        writer.write(audio)
        assert not path.exists()
    with AudioWriter(path, RATE, 2, "FLOAT") as writer:
        writer.write(-audio)
        np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0].T, audio)
    np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0].T, -audio)


def header(num_samples=0, num_channels=1, rate=RATE):
    """A WAV header of samples of 16 bits."""
    width = 2 * num_channels
    size = (num_samples * width) % 2**32
    sizes = (1, num_channels, rate, rate * width % 2**32, width % 2**16, 16)
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size, b"WAVE", b"fmt ", 16, *sizes, b"data", size)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.wav", None, "no such file"),
        ("empty.wav", b"", "empty"),
        ("text.wav", b"these are words, not samples\n" * 10, "cannot be read as audio"),
        ("text.txt", b"these are words, not samples\n" * 10, "cannot be read as audio"),
        ("cut.wav", header()[:20], "cannot be read as audio"),
        ("cut.flac", b"fLaC", "cannot be read as audio"),
        ("samples.raw", b"\0\0" * 100, "header"),
        ("samples.RAW", b"\0\0" * 100, "header"),
    ],
)
@pytest.mark.parametrize("read", [audio_info, read_audio, lambda path: list(read_blocks(path, 10))])
def test_errors_of_unreadable_files_name_the_reason(tmp_path, name, content, message, read):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=message) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.fixture
def little_memory():
    """No array is larger than a block and its copy."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 4 * MAX_BLOCK


@pytest.mark.parametrize("claimed", [2**20, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize("num_channels", [1, 2, 1024])
def test_a_header_that_claims_too_much_is_not_believed(tmp_path, claimed, num_channels, little_memory):
    samples = np.arange(10 * num_channels, dtype="<i2").reshape(10, num_channels)
    path = tmp_path / "a.wav"
    path.write_bytes(header(claimed, num_channels) + samples.tobytes())
    expected = samples.T / np.float32(32768)
    np.testing.assert_array_equal(read_audio(path)[0], expected)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, 2**40)), axis=1), expected)


def test_a_flac_whose_header_claims_months_is_read_to_its_end(tmp_path, audio, little_memory):
    path = tmp_path / "a.flac"
    write_audio(path, audio, RATE)
    content = bytearray(path.read_bytes())
    content[21] |= 15  # the 36 bits of how many samples there are; https://www.rfc-editor.org/rfc/rfc9639 section 8.2
    content[22:26] = bytes([255] * 4)
    path.write_bytes(content)
    assert audio_info(path).num_samples == 2**36 - 1
    assert audio_info(path, search=True).num_samples == 4001
    np.testing.assert_allclose(read_audio(path)[0], audio, rtol=0, atol=2**-15)
    np.testing.assert_allclose(np.concatenate(list(read_blocks(path, 2**40)), axis=1), audio, rtol=0, atol=2**-15)


def test_a_long_file_is_read_whole(tmp_path, monkeypatch, audio):
    monkeypatch.setattr("hushwork.audio.info.MAX_BLOCK", 1000)
    write_audio(tmp_path / "a.wav", audio, RATE, "FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0], audio)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", 1234, 1777)[0], audio[:, 1234:3011])
    assert [block.shape[1] for block in read_blocks(tmp_path / "a.wav", 10**6)] == [500] * 8 + [1]


@pytest.mark.parametrize(
    ("rate", "num_channels", "message"),
    [
        (0, 1, "cannot be read as audio"),
        (1, 1, "its header states 1 Hz, expected 100 to 1000000; it is damaged"),
        (2**31 - 1, 1, "its header states 2147483647 Hz"),
        (2**31, 1, "cannot be read as audio"),
        (RATE, 0, "cannot be read as audio"),
        (RATE, 1025, "cannot be read as audio"),
        (RATE, 65535, "cannot be read as audio"),
    ],
)
@pytest.mark.parametrize("read", [audio_info, read_audio, lambda path: list(read_blocks(path, 10))])
def test_a_header_that_cannot_be_true_is_refused(tmp_path, rate, num_channels, message, read):
    (tmp_path / "a.wav").write_bytes(header(100, num_channels, rate) + bytes(200))
    with pytest.raises(AudioError, match=rf"a\.wav: {message}"):
        read(tmp_path / "a.wav")


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="is not a regular file"):
        audio_info(tmp_path / "a.wav")


def test_a_folder_is_refused_as_a_file(tmp_path):
    with pytest.raises(AudioError, match="is a folder"):
        audio_info(tmp_path)


def test_a_header_alone_holds_no_samples(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(header())
    assert audio_info(path).num_samples == 0
    assert read_audio(path)[0].shape == (1, 0)
    assert list(read_blocks(path, 10)) == []


@pytest.mark.parametrize("path", ["a.xyz", "a", "a.raw"])
def test_a_suffix_without_a_format_is_named(tmp_path, path):
    with pytest.raises(AudioError, match="no audio format has the suffix"):
        write_audio(tmp_path / path, np.zeros(10), RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "channels", "rate"),
    [("a.flac", 9, RATE), ("a.opus", 1, 44100), ("a.wav", 1, 0)],
)
def test_failed_writing_names_the_reason_and_leaves_no_file(tmp_path, path, channels, rate):
    with pytest.raises(AudioError, match="cannot be written") as caught:
        AudioWriter(tmp_path / path, rate, channels)
    assert str(tmp_path / path) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_suffixes():
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"} <= AUDIO_SUFFIXES
    assert ".raw" not in AUDIO_SUFFIXES


@pytest.mark.parametrize("shape", [(-1,), (1, -1)])
@pytest.mark.parametrize(("from_rate", "to_rate"), [(16000, 48000), (48000, 16000), (44100, 16000), (16000, 22050)])
def test_resampling_gives_the_same_sine(from_rate, to_rate, shape):
    def sine(rate):
        return np.sin(2 * np.pi * 1000 * np.arange(rate // 2) / rate).astype(np.float32).reshape(shape)

    there = resample(sine(from_rate), from_rate, to_rate)
    assert there.shape == sine(to_rate).shape
    assert there.dtype == np.float32
    inner = slice(to_rate // 50, -to_rate // 50)
    np.testing.assert_allclose(there[..., inner], sine(to_rate)[..., inner], atol=1e-4)


def test_resampling_removes_frequencies_above_the_lower_rate():
    high = np.sin(2 * np.pi * 7000 * np.arange(16000) / 16000).astype(np.float32)
    assert np.abs(resample(high, 16000, 8000)[500:-500]).max() < 1e-3


def test_resampling_to_the_same_rate_returns_the_input():
    wave = smooth()
    assert resample(wave, RATE, RATE) is wave
