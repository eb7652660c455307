"""Promises for all outputs: stereo image, bandwidth, tags, level; and the effect of strength on them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfiltfilt, stft

from hushwork.audio.io import audio_info, read_audio, resample
from hushwork.files.check import check_pair
from hushwork.files.denoise import denoise, denoise_file, denoise_files
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained
from hushwork.streaming.chunks import denoise_in_chunks
from hushwork.streaming.recordings import RecordingStream
from hushwork.streaming.stream import DenoiserStream
from hushwork.streaming.strength import Processing, Strength

STARTER = Path(__file__).parents[2] / "src" / "hushwork" / "data" / "starter"
UNCHANGED = Strength(max_attenuation_db=0.0)


@pytest.fixture(scope="module")
def shipped() -> PretrainedDenoiser:
    return load_pretrained("default")


@pytest.fixture
def stereo() -> np.ndarray:
    """(2, N): a tone left, another right, noise of its own in each."""
    rng = np.random.default_rng(0)
    t = np.arange(8000) / 16000
    tones = [0.3 * np.sin(2 * np.pi * 500 * t), 0.1 * np.sin(2 * np.pi * 1500 * t)]
    return (np.stack(tones) + 0.02 * rng.standard_normal((2, 8000))).astype(np.float32)


def band(audio: np.ndarray, rate: int, low_hz: float, high_hz: float | None = None) -> np.ndarray:
    edges = [low_hz, high_hz] if high_hz else low_hz
    return sosfiltfilt(butter(10, edges, "bandpass" if high_hz else "highpass", fs=rate, output="sos"), audio)


def rms_db(audio: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(audio)) + 1e-20))


def frames(audio: np.ndarray, model: PretrainedDenoiser) -> np.ndarray:
    """The frames of the model's own transform, by another library."""
    size, hop = model.stft.n_fft, model.stft.hop_length
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size))
    return stft(audio, window=window, nperseg=size, noverlap=size - hop)[2]


@pytest.mark.parametrize("channels", ["linked", "mid"])
def test_linked_channels_are_turned_down_alike(channels: str, model: PretrainedDenoiser, stereo: np.ndarray) -> None:
    # The network's masks are those of the spectrum, so one gain for both must come out, bin by bin: each output is
    # then what this gain makes of its input. The gain is found from one channel and tried on the other.
    both = np.stack([stereo[0], 0.25 * stereo[0], -0.5 * stereo[0]])
    clean = denoise(both, 16000, model, channels=channels)
    assert np.abs(clean[1] - 0.25 * clean[0]).max() < 1e-6
    assert np.abs(clean[2] + 0.5 * clean[0]).max() < 1e-6
    assert np.abs(clean[0] - both[0]).max() > 1e-3


def test_linked_channels_keep_where_sounds_come_from(model: PretrainedDenoiser, stereo: np.ndarray) -> None:
    ears = stereo.copy()
    ears[1] += 0.4 * np.roll(stereo[0], 5)  # the left tone reaches the right channel too, later and weaker
    for channels, worst_db in (("linked", 0.05), ("independent", np.inf)):
        clean = denoise(ears, 16000, model, channels=channels)
        at_500 = [np.vdot(np.exp(2j * np.pi * 500 * np.arange(8000) / 16000), side) for side in (*ears, *clean)]
        before_db, after_db = (20 * np.log10(abs(a / b)) for a, b in (at_500[:2], at_500[2:]))
        assert abs(after_db - before_db) < worst_db
        if channels == "linked":
            before, after = (np.angle(a / b) for a, b in (at_500[:2], at_500[2:]))
            assert abs(after - before) < 0.01
            linked_error = abs(after_db - before_db)
    assert abs(after_db - before_db) > linked_error


def test_the_linked_gain_is_that_of_the_power_of_all(model: PretrainedDenoiser, stereo: np.ndarray) -> None:
    alone = denoise(stereo, 16000, model, channels="independent")
    noisy, clean = frames(stereo, model), frames(alone, model)
    power = np.square(np.abs(noisy)).sum(0)
    # Overlap-add blurs the masks of single frames a little, so this holds for the sums over time.
    expected = np.square(np.abs(clean)).sum((0, 2)) / power.sum(1)
    linked = frames(denoise(stereo, 16000, model, channels="linked"), model)
    found = np.square(np.abs(linked)).sum((0, 2)) / power.sum(1)
    assert np.abs(10 * np.log10(found / expected)).max() < 0.5


def test_channels_that_cancel_in_the_middle_stay(model: PretrainedDenoiser, stereo: np.ndarray) -> None:
    opposed = np.stack([stereo[0], -stereo[0]])
    assert np.abs(denoise(opposed, 16000, model, channels="mid") - opposed).max() < 1e-6


def test_recordings_side_by_side_are_linked_each_for_itself(
    model: PretrainedDenoiser, stereo: np.ndarray, tmp_path: Path
) -> None:
    plan = []
    for number, audio in enumerate((stereo, stereo[::-1] * 0.1, stereo[:1])):
        soundfile.write(tmp_path / f"{number}.wav", audio.T, 16000, "FLOAT")
        plan.append((tmp_path / f"{number}.wav", tmp_path / f"{number}.out.wav"))
    assert all(outcome.error is None for outcome in denoise_files(plan, model))
    for source, target in plan:
        alone = denoise(read_audio(source)[0], 16000, model)
        assert np.abs(read_audio(target)[0] - alone).max() < 1e-6


def test_streams_and_windows_link_too(model: PretrainedDenoiser, stereo: np.ndarray) -> None:
    whole = denoise(stereo, 16000, model, channels="mid")
    stream = DenoiserStream(model, 2, channels="mid")
    pieces = [stream.process(chunk) for chunk in np.array_split(stereo, 37, axis=1)]
    assert np.abs(np.concatenate([*pieces, stream.flush()], axis=1) - whole).max() < 1e-5
    with pytest.raises(ValueError, match="channels is 'both'; choose one of linked, independent, mid"):
        denoise_in_chunks(model, 2, channels="both")


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 192000])
def test_without_attenuation_the_whole_band_is_kept(rate: int, model: PretrainedDenoiser) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal((2, rate // 4))).astype(np.float32)
    for high_band in ("mask", "keep"):
        assert np.abs(denoise(noise, rate, model, UNCHANGED, high_band=high_band) - noise).max() < 2e-3


def test_frequencies_above_the_network_are_kept_or_dropped_on_request(model: PretrainedDenoiser) -> None:
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(24000)).astype(np.float32)
    above = {word: band(denoise(noise, 48000, model, high_band=word), 48000, 9000) for word in ("keep", "drop", "mask")}
    before = band(noise, 48000, 9000)
    assert np.abs(above["keep"] - before)[500:-500].max() < 1e-3
    assert rms_db(above["drop"][500:-500]) < rms_db(before) - 60
    assert rms_db(above["drop"]) < rms_db(above["mask"]) < rms_db(before)
    with pytest.raises(ValueError, match="high_band is 'cut'; choose one of mask, keep, drop"):
        denoise(noise, 48000, model, high_band="cut")


def test_speech_above_the_network_survives_and_noise_there_falls(shipped: PretrainedDenoiser) -> None:
    voices = sorted((STARTER / "speech" / "test").rglob("*.ogg"))[:3]
    speech = resample(np.concatenate([read_audio(path)[0][0] for path in voices]), 16000, 48000)
    # Fricatives go on above 8 kHz: what lies at 4 to 8 kHz, moved up by 5 kHz.
    t = np.arange(len(speech)) / 48000
    high = band(2 * band(speech, 48000, 4000, 7500) * np.cos(2 * np.pi * 5000 * t), 48000, 9000)
    pause = np.zeros(2 * 48000)
    clean = np.concatenate([pause, speech + high, pause])
    noise = 0.03 * clean.std() * np.random.default_rng(0).standard_normal(len(clean))
    denoised = denoise((clean + noise).astype(np.float32), 48000, shipped)
    before, after = band(clean + noise, 48000, 8500), band(denoised, 48000, 8500)
    speaks = slice(2 * 48000, -2 * 48000)
    assert rms_db(after[:96000]) < rms_db(before[:96000]) - 10  # the pause before
    reference = band(clean, 48000, 8500)
    loud = np.abs(reference[speaks]) > np.percentile(np.abs(reference[speaks]), 95)
    before, after = reference[speaks][loud], after[speaks][loud]
    kept = np.vdot(after, before) / np.vdot(before, before)
    assert kept > 0.6


def test_a_gate_closes_below_its_level_and_holds(model: PretrainedDenoiser) -> None:
    rng = np.random.default_rng(0)
    loud, quiet = (level * rng.standard_normal(16000).astype(np.float32) for level in (0.1, 0.001))
    audio = np.concatenate([quiet, loud, quiet])
    plain, gated = denoise(audio, 16000, model), denoise(audio, 16000, model, Strength(gate_db=-40))
    assert rms_db(gated[1000:15000]) < rms_db(plain[1000:15000]) - 60  # nothing was loud before
    assert np.array_equal(gated[16600:31800], plain[16600:31800])
    held, closed = slice(32400, 34600), slice(37000, 47000)  # 0.2 s are 3200 samples
    assert np.abs(gated[held] - plain[held]).max() < 1e-7
    assert rms_db(gated[closed]) < rms_db(plain[closed]) - 40
    assert np.array_equal(denoise(audio, 16000, model, Strength(gate_db=-90)), plain)


def test_the_level_of_a_gate_is_that_of_a_sine(model: PretrainedDenoiser) -> None:
    sine = (0.1 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype(np.float32)
    level_db = rms_db(denoise(sine, 16000, model)[4000:12000]) + 3.01  # of what the network leaves of it
    for above_db, is_open in ((-1.0, True), (1.0, False)):
        gated = denoise(sine, 16000, model, Strength(gate_db=level_db + above_db))
        assert (rms_db(gated[8000:12000]) > -60) is is_open


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("mix", [1.0, 0.6])
def test_denoised_and_removed_signal_add_up_to_the_input(
    rate: int, mix: float, model: PretrainedDenoiser, stereo: np.ndarray
) -> None:
    stays = denoise(stereo, rate, model, Strength(mix=mix))
    goes = denoise(stereo, rate, model, Strength(mix=mix, noise_only=True))
    assert np.abs(stays + goes - stereo).max() < 1e-6
    assert rms_db(goes) > -60
    stream = DenoiserStream(model, 2, Strength(mix=mix, noise_only=True), channels="linked")
    if rate == 16000:
        live = np.concatenate([stream.process(stereo), stream.flush()], axis=1)
        assert np.abs(live - goes).max() < 1e-5


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff"])
def test_tags_are_kept(name: str, model: PretrainedDenoiser, stereo: np.ndarray, tmp_path: Path) -> None:
    more = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    tags = {"title": "A talk", "artist": "Someone", "comment": "by hand"}
    with soundfile.SoundFile(tmp_path / name, "w", samplerate=16000, channels=2, **more) as file:
        for key, text in tags.items():
            setattr(file, key, text)
        file.write(stereo.T)
    (tmp_path / "out").mkdir()
    denoise_file(tmp_path / name, tmp_path / "out" / name, model)
    after = audio_info(tmp_path / "out" / name)
    assert {key: after.tags[key] for key in tags} == tags
    assert after.subtype == audio_info(tmp_path / name).subtype


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
def test_metadata_of_wav_files_is_kept(
    kind: str, model: PretrainedDenoiser, stereo: np.ndarray, tmp_path: Path
) -> None:
    """Broadcast metadata as another library reads them, and all else to the byte, wherever it stood."""
    av = pytest.importorskip("av")
    soundfile.write(tmp_path / "plain.wav", stereo.T, 48000, format=kind)
    plain = (tmp_path / "plain.wav").read_bytes()
    broadcast = struct.pack("<256s32s32s10s8sQ", b"Reel 1", b"Someone", b"R1", b"2026-01-02", b"03:04:05", 48000 * 60)
    broadcast = broadcast.ljust(602, b"\0") + b"A=PCM,W=24\r\n"
    sound = plain.index(b"fmt ")
    more = (
        chunk(b"iXML", b"<BWFXML>od</BWFXML>"),
        chunk(b"PEAK", bytes(24)),
        chunk(b"cue ", struct.pack("<7I", 1, *range(6))),
    )
    content = plain[:sound] + chunk(b"bext", broadcast) + plain[sound:] + b"".join(more)
    size_at, form = (20, "<Q") if kind == "RF64" else (4, "<I")
    size = struct.pack(form, len(content) - 8)
    (tmp_path / "in.wav").write_bytes(content[:size_at] + size + content[size_at + len(size) :])
    denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model)
    written = (tmp_path / "out.wav").read_bytes()
    assert written.endswith(chunk(b"bext", broadcast) + more[0] + more[2])
    assert struct.unpack_from(form, written, size_at) == (len(written) - 8,)
    with av.open(str(tmp_path / "out.wav")) as file:
        tags = file.metadata
    known = {"encoded_by": "Someone", "time_reference": "2880000", "coding_history": "A=PCM,W=24\r\n"}
    assert {name: tags[name] for name in known} == known
    assert np.array_equal(read_audio(tmp_path / "out.wav")[0], read_audio_of_plain(tmp_path, model))
    assert all(promise.kept for promise in check_pair(tmp_path / "in.wav", tmp_path / "out.wav"))


def read_audio_of_plain(folder: Path, model: PretrainedDenoiser) -> np.ndarray:
    denoise_file(folder / "plain.wav", folder / "plain_out.wav", model)
    return read_audio(folder / "plain_out.wav")[0]


def test_chunks_of_a_damaged_wav_are_left_out(model: PretrainedDenoiser, stereo: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", stereo.T, 16000)
    with (tmp_path / "in.wav").open("ab") as file:
        file.write(chunk(b"iXML", b"good") + struct.pack("<4sI", b"bext", 2**31) + b"cut")
    denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model)
    assert (tmp_path / "out.wav").read_bytes().endswith(chunk(b"iXML", b"good"))


def test_samples_beyond_the_range_of_a_format_are_limited_and_counted(
    model: PretrainedDenoiser, tmp_path: Path
) -> None:
    audio = np.zeros(4000, np.float32)
    audio[[1000, 2000, 3000]] = [1.5, -2.0, 0.9]
    soundfile.write(tmp_path / "in.wav", audio, 16000, "FLOAT")
    float_out = denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model, Strength(mix=0))
    assert float_out.limited == 0
    assert np.array_equal(soundfile.read(tmp_path / "out.wav")[0], audio)
    outcome = denoise_file(tmp_path / "in.wav", tmp_path / "out.flac", model, Strength(mix=0))
    assert outcome.limited == 2
    flac = soundfile.read(tmp_path / "out.flac")[0]
    assert np.abs(flac - audio.clip(-1, 1)).max() < 1e-4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mix": -0.1}, r"mix is -0\.1; it must lie between 0 \(the input\) and 1"),
        ({"mix": 1.1}, r"mix is 1\.1"),
        ({"mix": float("nan")}, r"mix is nan"),
        ({"max_attenuation_db": -1.0}, r"max_attenuation_db is -1\.0; it must be 0 or more"),
        ({"max_attenuation_db": float("nan")}, r"max_attenuation_db is nan"),
        ({"gate_db": 3.0}, r"gate_db is 3\.0; it must be below 0"),
        ({"gate_db": 0.0}, r"gate_db is 0\.0"),
    ],
)
def test_impossible_strengths_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Strength(**wrong)


def test_a_recording_hands_on_as_many_samples_as_it_has(model: PretrainedDenoiser) -> None:
    handed: list[int] = []
    sink: Callable[[np.ndarray], object] = lambda audio: handed.append(audio.shape[1])  # noqa: E731
    blocks = [np.zeros((1, 100), np.float32)] * 3
    recording = RecordingStream(blocks, 48000, 1, 16000, Processing(), sink)
    drawn = recording.read(1000)
    recording.write(drawn, drawn, last=True)
    assert sum(handed) == 300
