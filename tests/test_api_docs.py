"""Every public name stands in docs/api.md and has an example, which doctest runs."""

from pathlib import Path

import pytest

import hushwork

API = (Path(__file__).parents[1] / "docs/api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in hushwork.__all__ if name != "__version__"])
def test_public_names_are_documented(name: str) -> None:
    directives = (f".. autofunction:: hushwork.{name}\n", f".. autoclass:: hushwork.{name}\n")
    assert any(directive in API for directive in directives)
    assert ">>> " in (getattr(hushwork, name).__doc__ or "")
