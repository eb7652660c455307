"""Denoising in blocks against denoising at once."""

from functools import partial

import pytest
import torch

from hushwork.audio.stft import StftConfig
from hushwork.inference.stream import DenoiserStream, DenoiserWindows, denoise_in_blocks
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN

RATE = 16000
RNN = partial(StackedRNN, hidden_size=6, num_layers=2, cell="gru")
CLOCKWORK = partial(StackedClockworkRNN, hidden_sizes=[3, 2], periods=[1, 4], cell="lstm", num_layers=2)
CONFIGS = [
    StftConfig(n_fft=512, hop_length=256),
    StftConfig(n_fft=512, hop_length=128, window="hann"),
    StftConfig(n_fft=384, hop_length=128),
    StftConfig(n_fft=320, hop_length=160),
]
ids = [f"{c.n_fft}-{c.hop_length}" for c in CONFIGS]


def make(recurrence=RNN, stft=CONFIGS[0], head="mask", sample_rate=RATE):
    torch.manual_seed(0)
    masker = partial(RecurrentMasker, recurrence=recurrence, head=head)
    denoiser = Denoiser(sample_rate=sample_rate, stft=stft, masker=masker).double().eval()
    with torch.no_grad():
        denoiser.masker.output.weight.mul_(20)
    return denoiser


def constant(denoiser, logit):
    with torch.no_grad():
        denoiser.masker.output.weight.zero_()
        denoiser.masker.output.bias.fill_(logit)
    return denoiser


def noise(channels, length):
    generator = torch.Generator().manual_seed(0)
    swell = torch.linspace(0, 6, length, dtype=torch.float64).sin() + 1.1
    return torch.randn(channels, length, dtype=torch.float64, generator=generator) * swell


def pushed(stream, noisy, sizes):
    """Everything that came out, and how many samples were out after each block."""
    pieces, out = [], []
    for block in noisy.split(sizes, dim=1):
        pieces.append(stream.push(block))
        out.append(sum(piece.shape[1] for piece in pieces))
    pieces.append(stream.flush())
    return torch.cat(pieces, dim=1), out


def whole(denoiser, noisy):
    with torch.inference_mode():
        return denoiser(noisy)


@pytest.mark.parametrize("block", [1, 160, 4096, None])
@pytest.mark.parametrize("kind", [RNN, CLOCKWORK], ids=["rnn", "clockwork"])
@pytest.mark.parametrize("stft", CONFIGS, ids=ids)
def test_a_stream_equals_the_whole(stft, kind, block):
    length = 801 if block == 1 else 9001
    denoiser, noisy = make(kind, stft), noise(2, length)
    actual, _ = pushed(denoise_in_blocks(denoiser), noisy, block or length)
    torch.testing.assert_close(actual, whole(denoiser, noisy), rtol=0, atol=1e-9)


def test_a_stream_equals_the_whole_for_blocks_of_all_sizes():
    denoiser, noisy = make(CLOCKWORK, CONFIGS[2]), noise(1, 3000)
    sizes = [0, 5, 1000, 0, 1, 1, 500, 1493, 0]
    actual, _ = pushed(DenoiserStream(denoiser), noisy, sizes)
    torch.testing.assert_close(actual, whole(denoiser, noisy), rtol=0, atol=1e-9)


def test_a_magnitude_head_streams():
    denoiser, noisy = make(head="magnitude"), noise(1, 4000)
    actual, _ = pushed(DenoiserStream(denoiser), noisy, 300)
    torch.testing.assert_close(actual, whole(denoiser, noisy), rtol=0, atol=1e-9 * float(actual.abs().max()))


def test_a_stream_in_single_precision():
    denoiser, noisy = make(CLOCKWORK).float(), noise(1, 6000).float()
    actual, _ = pushed(DenoiserStream(denoiser), noisy, 333)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, whole(denoiser, noisy), rtol=0, atol=2e-5)


@pytest.mark.parametrize("length", [1, 2, 127, 128, 192, 255, 256, 257, 384, 511, 512, 513, 769])
@pytest.mark.parametrize("stft", CONFIGS, ids=ids)
def test_short_recordings_stream(stft, length):
    denoiser, noisy = make(stft=stft), noise(1, length)
    actual, _ = pushed(DenoiserStream(denoiser), noisy, 100)
    torch.testing.assert_close(actual, whole(denoiser, noisy), rtol=0, atol=1e-9)


@pytest.mark.parametrize("stft", CONFIGS, ids=ids)
def test_a_stream_lags_by_at_most_a_window(stft):
    _, out = pushed(DenoiserStream(make(stft=stft)), noise(1, 2500), 10)
    lags = [10 * (k + 1) - emitted for k, emitted in enumerate(out)]
    assert max(lags) <= stft.n_fft
    assert min(lags) >= 0


def test_a_stream_holds_a_bounded_amount():
    stream = DenoiserStream(make())
    held = []
    for block in noise(1, 20000).split(500, dim=1):
        stream.push(block)
        held.append(sum(t.untyped_storage().nbytes() for t in vars(stream).values() if isinstance(t, torch.Tensor)))
    assert max(held[-10:]) <= max(held[:10])


@pytest.mark.parametrize("silence", [600, 2000])
def test_silence_before_and_after_streams(silence):
    denoiser = make(CLOCKWORK)
    noisy = torch.nn.functional.pad(noise(1, 700), (silence, silence))
    actual, _ = pushed(DenoiserStream(denoiser), noisy, 160)
    torch.testing.assert_close(actual, whole(denoiser, noisy), rtol=0, atol=1e-9)
    assert not actual[:, : silence - 512].any()


@pytest.mark.parametrize("recurrence", [RNN, partial(RNN, bidirectional=True)])
@pytest.mark.parametrize("min_gain", [0.1, 0.5, 1.0])
def test_min_gain_is_what_remains_of_what_is_turned_off(recurrence, min_gain):
    noisy = noise(2, 3000)
    denoiser = constant(make(recurrence), -100.0)
    actual, _ = pushed(denoise_in_blocks(denoiser, min_gain), noisy, 700)
    torch.testing.assert_close(actual, min_gain * noisy, rtol=0, atol=1e-6)


def test_min_gain_leaves_louder_bins_alone():
    noisy = noise(1, 3000)
    denoiser = make()
    with torch.inference_mode():
        spectrum = denoiser.analysis(noisy)
        mask, _ = denoiser.estimate_mask(spectrum)
        floored = torch.where(mask > 0.4, mask, torch.full_like(mask, 0.4))
        expected = denoiser.synthesis(denoiser.apply_mask(spectrum, floored), 3000)
    assert 0.1 < float((mask > 0.4).double().mean()) < 0.9
    actual, _ = pushed(DenoiserStream(denoiser, 0.4), noisy, 700)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


def test_the_way_is_chosen_by_causality():
    assert isinstance(denoise_in_blocks(make()), DenoiserStream)
    both = make(partial(RNN, bidirectional=True))
    assert isinstance(denoise_in_blocks(both), DenoiserWindows)
    with pytest.raises(ValueError, match="looks ahead"):
        DenoiserStream(both)


@pytest.mark.parametrize("make_stream", [DenoiserStream, DenoiserWindows])
def test_nothing_in_nothing_out(make_stream):
    assert make_stream(make()).flush().shape == (0, 0)
    stream = make_stream(make())
    assert stream.push(torch.zeros(2, 0, dtype=torch.float64)).shape == (2, 0)
    assert stream.flush().numel() == 0


# Windows of 1000 samples that share 200.
def windows(denoiser, **options):
    return DenoiserWindows(denoiser, window_s=1.0, overlap_s=0.2, **options)


def slow(recurrence=None):
    """A denoiser that looks ahead, at 1000 Hz."""
    return make(recurrence or partial(RNN, bidirectional=True), StftConfig(n_fft=64, hop_length=32), sample_rate=1000)


@pytest.mark.parametrize("block", [7, 300, 1000])
@pytest.mark.parametrize("length", [1, 100, 999, 1000])
def test_windows_are_exact_within_one(length, block):
    denoiser, noisy = slow(), noise(2, length)
    actual, _ = pushed(windows(denoiser), noisy, block)
    torch.testing.assert_close(actual, whole(denoiser, noisy), rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", [7, 1000, 5000])
@pytest.mark.parametrize("length", [1001, 1800, 1801, 2600, 5000])
def test_windows_keep_length_and_place(length, block):
    # A network that lets everything through must give the input back, also where windows are cross-faded.
    noisy = noise(2, length)
    actual, _ = pushed(windows(constant(slow(), 100.0)), noisy, block)
    torch.testing.assert_close(actual, noisy, rtol=0, atol=1e-6)


def test_windows_are_cross_faded():
    denoiser, noisy = slow(), noise(1, 1700)
    actual, _ = pushed(windows(denoiser), noisy, 333)
    first, second = whole(denoiser, noisy[:, :1000]), whole(denoiser, noisy[:, 800:])
    torch.testing.assert_close(actual[:, :800], first[:, :800], rtol=0, atol=1e-12)
    torch.testing.assert_close(actual[:, 1000:], second[:, 200:], rtol=0, atol=1e-12)
    for k in range(200):
        mixed = (1 - k / 199) * first[0, 800 + k] + k / 199 * second[0, k]
        assert float(actual[0, 800 + k]) == pytest.approx(float(mixed), abs=1e-6)


def test_results_do_not_depend_on_the_blocks():
    denoiser, noisy = slow(), noise(1, 4321)
    torch.testing.assert_close(
        pushed(windows(denoiser), noisy, 50)[0], pushed(windows(denoiser), noisy, 4321)[0], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("overlap_s", [0.0, -1.0, 30.0, 40.0])
def test_an_overlap_that_does_not_fit_is_named(overlap_s):
    with pytest.raises(ValueError, match=rf"overlap_s is {overlap_s}"):
        DenoiserWindows(slow(), overlap_s=overlap_s)
