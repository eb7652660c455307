"""The networks of the paper's tasks against this project's layers, and the tasks on little data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reproduce_clockwork_paper as script
import soundfile
import torch
from clockwork_paper import generation, words
from clockwork_paper.networks import Bank, count_parameters
from clockwork_paper.outcome import table

from hushwork.config import PACKAGE
from hushwork.models.clockwork import ClockworkRNN

PERIODS = (1, 2, 4, 8, 16)


@pytest.fixture(scope="module")
def spoken() -> tuple[words.Words, words.Words]:
    """Of the voices trained on, and of others."""
    return words.load(words.FOLDER, words.TRAIN_VOICES, words.TEST_VOICES)


def weights_of(bank: Bank, number: int) -> dict[str, torch.Tensor]:
    return {name: value[number].detach() for name, value in bank.weights.items()}


@pytest.mark.parametrize("num_inputs", [0, 3])
def test_the_clockwork_networks_are_the_library_s(num_inputs: int) -> None:
    bank = Bank("cw", 12, PERIODS, seeds=[3, 4], num_inputs=num_inputs, num_outputs=2)
    x = torch.randn(2, 5, 40, num_inputs) if num_inputs else None
    outputs = bank.run(x, 40)
    for number in range(2):
        layer = ClockworkRNN(input_size=max(1, num_inputs), hidden_sizes=bank.sizes, periods=PERIODS)
        weights = weights_of(bank, number)
        start = 0
        for module, size in zip(layer.clocked, bank.sizes, strict=True):
            own = slice(start, start + size)
            with torch.no_grad():
                module.weight_hh_l0.copy_(weights["recurrent"][own, own].T)
                module.weight_ih_l0.zero_()
                if num_inputs:
                    module.weight_ih_l0[:, :num_inputs] = weights["input"][:, own].T
                module.weight_ih_l0[:, max(1, num_inputs) :] = weights["recurrent"][start + size :, own].T
                module.bias_ih_l0.copy_(weights["bias"][0, own])
                module.bias_hh_l0.zero_()
            start += size
        hidden, _ = layer(torch.zeros(1, 40, 1) if x is None else x[number])
        torch.testing.assert_close(outputs[number], hidden @ weights["out"] + weights["level"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "layer"), [("srn", torch.nn.RNN), ("lstm", torch.nn.LSTM)])
def test_the_other_networks_are_torch_s(kind: str, layer: Any) -> None:
    bank = Bank(kind, 5, PERIODS, seeds=[1], num_inputs=3)
    weights = weights_of(bank, 0)
    # Here a gate's order is i f o g, torch's is i f g o.
    order = [0, 1, 3, 2] if kind == "lstm" else [0]
    columns = torch.cat([torch.arange(5) + 5 * gate for gate in order])
    plain = layer(3, 5, batch_first=True)
    with torch.no_grad():
        plain.weight_hh_l0.copy_(weights["recurrent"][:, columns].T)
        plain.weight_ih_l0.copy_(weights["input"][:, columns].T)
        plain.bias_ih_l0.copy_(weights["bias"][0, columns])
        plain.bias_hh_l0.zero_()
    x = torch.randn(1, 4, 30, 3)
    hidden, _ = plain(x[0])
    torch.testing.assert_close(bank.run(x, 30)[0], hidden @ weights["out"] + weights["level"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", [generation, words])
def test_all_models_of_a_size_have_about_its_parameters(task: Any) -> None:
    ends = (13, 25) if task is words else (0, 1)
    for size, hidden in task.SIZES.items():
        for kind, units in hidden.items():
            count = count_parameters(kind, units, task.PERIODS, *ends)
            assert count == pytest.approx(size, rel=0.16), (size, kind)
            bank = Bank(kind, units, task.PERIODS, [0], num_inputs=ends[0], num_outputs=ends[1])
            trained = sum(weight.numel() for weight in bank.weights.values())
            if kind == "cw":
                trained += len(task.PERIODS) - int((bank.mask == 0).sum())
            assert count == trained


def test_networks_trained_together_learn_as_if_alone() -> None:
    targets = torch.from_numpy(np.sin(np.arange(60) / np.array([[3.0], [5.0]])).astype(np.float32))
    rates = torch.tensor([1e-3, 3e-4])
    together = generation.train(Bank("cw", 12, PERIODS, seeds=[0, 1]), targets, rates, epochs=20)
    for i in range(2):
        alone = generation.train(Bank("cw", 12, PERIODS, seeds=[i]), targets[i : i + 1], rates[i : i + 1], epochs=20)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-4)
    before = Bank("cw", 12, PERIODS, seeds=[0, 1]).run(None, 60)[:, 0, :, 0]
    assert ((together - targets).square().sum(1) < (before - targets).square().sum(1)).all()


def test_generation_writes_its_table_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "LEARNING_RATES", (1e-3,))
    monkeypatch.setattr(generation, "SEARCH_SEEDS", 1)
    targets = generation.read_snippets(PACKAGE / "data" / "example.flac")
    assert targets.shape == (5, 320)
    outcomes = [generation.run(kind, 100, targets[:, :50], epochs=2, num_seeds=2) for kind in generation.PAPER]
    assert all(len(outcome.scores) == 10 for outcome in outcomes)
    numbers = table(outcomes, generation.PAPER, 3, "Errors")
    assert "| paper, 100 | 0.460 ± 0.080 |" in numbers.markdown()
    scores = next(outcome.scores for outcome in outcomes if outcome.kind == "cw")
    assert numbers.rows[0]["cw"] == pytest.approx([np.mean(scores), np.std(scores)], abs=1e-5)
    assert numbers.rows[0]["cw_rate"] == 1e-3
    generation.draw(outcomes, targets[:, :50], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_the_words_are_there_and_speakers_are_apart(spoken: tuple[words.Words, words.Words]) -> None:
    assert len(set(words.WORDS)) == 25
    assert not set(words.TRAIN_VOICES) & set(words.TEST_VOICES)
    train_words, test_words = spoken
    assert (len(train_words.labels), len(test_words.labels)) == (125, 50)
    frames = torch.cat([word[: last + 1] for word, last in zip(train_words.features, train_words.last, strict=True)])
    torch.testing.assert_close(frames.mean(0), torch.zeros(13), rtol=0, atol=1e-4)
    torch.testing.assert_close(frames.std(0), torch.ones(13), rtol=0, atol=1e-4)
    assert (train_words.last > 25).all()  # a quarter of a second


def test_an_answer_is_given_at_the_word_s_own_end(spoken: tuple[words.Words, words.Words]) -> None:
    _, test_words = spoken
    bank = Bank("cw", 10, words.PERIODS, seeds=[0], num_inputs=13, num_outputs=25)
    with torch.no_grad():
        together = words.logits_of(bank, test_words)[0]
        for number in (0, 7):
            alone = words.logits_of(bank, test_words[torch.tensor([number])])[0, 0]
            torch.testing.assert_close(alone, together[number], rtol=0, atol=1e-5)


def test_words_are_learnt(spoken: tuple[words.Words, words.Words], monkeypatch: pytest.MonkeyPatch) -> None:
    train_words, _ = spoken
    few = train_words[torch.arange(10)]
    few = replace(few, features=few.features[:, ::2], last=few.last // 2)
    monkeypatch.setattr(words, "NOISE_SD", 0.1)
    monkeypatch.setattr(words, "BATCH", 5)
    bank = Bank("cw", 30, words.PERIODS, seeds=[0], num_inputs=13, num_outputs=25)
    found = words.train(bank, few, few, torch.tensor([1e-2]), max_epochs=40, seed=0)
    assert found.item() < 50  # by chance 96


def test_a_recording_that_is_too_short_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.ones(100), 16000)
    assert script.main(["--audio", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "short.wav" in capsys.readouterr().err.replace("\n", "")
    assert not (tmp_path / "out").exists()
