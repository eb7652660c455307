"""A setting is used or refused with a remedy; none is ignored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import soundfile
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from configurations import TINY, compose_quickly
from hushwork.cli import main
from hushwork.config import config_dir
from hushwork.config_checks import check_settings, refuse_unused
from hushwork.runs.record import find_runs
from hushwork.training import next_sample, stft_arrays
from hushwork.training.trainer import SHARED_SETTINGS

Train = Callable[..., None]
DENOISER = ("name=x", "paths.run_dir=unused")


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Train]:
    """``python train.py WORDS`` in this process."""

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
    def command(cfg: DictConfig) -> float:
        return instantiate(cfg.run)(cfg)

    def run(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["train.py", f"paths.runs_dir={tmp_path / 'runs'}", *words])
        command()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # exceptions come out instead of an exit status
    yield run
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


@pytest.fixture
def arrays(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for name in ("noisy", "clean"):
        np.save(tmp_path / f"{name}.npy", rng.uniform(size=(9, 4, 3)).astype(np.float32))
    words = ["experiment=tutorial", "data=stft_arrays", "data.batch_size=3", "logger=[csv]"]
    words += [f"data.{name}={tmp_path / name}.npy" for name in ("noisy", "clean")]
    return [*words, "model.masker.recurrence.hidden_size=4"]


@pytest.mark.parametrize(("limit", "steps"), [("max_epochs=2", 6), ("max_steps=4", 4)])
def test_the_trainer_ends_a_training_on_arrays(
    limit: str, steps: int, train: Train, arrays: list[str], tmp_path: Path
) -> None:
    train(*arrays, f"trainer.{limit}")
    (run,) = find_runs(tmp_path / "runs")
    assert run.status == "finished"
    assert torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == steps


@pytest.mark.parametrize("word", ["init_from=default", "+data.max_epochs=3", "callbacks.gradients.max_in_a_row=3"])
def test_a_training_on_arrays_refuses_what_it_does_not_use(word: str, train: Train, arrays: list[str]) -> None:
    key = word.partition("=")[0].lstrip("+")
    with pytest.raises(ValueError, match=rf"^{key} is set, but .* does not use it; omit it"):
        train(*arrays, word)


@pytest.mark.parametrize("word", ["model=gru", "callbacks.checkpoint.mode=max"])
def test_next_sample_prediction_refuses_what_it_does_not_use(word: str, train: Train, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.wav", np.sin(np.arange(2000) / 3), 8000)
    with pytest.raises(ValueError, match=rf"^{word.partition('=')[0]} is set, but .* does not use it; omit it"):
        train("experiment=next_sample", "frames=32", f"audio={tmp_path / 'tone.wav'}", word)


@pytest.mark.parametrize(
    ("module", "used", "unused"),
    [
        (
            stft_arrays,
            "trainer.max_steps=1 model.masker.dropout=0 optimizer=muon data.last_only=true num_examples=0 logger=csv",
            "test=false metrics=[si_sdr] compile=true lr_scaling=sqrt scheduler=plateau sample_rate=8000 "
            "stft.n_fft=256 model.num_bands=64 model.compression=log loss.power=1",
        ),
        (
            next_sample,
            "frames=9 batch_size=2 data.num_workers=1 models.rnn.recurrence.hidden_size=3 seed=1 callbacks=[ema]",
            "scheduler=plateau compile=true loss=si_sdr lr_scaling=sqrt data=debian num_examples=3 sample_rate=8000",
        ),
    ],
)
def test_settings_of_other_trainings(module: Any, used: str, unused: str) -> None:
    patterns = (*SHARED_SETTINGS, *module.SETTINGS)
    refuse_unused(used.split(), "it", used=patterns)
    for word in unused.split():
        with pytest.raises(ValueError, match=f"{word.partition('=')[0]} is set"):
            refuse_unused([word], "it", used=patterns)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.lanes=4", r"data\.lanes is set, but data\.order=random does not use it; set data\.order=shards"),
        ("sweep=loss_weights", r"sweep=loss_weights is for sweeps, but this command trains once; add -m"),
        ("hydra/sweeper=optuna", r"hydra/sweeper=optuna is for sweeps"),
    ],
)
def test_a_denoiser_s_training_refuses_what_it_does_not_use(
    word: str, message: str, train: Train, corpus: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        train(*TINY, f"data.manifest={corpus}", word)


@pytest.mark.parametrize(
    "word", ["data.mixing.snr_db=[0,5]", "data.num_valid=2", "data.num_test=2", "data.eval_max_s=1"]
)
def test_pairs_refuse_how_mixtures_are_made(word: str, train: Train, paired_corpus: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{word.partition('=')[0]} is set, but .* pairs .* does not use it"):
        train("experiment=smoke", f"data.manifest={paired_corpus}", word)


@pytest.mark.parametrize(
    ("words", "key", "file"),
    [
        (["experiment=default", "model=gru"], "hidden_sizes", "default"),
        (["experiment=small", "model=gru"], "hidden_sizes", "small"),
        (["experiment=small", "model=cwgru", "loss=si_sdr"], "losses", "default"),  # small builds on it
        (["experiment=default", "scheduler=plateau"], "warmup_steps", "default"),
    ],
)
def test_a_key_for_another_choice_is_named_with_its_file(words: list[str], key: str, file: str, train: Train) -> None:
    message = (
        rf"\.{key} is set by conf/experiment/{file}\.yaml, but [\w.]+ takes only .*; .*remove the key: '~.*\.{key}'"
    )
    with pytest.raises(ValueError, match=message):
        train(*words)


def test_a_renamed_key_is_refused_with_its_new_name(capsys: pytest.CaptureFixture[str]) -> None:
    new = r"data\.mixing\.synthetic_noises"
    with pytest.raises(SystemExit, match=rf"made_noises is now called {new}; set {new}\.hum=0\.1"):
        main(["train", "data.mixing.made_noises.hum=0.1"])
    cfg = compose_quickly("experiment=smoke")
    OmegaConf.update(cfg, "data.mixing.made_noises", {"hum": 0.1}, force_add=True)  # as a file of one's own does
    with pytest.raises(ValueError, match=rf"made_noises is set.*, but is now called {new}"):
        check_settings(cfg)


def test_a_key_that_was_typed_is_named(train: Train) -> None:
    message = (
        r"model\.masker\.recurrence\.size is set on the command line, but .*StackedClockworkRNN takes only input_size"
    )
    with pytest.raises(ValueError, match=message):
        train("+model.masker.recurrence.size=3")


@pytest.mark.parametrize("model", ["gru", "blstm", "cwlstm"])
def test_smoke_takes_any_model(model: str) -> None:
    cfg = compose_quickly("experiment=smoke", f"model={model}", *DENOISER)
    check_settings(cfg)
    assert instantiate(cfg.model)


def test_patterns_of_keys() -> None:
    refuse_unused(["a.b=1", "+c/d@e.f=x", "~g.h"], "the program", used=["a.*", "c.d"])
    with pytest.raises(ValueError, match=r"^a\.b is set, but the program does not use it; omit it$"):
        refuse_unused(["a.b=1"], "the program", used=["a"])
    refuse_unused(["a.b=1"], "the program", unused=["a"])


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("evaluate", "sample_rate=8000"),
        ("evaluate", "data.num_valid=3"),  # the split is test
        ("evaluate", "data.mixing.snr_db=[0,5]"),
        ("mixtures", "seed=3"),
        ("mixtures", "model=gru"),
    ],
)
def test_commands_refuse_what_they_do_not_use(
    command: str, word: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(model_folder)] if command == "evaluate" else ["-o", str(tmp_path / "out")]
    assert main([command, word, *options]) == 1
    key = word.partition("=")[0]
    assert f"hushwork {command}: {key} is set, but hushwork {command} does not use it" in capsys.readouterr().err
