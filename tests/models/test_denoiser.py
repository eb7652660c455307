"""The whole denoiser: level, causality, padding, and the edges of its input."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from hushwork.audio.stft import StftConfig
from hushwork.models.clockwork import StackedClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.masker import RecurrentMasker
from hushwork.models.recurrence import StackedRNN
from hushwork.network.heads import HEADS

RATE = 16000
RNN = partial(StackedRNN, hidden_size=6, num_layers=2, cell="gru")
CLOCKWORK = partial(StackedClockworkRNN, hidden_sizes=[4, 3], periods=[1, 3], cell="lstm", num_layers=2)
KINDS = {
    "rnn": RNN,
    "clockwork": CLOCKWORK,
    "both ways": partial(RNN, bidirectional=True),
    "clockwork both ways": partial(CLOCKWORK, bidirectional=True, merge="sum"),
}
SHORT = StftConfig(n_fft=64, hop_length=32)
LINES = [{}, {"compression": 0.5}, {"head": "magnitude"}, {"ceiling": 2.0}]


def make(recurrence=RNN, stft=SHORT, *, head="mask", ceiling=1.0, **options):
    """An untrained denoiser whose mask depends clearly on its input."""
    torch.manual_seed(0)
    masker = partial(RecurrentMasker, recurrence=recurrence, head=head, ceiling=ceiling)
    denoiser = Denoiser(sample_rate=RATE, stft=stft, masker=masker, **options).eval()
    with torch.no_grad():
        denoiser.masker.output.weight.mul_(20)
    return denoiser


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * 0.1


def set_constant(denoiser, logit):
    with torch.no_grad():
        denoiser.masker.output.weight.zero_()
        denoiser.masker.output.bias.fill_(logit)
    return denoiser


@pytest.mark.parametrize("gain", [0.01, 100.0])
@pytest.mark.parametrize("options", LINES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_output_scales_with_the_input(kind, options, gain):
    denoiser = make(KINDS[kind], **options)
    for dtype, rtol in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        denoiser.to(dtype)
        noisy = noise(2, 1500, dtype=dtype)
        with torch.no_grad():
            expected, scaled = denoiser(noisy) * gain, denoiser(noisy * gain)
        torch.testing.assert_close(scaled, expected, rtol=0, atol=rtol * float(expected.abs().max()))


def test_the_mask_of_the_tests_depends_on_the_input():
    denoiser = make().double()
    with torch.no_grad():
        mask, _ = denoiser.estimate_mask(denoiser.analysis(noise(1, 1500)))
    assert float(mask.std(dim=1).mean()) > 0.05


def test_equals_a_mask_on_numpys_frames():
    denoiser = make().double()
    noisy = noise(1, 320)
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64))
    padded = np.concatenate([np.zeros(32), noisy[0].numpy(), np.zeros(64)])
    spectrum = np.stack([np.fft.rfft(padded[32 * t : 32 * t + 64] * window) for t in range(11)])
    powers, decay = (np.abs(spectrum) ** 2).mean(1), math.exp(-32 / RATE / 3.0)
    level = [
        math.sqrt(sum(powers[s] * decay ** (t - s) for s in range(t + 1)) / sum(decay**s for s in range(t + 1)))
        for t in range(11)
    ]
    relative_db = 20 * np.log10(np.maximum(np.abs(spectrum) / np.array(level)[:, None], 1e-4))
    with torch.no_grad():
        mask = denoiser.masker(torch.from_numpy((relative_db + 25) / 20)[None])[0][0].numpy()
        actual = denoiser(noisy)[0].numpy()
    expected = np.zeros(32 * 10 + 64)
    for t in range(11):
        expected[32 * t : 32 * t + 64] += window * np.fft.irfft(spectrum[t] * mask[t], 64)
    np.testing.assert_allclose(actual, expected[32 : 32 + 320], rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", LINES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_silence_stays_silence(kind, options):
    denoiser = make(KINDS[kind], **options)
    with torch.no_grad():
        assert not denoiser(torch.zeros(1, 1000)).any()


@pytest.mark.parametrize("options", LINES, ids=str)
@pytest.mark.parametrize("length", [1, 2, 31, 63, 64, 65])
def test_short_input_is_fine(length, options):
    with torch.no_grad():
        clean = make(KINDS["both ways"], **options)(noise(2, length, dtype=torch.float32))
    assert clean.shape == (2, length)
    assert clean.isfinite().all()


@pytest.mark.parametrize("options", LINES, ids=str)
def test_silence_around_speech_and_extreme_levels_give_no_nan(options):
    denoiser = make(**options)
    speech = noise(1, 600, dtype=torch.float32)
    broken = torch.cat([torch.zeros(1, 700), speech, torch.zeros(1, 700), speech * 1e-20, speech * 1e10], dim=1)
    for signal in (broken, broken.flip(1), torch.ones(1, 500), torch.eye(500)[:1]):
        with torch.no_grad():
            assert denoiser(signal).isfinite().all()


@pytest.mark.parametrize("options", LINES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_batch_equals_singles(kind, options):
    denoiser = make(KINDS[kind], **options).double()
    lengths = torch.tensor([700, 1500, 1, 65])
    noisy = noise(4, 1500) * (torch.arange(1500) < lengths[:, None])
    with torch.no_grad():
        clean = denoiser(noisy, lengths)
        for b, n in enumerate(lengths.tolist()):
            torch.testing.assert_close(clean[b : b + 1, :n], denoiser(noisy[b : b + 1, :n]), rtol=0, atol=1e-12)


def test_padding_changes_the_output_of_a_bidirectional_model_without_lengths():
    denoiser = make(KINDS["both ways"]).double()
    noisy = torch.nn.functional.pad(noise(1, 700), (0, 800))
    with torch.no_grad():
        assert not torch.allclose(denoiser(noisy)[:, :700], denoiser(noisy[:, :700]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("stft", [SHORT, StftConfig(n_fft=96, hop_length=32), StftConfig(n_fft=64, hop_length=16)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_future_does_not_reach_the_past_of_a_causal_model(kind, stft):
    denoiser = make(KINDS[kind], stft).double()
    noisy = noise(1, 1200)
    changed = noisy.clone()
    changed[:, 800:] = noise(1, 400, seed=1)
    with torch.no_grad():
        difference = (denoiser(noisy) - denoiser(changed))[0].abs()
    assert denoiser.is_causal is ("both" not in kind)
    if denoiser.is_causal:
        assert float(difference[: 800 - stft.n_fft].max()) == 0
    else:
        assert float(difference[: 800 - stft.n_fft].max()) > 1e-6
    assert float(difference[800:].max()) > 1e-3


@pytest.mark.parametrize("ceiling", [0.25, 1.0, 2.0])
def test_the_ceiling_is_the_largest_gain(ceiling):
    denoiser = set_constant(make(ceiling=ceiling), 100.0).double()
    noisy = noise(1, 1000)
    with torch.no_grad():
        torch.testing.assert_close(denoiser(noisy), ceiling * noisy, rtol=0, atol=1e-9)
        assert float(set_constant(denoiser, -100.0)(noisy).abs().max()) < 1e-9


@pytest.mark.parametrize("unit", [0.5, 0.9])
def test_a_magnitude_head_predicts_the_magnitude(unit):
    # Whatever the noisy magnitude is, the result has the head's; the phase is the noisy one.
    denoiser = set_constant(make(head="magnitude", output_compression=0.5).double(), math.log(unit / (1 - unit)))
    spectrum = denoiser.analysis(noise(1, 1000))
    with torch.no_grad():
        mask, _ = denoiser.estimate_mask(spectrum)
        level, _ = denoiser.level(spectrum.abs().square())
        clean = denoiser.apply_mask(spectrum, mask)
    torch.testing.assert_close(clean.abs(), (100 * unit**2 * level).expand_as(mask), rtol=1e-9, atol=0)
    torch.testing.assert_close(clean.angle(), spectrum.angle(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("options", LINES, ids=str)
@pytest.mark.parametrize("kind", ["rnn", "clockwork"])
def test_masks_continue_from_a_state(kind, options):
    denoiser = make(KINDS[kind], **options).double()
    spectrum = denoiser.analysis(noise(2, 1500))
    with torch.no_grad():
        whole, _ = denoiser.estimate_mask(spectrum)
        pieces, state = [], None
        for block in spectrum.split([1, 20, spectrum.shape[1] - 21], dim=1):
            mask, state = denoiser.estimate_mask(block, state)
            pieces.append(mask)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_training_reaches_every_parameter(kind):
    denoiser = make(KINDS[kind]).train()
    denoiser(noise(2, 1500, dtype=torch.float32)).square().sum().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("shape", [(0,), (10,), (2, 0), (1, 2, 10), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(batch, samples\), got \("):
        make()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": "cube"}, "compression is 'cube'"),
        ({"compression": 0.0}, "compression is 0.0"),
        ({"compression": 1.5}, "compression is 1.5"),
        ({"compression": None}, "compression is None"),
        ({"output_compression": 0.0}, "output_compression is 0.0"),
        ({"output_compression": 1.5}, "output_compression is 1.5"),
        ({"level_time_constant_s": 0.0}, r"level_time_constant_s is 0.0"),
    ],
)
def test_invalid_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gain", [1.0, 1e-4])
@pytest.mark.parametrize(
    "options", [*({"head": head} for head in HEADS), {"num_bands": 20, "mean_time_constant_s": 2.0}], ids=str
)
def test_autocast_changes_no_feature_and_the_mask_is_float32(options, gain, dtype):
    denoiser, seen = make(**options), []
    denoiser.masker.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    noisy = gain * noise(1, 16000, dtype=torch.float32)
    with torch.no_grad():
        spectrum = denoiser.analysis(noisy)
        expected, clean = denoiser.estimate_mask(spectrum)[0], denoiser(noisy)
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(denoiser.analysis(noisy), spectrum)
            mask, cast = denoiser.estimate_mask(spectrum)[0], denoiser(noisy)
    assert mask.dtype == expected.dtype  # float32, or complex of two of them
    assert cast.dtype == torch.float32
    assert all(torch.equal(features, seen[0]) for features in seen[1:])
    if options.get("head") != "magnitude":  # whose output is divided by magnitudes near 0
        assert (mask - expected).norm() < 0.05 * expected.norm()
    assert (cast - clean).norm() < 0.05 * clean.norm()
