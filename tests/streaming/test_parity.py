"""All ways of running a model are one, in our own runtime and in another project's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import sherpa_onnx
import torch
from hydra.utils import instantiate

from configurations import DENOISING, compose_quickly
from hushwork.audio.io import read_audio
from hushwork.config import PACKAGE
from hushwork.files.denoise import denoise
from hushwork.models.export import export_model, load_for_training, pretrained
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained
from hushwork.streaming import onnx_export
from hushwork.streaming.onnx_export import write_graphs
from hushwork.streaming.parity import difference_db, run_all


def speech(seconds: float) -> np.ndarray:
    audio, rate = read_audio(PACKAGE / "data" / "example.flac")
    audio = audio[:, : round(seconds * rate)]
    return audio + np.random.default_rng(0).normal(0, 0.02, audio.shape).astype(np.float32)


@pytest.mark.parametrize("options", [*([f"experiment={name}"] for name in DENOISING), ["model.look_ahead=1"]])
def test_every_experiment_is_saved_whole_and_every_way_is_torch_s(options: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    denoiser = instantiate(compose_quickly(*options).model).eval()
    export_model(denoiser, {"name": "any"}, "card\n", tmp_path / "model")
    audio = speech(0.7)
    with torch.inference_mode():
        expected = denoiser(torch.from_numpy(audio)).numpy()
    torch.manual_seed(1)
    loaded = load_for_training(tmp_path / "model")
    assert not loaded.training
    assert loaded.settings == denoiser.settings
    saved, kept = loaded.state_dict(), denoiser.state_dict()
    assert saved.keys() == kept.keys()
    assert all(torch.equal(saved[key], kept[key]) for key in kept)
    with torch.inference_mode():
        assert np.array_equal(loaded(torch.from_numpy(audio)).numpy(), expected)
    results = run_all(load_pretrained(tmp_path / "model"), audio)
    assert len(results) == (4 if denoiser.is_causal else 1)
    for way, result in results.items():
        assert result.shape == audio.shape
        assert difference_db(result, expected) < -80, way


def test_differences_are_in_decibels() -> None:
    one = np.ones((1, 100))
    assert difference_db(one, one) == float("-inf")
    assert difference_db(1.01 * one, one) == pytest.approx(-40)


def test_graphs_are_written_with_their_metadata(model: PretrainedDenoiser, tmp_path: Path) -> None:
    paths = write_graphs(model, tmp_path / "new" / "graphs")
    assert [path.name for path in paths] == ["sequence.onnx", "frame.onnx"]
    for path in paths:
        loaded = onnx.load(path)
        onnx.checker.check_model(loaded, full_check=True)
        about = {entry.key: entry.value for entry in loaded.metadata_props}
        assert about["sample_rate"] == "16000"
        assert about["latency_samples"] == str(model.latency_samples)
        assert sum(json.loads(about["state_layout"]).values()) == int(about["state_size"])


def test_graphs_that_differ_are_not_written(
    model: PretrainedDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "by_frame_graph", lambda model, audio: audio)
    with pytest.raises(ValueError, match=r"the graphs differ by -?\d+ dB; at most -80"):
        write_graphs(model, tmp_path / "graphs")
    assert not (tmp_path / "graphs").exists()


def test_a_model_that_looks_ahead_has_one_graph(tmp_path: Path) -> None:
    ahead = pretrained(instantiate(compose_quickly("experiment=bgru").model))
    assert [path.name for path in write_graphs(ahead, tmp_path)] == ["sequence.onnx"]
    with pytest.raises(ValueError, match="this one is bidirectional"):
        write_graphs(ahead, tmp_path, sherpa=True)


@pytest.mark.parametrize(
    "options", [["experiment=cwgru"], ["experiment=lstm"], ["experiment=gru", "model.look_ahead=2"]]
)
def test_sherpa_onnx_runs_the_export(options: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = pretrained(instantiate(compose_quickly(*options, "stft.window=vorbis").model))
    write_graphs(model, tmp_path, sherpa=True)
    network = sherpa_onnx.OfflineSpeechDenoiserDpdfNetModelConfig(model=str(tmp_path / "sherpa.onnx"))
    config = sherpa_onnx.OfflineSpeechDenoiserConfig(
        model=sherpa_onnx.OfflineSpeechDenoiserModelConfig(dpdfnet=network)
    )
    audio = speech(2.0)[0]
    theirs = np.array(sherpa_onnx.OfflineSpeechDenoiser(config).run(audio.tolist(), 16000).samples)
    ours = denoise(audio, 16000, model)
    # It frames the end differently, and gives back two windows less.
    inner = slice(0, len(theirs) - 4 * 512)
    assert difference_db(theirs[inner], ours[inner]) < -80
