"""docs/contract.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_promise_names_a_test_that_exists() -> None:
    rows = [line for line in (ROOT / "docs" / "contract.md").read_text("utf-8").splitlines() if line.startswith("| ")][
        1:
    ]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`((?:\w+/)?test_\w+\.py)?(?:::(test_\w+))?`", row)
        names = [pair for pair in named if any(pair)]
        assert names, row
        file = ""
        for file_name, test in names:
            file = file_name or file
            texts = [path.read_text("utf-8") for path in (ROOT / "tests").rglob(file)]
            assert any(f"def {test}(" in text if test else True for text in texts), (file, test)
