#!/usr/bin/env python3
"""Write the tables of README.md and docs/ from docs/numbers/*.json.

    python docs/tables.py            # rewrite what differs
    python docs/tables.py --check    # only say what differs; exit status 1 if anything does

A table stands between two comments. The first one names a file of docs/numbers and its columns; ``[]`` behind a column
adds the interval, and ``source`` as the last column adds a line with command, commit, machine and date:

    <!-- numbers models: model, parameters, si_sdr[], source -->
    <!-- end -->
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from hushwork.markdown import markdown_table

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- numbers (\w+): ([^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(name: str, columns: str) -> str:
    """The Markdown table of ``docs/numbers/<name>.json`` with the named columns, as a marker lists them.

    Raises:
        ValueError: there is no such file or column.
    """
    path = ROOT / "docs" / "numbers" / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; a table asks for it")
    numbers = json.loads(path.read_text(encoding="utf-8"))
    keys = [key.strip() for key in columns.split(",")]
    has_source = keys[-1] == "source"
    keys = keys[:-1] if has_source else keys
    unknown = {key.removesuffix("[]") for key in keys} - set(numbers["columns"])
    if unknown:
        raise ValueError(f"{path} has no column {', '.join(sorted(unknown))}; it has {', '.join(numbers['columns'])}")
    titles = [numbers["columns"][key.removesuffix("[]")]["title"] for key in keys]
    rows = [[cell(row, key, numbers["columns"][key.removesuffix("[]")]) for key in keys] for row in numbers["rows"]]
    table = markdown_table(titles, rows) + "\n"
    if has_source:
        facts = f"commit {numbers['commit']}, {numbers['date']}, on {numbers['machine']}"
        table += f"\n{numbers['what']}: `{numbers['command']}`, {facts}.\n"
    return table


def cell(row: dict[str, Any], key: str, column: dict[str, Any]) -> str:
    """A value as text, with the column's digits; a mean with its interval where the key ends in ``[]``."""
    value = row.get(key.removesuffix("[]"), "")
    sign = "+" if column.get("signed") else ""
    digits = column.get("digits", 0)
    if isinstance(value, list):
        mean, low, high = value
        interval = f" [{low:.{digits}f}, {high:.{digits}f}]" if key.endswith("[]") else ""
        return f"{mean:{sign}.{digits}f}{interval}"
    return value if isinstance(value, str) else f"{value:{sign},.{digits}f}"


def updated(text: str) -> str:
    """A page with all its tables as the JSON files have them."""
    return BLOCK.sub(lambda found: found[1] + render(found[2], found[3]) + found[4], text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the tables of README.md and docs/ from docs/numbers/*.json.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if a page differs")
    check = parser.parse_args().check
    differing = False
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        new = updated(text)
        if new != text:
            differing = True
            print(f"{page.relative_to(ROOT)} {'differs from' if check else 'now agrees with'} docs/numbers")
            if not check:
                page.write_text(new, encoding="utf-8")
    return int(check and differing)


if __name__ == "__main__":
    sys.exit(main())
