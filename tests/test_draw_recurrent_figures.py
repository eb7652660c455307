"""The figures of docs/recurrent.md are drawn, and the gradients they show are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import draw_recurrent_figures as script
import numpy as np
import pytest
import torch

from hushwork.runs.numbers import Numbers


def test_without_saturation_gradients_change_by_the_matrix_in_each_frame() -> None:
    torch.manual_seed(0)
    for radius in (0.9, 1.1):
        values = script.gradient_by_distance(script.scaled_rnn(radius), seed=0)
        assert values[40] / values[20] == pytest.approx(radius**20, rel=0.2)


@pytest.mark.parametrize(
    ("clip", "bound", "order"), [("none", None, 2), ("norm", 1.0, 2), ("value", 0.1, float("inf"))]
)
def test_clipping_bounds_exploding_gradients(
    clip: str, bound: float | None, order: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: Any, closure: Any = None) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        applied.append(float(torch.nn.utils.get_total_norm(gradients, norm_type=order)))
        return step(self, closure)

    monkeypatch.setattr(script, "STEPS", 40)
    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    losses, norms = script.train_delayed_sum(clip, bound or 0.0, seed=0)
    assert len(losses) == len(norms) == len(applied) == 40
    assert max(norms) > 5  # the gradient as it was
    if bound is None:
        assert applied == norms
    else:
        assert max(applied) == pytest.approx(bound, rel=1e-3)
        assert np.isfinite(losses).all()


def test_all_figures_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "STEPS", 5)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "noisy.npy", rng.standard_normal((70, 5, 6)).astype(np.float32))
    np.save(tmp_path / "clean.npy", rng.uniform(size=(70, 5, 6)).astype(np.float32))
    out = tmp_path / "figures"
    options = ["--arrays", str(tmp_path), "--epochs", "2", "--out", str(out), "--numbers", str(tmp_path / "numbers")]
    assert script.main(options) == 0
    tables = {path.stem: Numbers.read(path) for path in (tmp_path / "numbers").iterdir()}
    assert set(tables) == {"gradients", "clipping", "networks"}
    assert [row["network"] for row in tables["networks"].rows] == [*script.NETWORKS]
    assert tables["networks"].columns["error"].title == "validation error after 2 epochs"
    assert all(0 < row["error"] < 10 for row in tables["networks"].rows)
    drawn = {path.name for path in out.glob("*.png")}
    assert drawn == {"gradient_distance.png", "gradient_clipping.png", "networks.png"}


def test_missing_arrays_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--arrays", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "noisy.npy" in capsys.readouterr().err.replace("\n", "")
