"""One training step, and the trainer's handling of gradients."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from configurations import SMALL_NETWORK
from hushwork.data.batch import NoisySpeechBatch
from hushwork.losses import MagnitudeLoss, NegativeSnrLoss
from hushwork.models.denoiser import Denoiser
from hushwork.training.callbacks import GradientGuard
from hushwork.training.module import DenoisingModule
from hushwork.training.run import without_fusion

N = 4000
Compose = Callable[..., DictConfig]
pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")


def make_batch(seed: int = 0, scale: float = 1.0, size: int = 2) -> NoisySpeechBatch:
    generator = torch.Generator().manual_seed(seed)
    tones = torch.sin(torch.arange(N) * torch.linspace(0.05, 0.4, size)[:, None])
    clean = 0.1 * tones * (torch.arange(N) % 2000 < 1200)
    noisy = clean + 0.1 * torch.randn(size, N, generator=generator)
    names = [f"{seed}/{i}" for i in range(size)]
    return NoisySpeechBatch(noisy=noisy * scale, clean=clean * scale, lengths=torch.full((size,), N), names=names)


def make_module(denoiser: Denoiser, loss: nn.Module | None = None, **options: Any) -> DenoisingModule:
    options = {"optimizer": partial(torch.optim.Adam, lr=1e-2), **options}
    return DenoisingModule(denoiser=denoiser.train(), loss=loss or MagnitudeLoss(power=1), **options)


def batches(number: int) -> Any:
    return DataLoader([make_batch(seed) for seed in range(number)], batch_size=None)  # type: ignore[arg-type]


def test_one_batch_is_overfitted(denoiser: Denoiser) -> None:
    module, batch = make_module(denoiser), make_batch()
    optimizer = module.configure_optimizers()
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss, _ = module.step(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    # … and that is denoising: nearer to the clean speech than the noisy input is.
    with torch.inference_mode():
        estimate = denoiser.eval()(batch.noisy)
    assert (estimate - batch.clean).square().sum() < 0.2 * (batch.noisy - batch.clean).square().sum()


def test_loudness_does_not_change_the_loss(denoiser: Denoiser) -> None:
    module = make_module(denoiser)
    loud, quiet = module.step(make_batch())[0], module.step(make_batch(scale=0.01))[0]
    assert quiet.item() == pytest.approx(loud.item(), rel=1e-3)


def test_the_loss_measures_relative_to_the_noisy_level(denoiser: Denoiser) -> None:
    class Seen(nn.Module):
        def forward(self, estimate: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
            self.reference = reference
            return estimate.mean()

    loss, batch = Seen(), make_batch()
    make_module(denoiser, loss).step(batch)
    assert torch.allclose(loss.reference, batch.clean / batch.noisy.std(dim=1, correction=0, keepdim=True), rtol=1e-2)


def test_padding_changes_neither_loss_nor_gradient(denoiser: Denoiser) -> None:
    def gradient_of(batch: NoisySpeechBatch) -> tuple[float, list[Tensor]]:
        module = make_module(copy.deepcopy(denoiser))
        loss, _ = module.step(batch)
        loss.backward()
        return loss.item(), [parameter.grad for parameter in module.parameters() if parameter.grad is not None]

    batch = make_batch()
    pad = partial(nn.functional.pad, pad=(0, 1000))
    padded = NoisySpeechBatch(noisy=pad(batch.noisy), clean=pad(batch.clean), lengths=batch.lengths, names=batch.names)
    (loss, gradients), (padded_loss, padded_gradients) = gradient_of(batch), gradient_of(padded)
    assert padded_loss == pytest.approx(loss, rel=1e-5)
    for one, other in zip(gradients, padded_gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-7)


def test_silence_gives_a_finite_loss(denoiser: Denoiser) -> None:
    zeros = torch.zeros(2, N)
    module = make_module(denoiser)
    loss, _ = module.step(NoisySpeechBatch(noisy=zeros, clean=zeros, lengths=torch.tensor([N, N]), names=["", ""]))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


class Recorder(Callback):
    """Keeps the gradients that the optimiser used, and what was logged as their norm."""

    def __init__(self) -> None:
        self.used: list[list[Tensor]] = []
        self.weights: list[list[Tensor]] = []
        self.norms: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        trainer.optimizers[0].register_step_post_hook(lambda *_: self._keep(pl_module))

    def _keep(self, module: Any) -> None:
        self.used.append([p.grad.clone() for p in module.denoiser.parameters()])

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.weights.append([p.detach().clone() for p in pl_module.denoiser.parameters()])

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, out: Any, batch: Any, batch_idx: int) -> None:
        self.norms.append(float(trainer.callback_metrics["train/grad_norm"]))


def norm(gradients: list[Tensor]) -> float:
    return sum(float((gradient.double() ** 2).sum()) for gradient in gradients) ** 0.5


@pytest.mark.parametrize("precision", [None, "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize(
    ("clip", "kind"), [(0.05, "norm"), (0.002, "value"), (None, "norm")], ids=["norm", "value", "none"]
)
def test_clipping_bounds_the_gradients_of_the_optimiser(
    clip: float | None, kind: str, precision: Any, compose: Compose, denoiser: Denoiser, tmp_path: Path
) -> None:
    cfg = compose(
        "trainer.max_steps=3",
        f"trainer.gradient_clip_val={'null' if clip is None else clip}",
        f"trainer.gradient_clip_algorithm={kind}",
    )
    recorder = Recorder()
    guard = GradientGuard(folder=str(tmp_path / "skipped"))
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if precision == "16-mixed" else None
    if precision:  # given as a plugin, since Lightning would turn 16-mixed into bf16-mixed on a CPU
        options |= {"precision": None, "plugins": [MixedPrecision(precision, "cpu", scaler)]}
    trainer = instantiate(cfg.trainer, callbacks=[guard, recorder], **options)
    module = make_module(denoiser, NegativeSnrLoss())
    trainer.fit(module, batches(3))
    tolerance = 0.03 if precision else 1e-4

    for seed in range(3):  # the gradient of each step, from the weights it started with, without a trainer
        with torch.no_grad():
            for parameter, weight in zip(denoiser.parameters(), recorder.weights[seed], strict=True):
                parameter.copy_(weight)
        denoiser.zero_grad()
        module.step(make_batch(seed))[0].backward()
        raw = [p.grad for p in denoiser.parameters() if p.grad is not None]
        if kind == "value":
            expected = [gradient.clamp(-0.002, 0.002) for gradient in raw]
            assert max(float(gradient.abs().max()) for gradient in raw) > 0.004  # there was something to clip
        elif clip:
            expected = [gradient * clip / norm(raw) for gradient in raw]
            assert norm(raw) > 2 * clip
            assert norm(recorder.used[seed]) <= clip * 1.0001  # and no scale of the loss is left in it
        else:
            expected = raw
        difference = [used - reference for used, reference in zip(recorder.used[seed], expected, strict=True)]
        assert norm(difference) < tolerance * norm(expected)
        assert recorder.norms[seed] == pytest.approx(norm(raw), rel=tolerance)  # logged before clipping


class Weights(Callback):
    """The scale of the loss and the weights after each step."""

    def __init__(self) -> None:
        self.scales: list[float] = []
        self.weights: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, out: Any, batch: Any, batch_idx: int) -> None:
        self.scales.append(trainer.precision_plugin.scaler.get_scale())
        self.weights.append(nn.utils.parameters_to_vector(pl_module.parameters()).detach().clone())


@pytest.mark.filterwarnings("ignore:step .* the gradient is not finite in float16")
@pytest.mark.parametrize("clip", [1.0, None])
def test_a_gradient_too_large_for_float16_lowers_the_scale_and_changes_no_weight(
    clip: float | None, compose: Compose, denoiser: Denoiser, tmp_path: Path
) -> None:
    cfg = compose("trainer.precision=16-mixed", f"trainer.gradient_clip_val={'null' if clip is None else clip}")
    module = make_module(denoiser, optimizer=instantiate(cfg.optimizer, **without_fusion(cfg)))
    seen, guard = Weights(), GradientGuard(folder=str(tmp_path / "skipped"))
    before = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    precision = MixedPrecision(
        "16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**40, backoff_factor=2**-13)
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=5, plugins=[precision], gradient_clip_val=clip, callbacks=[guard, seen],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, batches(5))
    skipped = [scale < earlier for earlier, scale in zip([2.0**40, *seen.scales], seen.scales, strict=False)]
    assert skipped[0]
    assert not skipped[-1]
    assert guard.skipped == sum(skipped)
    assert not (tmp_path / "skipped").exists()
    for skip, earlier, weights in zip(skipped, [before, *seen.weights], seen.weights, strict=False):
        assert torch.equal(weights, earlier) == skip


def training_step(cfg: DictConfig, dtype: torch.dtype | None = None) -> tuple[float, Tensor]:
    """Loss and gradient of one step on a second of synthetic speech, with dropout and the like as configured."""
    torch.manual_seed(0)
    module = make_module(instantiate(cfg.model), instantiate(cfg.loss))
    num_samples = cfg.sample_rate
    t = torch.arange(num_samples) / cfg.sample_rate
    voice = sum(torch.sin(2 * torch.pi * 150 * k * t) / k for k in range(1, 20)) * torch.sin(6 * torch.pi * t).clamp(0)
    clean = 0.01 * torch.stack([voice, voice.flip(0)])
    noisy = clean + 0.005 * torch.randn(2, num_samples)
    batch = NoisySpeechBatch(noisy=noisy, clean=clean, lengths=torch.tensor([num_samples] * 2), names=["a", "b"])
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        loss, _ = module.step(batch)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_the_default_experiment_trains_at_other_rates(rate: int, compose: Compose) -> None:
    loss, gradient = training_step(compose("experiment=default", f"sample_rate={rate}"))
    assert math.isfinite(loss)
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.05)], ids=str)
def test_a_step_in_half_precision_is_close_to_one_in_float32(
    dtype: torch.dtype, tolerance: float, compose: Compose
) -> None:
    cfg = compose("experiment=default")
    (expected, reference), (loss, gradient) = training_step(cfg), training_step(cfg, dtype)
    assert loss == pytest.approx(expected, rel=tolerance)
    assert float((gradient - reference).norm()) < tolerance * float(reference.norm())


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_every_draw_follows_from_seed_epoch_and_batch(compose: Compose, tmp_path: Path) -> None:
    class Seen(Callback):
        def __init__(self) -> None:
            self.names: list[str] = []
            self.draws: list[float] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, out: Any, batch: Any, batch_idx: int) -> None:
            self.names += batch.names
            self.draws.append(float(torch.rand(1)))  # continues where the network stopped drawing

    def run(seed: int, ckpt_path: Path | None = None, **options: Any) -> Seen:
        cfg = compose(
            "experiment=smoke",
            *SMALL_NETWORK,
            f"seed={seed}",
            "trainer.max_steps=8",
            "data.mixtures_per_epoch=16",
            "data.mixing.segment_s=0.2",
            "data.num_workers=1",  # which fetches batches ahead
            "data.eval_max_s=0.2",
        )
        module = make_module(instantiate(cfg.model), seed=seed)
        seen = Seen()
        saver = ModelCheckpoint(tmp_path, filename="x", save_on_train_epoch_end=True, enable_version_counter=False)
        options = {
            "limit_val_batches": 1,
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_progress_bar": False,
            **options,
        }
        trainer = instantiate(cfg.trainer, callbacks=[seen, saver], **options)
        trainer.fit(module, datamodule=instantiate(cfg.data), ckpt_path=ckpt_path, weights_only=True)
        return seen

    one, other = run(0), run(1)
    assert one.names == other.names == [f"{epoch}/{index}" for epoch in range(2) for index in range(16)]
    assert len(set(one.draws + other.draws)) == 16
    limited = run(0, limit_train_batches=3)
    assert limited.names[12:] == [f"1/{index}" for index in range(12)] + [f"2/{index}" for index in range(8)]
    # Stopped after an epoch and continued, counted in steps or in epochs, all is as without the stop.
    first = run(0, max_epochs=1)
    for counted in ({"max_steps": 8}, {"max_steps": -1, "max_epochs": 2}):
        shutil.copy(tmp_path / "x.ckpt", tmp_path / "y.ckpt")
        second = run(0, tmp_path / "y.ckpt", **counted)
        assert first.names + second.names == one.names
        assert first.draws + second.draws == one.draws
        shutil.copy(tmp_path / "y.ckpt", tmp_path / "x.ckpt")


def test_each_part_of_the_loss_is_logged_once(compose: Compose) -> None:
    data = ("data.mixtures_per_epoch=4", "data.mixing.segment_s=0.2", "data.eval_max_s=0.3")
    cfg = compose("experiment=smoke", *SMALL_NETWORK, *data)
    module = make_module(instantiate(cfg.model), instantiate(cfg.loss))
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = instantiate(cfg.trainer, max_steps=1, num_sanity_val_steps=0, callbacks=[], **options)
    datamodule = instantiate(cfg.data)
    trainer.fit(module, datamodule=datamodule)
    logged = trainer.callback_metrics
    weights = cfg.loss.weights
    for stage in ("train", "valid"):
        assert float(logged[f"{stage}/loss"]) == pytest.approx(
            sum(float(logged[f"{stage}/loss_{part}"]) * weights[part] for part in weights), rel=1e-5
        )
    gains = []
    for batch in datamodule.val_dataloader():  # improvement, with numpy and from the definition
        with torch.inference_mode():
            estimates = module.denoiser.eval()(batch.noisy, batch.lengths)
        for noisy, estimate, clean in zip(batch.noisy, estimates, batch.clean, strict=True):
            gains.append(si_sdr(estimate, clean) - si_sdr(noisy, clean))
    assert float(logged["valid/si_sdr_improvement"]) == pytest.approx(sum(gains) / len(gains), abs=0.01)


def si_sdr(estimate: Tensor, clean: Tensor) -> float:
    estimate, clean = (signal.double() - signal.double().mean() for signal in (estimate, clean))
    target = clean * (estimate @ clean) / (clean @ clean)
    return float(10 * torch.log10(target.square().sum() / (estimate - target).square().sum()))


def test_the_scheduler_follows_the_validation_loss(denoiser: Denoiser) -> None:
    module = make_module(denoiser, scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau, scheduler_interval="epoch")
    built = module.configure_optimizers()
    scheduler = built["lr_scheduler"]
    assert (scheduler["interval"], scheduler["monitor"]) == ("epoch", "valid/loss")
    assert scheduler["scheduler"].optimizer is built["optimizer"]
    trained = {id(parameter) for group in built["optimizer"].param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in denoiser.parameters()}
