"""Untrusted model folders: damaged, foreign or too large ones are refused, without taking memory."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hushwork.models.export import load_for_training
from hushwork.network.model_folder import ModelError
from hushwork.network.pretrained import load_pretrained
from model_folders import sign_again

Load = Callable[[Path], Any]


@pytest.fixture(params=[load_pretrained, load_for_training])
def load(request: pytest.FixtureRequest) -> Load:
    return request.param  # type: ignore[no-any-return]


def change_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    change(config["model"])
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    sign_again(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_one_changed_byte_is_noticed(load: Load, name: str, folder: Path) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}: changed since it was exported .*export or copy the model again"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_a_missing_file_is_named(load: Load, name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        load(folder)


def test_a_file_without_a_checksum_is_refused(load: Load, folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text("utf-8").splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if "safetensors" not in line), encoding="utf-8")
    with pytest.raises(ModelError, match=r"model\.safetensors or its checksum is missing"):
        load(folder)


def test_a_missing_model_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere: not a model folder .*export one by training"):
        load_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("target", ["os.system", "torch.nn.Linear", "hushwork.training.run.train", "Denoiser"])
def test_a_foreign_class_is_not_built(load: Load, target: str, folder: Path) -> None:
    change_config(folder, lambda model: model["masker"]["recurrence"].update(_target_=target))
    assert f"recurrence names '{target}'; allowed are hushwork." in refused(load, folder)


def test_loading_runs_no_foreign_code(folder: Path, tmp_path: Path) -> None:
    command = f"touch {tmp_path / 'harm'}"
    change_config(folder, lambda model: model.update(harm={"_target_": "os.system", "command": command}))
    with pytest.raises(ModelError, match=r"'harm' is .*; model has no such setting"):
        load_for_training(folder)
    assert not (tmp_path / "harm").exists()


def test_a_configuration_without_a_model_is_refused(folder: Path) -> None:
    change_config(folder, lambda model: model.pop("_target_"))
    with pytest.raises(ModelError, match="model names None; allowed are hushwork"):
        load_for_training(folder)


def test_a_missing_part_is_named(folder: Path) -> None:
    change_config(folder, lambda model: model.pop("masker"))
    with pytest.raises(ModelError, match="the configuration lacks masker of model; export the model again"):
        load_for_training(folder)


def drop(weights: dict[str, torch.Tensor]) -> None:
    del weights["masker.output.bias"]


def add(weights: dict[str, torch.Tensor]) -> None:
    weights["masker.output.extra"] = torch.zeros(1)


def reshape(weights: dict[str, torch.Tensor]) -> None:
    weights["masker.output.bias"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (drop, "the array masker.output.bias is missing"),
        (add, "the array 'masker.output.extra' belongs to nothing"),
        (reshape, "the array masker.output.bias has shape (3,), expected (129,)"),
    ],
)
def test_weights_must_fit_exactly(load: Load, change: Any, name: str, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    sign_again(folder)
    assert name in refused(load, folder)


def refused(load: Load, folder: Path) -> str:
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
        (lambda model: model["masker"].update(head="sigmoid"), "head is 'sigmoid'"),
        (lambda model: model["masker"].update(head=["mask"]), "head is ['mask']"),
        (lambda model: model["masker"]["recurrence"].update(num_layers=2), "forwards.1.weight_ih_l0 is missing"),
        (lambda model: model["stft"].update(n_fft=512), "has shape (24, 129), expected (24, 257)"),
        (lambda model: model["stft"].update(hop_length=100), "hop_length is 100"),
        (lambda model: model.update(sample_rate="fast"), "sample_rate is 'fast'"),
        (lambda model: model.pop("sample_rate"), "lacks sample_rate"),
        (lambda model: model.update(masker=None), "masker is None; expected an object"),
    ],
)
def test_settings_out_of_range_are_refused(
    load: Load, change: Callable[[dict[str, Any]], Any], message: str, folder: Path
) -> None:
    change_config(folder, change)
    assert message in refused(load, folder)


def test_networks_too_large_to_run_are_refused(folder: Path) -> None:
    change_config(folder, lambda model: (model.update(sample_rate=10**6), model["stft"].update(hop_length=32)))
    assert "31250 frames a second of 129 numbers are too many to run" in refused(load_pretrained, folder)


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
def test_an_invalid_configuration_is_refused(load: Load, content: bytes, message: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    sign_again(folder)
    assert message in refused(load, folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_a_file_without_end_is_not_read(load: Load, name: str, folder: Path) -> None:
    os.truncate(folder / name, 2**33)  # which takes no space on the disk
    assert f"{name}: takes 8589934592 bytes, at most" in refused(load, folder)


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
def test_invalid_weight_files_are_refused(load: Load, header: bytes | int, message: str, folder: Path) -> None:
    size, text = (header, b"{}") if isinstance(header, int) else (len(header), header)
    (folder / "model.safetensors").write_bytes(size.to_bytes(8, "little") + text + bytes(4))
    sign_again(folder)
    assert message in refused(load, folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(load: Load, value: float, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["masker.output.bias"][7] = value
    save_file(weights, folder / "model.safetensors")
    sign_again(folder)
    assert "the array masker.output.bias holds numbers that are NaN or infinite" in refused(load, folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.bool, torch.complex64])
def test_weights_of_another_type_are_refused(load: Load, dtype: torch.dtype, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["masker.output.bias"] = weights["masker.output.bias"].to(dtype)
    save_file(weights, folder / "model.safetensors")
    sign_again(folder)
    assert f"the array masker.output.bias holds {str(dtype)[6:]}, expected float32" in refused(load, folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_no_link_leads_out_of_the_folder(load: Load, name: str, folder: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    "line", ["{}  ../config.json", "{}  /etc/passwd", "{} config.json", "0  config.json", "\ufffd"]
)
def test_checksums_are_of_files_in_the_folder(load: Load, line: str, folder: Path) -> None:
    with (folder / "SHA256SUMS").open("a", encoding="utf-8") as file:
        file.write(line.format("0" * 64) + "\n")
    assert "is not the checksum of a file in this folder" in refused(load, folder)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (2, "has format 2, this hushwork reads formats up to 1; upgrade it (pip install -U hushwork)"),
        (True, "format is True, expected a number; export the model again"),
        ("1", "format is '1', expected a number; export the model again"),
    ],
)
def test_a_folder_of_another_format_is_refused(load: Load, number: Any, message: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["format"] == 1
    (folder / "config.json").write_text(json.dumps(config | {"format": number}), encoding="utf-8")
    sign_again(folder)
    assert message in refused(load, folder)


@pytest.mark.parametrize("part", ["model", "stft", "masker", "recurrence"])
def test_unknown_settings_are_refused(load: Load, part: str, folder: Path) -> None:
    def add_colour(model: dict[str, Any]) -> None:
        parts = {"model": model, "recurrence": model["masker"]["recurrence"], **model}
        parts[part]["colour"] = "blue"

    change_config(folder, add_colour)
    assert "'colour'" in refused(load, folder)
