"""Differences between the ways of running a model: offline in torch and by graph, in chunks, as a stream, by frames.

Shapes: C channels, N samples.
"""

from __future__ import annotations

import numpy as np

from hushwork.audio.stft import StreamingStft
from hushwork.network.frame import FrameProgram
from hushwork.network.onnx import encode
from hushwork.network.pretrained import PretrainedDenoiser, as_pairs, open_session
from hushwork.streaming.chunks import denoise_in_chunks
from hushwork.streaming.stream import DenoiserStream

WORST_DB = -80.0
CHUNKS = (1000, 37, 4096, 5, 16000)


def run_all(model: PretrainedDenoiser, audio: np.ndarray) -> dict[str, np.ndarray]:
    """Denoise audio (C, N) in every way that needs no torch; each result is (C, N).

    ``sequence graph`` is the whole recording at once; causal models are also run in ``chunks`` of several sizes as
    files are, as a ``stream`` of blocks of 10 ms, and by the ``frame graph``.
    """
    stft, spectrum = StreamingStft.of_whole(model.stft, audio)
    results = {"sequence graph": stft.synthesise(model.run_whole(spectrum))[:, : audio.shape[1]]}
    if not model.is_causal:
        return results
    chunked, stream = denoise_in_chunks(model, len(audio)), DenoiserStream(model, len(audio))
    sizes = np.resize(CHUNKS, 1 + audio.shape[1] // min(CHUNKS)).cumsum()
    pieces = [chunked.process(chunk) for chunk in np.split(audio, sizes[sizes < audio.shape[1]], axis=1)]
    results["chunks"] = np.concatenate([*pieces, chunked.flush()], axis=1)
    edges = np.arange(0, audio.shape[1], max(1, model.sample_rate // 100))[1:]
    pieces = [stream.process(chunk) for chunk in np.split(audio, edges, axis=1)]
    results["stream"] = np.concatenate([*pieces, stream.flush()], axis=1)
    results["frame graph"] = by_frame_graph(model, audio)
    return results


def by_frame_graph(model: PretrainedDenoiser, audio: np.ndarray) -> np.ndarray:
    """The recording (C, N) through the frame graph, one frame after the other."""
    session = open_session(encode(FrameProgram(model.network).write()))
    stft, spectrum = StreamingStft.of_whole(model.stft, audio)
    spectrum = np.pad(spectrum, ((0, 0), (0, model.look_ahead), (0, 0)))
    cleaned = np.empty_like(spectrum)
    for channel, state in enumerate(model.initial_state(len(audio))):
        for frame in range(spectrum.shape[1]):
            one = as_pairs(spectrum[channel : channel + 1, frame : frame + 1])
            output, state = session.run(None, {"spec": one, "state": state})
            cleaned[channel, frame] = output.view(np.complex64)[0, 0, :, 0]
    return stft.synthesise(cleaned[:, model.look_ahead :])[:, : audio.shape[1]]


def difference_db(actual: np.ndarray, expected: np.ndarray) -> float:
    """Power of the difference relative to that of ``expected``, in decibels; -inf if they are equal."""
    error = float(np.square(actual.astype(np.float64) - expected).sum())
    power = float(np.square(expected.astype(np.float64)).sum())
    return float("-inf") if error == 0 else 10 * float(np.log10(error / max(power, 1e-30)))
