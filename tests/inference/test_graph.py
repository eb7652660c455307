"""The graphs for use against the torch modules they stand for, with every option, and against ONNX's own checker."""

from functools import partial
from itertools import product

import numpy as np
import onnx
import pytest
import torch

from hushwork.audio.stft import StftConfig
from hushwork.export import pretrained
from hushwork.inference.graph import GraphWriter
from hushwork.inference.pretrained import as_pairs, open_session
from hushwork.inference.step import FrameStep
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN, register_cell

CLOCK = {"hidden_sizes": [4, 3, 2], "periods": [1, 2, 4], "num_layers": 2}
RECURRENCES = {
    **{cell: partial(StackedRNN, hidden_size=5, cell=cell) for cell in ("rnn", "lstm", "gru")},
    **{f"cw{cell}": partial(StackedClockworkRNN, cell=cell, **CLOCK) for cell in ("rnn", "lstm", "gru")},
    "sampled": partial(StackedClockworkRNN, cell="gru", pool="sample", **CLOCK),
    "learned": partial(StackedClockworkRNN, cell="lstm", pool="learned", **CLOCK),
    "staggered": partial(StackedClockworkRNN, cell="gru", offsets=[0, 1, 2], **CLOCK),
    "odd": partial(
        StackedClockworkRNN,
        cell="gru",
        pool="learned",
        hidden_sizes=[4, 3, 2],
        periods=[2, 3, 7],
        offsets=[1, 2, 5],
        num_layers=2,
    ),
    "fast_to_slow": partial(StackedClockworkRNN, cell="lstm", connections="fast_to_slow", **CLOCK),
    "single_bias": partial(StackedClockworkRNN, cell="rnn", single_bias=True, **CLOCK),
}
AHEAD = {
    "concat": partial(StackedRNN, hidden_size=5, cell="lstm", bidirectional=True),
    "sum": partial(StackedRNN, hidden_size=5, cell="gru", bidirectional=True, merge="sum"),
    "clockwork": partial(StackedClockworkRNN, cell="gru", bidirectional=True, **CLOCK),
    "learned": partial(StackedClockworkRNN, cell="rnn", bidirectional=True, pool="learned", **CLOCK),
}
MASKERS = [
    {},
    {"head": "magnitude"},
    {"ceiling": 2.0},
    {"projection_size": 6},
]
DENOISERS = [
    {"compression": "log", "mean_time_constant_s": 2.0},
    {"compression": 0.3, "mean_time_constant_s": None, "level_time_constant_s": 0.1},
    {"compression": 0.5, "mean_time_constant_s": 0.05, "output_compression": 0.5},
]
BANDS = [
    {"mean_time_constant_s": 1.0, "num_bands": 6},
    {"compression": 0.3, "num_bands": 1},
]


def make(recurrence, masker=None, **options):
    torch.manual_seed(0)
    build = partial(RecurrentMasker, recurrence=recurrence, **(masker or {}))
    denoiser = Denoiser(sample_rate=1000, stft=StftConfig(n_fft=16, hop_length=8), masker=build, **options).eval()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.mul_(3)  # so that everything that is computed shows in the output
    return denoiser


def make_spectrum(num_channels, num_frames):
    rng = np.random.default_rng(0)
    real, imag = rng.standard_normal((2, num_channels, num_frames, 9)) * np.linspace(0.1, 2, num_frames)[:, None]
    return (real + 1j * imag).astype(np.complex64)


def wanted(denoiser, spectrum):
    denoiser = denoiser.double()
    with torch.inference_mode():
        spectrum = torch.from_numpy(spectrum).to(torch.complex128)
        mask, _ = denoiser.estimate_mask(spectrum)
        result = denoiser.apply_mask(spectrum, mask).numpy()
    denoiser.float()
    return result


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=3e-5 * np.abs(expected).max())


def run_in_parts(model, spectrum, sizes, make_step=None):
    """Runs of several frames by the sequence graph, single ones by what ``make_step`` makes of a channel's state."""
    state, parts, start = model.initial_state(len(spectrum)), [], 0
    steps = [make_step(own) for own in state] if make_step else []
    for size in sizes:
        part = spectrum[:, start : start + size]
        if size == 1:
            cleaned = np.stack([step(frame)[None] for step, frame in zip(steps, part[:, 0], strict=True)])
        else:
            cleaned, state[:] = model.run(part, state)
        parts.append(cleaned)
        start += size
    assert start == spectrum.shape[1]
    return np.concatenate(parts, axis=1)


def by_numpy(model):
    def make_step(state):
        by_numpy = FrameStep(model.frame_weights, state)

        def step(frame):
            by_numpy.refresh()
            by_numpy(frame, cleaned := np.empty_like(frame))
            return cleaned

        return step

    return make_step


def by_graph(model):
    session = open_session(GraphWriter(model.network).frame_graph())

    def make_step(state):
        def step(frame):
            cleaned, state[:] = session.run(None, {"spec": as_pairs(frame)[None, None], "state": state})
            return cleaned.view(np.complex64)[0, 0, :, 0]

        return step

    return make_step


@pytest.mark.parametrize("name", RECURRENCES)
def test_every_recurrence_in_every_way(name):
    denoiser, spectrum = make(RECURRENCES[name]), make_spectrum(2, 150)
    model, expected = pretrained(denoiser), wanted(denoiser, spectrum)
    assert_close(run_in_parts(model, spectrum, [150]), expected)
    for step in (by_numpy(model), by_graph(model)):
        assert_close(run_in_parts(model, spectrum, [1] * 150, step), expected)
        # In turns, from every place of the clock.
        assert_close(run_in_parts(model, spectrum, [7, 1, 9, 1, 1, 8, 1, 7, 100, 15], step), expected)


@pytest.mark.parametrize(
    ("masker", "options"), [*product(MASKERS, DENOISERS), *product([{}, {"projection_size": 6}], BANDS)]
)
def test_features_and_heads(masker, options):
    denoiser, spectrum = make(RECURRENCES["cwgru"], masker, **options), make_spectrum(1, 140)
    model, expected = pretrained(denoiser), wanted(denoiser, spectrum)
    for step in (by_numpy(model), by_graph(model)):
        assert_close(run_in_parts(model, spectrum, [60, *[1] * 20, 60], step), expected)


@pytest.mark.parametrize("name", AHEAD)
def test_recurrences_that_look_ahead(name):
    denoiser = make(AHEAD[name])
    model = pretrained(denoiser)
    for num_frames in (4, 5, 127, 128, 129, 300):
        spectrum = make_spectrum(2, num_frames)
        actual, _ = model.run(spectrum, model.initial_state(2))
        assert_close(actual, wanted(denoiser, spectrum))


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_fewer_frames_than_the_slowest_period(num_frames):
    denoiser, spectrum = make(RECURRENCES["cwlstm"]), make_spectrum(1, num_frames)
    model = pretrained(denoiser)
    assert_close(model.run(spectrum, model.initial_state(1))[0], wanted(denoiser, spectrum))


def test_silence_is_silent():
    model = pretrained(make(RECURRENCES["cwgru"]))
    silence = np.zeros((1, 20, 9), np.complex64)
    assert not model.run(silence, model.initial_state(1))[0].any()
    for step in (by_numpy(model), by_graph(model)):
        assert not run_in_parts(model, silence, [1] * 20, step).any()


@pytest.mark.parametrize("name", ["cwgru", "odd", "lstm"])
def test_graphs_are_valid_and_describe_themselves(name):
    network = pretrained(make(RECURRENCES[name])).network
    for graph in (GraphWriter(network).sequence_graph(), GraphWriter(network).frame_graph()):
        loaded = onnx.load_from_string(graph)
        onnx.checker.check_model(loaded, full_check=True)
        assert [value.name for value in loaded.graph.input] == ["spec", "state"]
        assert [value.name for value in loaded.graph.output] == ["spec_e", "state_out"]
        about = {entry.key: entry.value for entry in loaded.metadata_props}
        assert (about["sample_rate"], about["n_fft"], about["hop_length"]) == ("1000", "16", "8")
        assert int(about["state_size"]) == network.state_size


def test_a_cell_of_one_s_own_is_for_training_alone():
    register_cell("own_gru", torch.nn.GRUCell)
    with pytest.raises(ValueError, match="cell is 'own_gru'; choose one of rnn, lstm, gru"):
        pretrained(make(partial(StackedRNN, hidden_size=5, cell="own_gru")))
