"""The noise cancellation of LiveKit's input, with the real package and no server."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from hushwork.integrations.frames import FrameFilter
from hushwork.network.pretrained import PretrainedDenoiser

rtc = pytest.importorskip("livekit.rtc", reason="needs the extra livekit")


def frames(rate: int, num_frames: int, num_channels: int = 1) -> list[rtc.AudioFrame]:
    size = rate // 100
    samples = np.random.default_rng(0).normal(0, 3000, (num_frames, size * num_channels)).astype(np.int16)
    return [rtc.AudioFrame(block.tobytes(), rate, num_channels, size) for block in samples]


def joined(parts: list[rtc.AudioFrame]) -> np.ndarray:
    return np.concatenate([np.frombuffer(part.data, np.int16) for part in parts])


def expected(given: list[rtc.AudioFrame], model: PretrainedDenoiser) -> np.ndarray:
    filtered = FrameFilter(given[0].sample_rate, given[0].num_channels, model)
    return np.concatenate([filtered.process(frame.data) for frame in given])


@pytest.mark.parametrize(("rate", "num_channels"), [(24000, 1), (48000, 2)])
def test_frames_keep_their_form(rate: int, num_channels: int, model: PretrainedDenoiser) -> None:
    from hushwork.integrations.livekit import HushworkNoiseCancellation

    processor, given = HushworkNoiseCancellation(model), frames(rate, 20, num_channels)
    output = [processor._process(frame) for frame in given]
    assert {(frame.sample_rate, frame.num_channels, frame.samples_per_channel) for frame in output} == {
        (rate, num_channels, rate // 100)
    }
    assert np.array_equal(joined(output), expected(given, model))
    assert processor.latency_ms == FrameFilter(rate, num_channels, model).latency_ms


def test_a_new_participant_rate_or_opening_begins_a_new_stream(model: PretrainedDenoiser) -> None:
    from hushwork.integrations.livekit import HushworkNoiseCancellation

    processor, given = HushworkNoiseCancellation(model), frames(16000, 10)
    first = expected(given, model)

    def info(participant: str) -> None:
        processor._on_stream_info_updated(room_name="room", participant_identity=participant, publication_sid="track")

    info("a")
    assert np.array_equal(joined([processor._process(frame) for frame in given]), first)
    info("a")  # the same again: the stream goes on
    assert not np.array_equal(joined([processor._process(frame) for frame in given]), first)
    info("b")
    assert np.array_equal(joined([processor._process(frame) for frame in given]), first)
    processor._process(frames(48000, 1)[0])
    assert np.array_equal(joined([processor._process(frame) for frame in given]), first)
    processor._close()
    assert np.array_equal(joined([processor._process(frame) for frame in given]), first)
    processor.enabled = False
    processor.enabled = True
    assert np.array_equal(joined([processor._process(frame) for frame in given]), first)


def test_bypassed_gives_the_input_with_the_same_latency(model: PretrainedDenoiser) -> None:
    from hushwork.integrations.livekit import HushworkNoiseCancellation

    processor, given = HushworkNoiseCancellation(model), frames(48000, 20)
    processor.bypassed = True
    output = joined([processor._process(frame) for frame in given])[480:]
    delay = round(processor.latency_ms * 48)
    assert np.array_equal(output, np.pad(joined(given), (delay, 0))[480 : len(output) + 480])


def test_livekit_accepts_it_for_rooms_and_streams(model: PretrainedDenoiser) -> None:
    """An audio stream of LiveKit's own, over a local track, gives denoised frames."""
    from hushwork.integrations.livekit import HushworkNoiseCancellation

    given = frames(48000, 30)

    async def through_a_stream(processor: HushworkNoiseCancellation) -> list[rtc.AudioFrame]:
        source = rtc.AudioSource(48000, 1)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        stream = rtc.AudioStream.from_track(track=track, sample_rate=48000, noise_cancellation=processor)
        output = []

        async def collect() -> None:
            async for event in stream:
                output.append(event.frame)
                if len(output) == len(given):
                    return

        collector = asyncio.create_task(collect())
        for frame in given:
            await source.capture_frame(frame)
        await asyncio.wait_for(collector, 10)
        await stream.aclose()
        await source.aclose()
        return output

    processed: list[rtc.AudioFrame] = []

    class Spy(HushworkNoiseCancellation):
        def _process(self, frame: rtc.AudioFrame) -> rtc.AudioFrame:
            processed.append(frame)
            return super()._process(frame)

    output = asyncio.run(through_a_stream(Spy(model)))
    assert np.array_equal(joined(output), expected(processed, model)[: len(joined(output))])
    assert np.abs(joined(output).astype(int)).max() > 100
