"""Every configuration composes and builds, and every experiment takes a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from configurations import DENOISING, EXPERIMENTS, SMALL_NETWORK, TINY, compose_quickly
from hushwork.config import compose_config, config_dir
from hushwork.data.batch import NoisySpeechBatch
from hushwork.data.datamodule import NoisySpeechDataModule
from hushwork.training.module import DenoisingModule
from hushwork.training.run import scheduler_options

Compose = Callable[..., DictConfig]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml") if not path.stem.startswith("_"))


def make_batch(num_samples: int) -> NoisySpeechBatch:
    generator = torch.Generator().manual_seed(0)
    clean, noise = 0.1 * torch.randn(2, 2, num_samples, generator=generator)
    lengths = torch.tensor([num_samples, num_samples - 700])
    clean[1, -700:] = noise[1, -700:] = 0
    clean[:, :1000] = 0  # a pause
    teacher = clean + 0.1 * noise
    return NoisySpeechBatch(noisy=clean + noise, clean=clean, lengths=lengths, names=["a", "b"], teacher=teacher)


def make_module(cfg: DictConfig) -> DenoisingModule:
    torch.manual_seed(0)
    return DenoisingModule(
        denoiser=instantiate(cfg.model),
        loss=instantiate(cfg.loss),
        optimizer=instantiate(cfg.optimizer),
        seed=cfg.seed,
        **scheduler_options(cfg),
    )


def take_step(cfg: DictConfig, num_samples: int = 4000) -> DenoisingModule:
    """Forward, backward and optimiser: all finite, every weight has a gradient, and has moved."""
    module = make_module(cfg).train()
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    optimizer = module.configure_optimizers()
    optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer
    loss, estimate = module.step(make_batch(num_samples))
    loss.backward()
    optimizer.step()
    assert estimate.shape == (2, num_samples)
    assert torch.isfinite(loss)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name
        assert torch.isfinite(parameter).all(), name
        assert not torch.equal(parameter, before[name]), name
    return module


def test_the_experiments_are_found() -> None:
    assert {"cwrnn", "cwgru", "cwlstm", "bcwgru", "gru", "smoke", "tutorial"} <= set(choices("experiment"))


@pytest.mark.parametrize(
    "overrides",
    [
        (*TINY, "logger=[tensorboard]", "optimizer.lr=1e-3", "trainer.max_steps=2"),
        ("experiment=cwgru", "data=debian", "callbacks=[default,ema]", "paths.run_dir=a/b", "+model.new={a: [1, 2]}"),
    ],
)
def test_tests_compose_as_hydra_does(overrides: tuple[str, ...]) -> None:
    expected = compose_config(list(overrides))
    for _ in range(2):  # what was composed before is not changed by who got it
        cfg = compose_quickly(*overrides)
        assert cfg == expected
        cfg.seed = -1


def test_the_experiments_that_denoise_are_found() -> None:
    assert [name for name in choices("experiment") if compose_quickly(f"experiment={name}").get("model")] == DENOISING


@pytest.mark.parametrize("name", DENOISING)
def test_every_denoising_experiment_takes_a_step(name: str) -> None:
    # As it is committed: only the manifest is left alone, which needs a corpus.
    cfg = compose_quickly(f"experiment={name}")
    named = OmegaConf.to_container(cfg)["name"]  # type: ignore[index, call-overload]
    assert named == (name if "\nname:" in EXPERIMENTS[name] else "${hydra:runtime.choices.model}")
    assert named == name or cfg.model == compose_quickly(f"model={name}").model
    module = take_step(cfg)
    assert module.denoiser.is_causal == (
        not OmegaConf.select(cfg, "model.masker.recurrence.bidirectional", default=False)
    )


def test_default_states_all_that_it_is_trained_with() -> None:
    stated = OmegaConf.create(EXPERIMENTS["default"])
    cfg = compose_quickly("experiment=default")

    def unstated(node: DictConfig, path: str) -> Iterator[str]:
        for name in map(str, node):
            key = f"{path}.{name}"
            if name.startswith("_") or OmegaConf.is_interpolation(node, name):
                continue
            if isinstance(node[name], DictConfig) and key not in (
                "data.mixing.synthetic_noises",
                "data.mixing.max_shares",
            ):
                yield from unstated(node[name], key)
            elif OmegaConf.select(stated, key, default=cfg) is cfg:
                yield key

    nodes = ("stft", "model", "data.mixing", "loss", "optimizer", "scheduler.build")
    found = {key for node in nodes for key in unstated(OmegaConf.select(cfg, node), node)}
    assert found == {"data.mixing.max_shares", "optimizer.fused"}  # of one corpus, and of this machine


@pytest.mark.parametrize("name", choices("model"))
def test_every_model_has_an_experiment(name: str) -> None:
    experiment: Any = OmegaConf.create(EXPERIMENTS[name])
    assert {"override /model": name} in experiment.defaults
    if name != "tutorial":
        assert set(experiment) == {"defaults"}  # it is taken as it is, and named after it


@pytest.mark.parametrize("name", choices("loss"))
def test_every_loss_takes_a_step(name: str, compose: Compose) -> None:
    take_step(compose(*SMALL_NETWORK, f"loss={name}", "scheduler=none"), num_samples=9600)  # enough for every measure


@pytest.mark.parametrize("name", choices("optimizer"))
def test_every_optimizer_takes_a_step(name: str, compose: Compose) -> None:
    cfg = compose(*SMALL_NETWORK, f"optimizer={name}", "optimizer.lr=0.123")
    module = take_step(cfg)
    assert module.configure_optimizers()["optimizer"].param_groups[0]["initial_lr"] == 0.123


@pytest.mark.parametrize("name", choices("scheduler"))
def test_every_scheduler_builds(name: str, compose: Compose) -> None:
    cfg = compose(f"scheduler={name}", "trainer.max_steps=10000", "model.masker.recurrence.hidden_sizes=[2,2,2,2]")
    built = make_module(cfg).configure_optimizers()
    if name == "none":
        assert isinstance(built, torch.optim.Optimizer)
    else:
        assert built["lr_scheduler"]["interval"] == cfg.scheduler.interval
        assert built["lr_scheduler"]["scheduler"].optimizer is built["optimizer"]


@pytest.mark.parametrize("name", choices("trainer"))
def test_every_trainer_composes(name: str, compose: Compose) -> None:
    cfg = compose(f"trainer={name}")
    assert cfg.trainer.use_distributed_sampler is False  # the sampler of the data divides the mixtures
    if name == "cpu":
        trainer = instantiate(cfg.trainer, logger=False, callbacks=[], enable_checkpointing=False)
        assert isinstance(trainer, pl.Trainer)
        assert trainer.max_steps == cfg.trainer.max_steps
    else:
        assert cfg.trainer.accelerator == "gpu"


@pytest.mark.parametrize("name", choices("callbacks"))
def test_every_callback_builds(name: str, compose: Compose) -> None:
    cfg = compose(f"callbacks=[{name}]")
    built = [instantiate(node) for node in cfg.callbacks.values()]
    assert built
    assert all(isinstance(callback, pl.Callback) for callback in built)
    together = compose(f"callbacks=[default,{name}]" if name != "default" else "callbacks=[default]")
    assert {"checkpoint", "gradients", *cfg.callbacks} <= set(together.callbacks)


@pytest.mark.parametrize("name", choices("logger"))
def test_every_logger_builds(name: str, compose: Compose, tmp_path: Path) -> None:
    cfg = compose(f"logger=[{name}]")
    (node,) = cfg.logger.values()
    assert node.save_dir == str(tmp_path / "run")
    if name != "wandb":  # its package is optional
        assert Path(instantiate(node).log_dir).is_relative_to(tmp_path / "run")


@pytest.mark.parametrize("name", [name for name in choices("data") if name not in ("manifest", "stft_arrays")])
def test_every_corpus_composes(name: str) -> None:
    cfg = compose_quickly(f"data={name}", "name=x", "seed=5", "paths.data_dir=/somewhere")
    assert isinstance(instantiate(cfg.data), NoisySpeechDataModule)
    assert cfg.data.seed == 5
    expected = "data/starter" if name == "starter" else f"/somewhere/{name.removesuffix('_tts')}"
    assert Path(cfg.data.manifest).match(f"*{expected}/manifest.jsonl")


@pytest.mark.parametrize("name", choices("debug"))
@pytest.mark.parametrize("experiment", ["cwrnn", "tutorial"])
def test_every_debug_run_composes(name: str, experiment: str) -> None:
    cfg = compose_quickly(f"experiment={experiment}", f"debug={name}", "paths.run_dir=x")
    assert cfg.test is False
    assert make_module(cfg).configure_optimizers()


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("model", "model"),
        ("stft", "model"),
        ("model.masker", "model"),
        ("model.masker.recurrence", "model"),
        ("data", "data"),
        ("data.mixing", "data"),
        ("loss", "loss"),
        ("trainer", "trainer"),
        ("callbacks.gradients", "callbacks.gradients"),
        ("callbacks.examples", "callbacks.examples"),
    ],
)
def test_an_unknown_key_is_refused(key: str, node: str, compose: Compose) -> None:
    cfg = compose(f"+{key}.misspelt=1")
    with pytest.raises((InstantiationException, TypeError), match="misspelt"):
        instantiate(OmegaConf.select(cfg, node))


@pytest.mark.parametrize("override", ["optimizer.learning_rate=1", "data.mixing.snr=3", "trainer.epochs=2", "sead=1"])
def test_a_misspelt_override_is_refused(override: str, compose: Compose) -> None:
    with pytest.raises(ConfigCompositionException, match=override.split("=")[0].split(".")[-1]):
        compose(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stft.hop_length=300", "hop_length is 300"),
        ("model.masker.head=sigmoid", "head is 'sigmoid'"),
        ("model.compression=loud", r"compression is .*loud.*; choose"),
        ("model.masker.recurrence.cell=transformer", "cell is 'transformer'"),
    ],
)
def test_a_bad_value_is_named(override: str, message: str, compose: Compose) -> None:
    with pytest.raises(InstantiationException, match=message):
        instantiate(compose(override).model)


def test_a_value_exists_once(compose: Compose) -> None:
    cfg = compose("sample_rate=8000", "seed=7", "trainer.max_steps=1234", "stft.n_fft=256", "stft.hop_length=64")
    assert cfg.model.sample_rate == cfg.data.sample_rate == 8000
    assert cfg.data.seed == 7
    assert cfg.scheduler.build.total_steps == 1234
    assert instantiate(cfg.model).masker.output.out_features == 129
