"""Configurations for tests: of runs that take a second, and of every experiment."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from hushwork.config import compose_config, config_dir

EXPERIMENTS = {path.stem: path.read_text("utf-8") for path in sorted((config_dir() / "experiment").glob("*.yaml"))}
DENOISING = [name for name, text in EXPERIMENTS.items() if "override /model: null" not in text]
SMALL_NETWORK = (
    "model.masker.recurrence.hidden_sizes=[8,8]",
    "model.masker.recurrence.periods=[1,2]",
    "model.masker.recurrence.num_layers=1",
)
SMALL = (  # a run with all that belongs to it, of two steps in an epoch
    "experiment=smoke",
    "data.mixtures_per_epoch=4",
    "data.batch_size=2",
    "data.num_valid=2",
    "data.num_test=3",
    "data.eval_max_s=0.5",
    "data.mixing.segment_s=0.25",
    "trainer.num_sanity_val_steps=0",
    *SMALL_NETWORK,
)
TINY = (*SMALL, "trainer.max_steps=4", "test=false", "logger=[csv]", "callbacks.examples=null")  # and one without


def compose_quickly(*overrides: str) -> DictConfig:
    """As ``compose_config``, whose time goes into merging the files: the same choice of files is merged once."""
    chosen = tuple(word for word in overrides if (config_dir() / word.partition("=")[0]).is_dir())
    cfg = deepcopy(_merged(chosen))
    values = OverridesParser.create().parse_overrides([word for word in overrides if word not in chosen])
    ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    return cfg


@cache
def _merged(chosen: tuple[str, ...]) -> DictConfig:
    return compose_config(list(chosen))
