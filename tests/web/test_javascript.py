"""The engine in JavaScript, run by node, against onnxruntime and against ``denoise``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hushwork.audio.io import read_audio
from hushwork.audio.resampling import resample
from hushwork.audio.stft import StftConfig, StreamingStft
from hushwork.files.denoise import denoise
from hushwork.models.denoiser import Denoiser
from hushwork.models.export import pretrained
from hushwork.models.masker import RecurrentMasker
from hushwork.network.frame import FrameProgram
from hushwork.network.heads import HEADS
from hushwork.network.onnx import encode
from hushwork.network.pretrained import PretrainedDenoiser, as_pairs, load_pretrained, open_session
from hushwork.streaming.strength import Strength
from hushwork.web.model_file import rounded, write_model
from networks import DENOISERS, MASKERS, RECURRENCES, make, make_spectrum
from node import needs_node, run_engine

pytestmark = needs_node
EXAMPLE = Path(__file__).parents[2] / "src/hushwork/data/example.flac"
STREAMED = ("small", "default")  # the models of the package that can stream


def by_onnxruntime(model: PretrainedDenoiser, spectrum: np.ndarray, repeat: int = 1) -> np.ndarray:
    """Frames (T, F), one after another, with the weights as a model file holds them."""
    graph = FrameProgram(model.network).write()
    graph.constants = {name: rounded(array).astype(array.dtype) for name, array in graph.constants.items()}
    session, state = open_session(encode(graph)), model.initial_state(1)[0]
    clean = np.empty_like(spectrum)
    for _ in range(repeat):
        for frame, pairs in enumerate(as_pairs(spectrum)):
            output, state = session.run(None, {"spec": pairs[None, None], "state": state})
            clean[frame] = output.view(np.complex64)[0, 0, :, 0]
    return clean


def by_engine(
    folder: Path, model: PretrainedDenoiser, spectrum: np.ndarray, repeat: int = 1, **options: Any
) -> np.ndarray:
    pairs = run_engine(folder, "frames", write_model(model, "test"), as_pairs(spectrum), repeat=repeat, **options)
    return pairs.view(np.complex64)[..., 0]


def example() -> np.ndarray:
    """Noisy speech (N,), 16 kHz."""
    return read_audio(EXAMPLE)[0][0]


def difference_db(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(np.square(np.abs(actual - expected)).sum() / np.square(np.abs(expected)).sum()))


@pytest.mark.parametrize("name", STREAMED)
def test_shipped_models_equal_onnxruntime(name: str, tmp_path: Path) -> None:
    model = load_pretrained(name)
    stft, spectra = StreamingStft.of_whole(model.stft, example()[None])
    spectrum = spectra[0]
    actual, expected = by_engine(tmp_path, model, spectrum), by_onnxruntime(model, spectrum)
    audible = np.abs(spectrum) > 1e-6
    assert np.max(np.abs(actual - expected)[audible] / np.abs(spectrum)[audible]) < 1e-4  # of the mask
    other = StreamingStft(model.stft, 1)
    assert difference_db(stft.synthesise(actual[None]), other.synthesise(expected[None])) < -100
    unrounded, _ = model.run(spectra, model.initial_state(1))
    assert difference_db(actual, unrounded[0]) < -80


@pytest.mark.parametrize("name", RECURRENCES)
@pytest.mark.parametrize("without", [False, True], ids=["WebAssembly", "JavaScript"])
def test_every_recurrence(name: str, without: bool, tmp_path: Path) -> None:
    model, spectrum = pretrained(make(RECURRENCES[name])), make_spectrum(1, 60)[0]
    actual = by_engine(tmp_path, model, spectrum, withoutWebAssembly=without)
    np.testing.assert_allclose(actual, by_onnxruntime(model, spectrum), atol=3e-5)


@pytest.mark.parametrize("without", [False, True], ids=["WebAssembly", "JavaScript"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 40), (16, 3), (17, 16), (72, 24), (601, 503)])
def test_products_of_any_size(rows: int, columns: int, without: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(rows)
    matrix, x, bias = rng.standard_normal((rows, columns)), rng.standard_normal(columns), rng.standard_normal(rows)
    numbers = np.concatenate([matrix.ravel(), x, bias]).astype(np.float32)
    model, options = write_model(load_pretrained("small"), "small"), {"rows": rows, "columns": columns}
    found = run_engine(tmp_path, "product", model, numbers, **options, withoutWebAssembly=without)
    np.testing.assert_allclose(found[:rows], matrix @ x + bias, rtol=1e-5, atol=1e-5 * np.sqrt(columns))


@pytest.mark.parametrize("masker", [*MASKERS, *({"head": head} for head in HEADS)])
@pytest.mark.parametrize("options", [*DENOISERS, {"mean_time_constant_s": 1.0, "num_bands": 6}])
def test_features_and_heads(masker: dict, options: dict, tmp_path: Path) -> None:
    if masker.get("head") == "magnitude" and "num_bands" in options:
        pytest.skip("this head has no bands")
    model = pretrained(make(RECURRENCES["cwgru"], masker, **options))
    spectrum = make_spectrum(1, 60)[0]
    spectrum[20:25] = 0  # digital silence
    expected = by_onnxruntime(model, spectrum)
    np.testing.assert_allclose(by_engine(tmp_path, model, spectrum), expected, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize("repeat", [20, pytest.param(900, marks=pytest.mark.slow)], ids=["a minute", "an hour"])
def test_the_state_does_not_drift(repeat: int, tmp_path: Path) -> None:
    model = load_pretrained("small")
    spectrum = StreamingStft.of_whole(model.stft, example()[None])[1][0]
    actual, expected = (run(model, spectrum, repeat) for run in (by_onnxruntime, lambda *a: by_engine(tmp_path, *a)))
    assert difference_db(actual, expected) < -100


@pytest.mark.parametrize(
    ("sample_rate", "num_channels", "strength"),
    [
        (16000, 1, {}),
        (16000, 2, {"maxAttenuationDb": 12.0}),
        (48000, 2, {}),
        (48000, 1, {"mix": 0.5, "noiseOnly": True}),
        (44100, 1, {}),
        (96000, 1, {}),
        (8000, 1, {}),
    ],
)
def test_streams_equal_denoise(sample_rate: int, num_channels: int, strength: dict, tmp_path: Path) -> None:
    speech = resample(example(), 16000, sample_rate)
    audio = np.stack([speech, 0.5 * np.roll(speech, 40)])[:num_channels]
    audio += 0.01 * np.random.default_rng(0).standard_normal(audio.shape).astype(np.float32)  # in the high band too
    model = load_pretrained("small")
    names = {"mix": "mix", "maxAttenuationDb": "max_attenuation_db", "noiseOnly": "noise_only"}
    chosen = Strength(**{names[key]: value for key, value in strength.items()})
    expected = denoise(audio, sample_rate, model, chosen)
    options = {"rate": sample_rate, "channels": num_channels, "blocks": [128, 4096, 1, 1000], "strength": strength}
    actual = run_engine(tmp_path, "stream", write_model(model, "small"), audio, **options)
    assert difference_db(actual, expected) < -60


def small_model(hop: int, look_ahead: int) -> PretrainedDenoiser:
    masker = partial(RecurrentMasker, recurrence=RECURRENCES["gru"])
    stft = StftConfig(n_fft=60, hop_length=hop)
    return pretrained(Denoiser(sample_rate=1000, stft=stft, masker=masker, look_ahead=look_ahead).eval())


@pytest.mark.parametrize(("hop", "look_ahead"), [(12, 0), (15, 0), (30, 1), (12, 3)])
def test_transforms_of_any_length_and_overlap(hop: int, look_ahead: int, tmp_path: Path) -> None:
    """A window of 6·5·2 samples in steps of a fifth and a quarter of it: hops do not divide half a window."""
    audio = np.random.default_rng(0).standard_normal((1, 1000)).astype(np.float32)
    model, options = small_model(hop, look_ahead), {"rate": 1000, "channels": 1, "blocks": [128, 7]}
    actual = run_engine(tmp_path, "stream", write_model(model, "odd"), audio, **options)
    assert difference_db(actual, denoise(audio, 1000, model)) < -60


def test_look_ahead_after_a_pause_returns_nothing_from_before(tmp_path: Path) -> None:
    audio = np.random.default_rng(0).standard_normal((1, 3000)).astype(np.float32)
    audio[:, 1000:] = 0
    options = {"rate": 1000, "channels": 1, "blocks": [30], "passing": [1050, 2000]}
    made = run_engine(tmp_path, "stream", write_model(small_model(30, 3), "test"), audio, **options)
    assert np.abs(made[:, 100:900]).max() > 0.1
    assert np.abs(made[:, 1150:]).max() < 1e-6


def test_a_model_that_looks_ahead_is_refused() -> None:
    with pytest.raises(ValueError, match="offline is not causal"):
        write_model(load_pretrained("offline"), "offline")


def test_a_machine_too_slow_passes_sound_unchanged(tmp_path: Path) -> None:
    model = write_model(load_pretrained("small"), "small")
    audio = resample(example(), 16000, 48000)[None]
    options = {"rate": 48000, "channels": 1, "blocks": [128], "passing": [0, audio.size]}
    assert difference_db(run_engine(tmp_path, "stream", model, audio, **options), audio) < -80
    # Reports every 0.1 s: slow for 0.4 s is borne, longer is not; after 2 s it is tried again.
    loads = [0.5, 2, 2, 2, 2, 2, 0.5, 2, 2, 2, 2, 2, 2, *[0] * 20, 0.5, 0.5]
    reports = np.array([[load, 0.1 * k] for k, load in enumerate(loads)], np.float32)
    passing = run_engine(tmp_path, "load", model, reports)[:, 0]
    assert passing.tolist() == [0] * 12 + [1] * 20 + [0] * 3
