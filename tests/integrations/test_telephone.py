"""Telephone frames: G.711 as FFmpeg codes it, and equal numbers of bytes."""

from __future__ import annotations

import av
import numpy as np
import pytest

from hushwork.integrations.telephone import TelephoneFilter, g711
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.strength import Strength


@pytest.mark.parametrize(("coding", "subtype"), [("mulaw", "ULAW"), ("alaw", "ALAW")])
def test_codes_agree_with_ffmpeg(coding: str, subtype: str) -> None:
    samples, codes = g711(subtype)
    decoder = av.CodecContext.create(f"pcm_{coding}", "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    (frame,) = decoder.decode(av.Packet(bytes(range(256))))
    assert np.array_equal(samples, frame.to_ndarray()[0])
    nearest = np.abs(samples[codes].astype(int) - np.arange(65536, dtype=np.uint16).view(np.int16)).astype(int)
    assert nearest.max() <= 1024  # half of the largest step, and what is beyond the loudest code
    assert np.array_equal(samples[codes[samples.view(np.uint16)]], samples)


@pytest.mark.parametrize("coding", ["mulaw", "alaw"])
def test_frames_come_back_late_and_otherwise_the_same(coding: str, model: PretrainedDenoiser) -> None:
    samples, codes = g711({"mulaw": "ULAW", "alaw": "ALAW"}[coding])
    tone = np.round(8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)).astype(np.int16)
    payload = codes[tone.view(np.uint16)].tobytes()
    caller = TelephoneFilter(coding, model, Strength(mix=0.0))
    replies = [caller.process(payload[start : start + 160]) for start in range(0, 8000, 160)]
    assert {len(reply) for reply in replies} == {160}
    delay = caller.frames.latency_samples
    output = samples[np.frombuffer(b"".join(replies), np.uint8)][delay:].astype(float)
    noise = output - tone[: len(output)]
    assert 10 * np.log10(np.square(noise).sum() / np.square(output).sum()) < -30  # two codings; one has -38 dB
    assert caller.latency_ms == 1000 * delay / 8000


def test_other_codings_are_refused(model: PretrainedDenoiser) -> None:
    with pytest.raises(ValueError, match="'ulaw'; choose one of mulaw, alaw"):
        TelephoneFilter("ulaw", model)
