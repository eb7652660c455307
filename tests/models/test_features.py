"""The running level against a literal recursion, and fixed points of the features."""

import math

import pytest
import torch

from hushwork.models.features import LevelNormalizer, RunningMean, digital_silence
from hushwork.network.features import compress
from hushwork.network.heads import HEADS, NoisyFrames

FRAME_S, TIME_S = 0.016, 0.2


def literal_level(magnitude, frame_s=FRAME_S, time_s=TIME_S):
    """Root of the mean power of all frames so far, each weighted by exp(-age / time constant)."""
    frames = magnitude.square().mean(-1)
    levels = []
    for t in range(frames.shape[1]):
        weights = [math.exp(-(t - s) * frame_s / time_s) for s in range(t + 1)]
        mean = sum(w * frames[:, s] for s, w in enumerate(weights)) / sum(weights)
        levels.append(mean.sqrt())
    return torch.stack(levels, dim=1)[..., None]


@pytest.fixture
def magnitude():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(2, 40, 5, dtype=torch.float64, generator=generator)
        * torch.rand(2, 40, 1, dtype=torch.float64, generator=generator).mul(6).exp()
    )


def test_level_equals_the_literal_mean(magnitude):
    level, state = LevelNormalizer(FRAME_S, TIME_S)(magnitude.square())
    torch.testing.assert_close(level, literal_level(magnitude), rtol=1e-12, atol=0)
    assert level.shape == (2, 40, 1)
    assert state.shape == (2, 2)


@pytest.mark.parametrize("chunks", [[1] * 40, [3, 30, 7]])
def test_level_continues_from_its_state(magnitude, chunks):
    normalizer, state, levels = LevelNormalizer(FRAME_S, TIME_S), None, []
    for block in magnitude.split(chunks, dim=1):
        level, state = normalizer(block.square(), state)
        levels.append(level)
    torch.testing.assert_close(torch.cat(levels, dim=1), literal_level(magnitude), rtol=1e-12, atol=0)


def test_a_constant_has_its_own_level_from_the_first_frame_on():
    level, _ = LevelNormalizer(FRAME_S, TIME_S)(torch.full((1, 500, 4), 9.0))
    torch.testing.assert_close(level, torch.full((1, 500, 1), 3.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("gain", [1e-4, 0.01, 100.0, 1e4])
def test_level_scales_with_the_recording(magnitude, gain):
    normalizer = LevelNormalizer(FRAME_S, TIME_S)
    power = magnitude.square()
    torch.testing.assert_close(normalizer(power * gain**2)[0], normalizer(power)[0] * gain, rtol=1e-12, atol=0)


def test_level_forgets_by_its_time_constant():
    loud_then_soft = torch.cat([torch.full((1, 2000, 1), 1e6), torch.full((1, 1000, 1), 1e-6)], dim=1).double()
    level = LevelNormalizer(0.01, 0.5)(loud_then_soft)[0][0, :, 0]
    # Far from the start the weights sum to a constant: the power falls to 1/e in 0.5 s.
    assert float((level[2100] / level[2050]).square()) == pytest.approx(math.exp(-1), rel=1e-6)


@pytest.mark.parametrize("gaps", [[(10, 20), (25, 26)], [(33, 40)]])
def test_digital_silence_after_sound_is_skipped(magnitude, gaps):
    muted, kept = magnitude.clone(), torch.ones(40, dtype=torch.bool)
    for start, stop in gaps:
        muted[0, start:stop], kept[start:stop] = 0, False
    silent, skipped = digital_silence(muted.square())
    assert silent[0].tolist() == skipped[0].tolist() == (~kept).tolist()
    assert not silent[1].any()
    level, state = LevelNormalizer(FRAME_S, TIME_S)(muted.square(), None, skipped)
    expected, expected_state = LevelNormalizer(FRAME_S, TIME_S)(magnitude[:1, kept].square())
    torch.testing.assert_close(level[:1, kept], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(state[:1], expected_state, rtol=1e-12, atol=0)
    torch.testing.assert_close(level[1:], literal_level(magnitude)[1:], rtol=1e-12, atol=0)
    features, _ = RunningMean(FRAME_S, TIME_S)(muted, None, skipped)
    expected_features, _ = RunningMean(FRAME_S, TIME_S)(magnitude[:1, kept])
    torch.testing.assert_close(features[:1, kept], expected_features, rtol=1e-12, atol=1e-12)


def test_digital_silence_before_the_first_sound_counts(magnitude):
    muted = magnitude.clone()
    muted[:, :7] = 0
    silent, skipped = digital_silence(muted.square())
    assert silent[0].tolist() == [True] * 7 + [False] * 33
    assert not skipped.any()
    assert not digital_silence(muted[:, :3].square(), torch.zeros(2, 2))[1].any()
    assert digital_silence(muted[:, :3].square(), torch.ones(2, 2))[1].all()


def test_silence_has_a_level_above_zero_that_is_soon_left():
    level, state = LevelNormalizer(FRAME_S, TIME_S)(torch.zeros(1, 1000, 4))
    assert float(level.min()) > 0
    assert float(level.max()) < 1e-10
    after, _ = LevelNormalizer(FRAME_S, TIME_S)(torch.ones(1, 200, 4), state)
    assert float(after[0, -1, 0]) == pytest.approx(1, rel=1e-3)


def test_the_level_passes_no_gradient():
    power = torch.rand(1, 3, 4, requires_grad=True)
    assert not LevelNormalizer(FRAME_S, TIME_S)(power)[0].requires_grad


@pytest.mark.parametrize("times", [(0, 1), (1, 0), (-1, 1), (1, -0.5)])
def test_times_must_be_positive(times):
    with pytest.raises(ValueError, match=rf"frame_s \({times[0]}\) and time_constant_s \({times[1]}\)"):
        LevelNormalizer(*times)


@pytest.mark.parametrize(
    ("decibels", "expected"), [(0, 1.25), (-25, 0), (-45, -1), (-80, -2.75), (-90, -2.75), (-1000, -2.75), (15, 2)]
)
def test_log_compression(decibels, expected):
    relative = torch.tensor(10 ** (decibels / 20), dtype=torch.float64)
    assert float(compress(relative, "log")) == pytest.approx(expected)


def test_log_compression_of_nothing_is_the_floor():
    assert float(compress(torch.tensor(0.0), "log")) == pytest.approx(-2.75)


def test_power_compression():
    assert compress(torch.tensor([0.0, 1.0, 8.0]), 1 / 3).tolist() == pytest.approx([0, 1, 2])


def test_the_magnitude_head_predicts_the_clean_magnitude():
    level, magnitude = torch.tensor([[[2.0]]]), torch.tensor([[[4.0, 4.0, 0.5]]])
    mask, imaginary = HEADS["magnitude"].mask(
        [torch.tensor([[[0.0, 1.0, 0.5]]])], NoisyFrames(level, magnitude, output_compression=0.5)
    )
    assert (mask * magnitude)[0, 0].tolist() == pytest.approx([0, 200, 50])
    assert imaginary is None


def test_the_complex_head_turns_phases_within_its_ceiling():
    head = HEADS["complex"]
    outputs = head.activate([torch.tensor([100.0, -100.0]), torch.tensor([0.0, 0.5])], 2.0)
    real, imaginary = head.mask(outputs, NoisyFrames(None, None, 0.3))
    assert real.tolist() == [2, -2]
    assert imaginary.tolist() == pytest.approx([0, 2 * math.tanh(0.5)])


@pytest.mark.parametrize("chunks", [[40], [1] * 40, [3, 30, 7]])
def test_the_running_mean_equals_the_literal_one(magnitude, chunks):
    mean, state, centred = RunningMean(FRAME_S, TIME_S), None, []
    for block in magnitude.split(chunks, dim=1):
        features, state = mean(block, state)
        centred.append(features)
    literal = []
    for t in range(magnitude.shape[1]):
        weights = [math.exp(-(t - s) * FRAME_S / TIME_S) for s in range(t + 1)]
        literal.append(magnitude[:, t] - sum(w * magnitude[:, s] for s, w in enumerate(weights)) / sum(weights))
    torch.testing.assert_close(torch.cat(centred, dim=1), torch.stack(literal, dim=1), rtol=1e-10, atol=1e-10)


def test_constant_features_become_zero():
    steady = torch.tensor([-2.0, 0.5, 3.0]).expand(2, 300, 3)
    torch.testing.assert_close(RunningMean(FRAME_S, TIME_S)(steady)[0], torch.zeros(2, 300, 3), rtol=0, atol=1e-5)
