"""Recurrent layer and dense layer together, against figures of the Keras layer and against its parts."""

import pytest
import torch

from hushwork.models.clockwork import ClockworkRNN
from hushwork.models.predictor import ClockworkPredictor, SequencePredictor
from hushwork.models.recurrence import StackedRNN

KERAS = {"input_size": 1, "output_size": 1, "periods": [2**k for k in range(8)], "hidden_sizes": 8}


# 2,497 and 9,793 stand in the README of the Keras layer; 7,553 is its count with the GRU of Keras 3.
@pytest.mark.parametrize(("cell", "expected"), [("rnn", 2497), ("lstm", 9793), ("gru", 7553)])
def test_one_bias_gives_the_parameters_of_keras(cell, expected):
    model = ClockworkPredictor(**KERAS, cell=cell, single_bias=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    prediction, state = model(torch.zeros(3, 20, 1))
    assert prediction.shape == (3, 20, 1)
    assert state.frame == 20


@pytest.mark.parametrize("activation", ["none", "tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("last_only", [False, True])
def test_it_is_the_layer_with_a_dense_layer_on_top(activation, last_only):
    model = ClockworkPredictor(
        input_size=2, output_size=3, periods=[1, 2], hidden_sizes=[4, 2], activation=activation, last_only=last_only
    )
    x = torch.randn(2, 7, 2)
    hidden, _ = model.recurrence(x)
    linear = model.top[0]
    act = {"none": lambda y: y, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}[activation]
    expected = act(hidden @ linear.weight.T + linear.bias)
    torch.testing.assert_close(model(x)[0], expected[:, -1] if last_only else expected)


def test_without_a_top_it_is_the_layer():
    torch.manual_seed(0)
    model = ClockworkPredictor(input_size=2, output_size=9, periods=[1, 2], hidden_sizes=[4, 2], include_top=False)
    torch.manual_seed(0)
    layer = ClockworkRNN(input_size=2, periods=[1, 2], hidden_sizes=[4, 2])
    x = torch.randn(2, 7, 2)
    torch.testing.assert_close(model(x)[0], layer(x)[0])


def test_a_stream_continues():
    model = ClockworkPredictor(input_size=1, output_size=1, periods=[1, 3], hidden_sizes=4)
    x = torch.randn(1, 10, 1)
    first, state = model(x[:, :4])
    torch.testing.assert_close(torch.cat([first, model(x[:, 4:], state)[0]], dim=1), model(x)[0])


def test_any_recurrence_takes_the_layer_s_place():
    model = SequencePredictor(
        input_size=1, output_size=2, recurrence=lambda input_size: StackedRNN(input_size=input_size, hidden_size=5)
    )
    assert model(torch.zeros(1, 6, 1))[0].shape == (1, 6, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "softmax"}, "activation is 'softmax'"),
        ({"activation": "tanh", "include_top": False}, "include_top is false"),
    ],
)
def test_invalid_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ClockworkPredictor(**KERAS, **options)
