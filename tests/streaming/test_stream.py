"""Denoising in chunks by onnxruntime, against torch on the whole recording at once."""

import copy
from functools import cache, partial

import numpy as np
import pytest
import torch

from hushwork.audio.stft import StftConfig
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.export import pretrained
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN
from hushwork.streaming.chunks import DenoiserWindows, denoise_in_chunks
from hushwork.streaming.stream import DenoiserStream
from hushwork.streaming.strength import Strength

RATE = 16000
RNN = partial(StackedRNN, hidden_size=6, num_layers=2, cell="gru")
CLOCKWORK = partial(StackedClockworkRNN, hidden_sizes=[3, 2], periods=[1, 4], cell="lstm", num_layers=2)
AHEAD = partial(RNN, bidirectional=True)
CONFIGS = [
    StftConfig(n_fft=512, hop_length=256),
    StftConfig(n_fft=512, hop_length=128, window="hann"),
    StftConfig(n_fft=384, hop_length=128),
    StftConfig(n_fft=320, hop_length=160),
]
ids = [f"{c.n_fft}-{c.hop_length}" for c in CONFIGS]
CLOSE = {"rtol": 0, "atol": 2e-5}


@cache  # graphs and sessions take longer than running them
def make(recurrence=RNN, stft=CONFIGS[0], head="mask", sample_rate=RATE, **options):
    torch.manual_seed(0)
    masker = partial(RecurrentMasker, recurrence=recurrence, head=head)
    denoiser = Denoiser(sample_rate=sample_rate, stft=stft, masker=masker, **options).eval()
    with torch.no_grad():
        denoiser.masker.output.weight.mul_(20)
    return denoiser


@cache
def for_use(denoiser):
    return pretrained(denoiser)


def constant(denoiser, logit):
    denoiser = copy.deepcopy(denoiser)
    with torch.no_grad():
        denoiser.masker.output.weight.zero_()
        denoiser.masker.output.bias.fill_(logit)
    return denoiser


def noise(channels, length):
    swell = np.sin(np.linspace(0, 6, length)) + 1.1
    return (np.random.default_rng(0).standard_normal((channels, length)) * swell).astype(np.float32)


def in_chunks(denoiser, noisy, sizes, make_stream=denoise_in_chunks, **options):
    """Everything that came out, and how many samples were out after each chunk."""
    stream = make_stream(for_use(denoiser), len(noisy), **options)
    if isinstance(sizes, int):
        sizes = [sizes] * -(-noisy.shape[1] // sizes)
    pieces = [stream.process(chunk) for chunk in np.split(noisy, np.cumsum(sizes)[:-1], axis=1)]
    out = np.cumsum([piece.shape[1] for piece in pieces]).tolist()
    pieces.append(stream.flush())
    return np.concatenate(pieces, axis=1), out


def whole(denoiser, noisy):
    """In double precision, by torch."""
    with torch.inference_mode():
        result = denoiser.double()(torch.from_numpy(noisy).double()).numpy()
    denoiser.float()
    return result


@pytest.mark.parametrize("make_stream", [denoise_in_chunks, DenoiserStream])
@pytest.mark.parametrize("size", [1, 160, 4096, None])
@pytest.mark.parametrize("kind", [RNN, CLOCKWORK], ids=["rnn", "clockwork"])
@pytest.mark.parametrize("stft", CONFIGS, ids=ids)
def test_a_stream_equals_the_whole(stft, kind, size, make_stream):
    length = 801 if size == 1 else 9001
    denoiser, noisy = make(kind, stft), noise(2, length)
    actual, _ = in_chunks(denoiser, noisy, size or length, make_stream)
    np.testing.assert_allclose(actual, whole(denoiser, noisy), **CLOSE)


@pytest.mark.parametrize("look_ahead", [0, 1, 3])
def test_a_stream_equals_the_whole_for_chunks_of_all_sizes(look_ahead):
    denoiser, noisy = make(CLOCKWORK, CONFIGS[2], look_ahead=look_ahead), noise(1, 23000)
    sizes = [0, 5, 1000, 0, 1, 1, 500, 1493, 0, 20000]
    actual, _ = in_chunks(denoiser, noisy, sizes, DenoiserStream)
    np.testing.assert_allclose(actual, whole(denoiser, noisy), **CLOSE)


def test_longer_than_one_run():
    denoiser, noisy = make(CLOCKWORK, CONFIGS[3]), noise(1, 160 * 1100 + 3)
    for make_stream in (denoise_in_chunks, DenoiserStream):
        actual, _ = in_chunks(denoiser, noisy, noisy.shape[1], make_stream)
        np.testing.assert_allclose(actual, whole(denoiser, noisy), **CLOSE)


def test_a_magnitude_head_streams():
    denoiser, noisy = make(head="magnitude"), noise(1, 4000)
    actual, _ = in_chunks(denoiser, noisy, 300, DenoiserStream)
    np.testing.assert_allclose(actual, whole(denoiser, noisy), rtol=0, atol=1e-5 * float(np.abs(actual).max()))


@pytest.mark.parametrize("length", [1, 2, 127, 128, 192, 255, 256, 257, 384, 511, 512, 513, 769])
@pytest.mark.parametrize("look_ahead", [0, 2])
@pytest.mark.parametrize("stft", CONFIGS, ids=ids)
def test_short_recordings_stream(stft, look_ahead, length):
    denoiser, noisy = make(stft=stft, look_ahead=look_ahead), noise(1, length)
    for make_stream in (denoise_in_chunks, DenoiserStream):
        actual, _ = in_chunks(denoiser, noisy, 100, make_stream)
        np.testing.assert_allclose(actual, whole(denoiser, noisy), **CLOSE)


@pytest.mark.parametrize("mode", ["linked", "mid"])
def test_channels_of_a_denoiser_with_look_ahead_are_attenuated_alike(mode):
    model, noisy = for_use(make(look_ahead=2)), noise(2, 5000)
    whole_window = DenoiserWindows(model, 2, Strength(max_attenuation_db=9), channels=mode)
    expected = [whole_window.process(noisy), whole_window.flush()]
    stream = DenoiserStream(model, 2, Strength(max_attenuation_db=9), channels=mode)
    actual = [*(stream.process(chunk) for chunk in np.split(noisy, 50, axis=1)), stream.flush()]
    np.testing.assert_allclose(np.concatenate(actual, axis=1), np.concatenate(expected, axis=1), **CLOSE)


@pytest.mark.parametrize("size", [1, 10, 256, 700])
@pytest.mark.parametrize("look_ahead", [0, 2])
@pytest.mark.parametrize("stft", CONFIGS, ids=ids)
def test_the_latency_is_constant_and_as_stated(stft, look_ahead, size):
    denoiser = make(stft=stft, look_ahead=look_ahead)
    stream = DenoiserStream(for_use(denoiser))
    _, out = in_chunks(denoiser, noise(1, 2500), size, DenoiserStream)
    received = [min(2500, size * (k + 1)) for k in range(len(out))]
    assert out == [max(0, count - stream.latency_samples) for count in received]
    assert stream.latency_samples == stft.n_fft - 1 + look_ahead * stft.hop_length


def test_a_stream_holds_a_bounded_amount():
    stream = DenoiserStream(for_use(make()))
    held = []
    for chunk in np.split(noise(1, 20000), 40, axis=1):
        stream.process(chunk)
        owners = (*vars(stream).values(), *vars(stream._stft).values())
        arrays = [value for value in owners if isinstance(value, np.ndarray)]
        bases = [array.base if isinstance(array.base, np.ndarray) else array for array in arrays]
        held.append(sum(base.nbytes for base in bases))
    assert max(held[-10:]) <= max(held[:10])


@pytest.mark.parametrize("silence", [600, 2000])
def test_silence_before_and_after_streams(silence):
    denoiser = make(CLOCKWORK)
    noisy = np.pad(noise(1, 700), ((0, 0), (silence, silence)))
    actual, _ = in_chunks(denoiser, noisy, 160, DenoiserStream)
    np.testing.assert_allclose(actual, whole(denoiser, noisy), **CLOSE)
    assert not actual[:, : silence - 512].any()


def test_a_stream_of_one_channel_may_be_flat_and_is_new_after_its_end():
    denoiser, noisy = make(CLOCKWORK), noise(1, 3000)
    stream = DenoiserStream(for_use(denoiser))
    for _ in range(2):
        pieces = [stream.process(chunk) for chunk in np.split(noisy[0], 10)]
        np.testing.assert_allclose(np.concatenate([*pieces, stream.flush()]), whole(denoiser, noisy)[0], **CLOSE)
    stream.process(noisy[0, :1000])
    stream.reset()
    assert np.concatenate([stream.process(noisy[0]), stream.flush()]).shape == (3000,)


def test_another_number_of_channels_is_named():
    with pytest.raises(ValueError, match=r"2 channels, got one of shape \(3, 10\)"):
        DenoiserStream(for_use(make()), 2).process(np.zeros((3, 10)))


@pytest.mark.parametrize("recurrence", [RNN, AHEAD])
@pytest.mark.parametrize("attenuation_db", [20.0, 6.0, 0.0])
def test_attenuation_is_limited_to_the_given_amount(recurrence, attenuation_db):
    noisy = noise(2, 3000)
    denoiser = constant(make(recurrence), -100.0)
    strength = Strength(max_attenuation_db=attenuation_db)
    actual, _ = in_chunks(denoiser, noisy, 700, strength=strength)
    np.testing.assert_allclose(actual, 10 ** (-attenuation_db / 20) * noisy, rtol=0, atol=1e-6)


def test_louder_bins_are_left_alone():
    noisy = noise(1, 3000)
    denoiser = make()
    with torch.inference_mode():
        spectrum = denoiser.analysis(torch.from_numpy(noisy))
        mask, _ = denoiser.estimate_mask(spectrum)
        expected = denoiser.synthesis(denoiser.apply_mask(spectrum, mask.clamp(min=0.4)), 3000).numpy()
    assert 0.1 < float((mask > 0.4).double().mean()) < 0.9
    strength = Strength(max_attenuation_db=-20 * np.log10(0.4))
    actual, _ = in_chunks(denoiser, noisy, 700, DenoiserStream, strength=strength)
    np.testing.assert_allclose(actual, expected, **CLOSE)


def test_the_mix_of_a_stream_is_that_of_the_signals():
    denoiser, noisy = make(), noise(1, 3000)
    actual, _ = in_chunks(denoiser, noisy, 700, DenoiserStream, strength=Strength(mix=0.3))
    np.testing.assert_allclose(actual, 0.7 * noisy + 0.3 * whole(denoiser, noisy), **CLOSE)


def test_the_strength_of_a_stream_can_be_changed_without_a_click():
    tone = np.sin(np.arange(16000) / 5).astype(np.float32)
    stream = DenoiserStream(for_use(constant(make(), -100.0)), strength=Strength(mix=0.0))
    before = stream.process(tone[:8000])
    stream.strength = Strength()
    audio = np.concatenate([before, stream.process(tone[8000:]), stream.flush()])
    np.testing.assert_allclose(audio[:7000], tone[:7000], rtol=0, atol=1e-5)
    assert not audio[9000:].any()
    assert np.abs(np.diff(audio, 2)).max() < 1.05 * np.abs(np.diff(tone, 2)).max()


def test_the_way_is_chosen_by_causality():
    assert isinstance(denoise_in_chunks(for_use(make()), 1), DenoiserStream)
    both = for_use(make(AHEAD))
    assert isinstance(denoise_in_chunks(both, 1), DenoiserWindows)
    with pytest.raises(ValueError, match="not causal"):
        DenoiserStream(both)


@pytest.mark.parametrize("recurrence", [RNN, AHEAD])
def test_empty_audio_gives_empty_audio(recurrence):
    model = for_use(make(recurrence))
    assert denoise_in_chunks(model, 2).flush().shape == (2, 0)
    stream = denoise_in_chunks(model, 2)
    assert stream.process(np.zeros((2, 0), np.float32)).shape == (2, 0)
    assert stream.flush().shape == (2, 0)


# Windows of 1000 samples that share 200.
WINDOWS = {"make_stream": DenoiserWindows, "window_s": 1.0, "overlap_s": 0.2}


def slow():
    """A denoiser that looks ahead, at 1000 Hz."""
    return make(AHEAD, StftConfig(n_fft=64, hop_length=32), sample_rate=1000)


@pytest.mark.parametrize("size", [7, 300, 1000])
@pytest.mark.parametrize("length", [1, 100, 999, 1000])
def test_windows_are_exact_within_one(length, size):
    denoiser, noisy = slow(), noise(2, length)
    actual, _ = in_chunks(denoiser, noisy, size, **WINDOWS)
    np.testing.assert_allclose(actual, whole(denoiser, noisy), **CLOSE)


@pytest.mark.parametrize("size", [7, 1000, 5000])
@pytest.mark.parametrize("length", [1001, 1800, 1801, 2600, 5000])
def test_windows_keep_length_and_place(length, size):
    # A network that lets everything through must give the input back, also where windows are cross-faded.
    noisy = noise(2, length)
    actual, _ = in_chunks(constant(slow(), 100.0), noisy, size, **WINDOWS)
    np.testing.assert_allclose(actual, noisy, rtol=0, atol=2e-6)


def test_windows_are_cross_faded():
    denoiser, noisy = slow(), noise(1, 1700)
    actual, _ = in_chunks(denoiser, noisy, 333, **WINDOWS)
    first, second = whole(denoiser, noisy[:, :1000]), whole(denoiser, noisy[:, 800:])
    np.testing.assert_allclose(actual[:, :800], first[:, :800], **CLOSE)
    np.testing.assert_allclose(actual[:, 1000:], second[:, 200:], **CLOSE)
    for k in range(200):
        mixed = (1 - k / 199) * first[0, 800 + k] + k / 199 * second[0, k]
        assert float(actual[0, 800 + k]) == pytest.approx(float(mixed), abs=2e-5)


def test_results_do_not_depend_on_the_chunks():
    denoiser, noisy = slow(), noise(1, 4321)
    small, large = (in_chunks(denoiser, noisy, size, **WINDOWS)[0] for size in (50, 4321))
    np.testing.assert_allclose(small, large, rtol=0, atol=1e-6)


@pytest.mark.parametrize("overlap_s", [0.0, -1.0, 30.0, 40.0])
def test_an_overlap_that_does_not_fit_is_named(overlap_s):
    with pytest.raises(ValueError, match=rf"overlap_s is {overlap_s}"):
        DenoiserWindows(for_use(slow()), 1, overlap_s=overlap_s)
