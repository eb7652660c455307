"""Tables of README and docs are those of docs/numbers, which agree with the records of the shipped models."""

import datetime
import importlib.util
import json
import os
import platform
import re
from pathlib import Path

import pytest
import scores

from hushwork.runs.numbers import Column, Numbers

ROOT = Path(__file__).parents[1]
TYPED = {"laboratory", "corpora", "scale"}  # the notebook, printed reports of corpora, and sums that the page works out
NUMBER = r"(?<=\|) *[-+±*\d.,]*\d[\d.,]*\**(?: ± [\d.]+| \[.*?\])?(?: ?(?:%|ms|s|h|x|dB|MiB|MB|µs))? *(?=\|)"

spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
assert spec is not None
assert spec.loader is not None
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_pages_agree_with_their_numbers(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- numbers ") == len(tables.BLOCK.findall(text)), "a marker without columns or without an end"
    assert tables.updated(text) == text, "run: python docs/tables.py"


def typed_rows(text: str) -> list[str]:
    """Rows of tables outside markers with more than one cell that is a number."""
    lines = tables.BLOCK.sub("", text).splitlines()
    return [line for line in lines if line.startswith("|") and len(re.findall(NUMBER, line)) > 1]


@pytest.mark.parametrize("page", [page for page in tables.PAGES if page.stem not in TYPED], ids=lambda page: page.name)
def test_tables_of_numbers_are_not_typed(page: Path) -> None:
    assert typed_rows(page.read_text(encoding="utf-8")) == [], "move them to docs/numbers, with a marker in the page"


def test_typed_numbers_are_found() -> None:
    rows = ["| gru | 47 | 255 ms |", "| 100 | 0.818 ± 0.156 |", "| noisy | 3.8 [2.7, 4.9] | **0.3** |"]
    assert typed_rows("\n".join([*rows, "| 44.1 kHz | as it was |"])) == rows
    assert typed_rows(f"<!-- numbers a: b -->\n{rows[0]}\n<!-- end -->") == []


def test_a_changed_number_is_noticed() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "| 0.762 |" in text
    assert tables.updated(text.replace("| 0.762 |", "| 0.763 |")) == text


def test_unknown_files_and_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"nothing\.json does not exist"):
        tables.render("nothing", "a")
    with pytest.raises(ValueError, match="no column loudness; it has"):
        tables.render("models", "model, loudness")


@pytest.mark.parametrize("path", sorted((ROOT / "docs/numbers").glob("*.json")), ids=lambda path: path.stem)
def test_numbers_hold_their_origin(path: Path) -> None:
    numbers = Numbers.read(path)
    assert all((numbers.what, numbers.command, numbers.commit, numbers.machine))
    assert datetime.date.fromisoformat(numbers.date) >= datetime.date(2026, 11, 1)
    for row in numbers.rows:
        assert set(row) <= set(numbers.columns)


def test_the_models_table_holds_the_records_of_the_models() -> None:
    found, recorded = scores.models_of_the_package(), Numbers.read(ROOT / "docs/numbers/models.json")
    assert found.rows == recorded.rows, "run: python scripts/benchmarks/scores.py && python docs/tables.py"
    assert found.commit == recorded.commit


def test_numbers_are_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["measure.py", "--files", "a b"])
    columns = {"system": Column("system"), "gain": Column("gain, dB", 1, signed=True)}
    rows = [{"system": "ours", "gain": [2 / 3, 0.5, 0.75]}, {"system": "none"}]
    numbers = Numbers.measured("Gains", columns, rows)
    numbers.write(tmp_path / "deep" / "gains.json")
    assert Numbers.read(tmp_path / "deep" / "gains.json") == numbers
    assert numbers.command == "python measure.py --files 'a b'"
    assert numbers.rows[0]["gain"] == [0.6667, 0.5, 0.75]
    assert platform.node() not in numbers.source
    assert f"{os.cpu_count()} " in numbers.machine
    assert numbers.markdown(["system", "gain[]"]).splitlines()[2:] == ["| ours | +0.7 [0.5,\u00a00.8] |", "| none |  |"]


def test_the_scores_of_a_run_become_a_table(tmp_path: Path) -> None:
    summary = json.loads((scores.WEIGHTS / "small/config.json").read_text(encoding="utf-8"))["summary"]
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"name": "mine", "command": "train", "commit": None, "summary": summary}))
    assert scores.main([str(metrics), "--out", str(tmp_path / "mine.json")]) == 0
    numbers = Numbers.read(tmp_path / "mine.json")
    assert [row["model"] for row in numbers.rows] == ["noisy", "mine", "oracle ratio mask"]
    assert "parameters" not in numbers.columns
    measured = summary["overall"]["denoised"]["si_sdr"]
    assert numbers.rows[1]["si_sdr"] == pytest.approx([measured[k] for k in ("mean", "low", "high")], abs=1e-3)
