"""The audio filter of Pipecat's transports, with the real package, in a real pipeline."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from hushwork.integrations.frames import FrameFilter
from hushwork.network.pretrained import PretrainedDenoiser, load_pretrained
from hushwork.streaming.strength import Strength

pytest.importorskip("pipecat", reason="needs the extra pipecat")
RATE, SIZE = 24000, 480


def blocks(count: int) -> list[bytes]:
    samples = np.random.default_rng(0).normal(0, 3000, (count, SIZE)).astype(np.int16)
    return [block.tobytes() for block in samples]


def expected(given: list[bytes], model: PretrainedDenoiser) -> list[bytes]:
    filtered = FrameFilter(RATE, 1, model)
    return [filtered.process(block).tobytes() for block in given]


def test_a_transport_denoises_what_it_receives(model: PretrainedDenoiser) -> None:
    from pipecat.frames.frames import InputAudioRawFrame, StartFrame
    from pipecat.pipeline.worker import PipelineParams
    from pipecat.tests.utils import run_test
    from pipecat.transports.base_input import BaseInputTransport
    from pipecat.transports.base_transport import TransportParams

    from hushwork.integrations.pipecat import HushworkFilter

    given = blocks(20)

    class Receives(BaseInputTransport):
        async def start(self, frame: StartFrame) -> None:
            await super().start(frame)
            await self.set_transport_ready(frame)
            for block in given:
                await self.push_audio_frame(InputAudioRawFrame(block, RATE, 1))
            await self._audio_in_queue.join()

    transport = Receives(TransportParams(audio_in_enabled=True, audio_in_filter=HushworkFilter(model)))
    params = PipelineParams(audio_in_sample_rate=RATE)
    received, _ = asyncio.run(run_test(transport, frames_to_send=[], pipeline_params=params, start_timeout=10))
    audio = [frame.audio for frame in received if isinstance(frame, InputAudioRawFrame)]
    assert audio == expected(given, model)


def test_control_frames_switch_and_set_it(model: PretrainedDenoiser) -> None:
    from pipecat.frames.frames import FilterEnableFrame, FilterUpdateSettingsFrame

    from hushwork.integrations.pipecat import HushworkFilter

    async def run() -> None:
        given, filtered = blocks(40), HushworkFilter(model, Strength(max_attenuation_db=12))
        assert filtered.latency_ms is None
        await filtered.process_frame(FilterEnableFrame(enable=False))  # before the start too
        await filtered.start(RATE)
        assert filtered.latency_ms == FrameFilter(RATE, 1, model).latency_ms
        delay = 2 * round(filtered.latency_ms * RATE / 1000)
        output = b"".join([await filtered.filter(block) for block in given])
        assert output[delay:] == b"".join(given)[:-delay]
        await filtered.process_frame(FilterEnableFrame(enable=True))
        await filtered.process_frame(FilterUpdateSettingsFrame(settings={"mix": 0.0}))
        output = b"".join([await filtered.filter(block) for block in given])
        assert np.frombuffer(output, np.int16).any()
        with pytest.raises(ValueError, match="no setting 'level'; it has mix, "):
            await filtered.process_frame(FilterUpdateSettingsFrame(settings={"level": 1}))
        with pytest.raises(ValueError, match="mix is 2"):
            await filtered.process_frame(FilterUpdateSettingsFrame(settings={"mix": 2}))

    asyncio.run(run())


def test_it_stops_and_starts_again(model: PretrainedDenoiser) -> None:
    from hushwork.integrations.pipecat import HushworkFilter

    async def run() -> None:
        given, filtered = blocks(10), HushworkFilter(model)
        for _ in range(2):
            await filtered.start(RATE)
            assert [await filtered.filter(block) for block in given] == expected(given, model)
            await filtered.stop()
        with pytest.raises(RuntimeError, match="start"):
            await filtered.filter(given[0])

    asyncio.run(run())


def test_a_model_that_cannot_stream_is_refused() -> None:
    from hushwork.integrations.pipecat import HushworkFilter

    with pytest.raises(ValueError, match="not causal"):
        HushworkFilter(load_pretrained("offline"))
