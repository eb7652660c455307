"""Exported models: what is saved is what is loaded, for training and for use, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hushwork.files.denoise import denoise
from hushwork.models.denoiser import Denoiser
from hushwork.models.export import build, export_model, load_for_training
from hushwork.network.graph import Graph
from hushwork.network.model_folder import ModelError, find_model, read_config
from hushwork.network.onnx import encode
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained, open_session
from hushwork.network.specification import DenoiserSettings

LOADERS = pytest.mark.parametrize("load", [load_pretrained, load_for_training])


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model that may be damaged."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def sign_again(folder: Path) -> None:
    """New checksums, as someone who forges a model would write them."""
    names = ("MODEL_CARD.md", "config.json", "model.safetensors")
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def change_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    change(config["model"])
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    sign_again(folder)


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


@pytest.mark.parametrize("load", [load_pretrained, load_for_training])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_one_changed_byte_is_noticed(load: Callable[[Path], Any], name: str, folder: Path) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}: changed since it was exported .*export or copy the model again"):
        load(folder)


@pytest.mark.parametrize("load", [load_pretrained, load_for_training])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_a_missing_file_is_named(load: Callable[[Path], Any], name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        load(folder)


@pytest.mark.parametrize("load", [load_pretrained, load_for_training])
def test_a_file_without_a_checksum_is_refused(load: Callable[[Path], Any], folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text("utf-8").splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if "safetensors" not in line), encoding="utf-8")
    with pytest.raises(ModelError, match=r"model\.safetensors or its checksum is missing"):
        load(folder)


def test_no_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere: not a model folder .*export one by training"):
        load_pretrained(tmp_path / "nowhere")


@LOADERS
@pytest.mark.parametrize("target", ["os.system", "torch.nn.Linear", "hushwork.training.run.train", "Denoiser"])
def test_a_foreign_class_is_not_built(load: Callable[[Path], Any], target: str, folder: Path) -> None:
    change_config(folder, lambda model: model["masker"]["recurrence"].update(_target_=target))
    assert f"recurrence names '{target}'; allowed are hushwork." in refused(load, folder)


def test_nothing_foreign_runs_while_looking(folder: Path, tmp_path: Path) -> None:
    command = f"touch {tmp_path / 'harm'}"
    change_config(folder, lambda model: model.update(harm={"_target_": "os.system", "command": command}))
    with pytest.raises(ModelError, match=r"'harm' is .*; model has no such setting"):
        load_for_training(folder)
    assert not (tmp_path / "harm").exists()


def test_a_model_that_is_none_is_refused(folder: Path) -> None:
    change_config(folder, lambda model: model.pop("_target_"))
    with pytest.raises(ModelError, match="model names None; allowed are hushwork"):
        load_for_training(folder)


def test_a_missing_part_is_named(folder: Path) -> None:
    change_config(folder, lambda model: model.pop("masker"))
    with pytest.raises(ModelError, match="the configuration lacks masker of model; export the model again"):
        load_for_training(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.update(colour="blue"), "'colour'"),
        (lambda model: model["masker"].update(head="sigmoid"), "head is 'sigmoid'"),
        (lambda model: model.pop("sample_rate"), "lacks sample_rate"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change: Any, message: str, folder: Path) -> None:
    change_config(folder, change)
    with pytest.raises(ModelError, match=rf"config\.json: .*{message}"):
        load_for_training(folder)


def drop(weights: dict[str, torch.Tensor]) -> None:
    del weights["masker.output.bias"]


def add(weights: dict[str, torch.Tensor]) -> None:
    weights["masker.output.extra"] = torch.zeros(1)


def reshape(weights: dict[str, torch.Tensor]) -> None:
    weights["masker.output.bias"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "name"),
    [(drop, r"masker\.output\.bias"), (add, r"masker\.output\.extra"), (reshape, r"masker\.output\.bias")],
)
def test_weights_must_fit_exactly(change: Any, name: str, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    sign_again(folder)
    with pytest.raises(ModelError, match=rf"the weights do not fit config\.json(?s:.*){name}"):
        load_for_training(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model["masker"].update(head="sigmoid"), "head is 'sigmoid'"),
        (lambda model: model["masker"].update(head=["mask"]), r"head is \['mask'\]"),
        (lambda model: model["masker"].update(ceiling=float("nan")), "ceiling is nan"),
        (lambda model: model["masker"]["recurrence"].update(_target_="os.system"), "recurrence names 'os.system'"),
        (lambda model: model["masker"]["recurrence"].update(hidden_size=10**9), "hidden_size is 1000000000"),
        (lambda model: model["masker"]["recurrence"].update(num_layers=2), r"forwards\.1\.weight_ih_l0 is missing"),
        (lambda model: model["stft"].update(n_fft=512), r"has shape \(24, 129\), expected \(24, 257\)"),
        (lambda model: model["stft"].update(hop_length=100), "hop_length is 100"),
        (lambda model: model.update(sample_rate="fast"), "sample_rate is 'fast'"),
        (lambda model: model.pop("sample_rate"), "lacks sample_rate"),
        (lambda model: model.update(masker=None), "masker is None; expected an object"),
    ],
)
def test_what_cannot_be_used_is_named(change: Any, message: str, folder: Path) -> None:
    change_config(folder, change)
    with pytest.raises(ModelError, match=message) as caught:
        load_pretrained(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (drop, r"the array masker\.output\.bias is missing"),
        (add, r"the array 'masker\.output\.extra' belongs to nothing"),
        (reshape, r"the array masker\.output\.bias has shape \(3,\), expected \(129,\)"),
    ],
)
def test_weights_for_use_must_fit_exactly(change: Any, name: str, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    sign_again(folder)
    with pytest.raises(ModelError, match=name):
        load_pretrained(folder)


def refused(load: Callable[[Path], Any], folder: Path) -> str:
    """The message, which is one line that names the folder, and came without much memory."""
    tracemalloc.start()
    with pytest.raises(ModelError) as caught:
        load(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(folder))
    assert len(message.splitlines()) == 1
    assert len(message) < len(str(folder)) + 500
    assert peak < 64e6
    return message


def clockwork(model: dict[str, Any], **clock: Any) -> None:
    recurrence = model["masker"]["recurrence"]
    del recurrence["hidden_size"]
    recurrence["_target_"] = "hushwork.models.clockwork.StackedClockworkRNN"
    recurrence.update({"hidden_sizes": [4, 4], "periods": [1, 2], "offsets": None, "pool": "learned", **clock})
    recurrence.update({"connections": "slow_to_fast", "single_bias": False})


@LOADERS
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model["masker"]["recurrence"].update(hidden_size=10**9), "hidden_size is 1000000000"),
        (
            lambda model: model["masker"]["recurrence"].update(hidden_size=10**5),
            "has shape (24, 129), expected (300000,",
        ),
        (lambda model: model["masker"]["recurrence"].update(hidden_size="8"), "hidden_size is '8'"),
        (lambda model: model["masker"]["recurrence"].update(hidden_size=8.0), "hidden_size is 8.0"),
        (lambda model: model["masker"]["recurrence"].update(num_layers=10**6), "num_layers is 1000000"),
        (lambda model: model["masker"]["recurrence"].update(num_layers=True), "num_layers is True"),
        (lambda model: model["masker"].update(projection_size=10**9), "projection_size is 1000000000"),
        (lambda model: model["stft"].update(n_fft=10**9), "n_fft is 1000000000"),
        (lambda model: model["stft"].update(hop_length=128.0), "hop_length is 128.0"),
        (lambda model: model.update(num_bands=10**9), "num_bands is 1000000000"),
        (lambda model: model.update(level_time_constant_s=float("inf")), "level_time_constant_s is inf"),
        (lambda model: model["masker"].update(ceiling=float("nan")), "ceiling is nan"),
        (lambda model: model["masker"].update(head="h" * 10**6), "hhh..."),
        (lambda model: model.update(stft=[]), "stft is []"),
        (lambda model: clockwork(model, periods=[1, 10**9]), "periods are [1, 1000000000]"),
        (lambda model: clockwork(model, periods=[*range(1, 10**5)]), "periods are [1, 2, 3"),
        (lambda model: clockwork(model, periods="12"), "periods are '12'"),
        (lambda model: clockwork(model, hidden_sizes=[4, 10**9]), "hidden_sizes are [4, 1000000000]"),
    ],
)
def test_what_asks_for_too_much_gets_nothing(
    load: Callable[[Path], Any], change: Callable[[dict[str, Any]], Any], message: str, folder: Path
) -> None:
    change_config(folder, change)
    assert message in refused(load, folder)


def test_what_takes_too_much_memory_to_run_is_refused(folder: Path) -> None:
    change_config(folder, lambda model: (model.update(sample_rate=10**6), model["stft"].update(hop_length=32)))
    assert "31250 frames a second of 129 numbers are too many to run" in refused(load_pretrained, folder)


@LOADERS
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "expected a JSON object, found [1]"),
        (b'"model"', "expected a JSON object, found 'model'"),
        (b'{"model": 5}', "names no model"),
        (b"{}", "names no model"),
        (b"\xff\xfe", "can't decode byte 0xff"),
        (b'{"model": ' * 10**5, "lists and objects are nested too deeply"),
        (b'{"model": {}, "model": {}}', "the key 'model' occurs twice"),
        (b'{"model": ' + b"9" * 10**4 + b"}", "Exceeds the limit"),
    ],
)
def test_a_configuration_that_is_none_is_refused(
    load: Callable[[Path], Any], content: bytes, message: str, folder: Path
) -> None:
    (folder / "config.json").write_bytes(content)
    sign_again(folder)
    assert message in refused(load, folder)


@LOADERS
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_a_file_without_end_is_not_read(load: Callable[[Path], Any], name: str, folder: Path) -> None:
    os.truncate(folder / name, 2**33)  # which takes no space on the disk
    assert f"{name}: takes 8589934592 bytes, at most" in refused(load, folder)


@LOADERS
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (2**40, "its header claims 1099511627776 bytes, at most 4194304 are read"),
        (b'{"a": {"dtype": "F32", "shape": [10000000000000], "data_offsets": [0, 40000000000000]}}', "safetensors: "),
        (b'{"a": {"dtype": "F32", "shape": [18446744073709551615], "data_offsets": [0, 4]}}', "safetensors: "),
        (
            b'{"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}',
            "arrays of type 'BF16', expected float32 or float16",
        ),
        (b"[" * 10**5, "safetensors: "),
        (b"{}", "safetensors: "),
    ],
)
def test_weights_that_lie_are_refused(
    load: Callable[[Path], Any], header: bytes | int, message: str, folder: Path
) -> None:
    size, text = (header, b"{}") if isinstance(header, int) else (len(header), header)
    (folder / "model.safetensors").write_bytes(size.to_bytes(8, "little") + text + bytes(4))
    sign_again(folder)
    assert message in refused(load, folder)


@LOADERS
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(load: Callable[[Path], Any], value: float, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["masker.output.bias"][7] = value
    save_file(weights, folder / "model.safetensors")
    sign_again(folder)
    assert "the array masker.output.bias holds numbers that are NaN or infinite" in refused(load, folder)


@LOADERS
@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.bool, torch.complex64])
def test_weights_of_another_type_are_refused(load: Callable[[Path], Any], dtype: torch.dtype, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["masker.output.bias"] = weights["masker.output.bias"].to(dtype)
    save_file(weights, folder / "model.safetensors")
    sign_again(folder)
    assert f"the array masker.output.bias holds {str(dtype)[6:]}, expected float32" in refused(load, folder)


@LOADERS
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_no_link_leads_out_of_the_folder(load: Callable[[Path], Any], name: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to("../elsewhere")
    assert f"leads out of the model folder, to {tmp_path / 'elsewhere'}; copy that file into it" in refused(
        load, folder
    )
    (folder / name).unlink()
    (tmp_path / "elsewhere").rename(folder / "beside")
    (folder / name).symlink_to("beside")
    (tmp_path / "link").symlink_to(folder)
    assert load(tmp_path / "link")


@LOADERS
@pytest.mark.parametrize(
    "line", ["{}  ../config.json", "{}  /etc/passwd", "{} config.json", "0  config.json", "\ufffd"]
)
def test_checksums_are_of_files_in_the_folder(load: Callable[[Path], Any], line: str, folder: Path) -> None:
    with (folder / "SHA256SUMS").open("a", encoding="utf-8") as file:
        file.write(line.format("0" * 64) + "\n")
    assert "is no checksum of a file in this folder" in refused(load, folder)


BEFORE_FORMAT_NUMBERS = Path(__file__).parent / "fixtures" / "model_before_format_numbers"


def two_tones() -> np.ndarray:
    t = np.arange(800) / 8000
    return (0.3 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 3100 * t * t)).astype(np.float32)


def test_a_model_exported_before_format_numbers_gives_what_it_gave() -> None:
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


@LOADERS
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (2, "has format 2, this hushwork reads formats up to 1; upgrade it (pip install -U hushwork)"),
        (True, "format is True, expected a number; export the model again"),
        ("1", "format is '1', expected a number; export the model again"),
    ],
)
def test_a_folder_of_another_format_is_refused(
    load: Callable[[Path], Any], number: Any, message: str, folder: Path
) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["format"] == 1
    (folder / "config.json").write_text(json.dumps(config | {"format": number}), encoding="utf-8")
    sign_again(folder)
    assert message in refused(load, folder)


@LOADERS
@pytest.mark.parametrize("part", ["model", "stft", "masker", "recurrence"])
def test_unknown_settings_are_refused(load: Callable[[Path], Any], part: str, folder: Path) -> None:
    def add_colour(model: dict[str, Any]) -> None:
        parts = {"model": model, "recurrence": model["masker"]["recurrence"], **model}
        parts[part]["colour"] = "blue"

    change_config(folder, add_colour)
    assert "'colour'" in refused(load, folder)


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
    with pytest.raises(ValueError, match="letters: exists and is no model folder; name a new folder"):
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
