"""Exported models: loaded for training and for use they are what was saved."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hushwork.files.denoise import denoise
from hushwork.models.denoiser import Denoiser
from hushwork.models.export import build, export_model, load_for_training
from hushwork.network.graph import Graph
from hushwork.network.model_folder import ModelError, find_model, read_config
from hushwork.network.onnx import encode
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained, open_session
from hushwork.network.specification import DenoiserSettings
from model_folders import sign_again


def test_a_model_folder_holds_no_pickle(model_folder: Path) -> None:
    assert {path.name for path in model_folder.iterdir()} == {
        "model.safetensors", "config.json", "MODEL_CARD.md", "SHA256SUMS",
    }  # fmt: skip
    for path in model_folder.iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))  # pickle, and torch's zip of pickles
    for line in (model_folder / "SHA256SUMS").read_text("utf-8").splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((model_folder / name).read_bytes()).hexdigest() == digest
    assert list(model_folder.parent.iterdir()) == [model_folder]
    assert read_config(model_folder)["name"] == "untrained"


def test_an_export_replaces_an_earlier_one(denoiser: Denoiser, folder: Path) -> None:
    (folder / "left over").touch()
    config = read_config(folder)
    with torch.no_grad():
        denoiser.masker.output.bias.fill_(0.25)
    export_model(denoiser, config, "new card", folder)
    assert load_for_training(folder).masker.output.bias.eq(0.25).all()
    assert (folder / "MODEL_CARD.md").read_text("utf-8") == "new card"
    assert not (folder / "left over").exists()


def test_a_failed_export_keeps_the_earlier_one(denoiser: Denoiser, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TypeError):
        export_model(denoiser, {"name": object()}, "card", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(folder.parent.iterdir()) == [folder]


BEFORE_FORMAT_NUMBERS = Path(__file__).parents[1] / "fixtures" / "model_before_format_numbers"


def two_tones() -> np.ndarray:
    t = np.arange(800) / 8000
    return (0.3 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 3100 * t * t)).astype(np.float32)


def test_a_model_exported_before_format_numbers_gives_the_same_output() -> None:
    assert "format" not in json.loads((BEFORE_FORMAT_NUMBERS / "config.json").read_text("utf-8"))
    expected = [-0.012279, 0.004854, -0.01862, 0.033902, -0.041509, 0.02848, 0.018426, -0.048521]  # by the code of then
    used = denoise(two_tones()[None], 8000, load_pretrained(BEFORE_FORMAT_NUMBERS))[0]
    with torch.inference_mode():
        trained = load_for_training(BEFORE_FORMAT_NUMBERS)(torch.from_numpy(two_tones())[None])[0].numpy()
    np.testing.assert_allclose(used[::100], expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(trained[::100], expected, rtol=0, atol=2e-6)


def test_settings_that_a_folder_lacks_are_those_of_the_constructors(folder: Path, tmp_path: Path) -> None:
    for source, only in (
        (folder, ("hidden_size",)),
        (Path(shutil.copytree(BEFORE_FORMAT_NUMBERS, tmp_path / "clockwork")), ("hidden_sizes", "periods")),
    ):
        config = json.loads((source / "config.json").read_text("utf-8"))
        full = config["model"]
        recurrence = full["masker"]["recurrence"]
        least = {
            "_target_": full["_target_"],
            "sample_rate": 8000,
            "stft": {key: full["stft"][key] for key in ("_target_", "n_fft", "hop_length")},
            "masker": {
                "_target_": full["masker"]["_target_"],
                "_partial_": True,
                "recurrence": {key: recurrence[key] for key in ("_target_", "_partial_", *only)},
            },
        }
        denoiser = build(DenoiserSettings.from_json(least))
        export_model(denoiser, {}, "", source)
        (source / "config.json").write_text(json.dumps({"model": least}), encoding="utf-8")
        sign_again(source)
        assert DenoiserSettings.from_json(least).to_json() == denoiser.settings
        loaded, noisy = load_pretrained(source), torch.from_numpy(two_tones())[None]
        with torch.inference_mode():
            expected = denoiser.eval()(noisy)
            assert torch.equal(load_for_training(source)(noisy), expected)
        np.testing.assert_allclose(denoise(noisy.numpy(), 8000, loaded), expected.numpy(), rtol=0, atol=1e-5)


def test_a_failure_of_the_runtime_is_explained(model: PretrainedDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph()
    graph.output("y", graph.input("x", [1]), [1])
    monkeypatch.setattr(model, "sequence_session", open_session(encode(graph)))  # which has no input "spec"
    with pytest.raises(ModelError, match=r"onnxruntime failed on a spectrum of shape \(1, \d+, 129\): "):
        denoise(np.zeros(1000), model.sample_rate, model)


@pytest.mark.parametrize("half_precision", [False, True])
def test_weights_are_stored_as_they_are_or_rounded(denoiser: Denoiser, half_precision: bool, tmp_path: Path) -> None:
    export_model(denoiser, {}, "card", tmp_path / "model", half_precision=half_precision)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert {array.dtype for array in stored.values()} == {torch.float16 if half_precision else torch.float32}
    used = load_pretrained(tmp_path / "model").network
    for name, trained in load_for_training(tmp_path / "model").state_dict().items():
        exact = denoiser.state_dict()[name]
        assert trained.dtype == torch.float32
        assert torch.equal(trained, exact.half().float() if half_precision else exact)
        np.testing.assert_array_equal(used.get(name), trained.numpy())


def test_weights_beyond_half_precision_are_named_and_nothing_is_written(denoiser: Denoiser, tmp_path: Path) -> None:
    with torch.no_grad():
        denoiser.masker.output.bias[3] = -70_000
    with pytest.raises(ValueError, match=r"array masker\.output\.bias holds 70000, half precision at most 65504"):
        export_model(denoiser, {}, "card", tmp_path / "model", half_precision=True)
    assert not list(tmp_path.iterdir())


def test_no_export_replaces_a_folder_of_something_else(denoiser: Denoiser, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    export_model(denoiser, {}, "card", tmp_path / "model")  # an empty folder may be used
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to mother").touch()
    with pytest.raises(ValueError, match="letters: exists and is not a model folder; name a new folder"):
        export_model(denoiser, {}, "card", tmp_path / "letters")
    assert (tmp_path / "letters" / "to mother").exists()


def test_others_may_read_an_exported_model(model_folder: Path) -> None:
    (model_folder.parent / "plain").touch()
    assert {path.stat().st_mode for path in model_folder.iterdir()} == {(model_folder.parent / "plain").stat().st_mode}


def test_models_are_found_by_name(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hushwork.network.model_folder.SHIPPED", tmp_path / "shipped")
    shutil.copytree(model_folder, tmp_path / "shipped" / "default")
    assert find_model() == tmp_path / "shipped" / "default"
    assert isinstance(load_pretrained(), PretrainedDenoiser)
    assert isinstance(load_for_training("default"), Denoiser)
    with pytest.raises(ModelError, match=r"last: there is no model below \./runs; train one"):
        find_model("last")
    for time, run in ((300, "gru/a"), (900, "sweeps/b/0_lstm"), (600, "gru/c")):
        folder = Path(shutil.copytree(model_folder, Path("runs") / run / "model"))
        os.utime(folder / "SHA256SUMS", (time, time))
    assert find_model("last") == Path("runs/sweeps/b/0_lstm/model")
    monkeypatch.setenv("HUSHWORK_MODEL", "elsewhere")
    assert find_model() == Path("elsewhere")
    assert find_model("default") == tmp_path / "shipped" / "default"
    with pytest.raises(ModelError, match=r"elsewhere: not a model folder"):
        load_pretrained()
