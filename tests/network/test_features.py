"""Bands and their properties, against the ear's scale by librosa and the paper."""

import numpy as np
import pytest

from hushwork.network.features import band_edges, band_weights

RATE, BINS = 16_000, 257


@pytest.mark.parametrize("num_bands", [1, 2, 32, 64, 96, 128, 200, 256, 257])
def test_there_are_as_many_bands_as_wanted_side_by_side(num_bands):
    edges = band_edges(BINS, num_bands, RATE)
    assert len(edges) == num_bands
    assert edges[0] == 0
    assert (np.diff(edges, append=BINS) >= 1).all()


def test_low_bands_are_single_bins_and_high_ones_grow_with_the_critical_band():
    edges = band_edges(BINS, 96, RATE)
    widths = np.diff(edges, append=BINS)
    assert (widths[:20] == 1).all()
    hz = (edges + widths / 2) * RATE / 2 / (BINS - 1)
    critical = 24.673 * (4.368 * hz / 1000 + 1)  # the numbers of Glasberg and Moore's paper, unrounded
    wide = widths >= 4
    share = (widths[wide] / critical[wide]).mean()
    assert np.abs(widths - share * critical)[wide].max() < 1.1  # rounding to whole bins


def test_bins_are_their_own_bands_when_there_are_as_many():
    for matrix in band_weights(9, 9, RATE):
        np.testing.assert_array_equal(matrix, np.eye(9))


def test_a_band_is_the_mean_of_its_bins():
    edges = band_edges(BINS, 40, RATE)
    power = np.random.default_rng(0).random(BINS)
    expected = [part.mean() for part in np.split(power, edges[1:])]
    np.testing.assert_allclose(power @ band_weights(BINS, 40, RATE)[0], expected, rtol=1e-5)


def test_a_mask_runs_in_straight_lines_between_the_centres_of_bands():
    _, to_bins = band_weights(BINS, 64, RATE)
    np.testing.assert_allclose(to_bins.sum(0), 1, rtol=1e-6)
    edges = np.append(band_edges(BINS, 64, RATE), BINS)
    centres = (edges[:-1] + edges[1:] - 1) / 2
    between = slice(0, int(centres[-1]) + 1)
    np.testing.assert_allclose((centres @ to_bins)[between], np.arange(BINS)[between], rtol=1e-5)


@pytest.mark.parametrize("num_bands", [0, -1, 258])
def test_impossible_numbers_of_bands_are_refused(num_bands):
    with pytest.raises(ValueError, match=rf"num_bands is {num_bands}; .* 257"):
        band_edges(BINS, num_bands, RATE)
