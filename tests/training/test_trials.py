"""A finished trial is not trained again, a stopped one is resumed, and a pruner ends one early."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import soundfile
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from kill_training import COMPARED, first_difference
from omegaconf import DictConfig, OmegaConf

from configurations import TINY
from hushwork.config import compose_config, folder_name
from hushwork.data.recordings import ManifestError
from hushwork.runs.record import find_runs
from hushwork.sweeps.jobs import PrunedError
from hushwork.training import next_sample, stft_arrays
from hushwork.training.module import DenoisingModule
from hushwork.training.objective import select_objective
from hushwork.training.pruning import Pruning
from hushwork.training.run import train
from hushwork.training.trainer import make_trainer

Compose = Callable[..., DictConfig]


def resumes(test: Any) -> Any:
    """Ignore Lightning's warnings about a run that is resumed in its folder, or at the end of an epoch."""
    for warning in (
        "Checkpoint directory .* exists and is not empty",
        "`ModelCheckpoint.* could not find the monitored",
    ):
        test = pytest.mark.filterwarnings(f"ignore:{warning}")(test)
    return test


def hydra_state(mode: RunMode, *overrides: str) -> None:
    """Set Hydra's state of this process' run, until the end of the test."""
    hydra = {"mode": mode, "overrides": {"task": list(overrides), "hydra": []}, "runtime": {"choices": {}}}
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": {**hydra, "sweeper": {}}})  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _no_hydra_state() -> Iterator[None]:
    yield
    HydraConfig.instance().cfg = None


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps before which trials of a sweep trained a batch."""
    hydra_state(RunMode.MULTIRUN)
    taken: list[int] = []
    for module in (DenoisingModule, stft_arrays.MagnitudeModule, next_sample.NextSampleModule):

        def counted(self: Any, batch: Any, batch_idx: int, step: Any = module.training_step) -> Any:
            taken.append(self.trainer.global_step)
            return step(self, batch, batch_idx)

        monkeypatch.setattr(module, "training_step", counted)
    return taken


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text("utf-8"))


def change(folder: Path, **fields: Any) -> None:
    (folder / "run.json").write_text(json.dumps(record(folder) | fields), encoding="utf-8")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_finished_trial_is_not_trained_again(compose: Compose, tmp_path: Path, steps: list[int]) -> None:
    first = train(compose(*TINY))
    assert steps == [0, 1, 2, 3]
    assert record(tmp_path / "run")["objective"] == first
    written = (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    assert train(compose(*TINY)) == first
    assert steps == [0, 1, 2, 3]
    assert (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns == written


def test_the_configuration_of_a_run_is_complete(compose: Compose, tmp_path: Path, steps: list[int]) -> None:
    cfg = compose(*TINY)
    train(cfg)
    text = (tmp_path / "run" / "config.yaml").read_text("utf-8")
    assert "${" not in text
    assert OmegaConf.create(text) == OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


def test_a_changed_trial_is_trained_again_and_names_the_change(
    compose: Compose, tmp_path: Path, steps: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    train(compose(*TINY))
    steps.clear()
    with caplog.at_level("INFO"):
        train(compose(*TINY, "optimizer.lr=1e-5"))
    assert steps == [0, 1, 2, 3]
    assert any("optimizer.lr" in text and "1e-05" in text and "trained again" in text for text in caplog.messages)
    assert [run.status for run in find_runs(tmp_path / "run" / "earlier_1")] == ["finished"]
    assert (tmp_path / "run" / "earlier_1" / "model").is_dir()
    assert "1.0e-05" in (tmp_path / "run" / "config.yaml").read_text("utf-8")


def test_a_trial_on_a_changed_corpus_is_trained_again(
    compose: Compose, corpus: Path, tmp_path: Path, steps: list[int]
) -> None:
    changed = corpus.with_name("changed.jsonl")
    lines = corpus.read_text("utf-8").splitlines(keepends=True)
    changed.write_text("".join(lines), encoding="utf-8")
    train(compose(*TINY, f"data.manifest={changed}"))
    changed.write_text("".join(lines[::-1]), encoding="utf-8")
    train(compose(*TINY, f"data.manifest={changed}"))
    assert steps == [0, 1, 2, 3] * 2


@resumes
def test_a_stopped_trial_resumes(
    compose: Compose, tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(compose(*TINY, f"paths.run_dir={tmp_path / 'whole'}"))
    steps.clear()
    with monkeypatch.context() as patch:
        trained = DenoisingModule.training_step

        def dying(self: DenoisingModule, batch: Any, batch_idx: int) -> Any:
            if self.trainer.global_step == 3:
                raise MemoryError("no more")
            return trained(self, batch, batch_idx)

        patch.setattr(DenoisingModule, "training_step", dying)
        with pytest.raises(MemoryError):
            train(compose(*TINY))
    assert record(tmp_path / "run")["status"] == "failed"
    assert steps == [0, 1, 2]
    assert train(compose(*TINY)) == undisturbed
    assert steps == [0, 1, 2, 2, 3]  # the second epoch began at 2
    after, whole = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(after[name], whole[name]) for name in whole)
    assert (tmp_path / "run" / "csv_1" / "metrics.csv").is_file()  # of the first part


@resumes
@pytest.mark.parametrize("metric", ["valid/loss", "valid/si_sdr_improvement", "[valid/loss,macs_per_s]"])
def test_a_trial_that_was_killed_after_its_last_step_is_only_finished(
    metric: str, compose: Compose, tmp_path: Path, steps: list[int]
) -> None:
    overrides = (*TINY, f"optimized_metric={metric}")
    first = train(compose(*overrides))
    change(tmp_path / "run", status="running", pid=2**22 + 1)  # above Linux' largest
    again = train(compose(*overrides))
    assert again == pytest.approx(first, rel=1e-5)
    assert steps == [0, 1, 2, 3]
    assert record(tmp_path / "run")["status"] == "finished"


def test_a_trial_that_another_process_trains_is_left_to_it(compose: Compose, tmp_path: Path, steps: list[int]) -> None:
    train(compose(*TINY))
    change(tmp_path / "run", status="running", pid=1, host=socket.gethostname())
    with pytest.raises(RuntimeError, match=r"run is being trained by process 1; wait for it, or remove run\.json"):
        train(compose(*TINY))


@resumes
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_ckpt_path_wins_over_a_trials_own_checkpoint(compose: Compose, tmp_path: Path, steps: list[int]) -> None:
    train(compose(*TINY, f"paths.run_dir={tmp_path / 'other'}", "trainer.max_steps=2"))
    steps.clear()
    override = f'ckpt_path="{tmp_path / "other" / "checkpoints" / "last.ckpt"}"'
    train(compose(*TINY, override))
    assert steps == [2, 3]
    train(compose(*TINY, override))
    assert steps == [2, 3]


def test_a_trial_has_one_device(compose: Compose, steps: list[int]) -> None:
    cfg = compose("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    with pytest.raises(ValueError, match=r"each trial of a sweep trains on one device, not on 2: .* without -m"):
        make_trainer(cfg)


@resumes
@pytest.mark.parametrize("module", [stft_arrays.MagnitudeModule, next_sample.NextSampleModule])
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_other_trainings_resume_too(
    module: Any, stop: int, tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    if module is stft_arrays.MagnitudeModule:
        train = stft_arrays.train
        for name in ("noisy", "clean"):
            np.save(tmp_path / f"{name}.npy", rng.uniform(size=(9, 4, 3)).astype(np.float32))
        words = ["experiment=tutorial", "data=stft_arrays", "trainer.max_epochs=2", "data.batch_size=3"]
        words += [f"data.{name}={tmp_path / name}.npy" for name in ("noisy", "clean")]
        words += ["model.masker.recurrence.hidden_size=4"]
    else:
        train = next_sample.train
        soundfile.write(tmp_path / "tone.wav", np.sin(np.arange(2000) / 3), 8000)
        words = ["experiment=next_sample", "trainer.max_steps=6", "frames=32", f"audio={tmp_path / 'tone.wav'}"]

    def start(folder: Path) -> Any:
        return train(compose_config([*words, "logger=[csv]", f"paths.run_dir={folder}", "paths.runs_dir=nowhere"]))

    undisturbed = start(tmp_path / "whole")
    assert steps == [0, 1, 2, 3, 4, 5]
    steps.clear()
    with monkeypatch.context() as patch:
        trained = module.training_step

        def interrupted(self: Any, batch: Any, batch_idx: int) -> Any:
            if self.trainer.global_step == stop:
                signal.raise_signal(signal.SIGTERM)
            return trained(self, batch, batch_idx)

        patch.setattr(module, "training_step", interrupted)
        with pytest.raises(SystemExit):
            start(tmp_path / "run")
    assert [run.status for run in find_runs(tmp_path / "run")] == ["stopped"]
    assert start(tmp_path / "run") == undisturbed
    assert steps == [0, 1, 2, 3, 4, 5]
    one, other = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("whole", "run")
    )
    assert all(first_difference(one[part], other[part], part) is None for part in COMPARED)
    assert start(tmp_path / "run") == undisturbed
    assert len(steps) == 6  # not trained again
    assert [run.status for run in find_runs(tmp_path / "run")] == ["finished"]
    words += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    hydra_state(RunMode.RUN)
    with pytest.raises(
        ValueError, match=r"=(stft_arrays|next_sample) trains on one device, not on 2: take trainer=gpu"
    ):
        start(tmp_path / "two")


def test_a_trial_that_cannot_start_names_the_reason(compose: Compose, tmp_path: Path, steps: list[int]) -> None:
    missing = "data.manifest=missing.jsonl"
    with pytest.raises(ManifestError):
        train(compose(*TINY, missing))
    (run,) = find_runs(tmp_path / "run")
    assert (run.status, run.name, run.seed, run.network) == ("failed", "tiny", 0, "")
    assert run.error is not None
    assert run.error.startswith("ManifestError: missing.jsonl")
    with pytest.raises(Exception, match="hidden_sizes"):
        train(compose(*TINY, "model.masker.recurrence.hidden_sizes=[0,0]"))
    (run,) = find_runs(tmp_path / "run")
    assert run.error is not None
    assert "hidden_sizes" in run.error  # the last one
    assert "\n" not in run.error
    train(compose(*TINY))
    assert steps == [0, 1, 2, 3]
    with pytest.raises(ManifestError):
        train(compose(*TINY, missing))
    (run,) = find_runs(tmp_path / "run")
    assert (run.status, run.error) == ("finished", None)  # what there is counts


def test_several_figures_can_be_compared(compose: Compose) -> None:
    figures = {"valid/loss": 0.5, "macs_per_s": 3e6}
    assert select_objective(compose("optimized_metric=valid/loss"), figures) == 0.5
    assert select_objective(compose("optimized_metric=[macs_per_s,valid/loss]"), figures) == [3e6, 0.5]
    with pytest.raises(ValueError, match="optimized_metric is 'valid/pesq', not logged; choose from macs_per_s, valid"):
        select_objective(compose("optimized_metric=[valid/loss,valid/pesq]"), figures)


def test_tensorboard_gets_overrides_and_objective(compose: Compose, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    hydra_state(RunMode.RUN, "optimizer.lr=1e-3", "model=cwrnn", "x.y=[1,2]")
    objective = train(compose(*TINY, "logger=[tensorboard]", "optimizer.lr=1e-3"))
    found: dict[str, Any] = {}
    for path in sorted((tmp_path / "run" / "tensorboard").glob("events.*")):
        events = EventAccumulator(str(path)).Reload()
        for tag, content in events.summary_metadata.items():
            if tag.startswith("_hparams_"):
                data = HParamsPluginData.FromString(content.plugin_data.content)
                found |= dict(data.session_start_info.hparams)
        if "best/valid/loss" in events.Tags()["scalars"]:
            found["metric"] = events.Scalars("best/valid/loss")[-1].value
    assert found["optimizer.lr"].number_value == 1e-3
    assert found["model"].string_value == "cwrnn"
    assert found["x.y"].string_value == "[1,2]"
    assert found["metric"] == pytest.approx(objective)


def test_names_of_folders_are_safe_and_differ() -> None:
    overrides = ["a=1,b=2", "a=1/b=2", "a=1 b=2", "a=[1,2]", "a={b:1}", f"x={'y' * 300}", f"x={'y' * 301}", "", "ä=ö"]
    overrides += [",".join(f"data.mixing.key{n}=1" for n in range(20)), ",".join(f"key{n}=1" for n in range(20))]
    names = [folder_name(each) for each in overrides]
    assert len(set(names)) == len(overrides)
    assert names[0] == "a=1,b=2"
    assert names[7] == "defaults"
    assert all(len(name.encode()) < 200 and not set("/[]{}'\" ") & set(name) for name in names)


def test_a_hopeless_trial_is_pruned() -> None:
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    for value in (1.0, 1.1, 0.9):
        good = study.ask()
        good.report(value, 2)
        study.tell(good, value)

    class Trainer:
        sanity_checking = False
        global_step = 2
        callback_metrics: dict[str, float]

    trainer: Any = Trainer()
    module: Any = None
    trainer.callback_metrics = {"valid/loss": 0.8}
    better = study.ask()
    Pruning("valid/loss", better).on_validation_end(trainer, module)
    assert study.trials[better.number].intermediate_values == {2: 0.8}
    trainer.callback_metrics = {"valid/loss": 5.0}
    with pytest.raises(PrunedError, match="valid/loss is 5 after step 2"):
        Pruning("valid/loss", study.ask()).on_validation_end(trainer, module)
    trainer.callback_metrics = {"train/loss": 5.0}
    with pytest.raises(ValueError, match="a pruner needs optimized_metric=valid/loss at each validation"):
        Pruning("valid/loss", study.ask()).on_validation_end(trainer, module)


def test_a_pruned_trial_is_recorded_and_not_trained_again(
    compose: Compose, tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class GivesUp(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            raise PrunedError("hopeless")

    monkeypatch.setattr("hushwork.training.trainer.pruning_callbacks", lambda cfg: [GivesUp()])
    for _ in range(2):
        with pytest.raises(PrunedError):
            train(compose(*TINY))
    assert steps == [0, 1]
    assert [run.status for run in find_runs(tmp_path / "run")] == ["pruned"]
