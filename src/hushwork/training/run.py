"""A training run from its configuration: train, export the best weights, measure them, leave examples."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_info

from hushwork.config import cli_overrides
from hushwork.config_checks import refuse_unused
from hushwork.data.datamodule import NoisySpeechDataModule
from hushwork.data.datasets import NoisySpeechDataset
from hushwork.evaluation.evaluate import evaluate, print_tables, write_results
from hushwork.evaluation.metrics import chosen_metrics
from hushwork.models.denoiser import Denoiser
from hushwork.models.export import export_model, load_for_training
from hushwork.models.growth import start_as
from hushwork.models.summary import cost
from hushwork.network.model_folder import find_model, read_config
from hushwork.runs.timing import ms_per_s
from hushwork.training.callbacks import Speed
from hushwork.training.card import model_card
from hushwork.training.checkpoints import load_best
from hushwork.training.examples import write_examples
from hushwork.training.lifecycle import RunRecord, recorded
from hushwork.training.module import DenoisingModule
from hushwork.training.objective import Objective
from hushwork.training.resume import find_earlier
from hushwork.training.trainer import make_trainer


@recorded
def train(cfg: DictConfig, record: RunRecord) -> Objective:
    """Train a denoiser, export its best weights and measure them; returns ``cfg.optimized_metric`` for sweeps.

    A trial of a sweep that an earlier run has finished returns its recorded value.

    Leaves in ``cfg.paths.run_dir``: checkpoints, ``model/`` (the exported best weights), ``metrics.json`` and
    ``metrics.csv`` of the test split, ``examples/`` (wav and png), ``config.yaml``, and the logs.

    Raises:
        ManifestError, ValueError: before training starts, if corpus or configuration are not valid.
        NonFiniteError: loss or gradients stayed NaN.
        PrunedError: by the search whose trial this is.
    """
    chosen_metrics(cfg.metrics, cfg.sample_rate)  # so that an unknown name fails now, not after hours of training
    datamodule: NoisySpeechDataModule = instantiate(cfg.data)
    datamodule.setup()
    datamodule.refuse_unused(cli_overrides())
    datamodule.require("train", "valid", *(["test"] if cfg.test else []))
    earlier = find_earlier(cfg, datamodule.manifest.sha256)
    if earlier.objective is not None:
        return earlier.objective
    trainer = make_trainer(cfg)
    devices, batches = trainer.world_size, trainer.accumulate_grad_batches
    lr = cfg.optimizer.lr * lr_factor(cfg.lr_scaling, devices * batches)
    denoiser: Denoiser = instantiate(cfg.model)
    if denoiser.sample_rate != cfg.sample_rate:
        raise ValueError(f"sample_rate is {cfg.sample_rate}, but the model's is {denoiser.sample_rate}; set it to that")
    initial = start_from(denoiser, cfg.init_from) if cfg.init_from else {}
    known = copy.deepcopy(denoiser) if cfg.init_from and cfg.data.replay else None
    if cfg.compile:
        compile_network(denoiser)
    module = DenoisingModule(
        denoiser=denoiser,
        loss=instantiate(cfg.loss),
        optimizer=instantiate(cfg.optimizer, lr=lr, **without_fusion(cfg)),
        seed=cfg.seed,
        initial=known,
        **scheduler_options(cfg),
    )
    metadata = record.metadata
    metadata |= training_metadata(cfg, datamodule, denoiser) | initial
    metadata["batch"] = {"size": datamodule.batch_size, "devices": devices, "batches_per_step": batches, "lr": lr}
    rank_zero_info(
        f"{cfg.name}: {metadata['parameters']:,} parameters, {metadata['macs_per_s'] / 1e6:.1f} M MAC/s, "
        f"corpus {datamodule.manifest.sha256[:12]}, results in {cfg.paths.run_dir}"
    )
    rank_zero_info(
        f"{datamodule.batch_size * devices * batches} mixtures in each step: {datamodule.batch_size} in a batch, "
        f"{batches} batch(es) on each of {devices} device(s); learning rate {lr:g}"
    )
    started = time.perf_counter()
    record.start(trainer)
    trainer.fit(module, datamodule=datamodule, ckpt_path=earlier.checkpoint, weights_only=True)
    if not trainer.callback_metrics:  # resumed after its last step
        trainer.validate(module, datamodule=datamodule, verbose=False)
    metadata["training"] = {"wall_s": round(time.perf_counter() - started, 1), "steps": trainer.global_step}
    if speed := next((callback for callback in trainer.callbacks if isinstance(callback, Speed)), None):  # type: ignore[attr-defined]
        # Of all starts of a resumed run.
        metadata["training"]["hours"] = round(speed.wall_s / 3600, 2)
        metadata["training"]["audio_s"] = round(speed.audio_s)
        metadata["training"]["audio_s_per_s"] = round(speed.audio_s / max(speed.wall_s, 1e-9), 1)
    if trainer.is_global_zero and not trainer.interrupted:
        _finish(cfg, trainer, module, datamodule.fixed_dataset("test") if cfg.test else None, metadata)
    return record.objective(trainer, {name: float(metadata[name]) for name in ("macs_per_s", "parameters")})


def scheduler_options(cfg: DictConfig) -> dict[str, Any]:
    """Arguments of :class:`DenoisingModule`: builder of the scheduler, and its interval.

    None is built with ``scheduler=none``, even if an experiment has set keys of its own scheduler.
    """
    build = cfg.scheduler and cfg.scheduler.get("build")
    if not build or "_target_" not in build:
        return {"scheduler": None}
    return {"scheduler": instantiate(build), "scheduler_interval": cfg.scheduler.interval}


def initial_network(init_from: str | None) -> Denoiser:
    """The network of the model that training starts from, for ``model=_initial``.

    Raises:
        ModelError: there is no such model.
        ValueError: none is named, or a setting of the network is set too.
    """
    if not init_from:
        raise ValueError("init_from is null, but model=_initial takes its network; set init_from=default, or a folder")
    refuse_unused(cli_overrides(), "model=_initial, the network of init_from,", unused=("model.*", "stft.*"))
    return load_for_training(init_from).train()


def compile_network(denoiser: Denoiser) -> None:
    """Compile all but the recurrence, whose loops would be unrolled frame by frame."""
    recurrence: Any = denoiser.masker.recurrence
    recurrence.forward = torch.compiler.disable(recurrence.forward)
    denoiser.compile()


def start_from(denoiser: Denoiser, name: str) -> dict[str, Any]:
    """Initialise the network with the weights of another model; returns metadata of that model's training.

    A larger network may start with the weights of a smaller one: see :func:`hushwork.models.growth.start_as`.

    Raises:
        ModelError: the model does not exist.
        ValueError: its weights do not fit this network.
    """
    folder = find_model(name)
    try:
        start_as(denoiser, load_for_training(folder))
    except ValueError as error:
        raise ValueError(
            f"init_from is {name}: {error}; give the model and experiment that it was trained with"
        ) from None
    metadata = read_config(folder)
    return {
        "init_from": {
            key: metadata.get(key) for key in ("name", "command", "commit", "training", "teachers", "init_from")
        }
    }


def lr_factor(how: str, times: int) -> float:
    """Factor of the learning rate for batches ``times`` as large: 1, the square root of ``times``, or ``times``.

    Raises:
        ValueError: ``how`` is not none, sqrt or linear.

    Source: Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.1 (linear); Malladi et al., "On the SDEs and
    Scaling Rules for Adaptive Gradient Algorithms", NeurIPS 2022 (the root, for Adam).
    """
    factors = {"none": 1.0, "sqrt": times**0.5, "linear": float(times)}
    if how not in factors:
        raise ValueError(f"lr_scaling is {how!r}; choose one of {', '.join(factors)}")
    return factors[how]


def without_fusion(cfg: DictConfig) -> dict[str, bool]:
    """The optimiser without fused steps, so that mixed precision unscales gradients before the guard and clipping."""
    return {"fused": False} if "mixed" in str(cfg.trainer.precision) and cfg.optimizer.get("fused") else {}


def training_metadata(cfg: DictConfig, datamodule: NoisySpeechDataModule, denoiser: Denoiser) -> dict[str, Any]:
    """Metadata of a denoiser's training: its cost, corpus and configuration."""
    costs = cost(denoiser)
    return {
        "parameters": costs.parameters,
        "macs_per_s": costs.macs_per_s,
        "sample_rate": cfg.sample_rate,
        "data": {
            "manifest": cfg.data.manifest,
            "train_also": OmegaConf.to_container(cfg.data.train_also, resolve=True),
            **({"replay": cfg.data.replay, "replay_share": cfg.data.replay_share} if cfg.data.replay else {}),
            "sha256": datamodule.manifest.sha256,
            "train": datamodule.manifest.contents("train"),
        },
        "teachers": datamodule.teachers,
        "model": denoiser.settings,
        "mixing": OmegaConf.to_container(cfg.data.mixing, resolve=True),
        "loss": OmegaConf.to_container(cfg.loss, resolve=True),
        "optimizer": OmegaConf.to_container(cfg.optimizer, resolve=True),
    }


def _finish(
    cfg: DictConfig,
    trainer: pl.Trainer,
    module: DenoisingModule,
    test: NoisySpeechDataset | None,
    metadata: dict[str, Any],
) -> None:
    """Export the best weights, measure the exported model, and export it again with its scores."""
    run_dir = Path(cfg.paths.run_dir)
    load_best(trainer, module)
    export_model(module.denoiser, metadata, model_card(metadata), run_dir / "model")
    if test is None:
        return
    denoiser = load_for_training(run_dir / "model")
    metadata["ms_per_s"] = round(ms_per_s([run_dir / "model"])[0], 2)
    rank_zero_info(f"testing on {len(test)} mixtures")
    results = write_results(evaluate(denoiser, test, chosen_metrics(cfg.metrics, cfg.sample_rate)), run_dir, metadata)
    export_model(denoiser, results, model_card(results), run_dir / "model")
    write_examples(denoiser, test, run_dir / "examples", cfg.num_examples)
    print_tables(results["summary"])
    print(f"model {run_dir / 'model'}\nmetrics {run_dir / 'metrics.json'}\nexamples {run_dir / 'examples'}")
