"""Magnitudes as arrays: written from a corpus, checked, trained on as in the Keras tutorial, converted to audio."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from configurations import compose_quickly
from hushwork import cli
from hushwork.data.stft_arrays import ArrayError, ArrayPairs, Scaling
from hushwork.network.heads import HEADS
from hushwork.training.stft_arrays import train

SHAPE = (20, 6, 5)


@pytest.fixture
def arrays(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    paths = tmp_path / "noisy.npy", tmp_path / "clean.npy"
    np.save(paths[0], rng.standard_normal(SHAPE).astype(np.float32))
    np.save(paths[1], rng.uniform(0.6, 0.8, SHAPE).astype(np.float32))
    return paths


def compose(arrays: tuple[Path, Path], run_dir: Path, *overrides: str) -> Any:
    return compose_quickly(
        "experiment=tutorial",
        "data=stft_arrays",
        f"data.noisy={arrays[0]}",
        f"data.clean={arrays[1]}",
        f"paths.run_dir={run_dir}",
        "trainer.max_epochs=2",
        "data.batch_size=4",
        "logger=csv",
        *overrides,
    )


def test_the_target_is_the_clean_array(arrays: tuple[Path, Path], tmp_path: Path) -> None:
    # The tutorial's printed code cuts its targets out of the noisy array by mistake.
    noisy, clean = np.load(arrays[0]), np.load(arrays[1])
    given, target = ArrayPairs(*arrays)[3]
    np.testing.assert_array_equal(given, noisy[3])
    np.testing.assert_array_equal(target, clean[3])
    small = "model.masker.recurrence.hidden_size=32"
    train(compose(arrays, tmp_path / "run", "trainer.max_epochs=20", "optimizer.lr=0.02", small))
    predicted = np.load(tmp_path / "run" / "predicted.npy")
    assert predicted.shape == (2, 6, 5)
    assert predicted.mean() == pytest.approx(0.7, abs=0.05)  # the noisy array's mean is 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert metrics["valid_mse"] == pytest.approx(float(np.mean((predicted - clean[18:]) ** 2)), rel=1e-5)


def test_the_network_is_the_tutorial_s() -> None:
    cfg = compose_quickly("experiment=tutorial", "data=stft_arrays", "data.noisy=a", "data.clean=b")
    network = instantiate(cfg.model.masker)(num_bins=129)
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.LSTM)]
    assert [(layer.input_size, layer.hidden_size, layer.bidirectional) for layer in layers] == [
        (129, 256, False),
        (256, 256, False),
    ]
    assert (network.dropout.p, network.head) == (0.5, HEADS["magnitude"])
    assert network.output.weight.shape == (129, 256)
    assert cfg.optimizer._target_ == "torch.optim.Adam"
    assert (cfg.data.batch_size, cfg.data.valid_fraction) == (32, 0.1)
    assert (cfg.trainer.max_epochs, cfg.trainer.max_steps) == (100, -1)


@pytest.mark.parametrize(
    ("variant", "last_only"),
    [("cell=rnn", True), ("cell=gru", False), ("bidirectional=true", False), ("bidirectional=true", True)],
)
def test_every_variant_learns(variant: str, last_only: bool, arrays: tuple[Path, Path], tmp_path: Path) -> None:
    small = ("model.masker.recurrence.hidden_size=8", f"data.last_only={last_only}", "trainer.max_epochs=8")
    settings = (*small, f"model.masker.recurrence.{variant}")
    untrained = train(compose(arrays, tmp_path / "untrained", *settings, "optimizer.lr=0", "trainer.max_epochs=1"))
    assert train(compose(arrays, tmp_path / "run", *settings, "optimizer.lr=0.03")) < 0.5 * untrained


@pytest.mark.parametrize(("algorithm", "order"), [("norm", 2), ("value", float("inf"))])
def test_clipping_bounds_the_gradient(
    algorithm: str, order: float, arrays: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    step = torch.optim.Adam.step

    def spy(self: Any, closure: Any) -> Any:
        result = closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        seen.append(float(torch.nn.utils.get_total_norm(gradients, norm_type=order)))
        step(self)
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    sizes = {}
    for clip in ("null", "1e-4"):
        seen.clear()
        overrides = (f"trainer.gradient_clip_val={clip}", f"trainer.gradient_clip_algorithm={algorithm}")
        train(compose(arrays, tmp_path / clip, "model.masker.recurrence.hidden_size=8", *overrides))
        sizes[clip] = max(seen)
    assert sizes["1e-4"] <= 1e-4 * 1.001
    assert sizes["null"] > 1e-3


@pytest.mark.parametrize(
    ("which", "value", "message"),
    [
        (0, np.zeros((20, 6)), "expected \\(samples, frames, bins\\)"),
        (0, np.zeros(SHAPE, int), "holds int"),
        (0, np.full(SHAPE, np.nan), "sample 0 holds NaN"),
        (1, np.zeros((20, 6, 4)), "they must agree"),
        (1, np.full(SHAPE, 1.5), "scale them to \\[0, 1\\]"),
        (1, np.array([{}], object), "not an .npy file of numbers"),
    ],
)
def test_invalid_arrays_are_named(arrays: tuple[Path, Path], which: int, value: np.ndarray, message: str) -> None:
    np.save(arrays[which], value)
    with pytest.raises(ArrayError, match=message):
        ArrayPairs(*arrays)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArrayError, match=r"nowhere\.npy: no such file"):
        ArrayPairs(tmp_path / "nowhere.npy", tmp_path / "nowhere.npy")


def test_masks_are_refused(arrays: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="experiment=tutorial"):
        train(compose(arrays, tmp_path, "model=cwgru"))


def test_another_loss_is_refused(arrays: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loss is set, but arrays are compared by mean squared error"):
        train(compose(arrays, tmp_path, "loss=magnitude_l1"))


def test_arrays_made_from_a_corpus_lead_back_to_its_audio(tmp_path: Path) -> None:
    out = tmp_path / "arrays"
    assert cli.main(["prepare", "stft-arrays", str(out), "--samples", "12", "--seconds", "0.5"]) == 0
    noisy, clean, phase = (np.load(out / f"{name}.npy") for name in ("noisy", "clean", "phase"))
    assert noisy.shape == clean.shape == phase.shape == (12, 33, 257)
    np.testing.assert_allclose(noisy.mean(axis=(0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(noisy.std(axis=(0, 1)), 1, atol=1e-3)
    assert clean.min() >= 0
    assert clean.max() == pytest.approx(1)
    scaling = Scaling.load(out)
    assert scaling is not None
    # With the noisy magnitudes in place of the clean ones, the noisy audio comes back.
    mean, deviation = np.array(scaling.mean), np.array(scaling.deviation)
    louder = replace(scaling, peak=float(np.exp(noisy * deviation + mean).max()))
    audio = louder.audio(louder.clean(np.exp(noisy * deviation + mean)), phase)
    mixtures = instantiate(compose_quickly("data.mixing.segment_s=0.5").data).train_dataset()
    assert audio.shape == (12, 8192)
    for index in range(12):
        np.testing.assert_allclose(audio[index, :8000], mixtures[0, index].noisy, atol=1e-3)
    assert cli.main(["prepare", "stft-arrays", str(out)]) == 1  # nothing is overwritten
    loss = train(compose((out / "noisy.npy", out / "clean.npy"), tmp_path / "run", "num_examples=1"))
    assert np.isfinite(loss)
    assert {path.name for path in (tmp_path / "run" / "examples").iterdir()} == {
        "00011_clean.wav",
        "00011_denoised.wav",
    }


def test_a_corpus_that_does_not_exist_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prepare", "stft-arrays", str(tmp_path / "out"), "--samples", "0"]) == 1
    assert "--samples" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
