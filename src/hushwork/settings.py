"""Dataclasses of settings, whose fields state default, range and meaning, and are checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Self

from hushwork.strict_json import shown

MAX_ITEMS = 32  # of a list
HYDRA_KEYS = ("_target_", "_partial_", "_convert_")


def setting(
    default: Any = MISSING,
    *,
    between: tuple[float, float] | None = None,
    choices: Collection[Any] | Callable[[], Collection[Any]] = (),
    many: bool = False,
    doc: str,
) -> Any:
    """A field of :class:`Settings`.

    Args:
        default: without one, the setting is required. None means that the setting may also be None.
        between: lowest and highest value of a number; two integers for an integer.
        choices: values besides those numbers, or a function that lists them.
        many: a list of such numbers.
        doc: the meaning, with the unit.
    """
    return field(default=default, metadata={"between": between, "choices": choices, "many": many, "doc": doc})


def part(*kinds: type[Settings]) -> Any:
    """A field that holds other settings, of one of these classes."""
    return field(metadata={"kinds": kinds})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of dataclasses of settings.

    Raises:
        ValueError: a value is out of its range; the message names the setting, the value and the range.
    """

    target: ClassVar[str]
    """The class that Hydra builds with these settings."""
    is_partial: ClassVar[bool] = False
    """Whether Hydra builds a partial object."""

    def __post_init__(self) -> None:
        self.check(**{each.name: getattr(self, each.name) for each in fields(self) if "kinds" not in each.metadata})

    @classmethod
    def check(cls, **values: Any) -> None:
        """Refuse values that a field of that name must not have."""
        known = {each.name: each for each in fields(cls)}
        for name, value in values.items():
            _check(known[name], value)

    @classmethod
    def from_json(cls, node: Any, name: str = "model") -> Self:
        """Settings from a node of a configuration as Hydra writes it; missing settings get their defaults.

        Raises:
            ValueError: a key is missing or unknown, names another class, or has a value out of its range.
        """
        found = _targets((cls,), node, name)
        assert found is cls
        values: dict[str, Any] = {}
        known = {each.name: each for each in fields(cls)}
        for key, value in node.items():
            if key in HYDRA_KEYS:
                continue
            if key not in known:
                raise ValueError(f"{shown(key)} is {shown(value)}; {name} has no such setting")
            kinds = known[key].metadata.get("kinds")
            if kinds:
                values[key] = _targets(kinds, value, key).from_json(value, key)
            else:
                values[key] = tuple(value) if known[key].metadata["many"] and isinstance(value, list) else value
        for each in known.values():
            if each.default is MISSING and each.name not in values:
                raise ValueError(f"the configuration lacks {each.name} of {name}; export the model again")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The node that :meth:`from_json` reads and Hydra builds."""
        node: dict[str, Any] = {"_target_": self.target}
        if self.is_partial:
            node["_partial_"] = True
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Settings):
                value = value.to_json()
            node[each.name] = list(value) if isinstance(value, tuple) else value
        return node


def _targets(kinds: Collection[type[Settings]], node: Any, name: str) -> type[Settings]:
    """The class of settings that a node names."""
    if not isinstance(node, Mapping):
        raise ValueError(f"{name} is {shown(node)}; expected an object")
    by_target = {kind.target: kind for kind in kinds}
    target = node.get("_target_")
    if not isinstance(target, str) or target not in by_target:
        raise ValueError(f"{name} names {shown(target)}; allowed are {', '.join(sorted(by_target))}")
    return by_target[target]


def _check(each: Field[Any], value: Any) -> None:
    if value is None and each.default is None:
        return
    rules = each.metadata
    choices = rules["choices"]() if callable(rules["choices"]) else rules["choices"]
    if rules["many"]:
        if isinstance(value, list | tuple):
            if 0 < len(value) <= MAX_ITEMS and all(_fits(item, choices, rules["between"]) for item in value):
                return
            value = list(value)
        expected = "expected 1 to {} numbers between {} and {}".format(MAX_ITEMS, *rules["between"])
        raise ValueError(f"{each.name} are {shown(value)}; {expected}")
    if not _fits(value, choices, rules["between"]):
        ways = [f"choose one of {', '.join(map(str, choices))}"] if choices else []
        ways += ["it must lie between {} and {}".format(*rules["between"])] if rules["between"] else []
        raise ValueError(f"{each.name} is {shown(value)}; {', or '.join(ways)}")


def _fits(value: Any, choices: Collection[Any], between: tuple[float, float] | None) -> bool:
    if isinstance(value, str | bool):
        return value in choices
    if between is None:
        return False
    whole = isinstance(between[0], int) and isinstance(between[1], int)
    return isinstance(value, int if whole else int | float) and between[0] <= value <= between[1]
