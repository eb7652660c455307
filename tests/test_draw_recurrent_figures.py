"""The figures of docs/recurrent.md are drawn, and what they show of gradients is so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import draw_recurrent_figures as script


def test_without_saturation_gradients_change_by_the_matrix_in_each_frame() -> None:
    torch.manual_seed(0)
    for radius in (0.9, 1.1):
        values = script.gradient_by_distance(script.scaled_rnn(radius), seed=0)
        assert values[40] / values[20] == pytest.approx(radius**20, rel=0.2)


def test_clipping_bounds_what_explodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "STEPS", 100)
    # A step of SGD moves the weights by the learning rate times the clipped gradient, whatever the gradient was.
    losses, norms = script.train_delayed_sum("norm", 1.0, seed=0)
    assert len(losses) == len(norms) == 100
    assert np.isfinite(losses).all()
    assert np.mean(losses[-20:]) < losses[0]


def test_all_figures_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "STEPS", 5)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "noisy.npy", rng.standard_normal((70, 5, 6)).astype(np.float32))
    np.save(tmp_path / "clean.npy", rng.uniform(size=(70, 5, 6)).astype(np.float32))
    out = tmp_path / "figures"
    assert script.main(["--arrays", str(tmp_path), "--epochs", "2", "--out", str(out)]) == 0
    numbers = json.loads((out / "recurrent.json").read_text("utf-8"))
    assert set(numbers["networks"]) == set(script.NETWORKS)
    drawn = {path.name for path in out.glob("*.png")}
    assert drawn == {"gradient_distance.png", "gradient_clipping.png", "networks.png"}


def test_missing_arrays_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--arrays", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "noisy.npy" in capsys.readouterr().err.replace("\n", "")
