"""A corpus in many shards."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from hushwork.audio.io import audio_info
from hushwork.data.manifest import Manifest, load_manifest, write_manifest
from hushwork.data.recordings import Recording
from sharded import RATE, shard


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """60 utterances of 6 speakers, and a noise; in about twenty shards of speech."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    common = {"split": "train", "sample_rate": RATE, "licence": "x"}
    lines = []
    for k in range(60):
        soundfile.write(folder / f"{k:02}.wav", 0.1 * rng.standard_normal(int(rng.integers(1600, 6400))), RATE)
        seconds = audio_info(folder / f"{k:02}.wav").duration_s
        labels = {"kind": "speech", "speaker": f"s{k % 6}", "source": "x"}
        lines.append(Recording(path=f"{k:02}.wav", duration_s=seconds, **labels, **common))
    soundfile.write(folder / "noise.wav", 0.1 * rng.standard_normal(RATE), RATE)
    lines.append(Recording(path="noise.wav", kind="noise", noise_class="n", source="y", duration_s=1.0, **common))
    write_manifest(folder / "manifest.jsonl", lines)
    shard(str(folder / "manifest.jsonl"), "-o", str(folder / "shards"))
    return load_manifest(folder / "shards" / "manifest.arrow", RATE)
