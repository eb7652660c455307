"""The shipped models denoise, and leave clean speech intact."""

from __future__ import annotations

import numpy as np
import pytest

from hushwork import DenoiserStream, denoise, load_pretrained
from hushwork.audio.io import read_audio, resample
from hushwork.augment.mixing import active_rms, limit_band, scale_to_snr
from hushwork.augment.noises import coloured_noise, fan
from hushwork.config import PACKAGE
from hushwork.evaluation.metrics import estoi, si_sdr
from hushwork.network.model_folder import SHIPPED, read_config, shipped_models
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.chunks import DenoiserWindows, denoise_in_chunks

RATE = 16_000
LIMITS = {"default": 6_000_000, "small": 250_000}  # parameters
# Of the noisy recording below, denoised: SI-SDR in dB and ESTOI.
GOLDEN = {"default": (10.59, 0.886), "small": (10.25, 0.876), "offline": (10.16, 0.850)}


@pytest.fixture(scope="module", params=shipped_models())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> PretrainedDenoiser:
    return load_pretrained(name)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    folder = PACKAGE / "data" / "starter" / "speech" / "test"  # voices that none of them was trained on
    return np.concatenate([read_audio(folder / f"{name}.ogg")[0][0] for name in ("am_michael_01", "if_sara_01")])


def noisy_version(speech: np.ndarray, snr_db: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = fan(len(speech), RATE, rng) + coloured_noise(len(speech), RATE, rng)
    return speech + scale_to_snr(speech, noise, snr_db, RATE)


def level_change_db(after: np.ndarray, before: np.ndarray) -> float:
    return 20 * np.log10(active_rms(after, RATE) / active_rms(before, RATE))


@pytest.fixture(scope="module")
def voices() -> list[np.ndarray]:
    """The beginnings of utterances of 8 voices that none of them was trained on, from the first sound on."""
    folder = PACKAGE / "data" / "starter" / "speech"
    paths = {path.stem[:-3]: path for path in sorted((*folder.glob("test/*.ogg"), *folder.glob("valid/*.ogg")))}
    found = []
    for path in list(paths.values())[:8]:
        audio = read_audio(path)[0][0]
        power = np.convolve(np.square(audio), np.ones(80) / 80, "same")
        found.append(audio[int(np.argmax(power > 1e-3 * power.max())) :][: 2 * RATE])
    assert len(found) == 8
    return found


def first_50_ms_db(model: PretrainedDenoiser, voices: list[np.ndarray], lead: np.ndarray) -> float:
    """How much of the first 50 ms of speech is left after this lead: the median over voices."""
    left = []
    for voice in voices:
        begin = slice(len(lead), len(lead) + RATE // 20)
        noisy = np.concatenate([lead, voice]).astype(np.float32)
        clean = denoise(noisy, RATE, model)
        left.append(10 * np.log10(np.square(clean[begin]).sum() / np.square(noisy[begin]).sum()))
    return float(np.median(left))


def test_digital_silence_does_not_attenuate_the_next_word(model: PretrainedDenoiser, voices: list[np.ndarray]) -> None:
    dither = np.random.default_rng(0).integers(-1, 2, 2 * RATE) / 2**15
    after_zeros = first_50_ms_db(model, voices, np.zeros(2 * RATE))
    assert after_zeros >= -3
    assert abs(after_zeros - first_50_ms_db(model, voices, dither)) <= 1


def test_speech_is_whole_from_the_first_sample_on(model: PretrainedDenoiser, voices: list[np.ndarray]) -> None:
    assert first_50_ms_db(model, voices, np.zeros(0)) >= -3


@pytest.mark.slow
def test_minutes_of_quiet_noise_do_not_attenuate_the_next_word(
    model: PretrainedDenoiser, voices: list[np.ndarray]
) -> None:
    quiet = 1e-3 * np.random.default_rng(0).standard_normal(180 * RATE)
    assert first_50_ms_db(model, voices, quiet) >= -3


def test_they_are_there_and_small() -> None:
    assert shipped_models() == sorted(GOLDEN)
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 20e6


def test_model_cards_state_the_origin(name: str, model: PretrainedDenoiser) -> None:
    config = read_config(SHIPPED / name)
    card = (SHIPPED / name / "MODEL_CARD.md").read_text("utf-8")
    assert config["name"] == name
    for text in (config["commit"], config["data"]["sha256"], config["command"], f"{config['parameters']:,}", "pesq_wb"):
        assert text in card
    assert not config["commit"].endswith("+")
    for heading in ("Known weaknesses", "Trained on", "Test split"):
        assert f"## {heading}" in card
    assert model.network.num_parameters == config["parameters"] <= LIMITS.get(name, np.inf)
    assert model.is_causal == (name != "offline")
    assert not model.is_causal or model.latency_samples <= 0.04 * RATE


def test_shipped_models_give_recorded_output(name: str, model: PretrainedDenoiser, speech: np.ndarray) -> None:
    denoised = denoise(noisy_version(speech), RATE, model)
    ratio, intelligibility = GOLDEN[name]
    assert si_sdr(denoised, speech, RATE) == pytest.approx(ratio, abs=0.05)
    assert estoi(denoised, speech, RATE) == pytest.approx(intelligibility, abs=0.005)
    assert si_sdr(noisy_version(speech), speech, RATE) < ratio - 4


def test_clean_speech_passes(model: PretrainedDenoiser, speech: np.ndarray) -> None:
    after = denoise(speech, RATE, model)
    assert level_change_db(after, speech) == pytest.approx(0, abs=0.5)
    assert estoi(after, speech, RATE) > 0.97


def test_silence_stays_silent(model: PretrainedDenoiser, speech: np.ndarray) -> None:
    assert not denoise(np.zeros(3 * RATE, np.float32), RATE, model).any()
    after = denoise(np.concatenate([speech, np.zeros(3 * RATE, np.float32)]), RATE, model)
    assert not after[len(speech) + model.stft.n_fft :].any()


def test_music_does_not_explode(model: PretrainedDenoiser) -> None:
    t = np.arange(8 * RATE) / RATE
    chords = np.array([[0, 4, 7, 12], [5, 9, 12, 17], [7, 11, 14, 19], [0, 4, 7, 12]])
    hz = 220 * 2 ** (chords[np.minimum(t // 2, 3).astype(int)] / 12)
    music = 0.1 * np.sin(2 * np.pi * np.cumsum(hz, axis=0) / RATE).sum(1)
    after = denoise(music, RATE, model)
    assert np.isfinite(after).all()
    assert np.abs(after).max() <= 1.1 * np.abs(music).max()


def test_telephone_speech_is_not_wiped_out(model: PretrainedDenoiser, speech: np.ndarray) -> None:
    narrow = limit_band(speech, 3400, RATE)
    after = denoise(noisy_version(narrow, 10.0), RATE, model)
    assert level_change_db(after, narrow) == pytest.approx(0, abs=1.5)
    assert si_sdr(after, narrow, RATE) > 10


def test_narrow_speech_in_a_wide_recording_is_kept_and_the_noise_above_it_falls(
    model: PretrainedDenoiser, speech: np.ndarray
) -> None:
    narrow = resample(limit_band(speech, 4000, RATE), RATE, 3 * RATE)
    noise = np.random.default_rng(0).standard_normal(len(narrow)).astype(np.float32)
    noisy = narrow + scale_to_snr(narrow, noise, 10.0, 3 * RATE)
    after = denoise(noisy, 3 * RATE, model)

    def power(audio: np.ndarray, low_hz: float, high_hz: float) -> float:
        hz = np.fft.rfftfreq(len(audio), 1 / (3 * RATE))
        return float((np.abs(np.fft.rfft(audio)[(hz > low_hz) & (hz < high_hz)]) ** 2).sum())

    assert power(after, 0, 4000) == pytest.approx(power(narrow, 0, 4000), rel=0.3)
    for low_hz, high_hz in ((5000, 8000), (8000, 24000)):
        assert power(after, low_hz, high_hz) < 0.03 * power(noisy, low_hz, high_hz)


def test_loudness_changes_nothing(model: PretrainedDenoiser, speech: np.ndarray) -> None:
    noisy = noisy_version(speech)
    plain = denoise(noisy, RATE, model)
    for gain in (1e-3, 30.0):
        np.testing.assert_allclose(denoise(noisy * gain, RATE, model) / gain, plain, atol=1e-4 * np.abs(plain).max())


@pytest.mark.slow
def test_an_hour_ends_as_well_as_it_begins(model: PretrainedDenoiser, speech: np.ndarray) -> None:
    if not model.is_causal:
        pytest.skip("it starts anew in every window")
    minute = np.resize(speech, 60 * RATE)
    noisy = noisy_version(minute).astype(np.float32)
    for way in (denoise_in_chunks(model, 1), DenoiserStream(model)):
        hour = [way.process(noisy[None]) for _ in range(60)]
        audio = np.concatenate([*hour, way.flush()], axis=1)[0]
        ratios = [si_sdr(audio[k * len(minute) :][: len(minute)], minute, RATE) for k in (0, 59)]
        assert ratios[1] == pytest.approx(ratios[0], abs=0.3)


@pytest.mark.slow
def test_windows_give_nearly_what_the_whole_recording_gives(speech: np.ndarray) -> None:
    offline = load_pretrained("offline")
    noisy = noisy_version(np.resize(speech, 180 * RATE)).astype(np.float32)[None]
    whole, windows = (
        np.concatenate([way.process(noisy), way.flush()], axis=1)
        for way in (DenoiserWindows(offline, 1, window_s=200.0), DenoiserWindows(offline, 1))
    )
    assert si_sdr(windows[0], whole[0], RATE) > 28
