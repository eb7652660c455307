"""Denoised files are cleaner, and otherwise unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

from hushwork.audio.io import AudioError, AudioWriter
from hushwork.files import denoise as files
from hushwork.files.denoise import denoise, denoise_file, denoise_files
from hushwork.files.plan import plan_targets
from hushwork.models.denoiser import Denoiser
from hushwork.models.export import build, pretrained
from hushwork.network.pretrained import NetworkStream, PretrainedDenoiser
from hushwork.network.specification import DenoiserSettings
from hushwork.streaming import recordings
from hushwork.streaming.strength import Strength
from sounds import leftovers, read, white, write

RATES = (8000, 16000, 22050, 44100, 48000, 96000)
UNCHANGED = Strength(max_attenuation_db=0.0)


def make_sweep(num_samples: int, rate: int) -> np.ndarray:
    """A sine that glides from 100 Hz to 3 kHz, below half of every rate here."""
    t = np.arange(num_samples) / rate
    return (0.3 * np.sin(2 * np.pi * (100 * t + 1450 * t**2 / t[-1]))).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("num_samples", [1, 10, 4801])
def test_rate_and_length_are_kept(rate: int, num_samples: int, model: PretrainedDenoiser, tmp_path: Path) -> None:
    source = write(tmp_path / "in.wav", white(num_samples), rate)
    outcome = denoise_file(source, tmp_path / "out.wav", model)
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.samplerate, info.frames, info.channels, info.subtype) == (rate, num_samples, 1, "PCM_16")
    assert outcome.duration_s == pytest.approx(num_samples / rate)
    assert (outcome.error, outcome.repaired) == (None, 0)
    assert np.isfinite(read(tmp_path / "out.wav")).all()


@pytest.mark.parametrize("num_channels", [1, 2, 7])
def test_channels_are_kept_apart(
    num_channels: int, model: PretrainedDenoiser, denoiser: Denoiser, tmp_path: Path
) -> None:
    audio = white(3000, num_channels)
    audio[:, 0] *= 0.01  # much quieter than the others, which must not matter
    source = write(tmp_path / "in.wav", audio, subtype="FLOAT")
    denoise_file(source, tmp_path / "out.wav", model, channels="independent")
    together = read(tmp_path / "out.wav")
    assert together.shape == (3000, num_channels)
    for channel in range(num_channels):
        with torch.inference_mode():
            alone = denoiser(torch.from_numpy(audio[:, channel].copy())[None])[0].numpy()
        assert np.abs(together[:, channel] - alone).max() < 1e-5 * np.abs(audio[:, channel]).max()


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", "PCM_U8"),
        ("a.wav", "PCM_16"),
        ("a.wav", "PCM_24"),
        ("a.wav", "PCM_32"),
        ("a.wav", "FLOAT"),
        ("a.wav", "DOUBLE"),
        ("a.flac", "PCM_16"),
        ("a.flac", "PCM_24"),
        ("a.aiff", "PCM_24"),
        ("a.ogg", "VORBIS"),
    ],
)
def test_the_sample_format_is_kept(name: str, subtype: str, model: PretrainedDenoiser, tmp_path: Path) -> None:
    source, target = write(tmp_path / name, white(2000, 2), subtype=subtype), tmp_path / "out" / name
    denoise_file(source, target, model)
    before, after = soundfile.info(source), soundfile.info(target)
    assert (after.subtype, after.format, after.frames) == (subtype, before.format, before.frames)
    assert not np.allclose(read(source), read(target), atol=1e-3)  # something was taken away
    # With mix 0 the samples come back as they were, bit for bit where the format is lossless.
    denoise_file(source, target, model, Strength(mix=0), overwrite=True)
    if subtype == "VORBIS":
        assert np.corrcoef(read(source)[:, 0], read(target)[:, 0])[0, 1] > 0.95
    else:
        assert np.array_equal(soundfile.read(source)[0], soundfile.read(target)[0])  # float64


def test_full_scale_survives_mix_0(model: PretrainedDenoiser, tmp_path: Path) -> None:
    extremes = np.array([-32768, 32767, -1, 0, 1, 32766] * 50, np.int16)
    source = write(tmp_path / "in.wav", extremes)
    denoise_file(source, tmp_path / "out.wav", model, Strength(mix=0))
    assert np.array_equal(soundfile.read(tmp_path / "out.wav", dtype="int16")[0], extremes)


def test_a_target_without_the_subtype_takes_its_own(model: PretrainedDenoiser, tmp_path: Path) -> None:
    source = write(tmp_path / "in.wav", white(2000), subtype="FLOAT")
    denoise_file(source, tmp_path / "out.flac", model)
    info = soundfile.info(tmp_path / "out.flac")
    assert (info.format, info.subtype, info.frames) == ("FLAC", "PCM_16", 2000)


@pytest.mark.parametrize("rate", RATES)
def test_there_is_no_delay(rate: int, model: PretrainedDenoiser) -> None:
    sweep = make_sweep(rate // 2 + 1, rate)
    output = denoise(sweep, rate, model, UNCHANGED)
    correlation = np.correlate(output, sweep, mode="full")
    assert np.argmax(correlation) - (len(sweep) - 1) == 0
    middle = slice(len(sweep) // 10, -len(sweep) // 10)
    assert np.abs(output - sweep)[middle].max() < 2e-3  # nothing taken away but what resampling does


def test_no_attenuation_gives_the_input(model: PretrainedDenoiser) -> None:
    noise = white(4000).T
    assert np.abs(denoise(noise, 16000, model, UNCHANGED) - noise).max() < 1e-6


def test_attenuation_is_limited_in_every_bin(denoiser: Denoiser) -> None:
    with torch.no_grad():
        denoiser.masker.output.bias.fill_(-100.0)  # takes everything away
    model = pretrained(denoiser)
    noise = white(4000)[:, 0]
    assert np.abs(denoise(noise, 16000, model)).max() < 1e-6
    limited = denoise(noise, 16000, model, Strength(max_attenuation_db=12.0))
    assert np.abs(limited - noise * 10 ** (-12 / 20)).max() < 1e-6


def test_mix_lies_between_input_and_output(model: PretrainedDenoiser) -> None:
    noise = white(3000)[:, 0]
    full = denoise(noise, 16000, model)
    half = denoise(noise, 16000, model, Strength(mix=0.25))
    assert np.abs(half - (0.75 * noise + 0.25 * full)).max() < 1e-6
    assert np.array_equal(denoise(noise, 22050, model, Strength(mix=0)), noise)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_silence_stays_silence(rate: int, model: PretrainedDenoiser) -> None:
    assert not denoise(np.zeros((2, 5000), np.float32), rate, model).any()


@pytest.mark.parametrize(("kind", "gate"), [("gru", False), ("lstm", True)], ids=["causal", "bidirectional"])
def test_blocks_give_what_the_whole_gives(
    kind: str, gate: bool, model_node: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    denoiser = build(DenoiserSettings.from_json(model_node(cell=kind, bidirectional=gate))).eval()
    model = pretrained(denoiser)
    audio = white(6001, 2)
    source = write(tmp_path / "in.wav", audio, subtype="FLOAT")
    with torch.inference_mode():
        whole = denoiser(torch.from_numpy(audio.T.copy())).numpy().T
    for block_s in (0.0371, 0.2, 10.0):
        monkeypatch.setattr(files, "BLOCK_S", block_s)
        monkeypatch.setattr(recordings, "BLOCK_S", block_s)
        denoise_file(source, tmp_path / "out.wav", model, channels="independent", overwrite=True)
        assert np.abs(read(tmp_path / "out.wav") - whole).max() < 1e-5


def test_another_rate_equals_resampling_by_hand(
    model: PretrainedDenoiser, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(44100, 44100) + white(44100)[:, 0] * 0.1
    monkeypatch.setattr(files, "BLOCK_S", 0.0371)
    monkeypatch.setattr(recordings, "BLOCK_S", 0.11)
    blocks = denoise(sweep, 44100, model, high_band="drop")
    down = soxr.resample(sweep, 44100, 16000)
    with torch.inference_mode():
        clean = denoiser(torch.from_numpy(down)[None])[0].numpy()
    by_hand = soxr.resample(clean, 16000, 44100)
    assert len(blocks) == len(sweep)
    shared = min(len(blocks), len(by_hand)) - 200  # ends differ by what a resampler does there
    assert np.abs(blocks[200:shared] - by_hand[200:shared]).max() < 1e-3


def test_an_unexpected_exception_is_raised(
    model: PretrainedDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise KeyError("fault")

    monkeypatch.setattr(files, "denoise_together", fault)
    source = write(tmp_path / "in.wav", white(300))
    with pytest.raises(KeyError, match="fault"):
        list(denoise_files([(source, tmp_path / "out.wav")], model))
    assert not (tmp_path / "out.wav").exists()


def test_broken_samples_are_silenced_and_counted(model: PretrainedDenoiser, tmp_path: Path) -> None:
    audio = white(3000, 2)
    repaired = audio.copy()
    # The square of 1e30 is infinite in float32, and every level after it would be.
    audio[100, 0], audio[101, 1], audio[2000:2010, 0], audio[300, 1] = np.nan, np.inf, -np.inf, 1e30
    repaired[100, 0] = repaired[101, 1] = repaired[2000:2010, 0] = repaired[300, 1] = 0
    outcome = denoise_file(write(tmp_path / "in.wav", audio, subtype="FLOAT"), tmp_path / "out.wav", model)
    assert outcome.repaired == 13
    assert np.array_equal(read(tmp_path / "out.wav"), denoise(repaired.T, 16000, model).T)


def test_arrays_keep_their_shape_and_are_not_changed(model: PretrainedDenoiser) -> None:
    audio = white(500, 3).T.copy()
    before = audio.copy()
    assert denoise(audio, 16000, model).shape == (3, 500)
    assert denoise(audio[0], 16000, model).shape == (500,)
    assert denoise(audio[:, :0], 16000, model).shape == (3, 0)
    assert np.array_equal(audio, before)
    with pytest.raises(ValueError, match=r"\(samples,\) or \(channels, samples\), got \(1, 3, 500\)"):
        denoise(audio[None], 16000, model)


def test_progress_adds_up(model: PretrainedDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "BLOCK_S", 0.1)
    steps: list[float] = []
    source = write(tmp_path / "in.wav", white(5001))
    denoise_file(source, tmp_path / "out.wav", model, progress=steps.append)
    assert len(steps) > 3
    assert min(steps) >= 0
    assert sum(steps) == pytest.approx(1)
    sources = [write(tmp_path / "many" / f"{k}.wav", white(3000 + 999 * k)) for k in range(3)]
    shares: list[float] = []
    list(denoise_files([(path, tmp_path / path.name) for path in sources], model, progress=shares.append))
    assert sum(shares) == pytest.approx(1)


def test_an_existing_file_is_kept_without_overwrite(model: PretrainedDenoiser, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.wav", white(500)), tmp_path / "out.wav"
    target.write_text("precious")
    with pytest.raises(AudioError, match=r"out\.wav: exists already; choose another output, or --overwrite"):
        denoise_file(source, target, model)
    assert target.read_text() == "precious"
    denoise_file(source, target, model, overwrite=True)
    assert soundfile.info(target).frames == 500


def test_input_and_output_must_differ(model: PretrainedDenoiser, tmp_path: Path) -> None:
    source = write(tmp_path / "in.wav", white(500))
    before = source.read_bytes()
    (tmp_path / "link.wav").symlink_to(source)
    for target in (source, tmp_path / "link.wav", tmp_path / ".." / tmp_path.name / "in.wav"):
        with pytest.raises(AudioError, match="input and output are the same file"):
            denoise_file(source, target, model, overwrite=True)
    assert source.read_bytes() == before


def test_targets_that_cannot_be_are_named(model: PretrainedDenoiser, tmp_path: Path) -> None:
    source = write(tmp_path / "in.wav", white(500))
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError, match=r"folder\.wav: is a folder"):
        denoise_file(source, tmp_path / "folder.wav", model)
    with pytest.raises(AudioError, match=r"out\.txt: no audio format has the suffix '\.txt'; use \.wav"):
        denoise_file(source, tmp_path / "out.txt", model)
    with pytest.raises(AudioError, match=r"nothing\.wav: holds no samples"):
        denoise_file(write(tmp_path / "nothing.wav", white(0)), tmp_path / "out.wav", model)
    assert not (tmp_path / "out.wav").exists()


class Breaking(AudioWriter):
    """Cannot write its third block to a file called out.wav or old.wav."""

    written = 0

    def write(self, block: np.ndarray) -> None:
        self.written += 1
        if self.written == 3 and self.path.name in ("out.wav", "old.wav"):
            assert leftovers(self.path.parent)  # the unfinished file is there, under another name
            raise OSError("out of breath")
        super().write(block)


def test_a_failure_midway_leaves_nothing_half_written(
    model: PretrainedDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "BLOCK_S", 0.05)
    monkeypatch.setattr("hushwork.audio.io.AudioWriter", Breaking)
    source = write(tmp_path / "in.wav", white(5000))
    with pytest.raises(OSError, match="out of breath"):
        denoise_file(source, tmp_path / "out.wav", model)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]

    old = write(tmp_path / "old.wav", white(10)).read_bytes()
    with pytest.raises(OSError, match="out of breath"):
        denoise_file(source, tmp_path / "old.wav", model, overwrite=True)
    assert (tmp_path / "old.wav").read_bytes() == old
    assert not leftovers(tmp_path)


def test_a_failure_midway_does_not_touch_the_files_beside_it(
    model: PretrainedDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "BLOCK_S", 0.05)
    monkeypatch.setattr("hushwork.audio.io.AudioWriter", Breaking)
    names = ("a.wav", "out.wav", "z.wav")
    for name in names:
        write(tmp_path / "in" / name, white(5000))
    outcomes = denoise_files(plan_targets([tmp_path / "in"], tmp_path / "out"), model, jobs=1)
    errors = {outcome.source.name: outcome.error for outcome in outcomes}
    assert errors == {"a.wav": None, "out.wav": f"{tmp_path / 'in' / 'out.wav'}: out of breath", "z.wav": None}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "z.wav"]
    assert read(tmp_path / "out" / "z.wav").shape == (5000, 1)


def test_files_side_by_side_are_as_if_alone(model: PretrainedDenoiser, tmp_path: Path) -> None:
    for number, (rate, channels) in enumerate([(16000, 1), (16000, 2), (8000, 1), (44100, 3), (16000, 1), (16000, 9)]):
        audio = white(3000 + 700 * number, channels, seed=number)
        write(tmp_path / "in" / f"{number}.wav", audio, rate, "FLOAT")
    plan = plan_targets([tmp_path / "in"], tmp_path / "out")
    outcomes = list(denoise_files(plan, model, jobs=2))
    assert {outcome.source for outcome in outcomes} == {source for source, _ in plan}
    for source, target in plan:
        denoise_file(source, tmp_path / "alone.wav", model, overwrite=True)
        assert np.abs(read(target) - read(tmp_path / "alone.wav")).max() < 1e-6


def test_files_after_a_bad_one_are_denoised(model: PretrainedDenoiser, tmp_path: Path) -> None:
    good = [write(tmp_path / "in" / f"{name}.wav", white(400)) for name in ("a", "z")]
    (tmp_path / "in" / "b.wav").write_text("these are words")
    (tmp_path / "in" / "c.wav").touch()
    plan = plan_targets([tmp_path / "in"], tmp_path / "out")
    outcomes = {outcome.source.name: outcome for outcome in denoise_files(plan, model)}
    assert sorted(outcomes) == ["a.wav", "b.wav", "c.wav", "z.wav"]
    assert [outcomes[path.name].error for path in good] == [None, None]
    assert "in/b.wav: cannot be read as audio" in str(outcomes["b.wav"].error)
    assert "in/c.wav: the file is empty" in str(outcomes["c.wav"].error)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "z.wav"]


def test_an_error_without_words_is_named_too(
    model: PretrainedDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise MemoryError

    source = write(tmp_path / "a.wav", white(400))
    monkeypatch.setattr(NetworkStream, "__call__", exhausted)
    (outcome,) = denoise_files([(source, tmp_path / "b.wav")], model)
    assert outcome.error == f"{source}: MemoryError"
    assert not (tmp_path / "b.wav").exists()
