"""All audio of a file is read: of concatenated files, of files with wrong headers, and after changes of rate."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from hushwork.audio import mpeg, ogg
from hushwork.audio.io import AudioError, audio_info, read_audio, read_blocks
from hushwork.cli import main
from hushwork.files.check import check_pair
from hushwork.files.denoise import denoise_file
from hushwork.network.pretrained import PretrainedDenoiser
from odd_files import (
    RATE,
    TAG,
    aac,
    flac_counting,
    mp3,
    opus,
    patched,
    rf64,
    segments,
    vorbis,
    wav,
    with_unknown_codec,
    xing,
)
from sounds import ape, decoded_s, encoded, id3, packets_s, pcm_format, riff, samples, written

JOINED = "holds 2 recordings"
# name: how it is made, seconds of sound in it, and what is printed of it ("": nothing)
CASES: dict[str, tuple[Callable[[], bytes], float, str]] = {
    "joined.mp3": (lambda: mp3() + mp3(), 4, JOINED),
    "joined_five_times.mp3": (lambda: 5 * mp3(1.0), 5, "holds 5 recordings"),
    "joined_with_tags.mp3": (lambda: 2 * (id3(60_000) + mp3() + ape() + TAG), 4, JOINED),
    "joined_without_xing.mp3": (lambda: mp3(write_xing="0") + mp3(write_xing="0"), 4.1, ""),
    "segments.aac": (lambda: segments(aac()), 2.1, ""),
    "segments.mp3": (lambda: segments(mp3(write_xing="0", id3v2_version="0")), 2.05, ""),
    "no_xing.mp3": (lambda: mp3(write_xing="0"), 2, ""),
    "xing_too_small.mp3": (lambda: xing(mp3(3.0), 1 / 3), 3, "its header counts 1.0 s, but 3.0 s are present"),
    "xing_too_large.mp3": (lambda: xing(mp3(), 7), 2, "its header counts 14.. s, but 2.. s are present"),
    "cut_off.mp3": (lambda: mp3(4.0)[: len(mp3(4.0)) // 2], 2, "its header counts 4.0 s, but 2.0 s are present"),
    "rate_changes.mp3": (lambda: mp3(write_xing="0") + mp3(rate=22050, write_xing="0"), 4, "they differ .44100"),
    "channels_change.mp3": (lambda: mp3(channels=2) + mp3(), 4, "they differ .*2 channels; .*1 channel"),
    "junk_between.mp3": (lambda: mp3() + bytes(5000) + mp3(), 4, JOINED),
    "joined.mp2": (lambda: encoded("mp2", "mp2") + encoded("mp2", "mp2"), 4, ""),
    "chained.ogg": (lambda: vorbis() + vorbis(), 4, JOINED),
    "chained_rates.ogg": (lambda: vorbis(44100, 2) + vorbis(22050), 4, "they differ .44100 Hz, 2 channels; 22050"),
    "chained_codecs.ogg": (lambda: vorbis(48000) + opus() + encoded("ogg", "flac"), 6, "holds 3 recordings"),
    "chained.opus": (lambda: opus() + opus(), 4, JOINED),
    "chained_channels.opus": (lambda: opus() + opus(2), 4, "they differ"),
    "chained.oga": (lambda: encoded("ogg", "flac") + encoded("ogg", "flac", rate=44100), 4, "they differ"),
    "cut_off.ogg": (lambda: vorbis()[:-200], 1.9, "is cut off: its last page is missing"),
    "joined.aac": (lambda: aac() + aac(), 4.13, ""),
    "rate_changes.aac": (lambda: aac() + aac(44100, 2), 4.08, "they differ"),
    "joined.flac": (lambda: written("FLAC") + written("FLAC", rate=RATE), 4, JOINED),
    "rate_changes.flac": (lambda: written("FLAC") + written("FLAC", rate=44100, channels=2), 4, "they differ"),
    "no_total.flac": (lambda: flac_counting(0), 2, ""),
    "total_too_small.flac": (lambda: flac_counting(8000), 2, "its header counts 0.5 s, but 2.0 s are present"),
    "total_too_large.flac": (lambda: flac_counting(320_000), 2, "its header counts 20.0 s, but 2.0 s are present"),
    "joined.m4a": (lambda: encoded("mp4", "aac") + encoded("mp4", "aac"), 4, JOINED),
    "joined.wma": (lambda: encoded("asf", "wmav2") + encoded("asf", "wmav2"), 4, JOINED),
    "joined.mka": (lambda: encoded("matroska", "flac") + encoded("matroska", "flac", rate=44100), 4, "they differ"),
    "joined.ts": (lambda: encoded("mpegts", "mp2") + encoded("mpegts", "mp2"), 4, ""),
    "channels_change.ac3": (
        lambda: encoded("ac3", "ac3", rate=48000, channels=6) + encoded("ac3", "ac3", rate=48000),
        4,
        "changes to 48000 Hz, 1 channel at 2.0 s; all of it is converted to 48000 Hz, 6 channels",
    ),
    "size_zero.wav": (lambda: wav(0), 2, "its header counts 0.0 s, but 2.0 s are present; read to its end"),
    "size_unknown.wav": (lambda: wav(0xFFFFFFFF), 2, "its header does not say how long it is"),
    "size_stale.wav": (lambda: wav(2), 2, "its header counts 0.0 s"),
    "size_stale_by_little.wav": (lambda: wav(60_000), 2, "its header counts 1.9 s, but 2.0 s are present"),
    "size_odd.wav": (lambda: wav(101), 2, "its header counts 0.0 s"),
    "cut_off.wav": (lambda: wav(2**20), 2, "is cut off: 2.0 s of 32.8 s are present"),
    "rf64_size_unknown.wav": (lambda: rf64(2**64 - 1), 2, "its header does not say how long it is"),
    "rf64_size_zero.rf64": (lambda: rf64(0), 2, "its header counts 0.0 s"),
    "bw64.wav": (lambda: rf64(64_000, b"BW64"), 2, ""),
    "bw64_size_unknown.bw64": (lambda: rf64(2**64 - 1, b"BW64"), 2, "its header does not say how long it is"),
    "float_stale.wav": (
        lambda: riff(samples(2, RATE, 2, 32, True), pcm_format(RATE, 2, 32, 3, True), size=8000),
        2,
        "its header counts 0.1 s",
    ),
    "24_bit_stale.wav": (
        lambda: riff(samples(2, RATE, 6, 24), pcm_format(RATE, 6, 24, 0x60F), size=18),
        2,
        "its header counts 0.0 s",
    ),
    "joined.wav": (lambda: wav(None) + wav(None), 4, JOINED),
    "size_stale.aiff": (
        lambda: patched(patched(written("AIFF"), b"SSND", 4, bytes(4)), b"COMM", 10, bytes(4)),
        2,
        "its header counts 0.0 s",
    ),
    "size_stale.w64": (lambda: patched(written("W64"), b"data\xf3", 16, struct.pack("<Q", 24)), 2, "header counts 0.0"),
    "size_stale.au": (lambda: patched(written("AU"), b".snd", 8, bytes(4)), 2, "its header counts 0.0 s"),
    "size_unknown.caf": (lambda: patched(written("CAF"), b"data", 4, b"\xff" * 8), 2, "does not say how long it is"),
    "ac3.wav": (lambda: encoded("wav", "ac3", rate=48000), 2, "ac3 cannot be written .* it becomes PCM_16"),
    "mp3.wav": (lambda: encoded("wav", "libmp3lame"), 2, "MPEG_LAYER_III cannot be written .* it becomes PCM_16"),
    "adpcm.wav": (lambda: encoded("wav", "adpcm_ima_wav", rate=22050), 2, ""),
    "alac.caf": (lambda: encoded("caf", "alac"), 2, ""),
    "flac.oga": (lambda: encoded("ogg", "flac"), 2, ""),
    "a.wv": (lambda: encoded("wv", "wavpack"), 2, ""),
    "a.tta": (lambda: encoded("tta", "tta"), 2, ""),
    "mp3_called.wav": (lambda: mp3(), 2, ""),
    "m4a_called.mp3": (lambda: encoded("mp4", "aac"), 2, "aac cannot be written .* it becomes MPEG_LAYER_III"),
    "unknown_second.mov": (
        lambda: with_unknown_codec("mov", "aac", "alac", b"alac", b"apac"),
        2,
        r"track 2 \(audio, of a codec that FFmpeg does not know\) is left out",
    ),
    "unknown_first.mov": (
        lambda: with_unknown_codec("mov", "alac", "aac", b"alac", b"apac"),
        2,
        "track 1 cannot be decoded; track 2 is used instead",
    ),
    "unknown_first.mkv": (
        lambda: with_unknown_codec("matroska", "alac", "aac", b"A_ALAC", b"A_APAC"),
        2,
        "track 1 cannot be decoded; track 2 is used instead",
    ),
}


@cache
def content_of(name: str) -> bytes:
    return CASES[name][0]()


def made(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(content_of(name))
    return path


@pytest.mark.parametrize("name", CASES)
def test_all_audio_is_read_and_faults_are_noted(name: str, model: PretrainedDenoiser, tmp_path: Path) -> None:

    _, seconds, note = CASES[name]
    source = made(tmp_path, name)
    outcome = denoise_file(source, tmp_path / "out" / name, model)
    content = (tmp_path / "out" / name).read_bytes()
    assert decoded_s(content) == pytest.approx(seconds, abs=0.12)
    assert outcome.duration_s == pytest.approx(seconds, abs=0.15)
    assert re.search(note, " / ".join(outcome.notes)) if note else outcome.notes == ()
    broken = [promise for promise in check_pair(source, tmp_path / "out" / name) if not promise.kept]
    assert broken == []
    assert sum(block.shape[1] for block in read_blocks(source, 5000)) == pytest.approx(
        seconds * audio_info(source).sample_rate, abs=0.12 * audio_info(source).sample_rate
    )


# name: of what part of it the target is made, as readers once gave it
CUT: dict[str, Callable[[], bytes]] = {
    "joined.mp3": lambda: mp3(),
    "xing_too_small.mp3": lambda: mp3(1.0),
    "no_xing.mp3": lambda: mp3(1.5, write_xing="0"),
    "rate_changes.mp3": lambda: mp3(write_xing="0"),
    "chained.ogg": lambda: vorbis(),
    "chained_rates.ogg": lambda: vorbis(44100, 2),
    "chained.opus": lambda: opus(),
    "joined.aac": lambda: aac(),
    "joined.flac": lambda: written("FLAC"),
    "total_too_small.flac": lambda: written("FLAC", seconds=0.5),
    "joined.m4a": lambda: encoded("mp4", "aac"),
    "size_zero.wav": lambda: wav(None, 0.1),
    "size_stale.wav": lambda: wav(None, 1 / RATE),
    "joined.wav": lambda: wav(None),
}


@pytest.mark.parametrize("name", CUT)
def test_check_finds_missing_audio(name: str, tmp_path: Path) -> None:
    source, target = made(tmp_path, name), tmp_path / f"cut_{name}"
    target.write_bytes(CUT[name]())
    assert "length" in [promise.name for promise in check_pair(source, target) if not promise.kept]


@pytest.mark.parametrize(
    ("name", "start", "count"),
    [
        ("joined.mp3", 100_000, 5000),
        ("chained.ogg", 31_990, 20),
        ("chained_rates.ogg", 90_000, 1000),
        ("chained.opus", 40_000, -1),
        ("joined.wav", 31_000, 2000),
        ("joined.m4a", 10, 50_000),
        ("size_zero.wav", 100, 1000),
        ("bw64.wav", 31_000, -1),
        ("no_total.flac", 12_345, 6789),
    ],
)
def test_a_part_is_that_of_the_whole(name: str, start: int, count: int, tmp_path: Path) -> None:
    source = made(tmp_path, name)
    whole = np.concatenate(list(read_blocks(source, 7777)), axis=1)
    part, rate = read_audio(source, start, count)
    assert rate == audio_info(source).sample_rate
    np.testing.assert_allclose(part, whole[:, start : None if count < 0 else start + count], atol=1e-6)
    with pytest.raises(AudioError, match=f"{name}: has {whole.shape[1]} samples, none from"):
        read_audio(source, whole.shape[1] + 1)


@pytest.mark.parametrize("name", ["joined.mp3", "chained.ogg", "joined.wav", "joined.m4a", "joined.flac"])
def test_joined_recordings_are_each_what_they_are_alone(name: str, tmp_path: Path) -> None:
    source, alone = made(tmp_path, name), tmp_path / f"alone_{name}"
    alone.write_bytes(CUT[name]())
    both, one = (np.concatenate(list(read_blocks(path, 9999)), axis=1) for path in (source, alone))
    np.testing.assert_array_equal(both[:, : one.shape[1]], one)
    np.testing.assert_array_equal(both[:, one.shape[1] :], one)


@pytest.mark.parametrize("content", [aac, lambda: mp3(write_xing="0", id3v2_version="0")])
def test_a_stream_continues_after_a_tag(content: Callable[[], bytes], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content())
    (tmp_path / "b").write_bytes(segments(content()))
    np.testing.assert_array_equal(read_audio(tmp_path / "b")[0], read_audio(tmp_path / "a")[0])


def test_changes_of_rate_are_resampled_in_place(tmp_path: Path) -> None:
    """A tone goes on as it was where the rate falls to half and two channels become one."""
    tone = [0.3 * np.sin(2 * np.pi * 500 * np.arange(2 * rate) / rate) for rate in (32000, 16000)]
    files = [io.BytesIO(), io.BytesIO()]
    soundfile.write(files[0], np.stack([tone[0], tone[0]], axis=1), 32000, "PCM_16", format="FLAC")
    soundfile.write(files[1], tone[1], 16000, "PCM_16", format="FLAC")
    (tmp_path / "a.flac").write_bytes(files[0].getvalue() + files[1].getvalue())
    notes: list[str] = []
    audio = np.concatenate(list(read_blocks(tmp_path / "a.flac", 5000, notes)), axis=1)
    expected = 0.3 * np.sin(2 * np.pi * 500 * np.arange(4 * 32000) / 32000)
    assert audio.shape == (2, 4 * 32000)
    inner = np.r_[0:63_000, 65_000:127_000]
    assert np.abs(audio[:, inner] - expected[inner]).max() < 1e-3


@pytest.mark.parametrize("content", [mp3, lambda: encoded("mp2", "mp2"), aac, lambda: mp3(rate=8000, channels=2)])
def test_frames_are_those_that_ffmpeg_finds(content: Callable[[], bytes]) -> None:
    raw = content()
    (run,) = mpeg.runs(io.BytesIO(raw))
    with av.open(io.BytesIO(raw)) as file:
        sizes = [packet.size for packet in file.demux(file.streams.audio[0]) if packet.size]
    assert run.frames == len(sizes)
    assert float(run.length_s) == pytest.approx(decoded_s(raw), abs=1e-6)


@pytest.mark.parametrize("content", [vorbis, opus, lambda: encoded("ogg", "flac"), lambda: vorbis(48000, 2)])
def test_positions_of_ogg_are_those_that_are_decoded(content: Callable[[], bytes]) -> None:
    raw = content()
    (link,) = ogg.links(io.BytesIO(raw))
    assert float(link.length_s) == pytest.approx(2.0, abs=1e-6)
    assert packets_s(raw) == pytest.approx(2.0, abs=0.02)


def test_damage_in_the_middle_is_noted_and_audio_after_it_is_kept(model: PretrainedDenoiser, tmp_path: Path) -> None:
    """Where positions are known, silence stands for what is lost; frames of MPEG have none."""
    wholes = {"a.mp3": mp3(4.0), "a.ogg": written("OGG", "VORBIS", 4.0), "a.flac": written("FLAC", seconds=4.0)}
    for name, whole in wholes.items():
        middle = len(whole) // 2
        (tmp_path / name).write_bytes(whole[:middle] + b"\x55" * 3000 + whole[middle + 3000 :])
        outcome = denoise_file(tmp_path / name, tmp_path / "out" / name, model)
        seconds = decoded_s((tmp_path / "out" / name).read_bytes())
        assert seconds == pytest.approx(3.7 if name == "a.mp3" else 4.0, abs=0.1), name
        assert any("damage" in note or "missing" in note for note in outcome.notes), (name, outcome.notes)


def test_a_wav_beyond_4_gb_is_read_to_its_end(tmp_path: Path) -> None:
    """Of such a file the header holds the size modulo 2^32; here a hole in the disk stands for the samples."""
    path = tmp_path / "long.wav"
    path.write_bytes(riff(b"\1\0" * 500, pcm_format(96000, 8, 16), size=1000))
    with path.open("r+b") as file:
        file.truncate(2**32 + 1008 + 44)
        file.seek(-2, 2)
        file.write(b"\1\0")
    info = audio_info(path)
    assert info.num_samples == (2**32 + 1008) // 16
    assert info.notes == ("its header counts 0.0 s, but 46:36.2 min are present; read to its end",)
    assert read_audio(path, info.num_samples - 1)[0][7, 0] > 0


LIST = b"LIST" + struct.pack("<I", 20) + b"INFOINAM" + struct.pack("<I", 8) + b"A title\0"


@pytest.mark.parametrize(
    ("content", "samples_in_it"),
    [
        (lambda: wav(None, tail=LIST), 32000),
        (lambda: wav(None, tail=LIST + LIST[:-9]), 32000),
        (lambda: wav(None, tail=bytes(4096)), 32000),  # a disk's last block
        (lambda: wav(None, tail=b"\x07" * 100), 32000),  # less than 0.1 s
        (lambda: wav(None, tail=b"id3 " + struct.pack("<I", 50_000) + bytes([7]) * 50_000), 32000),
        (lambda: riff(b"\1\2\3\4\5", pcm_format(RATE, 1, 8), tail=LIST), 5),  # not filled up to an even number
        (lambda: riff(b"\1\2\3\4\5", pcm_format(RATE, 1, 8), tail=b"\0" + LIST), 5),
        (lambda: riff(b"", pcm_format(RATE, 1, 16), tail=LIST), 0),
        (lambda: wav(0, head=LIST), 32000),
        (lambda: riff(bytes(20_000), pcm_format(RATE, 1, 16), size=0), 10_000),  # digital silence of a killed recorder
    ],
)
def test_only_audio_is_read_as_audio(content: Callable[[], bytes], samples_in_it: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(content())
    assert sum(block.shape[1] for block in read_blocks(tmp_path / "a.wav", 1000)) == samples_in_it
    assert audio_info(tmp_path / "a.wav").num_samples == samples_in_it


def test_a_folder_of_odd_files_is_reported_correctly(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Notes are printed before and in the summary, and are in the ledger; all files are written."""
    names = [name for name in CASES if not name.endswith(".ts")]  # most .ts are TypeScript
    for name in names:
        (tmp_path / "in").mkdir(exist_ok=True)
        made(tmp_path / "in", name)
    out = tmp_path / "out"
    words = ["denoise", str(tmp_path / "in"), "-o", str(out), "--model", str(model_folder)]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert f"{len(names)} of {len(names)} files written" in printed.out
    entries = [json.loads(line) for line in (out / ".hushwork" / "ledger.jsonl").read_text("utf-8").splitlines()]
    notes = {Path(entry["source"]).name: entry.get("notes", []) for entry in entries if entry["status"] == "done"}
    noted = [name for name in names if CASES[name][2]]
    assert sorted(name for name in names if notes[name]) == sorted(noted)
    for name in noted:
        for note in notes[name]:
            assert f"{name}: {note}" in printed.err
    assert printed.out.count("\n  /") == 20
    assert f"and notes on {len(noted) - 20} more files" in printed.out
    (tmp_path / "in" / "bad.wav").write_bytes(b"RIFF" + bytes(100))
    assert main(words) == 1
    printed = capsys.readouterr()
    assert f"0 of {len(names) + 1} files written" in printed.out
    assert "bad.wav: cannot be read as audio" in printed.err
