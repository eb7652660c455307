"""Where the Hydra configuration lies, and how to compose it outside ``train.py``."""

from __future__ import annotations

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
    """Make ``${package_path:data/starter}`` mean a path inside the installed package."""
    OmegaConf.register_new_resolver("package_path", lambda relative: str(PACKAGE / relative), replace=True)
