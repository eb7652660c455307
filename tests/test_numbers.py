"""Tables of README and docs are those of docs/numbers, and these agree with what the shipped models record."""

import importlib.util
import json
from pathlib import Path

import pytest

import hushwork

ROOT = Path(__file__).parents[1]
WEIGHTS = Path(hushwork.__file__).parent / "weights"

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


def test_a_changed_number_is_noticed() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "| 11.7 |" in text
    assert tables.updated(text.replace("| 11.7 |", "| 11.8 |")) == text


def test_unknown_files_and_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"nothing\.json does not exist"):
        tables.render("nothing", "a")
    with pytest.raises(ValueError, match="no column loudness; it has"):
        tables.render("models", "model, loudness")


@pytest.mark.parametrize("path", sorted((ROOT / "docs/numbers").glob("*.json")), ids=lambda path: path.stem)
def test_numbers_say_where_they_come_from(path: Path) -> None:
    numbers = json.loads(path.read_text(encoding="utf-8"))
    for key in ("what", "command", "commit", "machine", "date"):
        assert numbers[key]
    for row in numbers["rows"]:
        assert set(row) <= set(numbers["columns"])


@pytest.mark.parametrize("name", ["default", "small", "offline"])
def test_the_models_table_is_what_the_models_record(name: str) -> None:
    numbers = json.loads((ROOT / "docs/numbers/models.json").read_text(encoding="utf-8"))
    row = next(row for row in numbers["rows"] if row["model"] == name)
    config = json.loads((WEIGHTS / name / "config.json").read_text(encoding="utf-8"))
    assert row["parameters"] == config["parameters"]
    assert row["mmacs"] == round(config["macs_per_s"] / 1e6, 1)
    scores = config["summary"]["overall"]["denoised"]
    for key in ("si_sdr", "stoi", "estoi", "pesq_wb"):
        digits = numbers["columns"][key]["digits"]
        assert row[key] == [round(scores[key][part], digits) for part in ("mean", "low", "high")]
