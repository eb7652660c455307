"""Untrusted JSON: one object without duplicate keys."""

from __future__ import annotations

import json
import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


def parse_object(content: bytes) -> dict[str, Any]:
    """The object that UTF-8 text holds. As in the standard library, NaN and Infinity count as numbers.

    Raises:
        ValueError: it is anything else, nested too deeply, or has a key twice.
    """
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_without_doubles)
    except RecursionError:
        raise ValueError("lists and objects are nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {shown(value)}")
    return value


def shown(value: object) -> str:
    """A value as messages show it: on one line, and shortened if it is long."""
    return _SHORT.repr(value)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} occurs twice")
        found[key] = value
    return found
