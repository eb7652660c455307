"""Checks that no setting is ignored: overrides without effect, and keys that a class has no parameter for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from hushwork.config import RENAMED, cli_overrides, config_dir


def refuse_unused(
    overrides: Sequence[str], user: str, *, used: Sequence[str] = (), unused: Sequence[str] = ("*",), advice: str = ""
) -> None:
    """Refuse overrides that would have no effect.

    Args:
        overrides: of the command line, such as ``"data.batch_size=4"``.
        user: the part of the program that would ignore them, for the message.
        used: patterns of keys that have an effect (``*`` matches dots too).
        unused: patterns of keys without effect, except those in ``used``.
        advice: what to do instead; by default, to omit the override.

    Raises:
        ValueError: names the first such key.
    """
    for word in overrides:
        key = re.split("[=@]", word.lstrip("+"))[0].replace("/", ".")
        if key.startswith("~") or any(fnmatch(key, pattern) for pattern in used):
            continue
        if any(fnmatch(key, pattern) for pattern in unused):
            raise ValueError(f"{key} is set, but {user} does not use it; {advice or 'omit it'}")


def refuse_sweep_settings() -> None:
    """Refuse settings of sweeps in a command without ``-m``, which trains once and would ignore them.

    Raises:
        ValueError: names the first of them.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode == RunMode.MULTIRUN:
        return
    search = HydraConfig.get().runtime.choices.get("sweep")
    words = [f"sweep={search}"] if search else []
    words += [word for word in HydraConfig.get().overrides.hydra if re.match(r"[+~]*hydra[./](sweep|launcher)", word)]
    if words:
        raise ValueError(f"{words[0]} is for sweeps, but this command trains once; add -m, or omit it")


def check_settings(cfg: DictConfig) -> None:
    """Refuse keys of a node that its ``_target_`` has no parameter for.

    Raises:
        ValueError: names the first such key, and the file that sets it.
    """
    for path, node in _targets(cfg):
        try:
            parameters = inspect.signature(get_object(node["_target_"])).parameters
        except Exception:  # instantiate reports what cannot be imported, if it is used at all
            continue
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            continue
        for name in map(str, node):
            if name not in parameters and not name.startswith("_"):
                key = f"{path}.{name}"
                if key in RENAMED:
                    raise ValueError(
                        f"{key} is set{_where_set(key)}, but is now called {RENAMED[key]}; rename it there"
                    )
                raise ValueError(
                    f"{key} is set{_where_set(key)}, but {node['_target_']} takes only {', '.join(parameters)}; "
                    f"choose another class, or remove the key: '~{key}'"
                )


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Nodes with a ``_target_``, with their dotted keys; interpolations are not followed."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    if isinstance(node.get("_target_"), str):
        yield path, node
    for name in map(str, node):
        if not OmegaConf.is_missing(node, name) and not OmegaConf.is_interpolation(node, name):
            yield from _targets(node[name], f"{path}.{name}" if path else name)


def _where_set(key: str) -> str:
    """Where a key is set, for a message: on the command line, or in a file."""
    if any(re.split("=", word.lstrip("+"))[0] == key for word in cli_overrides()):
        return " on the command line"
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    for group in ("debug", "experiment", "sweep"):  # the last one merged comes first
        names = [choices.get(group)]
        while names:
            path = config_dir() / group / f"{names.pop()}.yaml"
            if not path.is_file():
                continue
            file: Any = OmegaConf.load(path)
            if OmegaConf.select(file, key) is not None:
                return f" by conf/{group}/{path.name}"
            names += [name for name in file.get("defaults", []) if isinstance(name, str)]
    return ""
