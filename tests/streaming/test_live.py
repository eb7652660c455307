"""Pipes and the microphone: as much comes out as goes in, and it is what a file would give."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hushwork.files.denoise import denoise
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.streaming.live import LiveDenoiser, denoise_pipe, list_devices, meter, run_live
from hushwork.streaming.strength import Strength
from sounds import white

RATE = 16000


class Trickle(io.RawIOBase):
    """A pipe in which a few bytes arrive at a time."""

    def __init__(self, data: bytes, sizes: tuple[int, ...]) -> None:
        self._data, self._sizes, self._reads = data, sizes, 0

    def read1(self, _: int) -> bytes:
        size = self._sizes[self._reads % len(self._sizes)]
        self._reads += 1
        piece, self._data = self._data[:size], self._data[size:]
        return piece


def piped(data: bytes, model: PretrainedDenoiser, sizes: tuple[int, ...] = (777, 1, 5000), **options: Any) -> bytes:
    sink = io.BytesIO()
    options = {"strength": Strength(), "dtype": "<f4", "sample_rate": RATE, "num_channels": 1, **options}
    denoise_pipe(Trickle(data, sizes), sink, model, **options)  # type: ignore[arg-type]
    return sink.getvalue()


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (16000, 3), (44100, 2)])
def test_a_pipe_gives_the_output_of_a_file(rate: int, channels: int, model: PretrainedDenoiser) -> None:
    audio = white(9001, channels).T
    data = piped(audio.T.tobytes(), model, sample_rate=rate, num_channels=channels)
    actual = np.frombuffer(data, "<f4").reshape(-1, channels).T
    np.testing.assert_allclose(actual, denoise(audio, rate, model), rtol=0, atol=1e-6)


def test_whole_numbers_pass_a_pipe(model: PretrainedDenoiser) -> None:
    samples = np.array([-32768, 32767, -1, 0, 1, 123] * 500, "<i2")
    data = piped(samples.tobytes(), model, dtype="<i2", strength=Strength(mix=0))
    assert np.array_equal(np.frombuffer(data, "<i2"), samples)


def test_a_pipe_answers_before_it_ends(model: PretrainedDenoiser) -> None:
    written: list[int] = []

    class Sink(io.BytesIO):
        def flush(self) -> None:
            written.append(self.tell() // 4)

    options: dict[str, Any] = {"strength": Strength(), "dtype": "<f4", "sample_rate": RATE, "num_channels": 1}
    denoise_pipe(Trickle(white(3200).tobytes(), (640,)), Sink(), model, **options)  # type: ignore[arg-type]
    received = [160 * (k + 1) for k in range(20)]
    assert written[:20] == [max(0, count - model.latency_samples) for count in received]
    assert written[-1] == 3200


def test_an_empty_pipe_has_no_output(model: PretrainedDenoiser) -> None:
    assert piped(b"", model) == b""


def test_a_sample_cut_in_two_is_named(model: PretrainedDenoiser) -> None:
    with pytest.raises(ValueError, match="ended within a sample: 2 of its 8 bytes arrived"):
        piped(bytes(802), model, num_channels=2)
    with pytest.raises(ValueError, match=r"rate \(0\) and channels \(1\)"):
        piped(b"", model, sample_rate=0)


def test_live_sound_is_the_stream_s_later(model: PretrainedDenoiser) -> None:
    audio = white(8000)[:, 0]
    live = LiveDenoiser(model, Strength())
    out = np.concatenate([live.process(block) for block in np.split(audio, 50)])
    assert len(out) == len(audio)
    late = model.latency_samples
    assert not out[:late].any()
    np.testing.assert_allclose(out[late:], denoise(audio, RATE, model)[:-late], rtol=0, atol=1e-5)


def test_bypass_gives_the_sound_with_the_same_delay(model: PretrainedDenoiser) -> None:
    audio = white(8000)[:, 0]
    live = LiveDenoiser(model, Strength())
    live.toggle()
    assert live.bypassed
    out = np.concatenate([live.process(block) for block in np.split(audio, 50)])
    np.testing.assert_allclose(out[model.latency_samples :], audio[: -model.latency_samples], rtol=0, atol=1e-6)
    live.toggle()
    assert not live.bypassed


def test_the_meter_shows_decibels() -> None:
    assert meter(np.ones(100, np.float32), 10) == "██████████    0.0 dB"
    assert meter(np.full(100, 10 ** (-30 / 20)), 10) == "█████·····  -30.0 dB"
    assert meter(np.zeros(100), 10) == "··········  -60.0 dB"
    assert meter(np.zeros(0), 10).endswith("-60.0 dB")


class FakeSound:
    """Stands in for sounddevice: plays blocks of noise into the callback while keys are read."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.played: list[np.ndarray] = []

    def query_devices(self) -> str:
        return "0 a microphone"

    def Stream(self, callback: Any, **options: Any) -> Any:  # noqa: N802
        if options["device"][0] == "broken":
            raise self.PortAudioError("no such device")
        self.options = options
        sound = self

        class Running:
            def __enter__(self) -> None:
                for _ in range(5):
                    received = white(options["blocksize"])
                    out = np.full_like(received, np.nan)
                    callback(received, out, len(received), None, None)
                    sound.played.append(out)

            def __exit__(self, *_: object) -> None:
                pass

        return Running()


def test_the_microphone_is_opened_at_the_model_s_rate(
    model: PretrainedDenoiser, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = FakeSound()
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\nq\nnever read\n"))
    run_live(model, Strength(), "3", None, 0.016)
    assert sound.options["samplerate"] == RATE
    assert sound.options["blocksize"] == 256
    assert sound.options["device"] == (3, None)
    assert all(np.isfinite(block).all() for block in sound.played)
    assert "denoised in ██" in capsys.readouterr().err
    assert list_devices() == "0 a microphone"
    with pytest.raises(ValueError, match="cannot be opened: no such device; see hushwork live --devices"):
        run_live(model, Strength(), "broken", None, 0.016)


def test_missing_packages_of_the_microphone_are_named(
    model: PretrainedDenoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ValueError, match=r"pip install 'hushwork\[live\]'"):
        run_live(model, Strength(), None, None, 0.016)
    ahead: Any = SimpleNamespace(is_causal=False)
    with pytest.raises(ValueError, match="not causal"):
        run_live(ahead, Strength(), None, None, 0.016)
