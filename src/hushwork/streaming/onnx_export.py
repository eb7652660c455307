"""``hushwork export``: the network of a model as ONNX files for other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hushwork.atomic import write_atomically
from hushwork.network.frame import FrameProgram
from hushwork.network.graph import Graph
from hushwork.network.network import Network
from hushwork.network.onnx import encode
from hushwork.network.pretrained import PretrainedDenoiser
from hushwork.network.sequence import SequenceProgram
from hushwork.streaming.parity import WORST_DB, by_frame_graph, difference_db, run_all


def write_graphs(model: PretrainedDenoiser, folder: str | Path, *, sherpa: bool = False) -> list[Path]:
    """Write ``sequence.onnx``, of a causal model ``frame.onnx``, and on request ``sherpa.onnx``, into a folder.

    Raises:
        ValueError: the graphs differ by more than ``WORST_DB`` on noise, or a model that is not causal is to be run
            frame by frame.
    """
    description = metadata(model.network)
    graphs = {"sequence.onnx": encode(SequenceProgram(model.network).write("B"), description)}
    if model.is_causal:
        graphs["frame.onnx"] = encode(FrameProgram(model.network).write(), description)
        noise = np.random.default_rng(0).normal(0, 0.1, (1, model.sample_rate)).astype(np.float32)
        found = difference_db(by_frame_graph(model, noise), run_all(model, noise)["sequence graph"])
        if found > WORST_DB:
            raise ValueError(f"the graphs differ by {found:.0f} dB; at most {WORST_DB} dB is rounding")
    if sherpa:
        if not model.is_causal:
            raise ValueError("sherpa-onnx runs a model frame by frame, but this one is bidirectional")
        graphs["sherpa.onnx"] = encode(*sherpa_graph(model.network))
    folder = Path(folder)
    for name, graph in graphs.items():
        with write_atomically(folder / name) as part:
            part.write_bytes(graph)
    return [folder / name for name in graphs]


def metadata(network: Network) -> dict[str, str]:
    """Transform, clock and layout of the state, for users of the graphs."""
    stft = network.settings.stft
    return {
        "model_type": "hushwork",
        "sample_rate": str(network.settings.sample_rate),
        "n_fft": str(stft.n_fft),
        "hop_length": str(stft.hop_length),
        "window_length": str(stft.n_fft),
        "window": stft.window,
        "latency_samples": str(stft.n_fft - 1 + network.settings.look_ahead * stft.hop_length),
        "look_ahead": str(network.settings.look_ahead),
        "periods": json.dumps(network.periods if network.has_clock else []),
        "offsets": json.dumps(network.offsets if network.has_clock else []),
        "cycle": str(network.cycle),
        "state_size": str(network.state_size),
        "state_layout": json.dumps(network.layout),
    }


def sherpa_graph(network: Network) -> tuple[Graph, dict[str, str]]:
    """The frame program as sherpa-onnx runs models of its type "dpdfnet", and the metadata that it needs.

    sherpa-onnx takes back a delay of two windows, so the graph makes one. Its own window is "vorbis", whatever the
    model was trained with.
    """
    stft = network.settings.stft
    if 2 * stft.n_fft % stft.hop_length:
        raise ValueError("sherpa-onnx needs a window of a whole or half number of hops")
    delay = 2 * stft.n_fft // stft.hop_length - network.settings.look_ahead
    more = {
        "model_type": "dpdfnet",
        "profile": "dpdfnet_16khz",
        "window_type": "vorbis",
        "pad_mode": "constant",
        "center": "1",
        "normalized": "0",
        "freq_bins": str(network.num_bins),
        "erb_bins": "1",
        "spec_bins": "1",
        "state_size": str(network.state_size + delay * 2 * network.num_bins),
        "erb_norm_state_size": "1",  # sherpa-onnx initialises a part of the state with values of its own
        "spec_norm_state_size": "1",
        "erb_norm_init": "0",
        "spec_norm_init": "0",
    }
    return FrameProgram(network).write(delay=delay), {**metadata(network), **more}
