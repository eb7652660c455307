"""Where the Hydra configuration lies, and how to compose it outside ``train.py``."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

PACKAGE = Path(__file__).parent


def config_dir() -> Path:
    """``conf`` of the checkout, or as it was packed into the installed package."""
    packed, checkout = PACKAGE / "conf", PACKAGE.parents[1] / "conf"
    return packed if packed.is_dir() else checkout


def compose_config(overrides: list[str]) -> DictConfig:
    """The training configuration with command-line overrides such as ``["experiment=cwgru", "data=debian"]``."""
    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=overrides)


def register_resolvers() -> None:
    """``${package_path:data/starter}`` is a path inside the installed package, ``${folder_name:…}`` see below."""
    OmegaConf.register_new_resolver("package_path", lambda relative: str(PACKAGE / relative), replace=True)
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def folder_name(overrides: str) -> str:
    """Of a trial, from its overrides; shortened, and with a hash, where they are long or hold what names should not.

    >>> folder_name("model=gru,seed=0")
    'model=gru,seed=0'
    >>> folder_name("model.masker.recurrence.periods=[1,2]")
    'model.masker.recurrence.periods=_1,2_-dca09dc2'
    """
    name = re.sub(r"[^\w.,=+-]+", "_", overrides) or "defaults"
    if len(name) > 100:
        name = re.sub(r"(^|,)[\w.]+\.(?=\w+=)", r"\1", name)[:150]
    return name if name == (overrides or "defaults") else f"{name}-{sha256(overrides.encode()).hexdigest()[:8]}"
