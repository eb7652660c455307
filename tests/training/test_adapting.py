"""Adapting a model: new recordings, and replayed mixtures whose reference is what the model knew."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from hushwork.data.batch import NoisySpeechBatch
from hushwork.losses import MagnitudeLoss
from hushwork.models.denoiser import Denoiser
from hushwork.models.export import load_for_training
from hushwork.network.model_folder import read_config
from hushwork.training.module import DenoisingModule
from hushwork.training.run import train

MODEL_AT_8_KHZ = Path(__file__).parents[1] / "fixtures" / "model_before_format_numbers"
Compose = Callable[..., DictConfig]


def make_module(denoiser: Denoiser, initial: Denoiser | None = None) -> DenoisingModule:
    optimizer = partial(torch.optim.Adam, lr=1e-2)
    return DenoisingModule(denoiser=denoiser.train(), loss=MagnitudeLoss(power=1), optimizer=optimizer, initial=initial)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_replayed_mixtures_pull_towards_the_initial_output(denoiser: Denoiser) -> None:
    torch.manual_seed(5)
    initial = copy.deepcopy(denoiser)
    with torch.no_grad():
        for parameter in initial.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    module = make_module(denoiser, initial)
    clean, noise = 0.1 * torch.randn(2, 3, 4000)
    names = ["new", "known", "known"]
    batch = NoisySpeechBatch(noisy=clean + noise, clean=clean, lengths=torch.tensor([4000] * 3), names=names)
    replayed = replace(batch, replayed=torch.tensor([False, True, True]))
    outputs = [clean[0], initial(batch.noisy[1:2])[0], initial(batch.noisy[2:])[0]]
    expected, _ = module.step(replace(batch, clean=torch.stack(outputs).detach()))
    assert not torch.isclose(expected, module.step(batch)[0])
    found = module.training_step(replayed, 0)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert not any(parameter.requires_grad for parameter in initial.parameters())
    assert module.state_dict().keys() == make_module(denoiser).state_dict().keys()
    torch.testing.assert_close(module.step(replayed)[0], module.step(batch)[0])  # validation compares with clean speech
    torch.testing.assert_close(make_module(denoiser).training_step(replayed, 0), module.step(batch)[0])


ADAPT = (
    *("experiment=adapt", "data.mixtures_per_epoch=4", "data.batch_size=2", "data.num_valid=2", "data.eval_max_s=0.5"),
    *("data.mixing.segment_s=1", "data.mixing.synthetic_noises.babble=0", "trainer.num_sanity_val_steps=0"),
    *("trainer.max_steps=2", "scheduler=none", "logger=[csv]", "callbacks.examples=null", "data.num_workers=0"),
)


def test_adapting_takes_the_network_of_any_model_and_names_both_corpora(
    compose: Compose, model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    initial: list[Denoiser] = []

    def spy(**options: Any) -> DenoisingModule:
        initial.append(options["initial"])
        return DenoisingModule(**options)

    monkeypatch.setattr("hushwork.training.run.DenoisingModule", spy)
    train(compose(*ADAPT, "test=false", f"init_from={model_folder}"))
    exported = next(folder for folder in tmp_path.glob("**/model") if folder != model_folder)
    before, after = (read_config(folder) for folder in (model_folder, exported))
    assert after["model"] == before["model"]
    assert after["data"]["replay"].endswith("starter/manifest.jsonl")
    sources = {source["source"] for source in after["data"]["train"]["sources"]}
    assert {"tones", "noise of train", "kokoro-82m"} <= sources
    assert f"{corpus}, {after['data']['replay']}, SHA-256" in (exported / "MODEL_CARD.md").read_text("utf-8")
    weights = [load_for_training(folder).state_dict() for folder in (model_folder, exported)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    kept = initial[0].state_dict()  # the reference of the replayed mixtures is what it was
    assert all(torch.equal(weights[0][name], kept[name]) for name in weights[0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init_from=null"], "init_from is null, but model=_initial takes its network; set init_from=default"),
        (["init_from=nowhere"], "nowhere: not a model folder"),
        ([f"init_from={MODEL_AT_8_KHZ}"], "sample_rate is 16000, but the model's is 8000; set it to that"),
        (["data.replay_share=1.5"], r"data.replay_share is 1.5; it must lie in \[0, 1\]"),
        (["data.manifest=data/folders/manifest.jsonl"], r"no such manifest; .* \(hushwork prepare folders\)"),
    ],
)
def test_what_cannot_be_adapted_is_said(compose: Compose, overrides: list[str], message: str) -> None:
    with pytest.raises(Exception, match=message):
        train(compose(*ADAPT, *overrides))
