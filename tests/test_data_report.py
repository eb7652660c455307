"""The report on a corpus, against values known from the making of the corpus."""

import numpy as np
import pytest

from hushwork import cli
from hushwork.data.manifest import load_manifest
from hushwork.evaluation import data_report

RATE = 16_000


def rows(text, first):
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {first}")]


def test_minutes_and_files_are_those_of_the_manifest(corpus, monkeypatch):
    monkeypatch.setattr(data_report, "available_metrics", list)
    manifest = load_manifest(corpus, RATE)
    text = data_report.describe(manifest, files=2)
    for split, kind, files, minutes, *_ in rows(text, "train | ") + rows(text, "test | "):
        if kind in ("speech", "noise"):
            chosen = manifest.select(kind, split)
            assert int(files) == len(chosen)
            assert float(minutes) == pytest.approx(sum(r.duration_s for r in chosen) / 60, abs=0.051)
    assert manifest.sha256 in text
    assert "DNSMOS" not in text


def test_the_noise_floor_is_the_level_below_speech():
    rng = np.random.default_rng(0)
    speech = rng.standard_normal(4 * RATE) * (np.arange(4 * RATE) % RATE < RATE // 2)
    for floor_db in (20, 40):
        noisy = speech + rng.standard_normal(4 * RATE) * 10 ** (-floor_db / 20)
        assert data_report.speech_to_noise_floor_db(noisy, RATE) == pytest.approx(floor_db, abs=1)
    assert data_report.speech_to_noise_floor_db(np.zeros(4 * RATE), RATE) == 0
    assert data_report.speech_to_noise_floor_db(np.zeros(3), RATE) == 0


def test_the_command_writes_the_report(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data_report, "available_metrics", lambda: ["dnsmos"])
    monkeypatch.setattr(data_report, "dnsmos", lambda audio, rate: {"sig": 3.5, "bak": 4.0, "ovrl": len(audio) / rate})
    out = tmp_path / "report.md"
    assert cli.main(["data-report", str(corpus), "--files", "1", "-o", str(out)]) == 0
    text = out.read_text()
    assert "3.50 [3.50, 3.50]" in text
    assert "9.01 [9.01, 9.01]" in text
    assert cli.main(["data-report", str(corpus), "--files", "0"]) == 1
    assert "--files is 0" in capsys.readouterr().err
    assert cli.main(["data-report", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl: no such manifest" in capsys.readouterr().err
