"""Evaluation: rows, means, intervals and tables, against separate calculations."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from rich.console import Console

from hushwork.data.batch import Mixture
from hushwork.data.datasets import FixedMixtureDataset
from hushwork.data.manifest import load_manifest
from hushwork.evaluation import evaluate as evaluation
from hushwork.evaluation.evaluate import (
    SYSTEMS,
    Row,
    evaluate,
    oracle_mask_output,
    print_tables,
    summarize,
    write_results,
)
from hushwork.evaluation.metrics import bootstrap_interval
from hushwork.models.denoiser import Denoiser

RATE = 16000


@pytest.fixture(scope="module")
def dataset(corpus: Path) -> FixedMixtureDataset:
    options: dict[str, Any] = {"num_mixtures": 4, "snr_db": [0.0, 10.0], "max_s": 0.5, "sample_rate": RATE, "seed": 0}
    return FixedMixtureDataset(load_manifest(corpus, RATE), "test", **options)


def si_sdr(estimate: np.ndarray, clean: np.ndarray) -> float:
    """By projection, as in the paper."""
    estimate, clean = (signal.astype(float) - signal.astype(float).mean() for signal in (estimate, clean))
    target = clean * (estimate @ clean) / (clean @ clean)
    return float(10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target))))


def make_row(name: str, system: str, score: float, snr_db: float = 0.0, noise_class: str = "rain") -> Row:
    failures = {} if np.isfinite(score) else {"si_sdr": "is nan"}
    return Row(name, system, "a", noise_class, snr_db, {"si_sdr": score}, failures)


def test_each_mixture_has_a_row_for_each_system(dataset: FixedMixtureDataset, denoiser: Denoiser) -> None:
    rows = evaluate(denoiser, dataset, ["si_sdr"])
    assert [(row.name, row.system) for row in rows] == [(dataset[0, i].name, s) for i in range(4) for s in SYSTEMS]
    for index in range(4):
        mixture = dataset[0, index]
        noisy, denoised, oracle = rows[3 * index : 3 * index + 3]
        with torch.inference_mode():
            output = denoiser(torch.from_numpy(mixture.noisy)[None])[0].numpy()
        assert noisy.scores["si_sdr"] == pytest.approx(si_sdr(mixture.noisy, mixture.clean), abs=1e-3)
        assert denoised.scores["si_sdr"] == pytest.approx(si_sdr(output, mixture.clean), abs=1e-3)
        assert oracle.scores["si_sdr"] > noisy.scores["si_sdr"] + 5
        for row in (noisy, denoised, oracle):
            gain = row.scores["si_sdr"] - noisy.scores["si_sdr"]
            assert row.scores["si_sdr_improvement"] == pytest.approx(gain, abs=1e-9)
            assert (row.speaker, row.noise_class, row.snr_db) == (mixture.speaker, mixture.noise_class, mixture.snr_db)


def test_the_oracle_is_the_ideal_ratio_mask(dataset: FixedMixtureDataset, denoiser: Denoiser) -> None:
    mixture = dataset[0, 0]
    noisy, clean = (torch.from_numpy(audio)[None] for audio in (mixture.noisy, mixture.clean))
    output = oracle_mask_output(denoiser, noisy, clean)
    # Its spectrum, after resynthesis, stays near what Wiener's formula with exponent 1/2 gives bin by bin.
    speech, noise = denoiser.analysis(clean).abs() ** 2, denoiser.analysis(noisy - clean).abs() ** 2
    expected = (speech / (speech + noise + 1e-20)) ** 0.5 * denoiser.analysis(noisy).abs()
    error = (denoiser.analysis(output).abs() - expected).norm() / expected.norm()
    assert error < 0.15
    assert (oracle_mask_output(denoiser, clean, clean) - clean).abs().max() < 1e-5  # nothing to take away


def test_undefined_scores_are_named(denoiser: Denoiser) -> None:
    class Silent:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, key: tuple[int, int]) -> Mixture:
            zeros = np.zeros(4000, np.float32)
            return Mixture(noisy=zeros, clean=zeros, name="s", speaker="a", noise_class="b", snr_db=0.0)

    rows = evaluate(denoiser, Silent(), ["stoi"])
    assert all(np.isnan(row.scores["stoi"]) for row in rows)
    assert all("stoi" in row.failures for row in rows)
    assert summarize(rows)["overall"]["denoised"]["stoi"]["failed"] == 1


def test_the_interval_is_scipy_s() -> None:
    values = np.random.default_rng(3).gamma(2.0, 3.0, size=60)
    low, high = bootstrap_interval(values)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    spread = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=0.08 * spread)
    assert high == pytest.approx(expected.high, abs=0.08 * spread)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(np.array([2.0])) == (2.0, 2.0)


def test_missing_scores_are_left_out_and_counted() -> None:
    scores = {"noisy": [1.0, 2.0, 3.0], "denoised": [5.0, float("nan"), 7.0], "oracle mask": [float("nan")] * 3}
    rows = [make_row(f"f{i}", system, scores[system][i]) for i in range(3) for system in SYSTEMS]
    overall = summarize(rows)["overall"]
    assert overall["noisy"]["si_sdr"]["mean"] == 2.0
    assert (overall["noisy"]["si_sdr"]["files"], overall["noisy"]["si_sdr"]["failed"]) == (3, 0)
    denoised = overall["denoised"]["si_sdr"]
    assert (denoised["mean"], denoised["files"], denoised["failed"]) == (6.0, 2, 1)
    assert 5.0 <= denoised["low"] <= denoised["high"] <= 7.0
    oracle = overall["oracle mask"]["si_sdr"]
    assert np.isnan(oracle["mean"])
    assert (oracle["files"], oracle["failed"]) == (0, 3)


def test_groups_hold_their_own_files() -> None:
    rows = []
    for index, (snr_db, noise_class) in enumerate([(0.0, "rain"), (5.0, "rain"), (5.0, "wind"), (-2.5, "rain")]):
        rows += [make_row(f"f{index}", s, 10.0 * index + k, snr_db, noise_class) for k, s in enumerate(SYSTEMS)]
    rows += [make_row("pair", system, 99.0, float("nan"), "unknown") for system in SYSTEMS]
    summary = summarize(rows)
    assert list(summary["by_snr"]) == ["-2.5", "0", "5"]
    assert list(summary["by_noise_class"]) == ["rain", "unknown", "wind"]
    assert summary["by_snr"]["5"]["denoised"]["si_sdr"]["mean"] == 16.0
    assert summary["by_snr"]["5"]["denoised"]["si_sdr"]["files"] == 2
    assert summary["by_noise_class"]["rain"]["noisy"]["si_sdr"]["mean"] == pytest.approx(40 / 3)
    assert summary["overall"]["noisy"]["si_sdr"]["files"] == 5


def test_results_are_written_as_json_and_csv(tmp_path: Path) -> None:
    rows = [make_row("f0", system, 1.5) for system in SYSTEMS] + [make_row("f1", "noisy", float("nan"))]
    rows += [make_row("f1", system, 2.5) for system in SYSTEMS[1:]]
    results = write_results(rows, tmp_path / "deep" / "er", {"seed": 4})
    content = (tmp_path / "deep" / "er" / "metrics.json").read_text("utf-8")
    assert "NaN" not in content
    assert json.loads(content)["seed"] == results["seed"] == 4
    assert json.loads(content)["summary"]["overall"]["denoised"]["si_sdr"]["mean"] == 2.0
    with (tmp_path / "deep" / "er" / "metrics.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6
    assert lines[0] == {
        "name": "f0", "system": "noisy", "speaker": "a", "noise_class": "rain", "snr_db": "0.0", "si_sdr": "1.5000",
        "failures": "",
    }  # fmt: skip
    assert lines[3]["failures"] == "si_sdr is nan"


def test_tables_show_scores_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hushwork.evaluation.evaluate.is_installed", lambda name: name != "dnsmos")
    rows = [make_row("f0", system, 10.0 + k, 5.0) for k, system in enumerate(SYSTEMS)]
    rows += [make_row("f1", system, float("nan"), 5.0) for system in SYSTEMS]
    page = io.StringIO()
    print_tables(summarize(rows), Console(file=page, width=160))
    text = page.getvalue()
    assert "11.000 [11.000, 11.000]" in text
    assert "10.00 → 11.00" in text
    assert "rain" in text
    assert [line.split()[1] for line in text.splitlines() if "not installed │" in line] == ["dnsmos"]
    assert "pip install 'hushwork[eval]'" in text
    assert "denoised: metrics without a score, and for how many files (reasons in metrics.csv): {'si_sdr': 1}" in text


@pytest.mark.slow
def test_processes_change_no_score(
    dataset: FixedMixtureDataset, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = evaluate(denoiser, dataset, ["si_sdr"])
    monkeypatch.setattr(evaluation, "MIXTURES_PER_WORKER", 2)
    monkeypatch.setattr(evaluation.os, "cpu_count", lambda: 2)
    assert evaluate(denoiser, dataset, ["si_sdr"]) == alone
