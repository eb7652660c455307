"""Several devices, here processes of this machine over gloo: they train as one, and only the first writes."""

from __future__ import annotations

import csv
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from configurations import TINY
from hushwork import cli
from hushwork.config import job_or, quieten_other_ranks
from hushwork.data.datasets import EpochSampler
from hushwork.models.export import load_for_training
from hushwork.network.model_folder import read_config
from hushwork.runs.record import find_runs
from hushwork.training.resume import find_checkpoint
from hushwork.training.run import lr_factor, train

ROOT = Path(__file__).parents[2]
EIGHT = (*TINY, "data.mixtures_per_epoch=8", "data.batch_size=4", "data.num_valid=3", "num_threads=1")
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


def start(*words: str, launcher: tuple[str, ...] = (sys.executable,)) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, str(ROOT / "train.py"), *EIGHT, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, corpus: Path, *words: str, launcher: tuple[str, ...] = (sys.executable,)) -> str:
    process = start(*words, f"data.manifest={corpus}", f"hydra.run.dir={folder}", launcher=launcher)
    messages = process.communicate()[0]
    assert process.returncode == 0, messages[-3000:]
    return messages


def validations(folder: Path) -> list[float]:
    """Loss and gain of each validation, in their order."""
    with (folder / "csv" / "metrics.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("valid/loss")]
    return [float(row[name]) for row in rows for name in ("valid/loss", "valid/si_sdr_improvement")]


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def train_on_two(cfg: DictConfig) -> None:
    """As torchrun does, but in forks of this process, which have imported all that takes so long."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "TORCHELASTIC_RUN_ID": "here"}

    def device(rank: int) -> None:
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        os.environ.update(where | {name: str(value) for name, value in ranks.items()})
        train(cfg)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=device, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.mark.filterwarnings("ignore:.broadcast_buffers. is deprecated:FutureWarning")  # its successor is new in torch
@pytest.mark.filterwarnings("ignore:It is recommended to use .self.log")  # one device's speed is all's
def test_two_devices_do_as_one(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    """The same mixtures in each step, the same validation, of 3 mixtures on two devices, and the same files."""
    train(compose(*EIGHT, "data.batch_size=4", f"paths.run_dir={tmp_path / 'one'}"))
    train_on_two(compose(*EIGHT, "data.batch_size=2", *TWO, f"paths.run_dir={tmp_path / 'two'}"))
    assert validations(tmp_path / "two") == [
        pytest.approx(values, rel=1e-6, abs=1e-6) for values in validations(tmp_path / "one")
    ]
    weights = [load_for_training(tmp_path / name / "model").state_dict() for name in ("one", "two")]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=5e-6) for name in weights[0])
    assert written(tmp_path / "two") == written(tmp_path / "one")
    sizes = [read_config(tmp_path / name / "model")["batch"] for name in ("one", "two")]
    assert [(batch["size"], batch["devices"]) for batch in sizes] == [(4, 1), (2, 2)]


@pytest.mark.slow
def test_two_devices_are_started_and_do_as_one(corpus: Path, tmp_path: Path) -> None:
    one = run(tmp_path / "one", corpus, "data.batch_size=4")
    two = run(tmp_path / "two", corpus, "data.batch_size=2", *TWO)
    assert "4 mixtures in each step: 4 in a batch, 1 batch(es) on each of 1 device(s)" in one
    assert "4 mixtures in each step: 2 in a batch, 1 batch(es) on each of 2 device(s)" in two
    assert validations(tmp_path / "two") == [
        pytest.approx(values, rel=1e-6, abs=1e-6) for values in validations(tmp_path / "one")
    ]
    weights = [load_for_training(tmp_path / name / "model").state_dict() for name in ("one", "two")]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=5e-6) for name in weights[0])
    # The log of the second device is its own.
    assert written(tmp_path / "two") - written(tmp_path / "one") <= {"train_ddp_process_1.log"}
    assert written(tmp_path / "one") <= written(tmp_path / "two")


@pytest.mark.parametrize(("length", "devices"), [(8, 2), (7, 3), (2, 4), (1, 1)])
def test_validation_uses_all_mixtures(length: int, devices: int) -> None:
    shares = [EpochSampler(range(length), rank, devices, complete=True) for rank in range(devices)]
    assert sorted(index for share in shares for _, index in share) == list(range(length))
    assert [len(share) for share in shares] == [len(list(share)) for share in shares]
    even = [list(EpochSampler(range(length), rank, devices)) for rank in range(devices)]
    assert len({len(share) for share in even}) == 1
    assert len({key for share in even for key in share}) == length // devices * devices


def test_the_learning_rate_grows_as_chosen() -> None:
    assert [lr_factor(how, 4) for how in ("none", "sqrt", "linear")] == [1, 2, 4]
    with pytest.raises(ValueError, match="lr_scaling is 'cubic'; choose one of none, sqrt, linear"):
        lr_factor("cubic", 4)


def test_the_learning_rate_of_a_run_is_the_scaled_one(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    words = ("optimizer.lr=1e-4", "lr_scaling=linear", "trainer.accumulate_grad_batches=4", "scheduler=none")
    train(compose(*EIGHT, *words, "data.batch_size=1", "trainer.max_steps=1", f"paths.run_dir={tmp_path}"))
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(4e-4)


def test_bfloat16_is_trained_with(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        folder = tmp_path / precision
        train(compose(*EIGHT, f"trainer.precision={precision}", f"paths.run_dir={folder}"))
        losses.append(validations(folder)[-2])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo looks
@pytest.mark.parametrize("words", [["model=cwgru"], ["model=cwlstm", "model.masker.recurrence.bidirectional=true"]])
def test_a_compiled_network_is_trained_as_any(
    words: list[str], compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    for name in ("false", "true"):
        train(compose(*EIGHT, *words, f"compile={name}", f"paths.run_dir={tmp_path / name}"))
    assert validations(tmp_path / "true") == pytest.approx(validations(tmp_path / "false"), rel=1e-4)
    load_for_training(tmp_path / "true" / "model")


def test_other_processes_of_torchrun_and_srun_leave_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def extended(**environment: str) -> list[str]:
        with monkeypatch.context() as patch:
            for name in ("RANK", "SLURM_PROCID"):
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            words = ["train.py"]
            quieten_other_ranks(words)
            return words[1:]

    assert extended() == extended(RANK="0") == extended(SLURM_PROCID="0") == []
    assert extended(SLURM_PROCID="1") == ["hydra.output_subdir=null", "hydra/job_logging=stdout"]
    assert extended(RANK="3") == [*extended(SLURM_PROCID="1"), "hydra.run.dir=."]


def test_a_slurm_job_resumes_in_its_folder(
    compose: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert job_or("noon") == "noon"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert job_or("noon") == "slurm_17"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "15")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert job_or("noon") == "slurm_15_2"
    cfg = compose(*EIGHT, f"paths.run_dir={tmp_path}")
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    assert find_checkpoint(cfg) is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert find_checkpoint(cfg) == str(checkpoint)
    checkpoint.unlink()
    assert find_checkpoint(cfg) is None  # it had not come so far


def start_long(folder: Path, corpus: Path, *words: str) -> subprocess.Popen[str]:
    """A training that has left its first checkpoint."""
    words += ("data.batch_size=2", "trainer.max_steps=10000", f"data.manifest={corpus}", f"hydra.run.dir={folder}")
    process = start(*words)
    while not (folder / "checkpoints" / "last.ckpt").is_file():
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.1)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_all_devices_stop_if_one_gets_the_signal(which: int, corpus: Path, tmp_path: Path) -> None:
    process = start_long(tmp_path, corpus, *TWO)
    os.kill((process.pid, child_of(process.pid))[which], signal.SIGTERM)
    messages = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGTERM, messages[-3000:]
    assert "SIGTERM: stopped at step" in messages
    (run_,) = find_runs(tmp_path)
    assert run_.status == "stopped"
    step = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"stopped at step {step}," in messages


@pytest.mark.slow
def test_a_run_stops_if_its_loaders_get_the_signal_too(corpus: Path, tmp_path: Path) -> None:
    """As by Slurm, which tells every process of a job."""
    process = start_long(tmp_path, corpus, "data.num_workers=1")
    os.killpg(process.pid, signal.SIGUSR1)
    messages = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGUSR1, messages[-3000:]
    assert find_runs(tmp_path)[0].status == "stopped"


@pytest.mark.slow
def test_a_device_that_dies_ends_the_run(corpus: Path, tmp_path: Path) -> None:
    process = start_long(tmp_path, corpus, *TWO)
    os.kill(child_of(process.pid), signal.SIGKILL)
    process.communicate()
    assert process.returncode != 0
    assert find_runs(tmp_path)[0].status in ("failed", "stopped")
    resumed = tmp_path / "resumed"
    step = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    more = (f"ckpt_path={tmp_path / 'checkpoints' / 'last.ckpt'}", f"trainer.max_steps={step + 2}", "data.batch_size=2")
    run(resumed, corpus, *TWO, *more)
    assert torch.load(resumed / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == step + 2


@pytest.mark.slow
def test_torchrun_starts_the_devices(corpus: Path, tmp_path: Path) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    run(tmp_path / "two", corpus, "data.batch_size=2", *TWO, launcher=torchrun)
    run(tmp_path / "one", corpus, "data.batch_size=4")
    assert validations(tmp_path / "two") == [
        pytest.approx(values, rel=1e-6, abs=1e-6) for values in validations(tmp_path / "one")
    ]
    assert written(tmp_path / "two") == written(tmp_path / "one")


@pytest.mark.slow
def test_shards_are_shared_out_as_if_one_device_read_them(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert cli.main(["prepare", "shards", str(corpus), "-o", str(tmp_path / "shards"), "--shard-size", "10KB"]) == 0
    manifest = tmp_path / "shards" / "manifest.arrow"
    words = ("data.order=shards", "data.lanes=2")
    run(tmp_path / "one", manifest, "data.batch_size=4", *words)
    run(tmp_path / "two", manifest, "data.batch_size=2", *words, *TWO)
    assert validations(tmp_path / "two") == pytest.approx(validations(tmp_path / "one"), rel=1e-6, abs=1e-6)


def child_of(pid: int) -> int:
    """The second device's process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    return next(int(child) for child in children if b"train.py" in Path(f"/proc/{child}/cmdline").read_bytes())
