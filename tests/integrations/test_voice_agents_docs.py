"""The examples of docs/voice-agents.md run."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hushwork.integrations.frames import FrameFilter
from hushwork.integrations.telephone import TelephoneFilter

TEXT = (Path(__file__).parents[2] / "docs" / "voice-agents.md").read_text("utf-8")


def example(heading: str) -> dict[str, Any]:
    """What the example below a heading defines."""
    code = re.search(rf"^## {heading}.*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
    assert code
    namespace: dict[str, Any] = {}
    exec(code[1], namespace)
    return namespace


def test_a_file_goes_through_the_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).normal(0, 3000, 48000).astype(np.int16)
    soundfile.write("noisy.wav", noise, 48000)
    example("Try it")
    clean, rate = soundfile.read("clean.wav", dtype="int16")
    assert (clean.shape, rate) == (noise.shape, 48000)
    assert np.std(clean[24000:]) < np.std(noise) / 4
    assert capsys.readouterr().out == "34.0 ms late\n"


def test_the_messages_of_a_call_are_denoised() -> None:
    payload = np.random.default_rng(0).integers(0, 256, 320, np.uint8).tobytes()
    media = [
        {"event": "media", "media": {"payload": base64.b64encode(part).decode()}}
        for part in (payload[:160], payload[160:])
    ]
    messages = [{"event": "start"}, *media, {"event": "stop"}]
    output = [json.loads(text) for text in example("Telephone")["denoised"](map(json.dumps, messages))]
    assert [message["event"] for message in output] == ["start", "media", "media", "stop"]
    caller = TelephoneFilter()
    for message, part in zip(output[1:3], (payload[:160], payload[160:]), strict=True):
        assert base64.b64decode(message["media"]["payload"]) == caller.process(part)


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_stated_latencies_are_those_of_the_filters(rate: int) -> None:
    stated = re.search(rf"([\d.]+)(?: ms)? at {rate // 1000} kHz", TEXT)
    assert stated
    assert stated[1] == f"{FrameFilter(rate).latency_ms:.1f}"
