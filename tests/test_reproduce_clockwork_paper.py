"""The networks of the paper's task, against this project's layers and the paper's figures."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from hushwork.models.clockwork import ClockworkRNN

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def paper() -> Any:
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module("reproduce_clockwork_paper")
    finally:
        sys.path.remove(str(SCRIPTS))


def test_the_clockwork_networks_are_the_library_s(paper: Any) -> None:
    bank = paper.Bank("cw", 20, seeds=[3, 4])
    sizes, periods = bank.sizes, paper.PERIODS
    for number in range(2):
        layer = ClockworkRNN(input_size=1, hidden_sizes=sizes, periods=periods)
        weights = {name: value[number].detach() for name, value in bank.weights.items()}
        start = 0
        for module, size in zip(layer.clocked, sizes, strict=True):
            own = slice(start, start + size)
            with torch.no_grad():
                module.weight_hh_l0.copy_(weights["recurrent"][own, own].T)
                module.weight_ih_l0.zero_()
                module.weight_ih_l0[:, 1:] = weights["recurrent"][start + size :, own].T
                module.bias_ih_l0.copy_(weights["bias"][0, own])
                module.bias_hh_l0.zero_()
            start += size
        hidden, _ = layer(torch.zeros(1, 40, 1))
        expected = (hidden @ weights["out"] + weights["level"]).squeeze()
        torch.testing.assert_close(bank.generate(40)[number], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "layer"), [("srn", torch.nn.RNN), ("lstm", torch.nn.LSTM)])
def test_the_other_networks_are_torch_s(paper: Any, kind: str, layer: Any) -> None:
    bank = paper.Bank(kind, 5, seeds=[1])
    weights = {name: value[0].detach() for name, value in bank.weights.items()}
    # Here a gate's order is i f o g, torch's is i f g o.
    order = [0, 1, 3, 2] if kind == "lstm" else [0]
    columns = torch.cat([torch.arange(5) + 5 * gate for gate in order])
    plain = layer(1, 5, batch_first=True)
    with torch.no_grad():
        plain.weight_hh_l0.copy_(weights["recurrent"][:, columns].T)
        plain.weight_ih_l0.zero_()
        plain.bias_ih_l0.copy_(weights["bias"][0, columns])
        plain.bias_hh_l0.zero_()
    hidden, _ = plain(torch.zeros(1, 30, 1))
    expected = (hidden @ weights["out"] + weights["level"]).squeeze(-1)
    torch.testing.assert_close(bank.generate(30), expected, rtol=0, atol=1e-5)


def test_all_models_of_a_size_have_about_its_parameters(paper: Any) -> None:
    for size, hidden in paper.SIZES.items():
        for kind, units in hidden.items():
            assert paper.count_parameters(kind, units) == pytest.approx(size, rel=0.15), (size, kind)


def test_networks_trained_together_learn_as_if_alone(paper: Any) -> None:
    targets = torch.from_numpy(np.sin(np.arange(60) / np.array([[3.0], [5.0]])).astype(np.float32))
    rates = torch.tensor([1e-3, 3e-4])
    together = paper.train(paper.Bank("cw", 12, seeds=[0, 1]), targets, rates, epochs=20)
    for i in range(2):
        alone = paper.train(paper.Bank("cw", 12, seeds=[i]), targets[i : i + 1], rates[i : i + 1], epochs=20)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-4)
    before = paper.Bank("cw", 12, seeds=[0, 1]).generate(60)
    assert ((together - targets).square().sum(1) < (before - targets).square().sum(1)).all()


def test_it_writes_table_figures_and_picture(
    paper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paper, "LEARNING_RATES", (1e-3,))
    monkeypatch.setattr(paper, "SEARCH_SEEDS", 1)
    targets = paper.read_snippets(paper.PACKAGE / "data" / "example.flac")
    assert targets.shape == (5, 320)
    outcomes = [paper.run(kind, 100, targets[:, :50], epochs=2, num_seeds=2) for kind in paper.PAPER]
    assert all(len(outcome.nmse) == 10 for outcome in outcomes)
    assert "paper, 1000" in paper.table(outcomes)
    paper.draw(outcomes, targets[:, :50], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
    json.dumps([outcome.nmse for outcome in outcomes])


def test_a_recording_that_is_too_short_is_named(paper: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.ones(100), 16000)
    assert paper.main(["--audio", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "short.wav" in capsys.readouterr().err.replace("\n", "")
    assert not (tmp_path / "out").exists()
