"""A tiny corpus, a tiny model, and configurations that write into a test's own folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from omegaconf import DictConfig

from configurations import compose_quickly
from hushwork.audio.io import write_audio
from hushwork.data.manifest import Manifest, load_manifest, write_manifest
from hushwork.data.recordings import Recording
from hushwork.files.worker import ChunkWorker
from hushwork.models.denoiser import Denoiser
from hushwork.models.export import build, export_model
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained
from hushwork.network.specification import DenoiserSettings

torch.set_num_threads(1)  # the products of tiny models cost less than handing them to a second thread
os.environ["OMP_NUM_THREADS"] = "1"  # trainings set torch's threads again, by this
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a third of a composition is reading yaml in Python
RATE = 16000
SPEECH_S, NOISE_S = 1.0, 0.7


def make_speech(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Harmonics of a gliding pitch, in syllables with pauses between them."""
    t = np.arange(num_samples) / RATE
    phase = 2 * np.pi * np.cumsum(rng.uniform(100, 250) * (1 + 0.05 * np.sin(2 * np.pi * 3 * t))) / RATE
    syllables = np.sin(2 * np.pi * 4 * t + rng.uniform(0, 6)).clip(0)
    return (0.2 * syllables * sum(np.sin(k * phase) / k for k in range(1, 9))).astype(np.float32)


def record(path: Path, kind: str, split: str, name: str, audio: np.ndarray, **fields: Any) -> Recording:
    """Write ``audio`` and describe it."""
    write_audio(path / f"{name}.flac", audio, RATE)
    return Recording(
        path=f"{name}.flac",
        kind=kind,
        split=split,
        sample_rate=RATE,
        duration_s=audio.shape[-1] / RATE,
        licence="CC0-1.0",
        **fields,
    )


@pytest.fixture(autouse=True)
def _no_model_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUSHWORK_MODEL", raising=False)


@pytest.fixture
def memory() -> Iterator[Any]:
    """An empty memory://."""
    store = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield store()
    store.store.clear()


class WorkerHere:
    """Does in this process of_noise a worker of :mod:`hushwork.files.engine` does in its own."""

    def __init__(self, settings: dict[str, Any]) -> None:
        settings = json.loads(json.dumps(settings))
        self._denoiser = ChunkWorker(settings.pop("model"), settings)

    def begin(self) -> None:
        pass

    def run(self, chunk: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        messages: list[str] = []
        self._denoiser.run(chunk, lambda message: messages.append(json.dumps(message)))
        yield from map(json.loads, messages)

    def end(self) -> None:
        pass


@pytest.fixture
def worker_here() -> type[WorkerHere]:
    """For tests of batches that are about something else than processes, which take long to start."""
    return WorkerHere


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of three speakers and three noises in each split; files are named after kind and split."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    recordings = []
    for split in ("train", "valid", "test"):
        for k in range(3):
            speech = make_speech(rng, round(SPEECH_S * RATE))
            noise = 0.05 * rng.standard_normal(round(NOISE_S * RATE)).astype(np.float32)
            of_speech = {"speaker": f"{split}{k}", "source": "tones"}
            of_noise = {"noise_class": f"class{k}", "source": f"noise of {split}"}
            recordings.append(record(folder, "speech", split, f"speech_{split}_{k}", speech, **of_speech))
            recordings.append(record(folder, "noise", split, f"noise_{split}_{k}", noise, **of_noise))
    write_manifest(folder / "manifest.jsonl", recordings)
    return folder / "manifest.jsonl"


@pytest.fixture(scope="session")
def manifest(corpus: Path) -> Manifest:
    return load_manifest(corpus, RATE)


@pytest.fixture(scope="session")
def paired_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of two pairs in each split, in folders; the noisy file is the clean one plus a tone of 2 kHz."""
    folder, rng = tmp_path_factory.mktemp("paired"), np.random.default_rng(1)
    recordings = []
    for split in ("train", "valid", "test"):
        for k in range(2):
            clean = make_speech(rng, round((SPEECH_S + 0.1 * k) * RATE))
            noisy = clean + 0.02 * np.sin(np.arange(len(clean)) * np.pi / 4).astype(np.float32)
            names = [f"{kind}/{split}/{k}.flac" for kind in ("clean", "noisy")]
            for name, audio in zip(names, (clean, noisy), strict=True):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                write_audio(folder / name, audio, RATE)
            recordings.append(
                Recording(
                    path=names[0],
                    noisy_path=names[1],
                    kind="pair",
                    split=split,
                    sample_rate=RATE,
                    duration_s=len(clean) / RATE,
                    source="pairs",
                    licence="CC0-1.0",
                    speaker=f"{split}{k}",
                )
            )
    write_manifest(folder / "manifest.jsonl", recordings)
    return folder / "manifest.jsonl"


@pytest.fixture
def compose(corpus: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """Composes a configuration on the tiny corpus, with results below ``tmp_path``; later overrides win."""

    def composed(*overrides: str) -> DictConfig:
        base = [
            "name=tiny",
            f"data.manifest={corpus}",
            f"paths.run_dir={tmp_path / 'run'}",
            f"paths.runs_dir={tmp_path / 'runs'}",
        ]
        return compose_quickly(*base, *overrides)

    return composed


@pytest.fixture(scope="session")
def model_node() -> Callable[..., dict[str, Any]]:
    """Makes the configuration node of a tiny model; keywords go to its recurrence."""

    def node(**recurrence: Any) -> dict[str, Any]:
        stacked = {"cell": "gru", "hidden_size": 8, "num_layers": 1, **recurrence}
        return {
            "_target_": "hushwork.models.denoiser.Denoiser",
            "_convert_": "all",
            "sample_rate": RATE,
            "stft": {"_target_": "hushwork.audio.stft.StftConfig", "n_fft": 256, "hop_length": 128},
            "masker": {
                "_target_": "hushwork.models.masker.RecurrentMasker",
                "_partial_": True,
                "recurrence": {
                    "_target_": "hushwork.models.recurrence.StackedRNN",
                    "_partial_": True,
                    **stacked,
                },
            },
        }

    return node


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, model_node: Callable[..., dict[str, Any]]) -> Path:
    """An untrained tiny causal model, exported."""
    node = model_node()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        denoiser = build(DenoiserSettings.from_json(node))
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model(denoiser, {"name": "untrained", "summary": {}}, "# untrained\n", folder)
    return folder


@pytest.fixture
def denoiser(model_node: Callable[..., dict[str, Any]]) -> Denoiser:
    """The same tiny model, fresh for each test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(DenoiserSettings.from_json(model_node())).eval()


@pytest.fixture
def model(model_folder: Path) -> PretrainedDenoiser:
    """The same, loaded for use."""
    return load_pretrained(model_folder)
