"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines of cells below the names of the columns.

    >>> print(markdown_table(["metric", "files"], [["stoi", 3]]))
    | metric | files |
    |---|---|
    | stoi | 3 |
    """
    lines = [" | ".join(map(str, cells)) for cells in (names, *rows)]
    return "\n".join([f"| {lines[0]} |", "|---" * len(names) + "|", *(f"| {line} |" for line in lines[1:])])
