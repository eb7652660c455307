"""Where the Hydra configuration lies, how to compose it outside ``train.py``, and that no setting is ignored."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

PACKAGE = Path(__file__).parent
RENAMED = {"data.mixing.made_noises": "data.mixing.synthetic_noises"}  # keys of earlier versions


def config_dir() -> Path:
    """``conf`` of the checkout, or as it was packed into the installed package."""
    packed, checkout = PACKAGE / "conf", PACKAGE.parents[1] / "conf"
    return packed if packed.is_dir() else checkout


def compose_config(overrides: list[str]) -> DictConfig:
    """The training configuration with command-line overrides such as ``["experiment=cwgru", "data=debian"]``."""
    refuse_renamed(overrides)
    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=overrides)


def typed() -> list[str]:
    """The overrides of this run on the command line; none if Hydra did not start it."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def in_sweep() -> bool:
    """Whether this run is a trial of a sweep (``-m``)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def refuse_unused(
    overrides: Sequence[str], user: str, *, used: Sequence[str] = (), unused: Sequence[str] = ("*",), advice: str = ""
) -> None:
    """Refuse overrides that would be ignored.

    Args:
        overrides: as typed, such as ``"data.batch_size=4"``.
        user: what ignores them, for the message.
        used: patterns of keys that are used (``*`` matches dots too).
        unused: patterns of keys that are not, unless ``used`` has them.
        advice: what to do; by default, to leave the override out.

    Raises:
        ValueError: with the first such key.
    """
    for word in overrides:
        key = re.split("[=@]", word.lstrip("+"))[0].replace("/", ".")
        if key.startswith("~") or any(fnmatch(key, pattern) for pattern in used):
            continue
        if any(fnmatch(key, pattern) for pattern in unused):
            raise ValueError(f"{key} is set, but {user} makes no use of it; {advice or 'leave it out'}")


def refuse_renamed(overrides: Sequence[str]) -> None:
    """Refuse keys of earlier versions.

    Raises:
        ValueError: with the new name of the first such key.
    """
    for word in overrides:
        for old, new in RENAMED.items():
            if re.match(rf"[+~]*{re.escape(old)}\b", word):
                raise ValueError(f"{old} is now called {new}; set {word.replace(old, new)}")


def refuse_sweep_settings() -> None:
    """Refuse settings of sweeps on a command without ``-m``, which trains once and would ignore them.

    Raises:
        ValueError: with the first of them.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode == RunMode.MULTIRUN:
        return
    search = HydraConfig.get().runtime.choices.get("sweep")
    words = [f"sweep={search}"] if search else []
    words += [word for word in HydraConfig.get().overrides.hydra if re.match(r"[+~]*hydra[./](sweep|launcher)", word)]
    if words:
        raise ValueError(f"{words[0]} is for sweeps, but this command trains once; add -m, or omit it")


def check_settings(cfg: DictConfig) -> None:
    """Compare the keys of each node with what its ``_target_`` takes.

    Raises:
        ValueError: with the first key that it does not take, and the experiment or the like whose file sets it.
    """
    for path, node in _targets(cfg):
        try:
            parameters = inspect.signature(get_object(node["_target_"])).parameters
        except Exception:  # what cannot be imported is for instantiate to say, if it comes to that
            continue
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            continue
        for name in map(str, node):
            if name not in parameters and not name.startswith("_"):
                key = f"{path}.{name}"
                if key in RENAMED:
                    raise ValueError(f"{key} is set{_by_whom(key)}, but is now called {RENAMED[key]}; rename it there")
                raise ValueError(
                    f"{key} is set{_by_whom(key)}, but {node['_target_']} takes only {', '.join(parameters)}; "
                    f"choose what has it, or remove it: '~{key}'"
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


def _by_whom(key: str) -> str:
    """Who sets a key: the command line, or a file that may set any."""
    if any(re.split("=", word.lstrip("+"))[0] == key for word in typed()):
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


def register_resolvers() -> None:
    """``${package_path:data/starter}`` is a path inside the installed package; the others see below."""
    OmegaConf.register_new_resolver("package_path", lambda relative: str(PACKAGE / relative), replace=True)
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("job_or", job_or, replace=True)


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


def job_or(time: str) -> str:
    """What names a run's folder: its Slurm job, so that the job goes on there when it is back from the queue, else the
    time."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return time
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return f"slurm_{job}"


def quieten_other_ranks(arguments: list[str]) -> None:
    """Extend a command line so that of the processes that torchrun or srun started, only the first leaves files."""
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
    if rank != "0":
        arguments += ["hydra.output_subdir=null", "hydra/job_logging=stdout"]
        if "RANK" in os.environ:  # a folder by the time, which is another here
            arguments += ["hydra.run.dir=."]
