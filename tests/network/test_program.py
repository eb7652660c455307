"""The programs for inference against the torch modules, with every option, by three interpreters."""

from functools import partial
from itertools import product

import numpy as np
import onnx
import pytest
import torch

from hushwork.models.export import pretrained
from hushwork.models.recurrence import StackedRNN, register_cell
from hushwork.network.frame import FrameProgram
from hushwork.network.heads import HEADS
from hushwork.network.onnx import encode
from hushwork.network.pretrained import as_pairs, open_session
from hushwork.network.sequence import SequenceProgram
from hushwork.streaming.onnx_export import metadata
from interpreter import run_operations
from networks import AHEAD, BANDS, DENOISERS, MASKERS, RECURRENCES, make, make_spectrum


def reference(denoiser, spectrum):
    denoiser = denoiser.double()
    with torch.inference_mode():
        spectrum = torch.from_numpy(spectrum).to(torch.complex128)
        mask, _ = denoiser.estimate_mask(spectrum)
        result = denoiser.apply_mask(spectrum, mask).numpy()
    denoiser.float()
    return result


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=3e-5 * np.abs(expected).max())


def run_in_parts(model, spectrum, sizes):
    state, parts = model.initial_state(len(spectrum)), []
    for part in np.split(spectrum, np.cumsum(sizes)[:-1], axis=1):
        clean, state = model.run(part, state)
        parts.append(clean)
    return np.concatenate(parts, axis=1)


def run_frames(run_frame, model, spectrum):
    """One stream (T, F) by a program of one frame."""
    state, clean = model.initial_state(1)[0], np.empty_like(spectrum)
    for frame, noisy in enumerate(spectrum):
        output, state = run_frame(as_pairs(noisy)[None, None], state)
        clean[frame] = output.view(np.complex64)[0, 0, :, 0]
    return clean


@pytest.mark.parametrize("name", RECURRENCES)
def test_every_recurrence_in_runs_of_any_length(name):
    denoiser, spectrum = make(RECURRENCES[name]), make_spectrum(2, 150)
    model, expected = pretrained(denoiser), reference(denoiser, spectrum)
    assert_close(run_in_parts(model, spectrum, [150]), expected)
    assert_close(run_in_parts(model, spectrum, [1] * 150), expected)
    # In turns, from every place of the clock.
    assert_close(run_in_parts(model, spectrum, [7, 1, 9, 0, 1, 1, 8, 1, 7, 100, 15]), expected)


@pytest.mark.parametrize(
    ("name", "masker"),
    [*product(RECURRENCES, [{}]), *(("cwgru", {"head": head}) for head in HEADS), ("cwgru", {"subband_size": 3})],
)
def test_a_plain_interpreter_runs_the_operations(name, masker):
    denoiser, spectrum = make(RECURRENCES[name], masker), make_spectrum(1, 60)
    model, expected = pretrained(denoiser), reference(denoiser, spectrum)[0]
    graph = FrameProgram(model.network).write()
    program, session = graph.operations(), open_session(encode(graph))

    def by_list(spec, state):
        results = run_operations(program, graph.constants, {"spec": spec, "state": state})
        return results["spec_e"], results["state_out"]

    assert_close(run_frames(by_list, model, spectrum[0]), expected)
    by_onnx = run_frames(lambda spec, state: session.run(None, {"spec": spec, "state": state}), model, spectrum[0])
    assert_close(by_onnx, expected)


@pytest.mark.parametrize(
    ("masker", "options"), [*product(MASKERS, DENOISERS), *product([{}, {"projection_size": 6}], BANDS)]
)
def test_features_and_heads(masker, options):
    denoiser, spectrum = make(RECURRENCES["cwgru"], masker, **options), make_spectrum(1, 140)
    model, expected = pretrained(denoiser), reference(denoiser, spectrum)
    assert_close(run_in_parts(model, spectrum, [60, *[1] * 20, 60]), expected)


@pytest.mark.parametrize("head", HEADS)
def test_every_head(head):
    denoiser, spectrum = make(RECURRENCES["cwgru"], {"head": head}), make_spectrum(2, 40)
    assert_close(run_in_parts(pretrained(denoiser), spectrum, [17, 1, 22]), reference(denoiser, spectrum))


@pytest.mark.parametrize("options", [{}, {"num_bands": 6}, {"num_bands": 3}], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_filter_over_time_is_the_literal_sum(options, bidirectional):
    recurrence = partial(StackedRNN, hidden_size=5, cell="gru", bidirectional=bidirectional)
    denoiser = make(recurrence, {"head": "deep_filter", "ceiling": 1.5}, **options)
    model, spectrum = pretrained(denoiser), make_spectrum(2, 40)
    expected = reference(denoiser, spectrum)
    assert_close(run_in_parts(model, spectrum, [40] if bidirectional else [17, 1, 22]), expected)
    # The mask is what a head without a filter gives with the same first outputs; taps are tanh of the others.
    plain, num_features = make(recurrence, {"ceiling": 1.5}, **options), options.get("num_bands", 9)
    weights = denoiser.state_dict()
    for name in ("weight", "bias"):
        weights[f"masker.output.{name}"] = weights[f"masker.output.{name}"][:num_features]
    plain.load_state_dict(weights)
    literal = reference(plain, spectrum)
    last = []
    denoiser.masker.output.register_forward_hook(lambda module, inputs, outputs: last.append(outputs))
    with torch.inference_mode():
        denoiser.estimate_mask(torch.from_numpy(spectrum))
    parts = 1.5 * np.tanh(last[0].numpy()[..., num_features:].reshape(2, 40, 2, 5, num_features))
    for b, t, tap, f in np.ndindex(2, 40, 5, num_features):
        if t >= 4 - tap:
            literal[b, t, f] += (parts[b, t, 0, tap, f] + 1j * parts[b, t, 1, tap, f]) * spectrum[b, t - 4 + tap, f]
    assert_close(literal, expected)
    if bidirectional:
        return
    state, clean = None, []
    for part in torch.from_numpy(spectrum).split([3, 1, 36], dim=1):
        with torch.inference_mode():
            mask, after = denoiser.estimate_mask(part, state)
            clean.append(denoiser.apply_mask(part, mask, state))
        state = after
    assert_close(torch.cat(clean, dim=1).numpy(), expected)


@pytest.mark.parametrize("head", ["mask", "magnitude", "deep_filter"])
def test_torch_looks_ahead_in_blocks_as_in_the_whole(head):
    denoiser, spectrum = make(RECURRENCES["cwgru"], {"head": head}, look_ahead=2), make_spectrum(2, 40)
    state, clean = None, []
    for part in torch.from_numpy(spectrum).split([1, 3, 36], dim=1):
        with torch.inference_mode():
            mask, after = denoiser.estimate_mask(part, state)
            clean.append(denoiser.apply_mask(part, mask, state))
        state = after
    assert_close(torch.cat(clean, dim=1).numpy(), reference(denoiser, spectrum))


@pytest.mark.parametrize("look_ahead", [0, 1, 3])
def test_a_frame_depends_on_so_many_later_ones(look_ahead):
    denoiser, spectrum = make(RECURRENCES["gru"], look_ahead=look_ahead), make_spectrum(1, 30)
    changed = spectrum.copy()
    changed[:, 20] *= 3
    difference = np.abs(reference(denoiser, changed) - reference(denoiser, spectrum)).max(axis=(0, 2))
    assert difference[:20].max() == 0  # output t is that of frame t - look_ahead
    assert difference[20] > 0
    with torch.no_grad():
        denoiser.masker.output.weight.zero_()
        denoiser.masker.output.bias.zero_()
    late = np.pad(spectrum, ((0, 0), (look_ahead, 0), (0, 0)))[:, :30]
    assert_close(reference(denoiser, spectrum), late / 2)


def test_a_bidirectional_network_takes_no_look_ahead():
    with pytest.raises(ValueError, match="look_ahead is 1; a bidirectional network reads all later frames"):
        make(AHEAD["gru"], look_ahead=1)


@pytest.mark.parametrize(("name", "masker"), [*product(AHEAD, [{}]), ("clockwork", {"subband_size": 3})])
def test_recurrences_that_look_ahead(name, masker):
    denoiser = make(AHEAD[name], masker)
    model = pretrained(denoiser)
    for num_frames in (1, 2, 3, 4, 5, 127, 128, 129, 300):
        spectrum = make_spectrum(2, num_frames)
        actual, _ = model.run(spectrum, model.initial_state(2))
        assert_close(actual, reference(denoiser, spectrum))


@pytest.mark.parametrize("options", DENOISERS)
def test_digital_silence_anywhere(options):
    denoiser, spectrum = make(RECURRENCES["cwgru"], **options), make_spectrum(2, 600)
    spectrum[0, :5] = 0
    spectrum[1, 7:300] = 0
    spectrum[:, 400:402] = 0
    model, expected = pretrained(denoiser), reference(denoiser, spectrum)
    assert_close(run_in_parts(model, spectrum, [600]), expected)
    assert_close(run_in_parts(model, spectrum, [3, *[1] * 10, 387, *[1] * 4, 196]), expected)


def test_silence_is_silent():
    model = pretrained(make(RECURRENCES["cwgru"]))
    silence = np.zeros((1, 21, 9), np.complex64)
    assert not model.run(silence, model.initial_state(1))[0].any()


@pytest.mark.parametrize("name", ["cwgru", "odd", "lstm"])
def test_graphs_are_valid_and_describe_themselves(name):
    network = pretrained(make(RECURRENCES[name])).network
    for graph in (SequenceProgram(network).write("B"), FrameProgram(network).write()):
        loaded = onnx.load_from_string(encode(graph, metadata(network)))
        onnx.checker.check_model(loaded, full_check=True)
        assert [value.name for value in loaded.graph.input] == ["spec", "state"]
        assert [value.name for value in loaded.graph.output] == ["spec_e", "state_out"]
        found = {entry.key: entry.value for entry in loaded.metadata_props}
        assert (found["sample_rate"], found["n_fft"], found["hop_length"]) == ("1000", "16", "8")
        assert int(found["state_size"]) == network.state_size


def test_a_custom_cell_is_for_training_alone():
    register_cell("custom_gru", torch.nn.GRUCell)
    with pytest.raises(ValueError, match="cell is 'custom_gru'; choose one of rnn, lstm, gru"):
        pretrained(make(partial(StackedRNN, hidden_size=5, cell="custom_gru")))
