"""The layers that all bands share, against a literal loop over bands and frames."""

import pytest
import torch
from torch import nn

from hushwork.models.subband import SubbandRNN

BANDS, UNITS = 6, 3


def make(*, num_layers=2, bidirectional=False):
    torch.manual_seed(0)
    network = SubbandRNN(
        num_bands=BANDS, hidden_size=UNITS, num_layers=num_layers, bidirectional=bidirectional
    ).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network


def inputs(batch, frames):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, batch, frames, BANDS, dtype=torch.float64, generator=generator).unbind()


def gru(cell, sequence):
    """Frame by frame: r, z, n as torch documents them."""
    weight, recurrent, bias, recurrent_bias = (value.detach() for value in cell.parameters())
    hidden, outputs = torch.zeros(UNITS, dtype=torch.float64), []
    for x in sequence:
        read, own = weight @ x + bias, recurrent @ hidden + recurrent_bias
        (r, z, n), (hr, hz, hn) = read.split(UNITS), own.split(UNITS)
        r, z = torch.sigmoid(r + hr), torch.sigmoid(z + hz)
        hidden = (1 - z) * torch.tanh(n + r * hn) + z * hidden
        outputs.append(hidden)
    return outputs


def literal(network, features, levels, predicted):
    """One recording (T, K), band by band."""
    frames = len(features)
    values = [
        [torch.stack([features[t, k], levels[t, k], 2 * torch.tanh(predicted[t, k] / 6)]) for k in range(BANDS)]
        for t in range(frames)
    ]
    total = 0.0
    for number, layer in enumerate(network.layers):
        width, after = len(values[0][0]), [[None] * BANDS for _ in range(frames)]
        for k in range(BANDS):
            read = []
            for t in range(frames):
                around = [values[t][j] if 0 <= j < BANDS else torch.zeros(width) for j in range(k - 2, k + 3)]
                position = network.position[k] if number == 0 else 0.0
                read.append(torch.relu(layer.across.weight @ torch.cat(around) + layer.across.bias + position))
            ahead = gru(layer.over_time[0], read)
            if len(layer.over_time) == 2:
                back = gru(layer.over_time[1], read[::-1])[::-1]
                ahead = [torch.cat(pair) for pair in zip(ahead, back, strict=True)]
            for t in range(frames):
                after[t][k] = ahead[t]
        values = after
        total = total + torch.stack([torch.stack(row) for row in values])
    return (total @ network.output.weight.T + network.output.bias)[..., 0]


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_it_is_the_literal_loop(num_layers, bidirectional):
    network, (features, levels, predicted) = make(num_layers=num_layers, bidirectional=bidirectional), inputs(2, 7)
    with torch.no_grad():
        change, _ = network(features, levels, predicted)
        for k in range(2):
            torch.testing.assert_close(change[k], literal(network, features[k], levels[k], predicted[k]))


def test_a_stream_goes_on_where_it_stopped():
    network, (features, levels, predicted) = make(), inputs(2, 9)
    whole, _ = network(features, levels, predicted)
    state, parts = None, []
    for inputs_now in zip(*(each.split([4, 1, 4], 1) for each in (features, levels, predicted)), strict=True):
        change, state = network(*inputs_now, state)
        parts.append(change)
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_padding_does_not_reach_a_valid_frame():
    network, (features, levels, predicted) = make(bidirectional=True), inputs(2, 9)
    whole, _ = network(features, levels, predicted, None, torch.tensor([9, 5]))
    alone, _ = network(features[1:, :5], levels[1:, :5], predicted[1:, :5])
    torch.testing.assert_close(whole[1:, :5], alone)
