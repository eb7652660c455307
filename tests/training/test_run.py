"""Whole runs: the files they leave, and what they start with."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

import hushwork
from checkpoints import identical, last
from configurations import SMALL, TINY, compose_quickly
from hushwork.audio.io import write_audio
from hushwork.data.recordings import ManifestError
from hushwork.data.taught import METADATA, file_name
from hushwork.evaluation.evaluate import SYSTEMS
from hushwork.models.export import load_for_training
from hushwork.runs.record import find_runs
from hushwork.training.run import start_from, train

ROOT = Path(__file__).parents[2]
Compose = Callable[..., DictConfig]


@pytest.fixture(autouse=True)
def _quick_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hushwork.evaluation.metrics.available_metrics", lambda *_: ["si_sdr"])


@pytest.fixture(scope="module")
def smoke(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of a run with everything switched on, and what it returned."""
    folder = tmp_path_factory.mktemp("smoke")
    paths = (f"data.manifest={corpus}", f"paths.run_dir={folder}", f"paths.runs_dir={folder / 'runs'}")
    cfg = compose_quickly(*SMALL, *paths, "seed=3", "trainer.max_steps=8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hushwork.evaluation.metrics.available_metrics", lambda *_: ["si_sdr"])
        result = train(cfg)
    return folder, result


def test_a_run_returns_the_figure_of_its_log(smoke: tuple[Path, float]) -> None:
    folder, result = smoke
    with (folder / "csv" / "metrics.csv").open(encoding="utf-8") as file:
        losses = [float(row["valid/loss"]) for row in csv.DictReader(file) if row.get("valid/loss")]
    assert len(losses) == 4  # 8 steps, 2 in an epoch
    assert result == pytest.approx(min(losses), rel=1e-5)  # that of the exported weights


def test_a_run_records_the_origin_of_its_weights(smoke: tuple[Path, float], corpus: Path) -> None:
    folder, _ = smoke
    config = json.loads((folder / "model" / "config.json").read_text("utf-8"))
    assert config["name"] == "smoke"
    assert config["seed"] == 3
    sha256 = hashlib.sha256(corpus.read_bytes()).hexdigest()
    contents = config["data"].pop("train")
    assert config["data"] == {"manifest": str(corpus), "train_also": [], "sha256": sha256}
    assert contents["speakers"] == 3
    assert contents["hours"] == {"speech": pytest.approx(9 / 3600, abs=0.002), "noise": pytest.approx(0, abs=0.002)}
    assert {entry["licence"] for entry in contents["sources"]} == {"CC0-1.0"}
    assert "commit" in config
    assert config["hushwork"] == hushwork.__version__
    assert config["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert config["training"]["steps"] == 8
    assert config["training"]["audio_s"] == 8 * 2 * 0.25
    denoiser = load_for_training(folder / "model")
    assert config["parameters"] == sum(parameter.numel() for parameter in denoiser.parameters())
    card = (folder / "model" / "MODEL_CARD.md").read_text("utf-8")
    assert f"| parameters | {config['parameters']:,} |" in card
    assert "| denoised |" in card


def test_a_run_keeps_a_record(smoke: tuple[Path, float]) -> None:
    folder, _ = smoke
    (run,) = find_runs(folder)
    assert (run.status, run.name, run.network, run.seed, run.steps) == ("finished", "smoke", "clockwork rnn", 3, 8)
    with (folder / "csv" / "metrics.csv").open(encoding="utf-8") as file:
        losses = [float(row["valid/loss"]) for row in csv.DictReader(file) if row.get("valid/loss")]
    assert run.best == pytest.approx(min(losses), rel=1e-5)
    assert run.scores["si_sdr"][0] == pytest.approx(
        json.loads((folder / "metrics.json").read_text("utf-8"))["summary"]["overall"]["denoised"]["si_sdr"]["mean"]
    )


def test_a_run_that_fails_records_its_error(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.ckpt"):
        train(compose(*TINY, "ckpt_path=missing.ckpt"))
    (run,) = find_runs(tmp_path)
    assert run.status == "failed"
    assert "FileNotFoundError: ckpt_path is missing.ckpt" in (run.folder / "run.json").read_text("utf-8")


def test_the_exported_weights_are_the_best_checkpoint(smoke: tuple[Path, float]) -> None:
    folder, _ = smoke
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    exported = load_for_training(folder / "model").state_dict()
    assert exported
    assert all(torch.equal(best[f"denoiser.{name}"], tensor) for name, tensor in exported.items())


def test_a_run_measures_its_test_split(smoke: tuple[Path, float]) -> None:
    folder, _ = smoke
    overall = json.loads((folder / "metrics.json").read_text("utf-8"))["summary"]["overall"]
    assert tuple(overall) == SYSTEMS
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(SYSTEMS)
    for system in SYSTEMS:
        scores = [float(row["si_sdr"]) for row in rows if row["system"] == system]
        assert overall[system]["si_sdr"]["mean"] == pytest.approx(np.mean(scores), abs=1e-3)
    assert re.search(
        r"\| time \| [\d.]+ ms per second of audio", (folder / "model" / "MODEL_CARD.md").read_text("utf-8")
    )


def test_a_run_leaves_examples(smoke: tuple[Path, float]) -> None:
    folder, _ = smoke
    found = {path.name for path in (folder / "examples").iterdir()}
    stem = "test_0000_class0_-5dB"
    assert found == {f"{stem}.png", *(f"{stem}_{kind}.wav" for kind in ("noisy", "denoised", "clean"))}
    noisy, rate = soundfile.read(folder / "examples" / f"{stem}_noisy.wav", dtype="float32")
    denoised, _ = soundfile.read(folder / "examples" / f"{stem}_denoised.wav", dtype="float32")
    with torch.inference_mode():
        expected = load_for_training(folder / "model")(torch.from_numpy(noisy)[None])[0].numpy()
    assert rate == 16000
    assert len(denoised) == 8000
    assert np.abs(denoised - expected).max() < 1e-3  # 16 bits in the noisy file and in the denoised one
    assert (folder / "examples" / f"{stem}.png").read_bytes().startswith(b"\x89PNG")


def test_examples_are_shown_to_tensorboard(smoke: tuple[Path, float]) -> None:
    content = b"".join(path.read_bytes() for path in (smoke[0] / "tensorboard").glob("events.*"))
    for tag in (b"valid_0000_class0_-5dB/denoised", b"valid_0000_class0_-5dB/clean", b"valid/loss"):
        assert tag in content


def test_checkpoints_hold_no_pickled_classes(smoke: tuple[Path, float]) -> None:
    folder, _ = smoke
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert last(folder)["global_step"] == 8
    model = {path.name for path in (folder / "model").iterdir()}
    assert model == {"model.safetensors", "config.json", "MODEL_CARD.md", "SHA256SUMS"}


def test_a_run_that_ends_within_an_epoch_is_validated_where_it_ends(compose: Compose, tmp_path: Path) -> None:
    train(compose(*TINY, "trainer.max_steps=3", f"paths.run_dir={tmp_path}"))
    with (tmp_path / "csv" / "metrics.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("valid/loss")]
    assert len(rows) == 2  # after steps 2 and 3
    assert last(tmp_path)["global_step"] == 3


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("kind", ["speech", "noise"])
def test_an_empty_split_is_named_before_training_starts(
    kind: str, split: str, compose: Compose, corpus: Path, tmp_path: Path
) -> None:
    entries = [json.loads(line) for line in corpus.read_text("utf-8").splitlines()]
    kept = [
        entry | {"path": str(corpus.parent / entry["path"])}
        for entry in entries
        if (entry["kind"], entry["split"]) != (kind, split)
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
    expected = f"{tmp_path}: the manifest has no {kind} in the split '{split}', which is needed; add recordings"
    with pytest.raises(ManifestError, match=expected):
        train(compose(*TINY, f"data.manifest={manifest}", "test=true"))
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_the_command_names_faults_of_a_manifest_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "experiment=smoke", f"data.manifest={tmp_path / 'absent.jsonl'}"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith(f"error: {tmp_path / 'absent.jsonl'}: no such manifest; write it first")
    assert "Traceback" not in done.stderr


def test_an_unknown_metric_is_named_with_those_there_are(compose: Compose) -> None:
    with pytest.raises(ValueError, match=r"optimized_metric is 'valid/pesq'.*train/loss.*valid/loss"):
        train(compose(*TINY, "trainer.max_steps=2", "optimized_metric=valid/pesq"))


def test_a_run_may_start_with_the_weights_of_another(
    compose: Compose, smoke: tuple[Path, float], tmp_path: Path
) -> None:
    given = smoke[0] / "model"
    train(compose(*TINY, f"init_from={given}", "optimizer.lr=0", "scheduler=none", "trainer.max_steps=1"))
    [exported] = tmp_path.glob("**/model")
    after = load_for_training(exported).state_dict()
    for name, value in load_for_training(given).state_dict().items():
        torch.testing.assert_close(after[name], value, atol=0, rtol=0)
    first = json.loads((given / "config.json").read_text())
    initial = json.loads((exported / "config.json").read_text())["init_from"]
    kept = ("name", "command", "commit", "training", "teachers", "init_from")
    assert initial == {key: first.get(key) for key in kept}
    card = (exported / "MODEL_CARD.md").read_text("utf-8")
    assert f"started from | {first['name']}, {first['training']['steps']} steps" in card
    assert "| teacher |" not in card


def test_a_card_names_the_teachers_of_all_its_trainings(compose: Compose, tmp_path: Path) -> None:
    taught = tmp_path / "taught"
    taught.mkdir()
    write_audio(taught / file_name(0), 0.1 * np.ones((3, 8000), np.float32), 16000)
    (taught / METADATA).write_text(json.dumps({"sample_rate": 16000, "teachers": ["Some Peer"]}))
    options = [*TINY, "trainer.max_steps=1"]
    train(compose(*options, f"data.taught={taught}", f"paths.run_dir={tmp_path / 'first'}"))
    train(compose(*options, f"init_from={tmp_path / 'first' / 'model'}", f"paths.run_dir={tmp_path / 'second'}"))
    for run in ("first", "second"):
        card = (tmp_path / run / "model" / "MODEL_CARD.md").read_text("utf-8")
        assert "| teacher | Some Peer; comparisons with it are not independent |" in card


def test_a_bidirectional_network_may_start_as_a_causal_one(compose: Compose, smoke: tuple[Path, float]) -> None:
    causal = load_for_training(smoke[0] / "model")
    both = instantiate(compose(*SMALL, "model.masker.recurrence.bidirectional=true").model).eval()
    start_from(both, str(smoke[0] / "model"))
    noisy = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(both(noisy), causal(noisy))
    # Yet what comes later counts as soon as the mask may use it: the backward direction is no dead weight.
    size = both.masker.output.weight.shape[1] // 2
    with torch.no_grad():
        both.masker.output.weight[:, size:] = both.masker.output.weight[:, :size]
    later = noisy.clone()
    later[:, 6000:] = 0
    assert not torch.allclose(both(noisy)[:, :4000], both(later)[:, :4000], atol=1e-4)
    torch.testing.assert_close(causal(noisy)[:, :4000], causal(later)[:, :4000])


def test_weights_of_another_network_are_refused(compose: Compose, smoke: tuple[Path, float]) -> None:
    with pytest.raises(ValueError, match=r"init_from is .*model: weights .* that do not fit this network"):
        train(compose(*TINY, f"init_from={smoke[0] / 'model'}", "model.num_bands=16"))


def test_pairs_are_trained_and_measured(compose: Compose, paired_corpus: Path, tmp_path: Path) -> None:
    overrides = ("logger=[csv]", "callbacks.examples=null", "trainer.max_steps=2", "num_examples=2")
    train(compose(*SMALL, *overrides, f"data.manifest={paired_corpus}"))
    overall = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))["summary"]["overall"]
    assert overall["denoised"]["si_sdr"]["files"] == 2
    wavs = [path for path in (tmp_path / "run" / "examples").iterdir() if path.suffix == ".wav"]
    assert len(wavs) == 6


def test_a_fast_run_logs_nothing(compose: Compose, tmp_path: Path) -> None:
    assert np.isfinite(train(compose(*SMALL, "debug=fast")))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "model", "run.json"}


@pytest.mark.filterwarnings("ignore:You requested to overfit but enabled val")
def test_one_batch_is_overfitted(compose: Compose, tmp_path: Path) -> None:
    """The same mixtures again and again: their loss falls, which it would not with new ones."""
    model = "model.masker.recurrence.hidden_sizes=[8,4,2,2]"
    steps = ("trainer.max_steps=15", "trainer.log_every_n_steps=1")
    data = [word for word in SMALL if word.startswith("data.")]
    train(compose(*data, "debug=overfit", "logger=[csv]", "callbacks.examples=null", model, *steps))
    with (tmp_path / "run" / "csv" / "metrics.csv").open(encoding="utf-8") as file:
        losses = [float(row["train/loss_step"]) for row in csv.DictReader(file) if row["train/loss_step"]]
    assert len(losses) == 15
    assert losses == sorted(losses, reverse=True)


def started(*words: str, cwd: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_sweep_leaves_a_model_for_each_seed(corpus: Path, tmp_path: Path) -> None:
    started("-m", *SMALL, "seed=0,1", f"data.manifest={corpus}", "trainer.max_steps=2", cwd=tmp_path)
    jobs = [run.folder for run in sorted(find_runs(tmp_path / "runs" / "sweeps"), key=lambda run: run.seed or 0)]
    assert len(jobs) == 2
    weights = [load_for_training(job / "model").state_dict() for job in jobs]
    assert not identical(weights[0], weights[1])
    for seed, job in enumerate(jobs):
        results = json.loads((job / "metrics.json").read_text("utf-8"))
        assert results["seed"] == seed
        assert results["summary"]["overall"]["denoised"]["si_sdr"]["files"] == 3


@pytest.mark.slow
def test_two_devices_train_together(corpus: Path, tmp_path: Path) -> None:
    words = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_steps=2", "num_threads=1")
    folder = tmp_path / "run"
    started(*TINY, *words, f"hydra.run.dir={folder}", f"data.manifest={corpus}", cwd=tmp_path)
    checkpoint = last(folder)
    assert checkpoint["global_step"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint["state_dict"].values())
    load_for_training(folder / "model")
