#!/usr/bin/env python3
"""Write the tables of README.md and docs/ from docs/numbers/*.json, which benchmarks write.

    python docs/tables.py            # rewrite what differs
    python docs/tables.py --check    # only say what differs; exit status 1 if anything does

A table stands between two comments. The first one names a file of docs/numbers and its columns; ``[]`` behind a column
adds the interval, and ``source`` as the last column adds a line with command, commit, machine and date:

    <!-- numbers models: model, parameters, si_sdr[], source -->
    <!-- end -->
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from hushwork.runs.numbers import Numbers

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- numbers (\w+): ([^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(name: str, columns: str) -> str:
    """The Markdown table of ``docs/numbers/<name>.json`` with the named columns, as a marker lists them.

    Raises:
        ValueError: there is no such file or column.
    """
    path = ROOT / "docs" / "numbers" / f"{name}.json"
    numbers = Numbers.read(path)
    keys = [key.strip() for key in columns.split(",")]
    try:
        if keys[-1] == "source":
            return f"{numbers.markdown(keys[:-1])}\n{numbers.source}\n"
        return numbers.markdown(keys)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


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
