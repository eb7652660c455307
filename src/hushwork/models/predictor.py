"""A recurrent layer with one dense layer on top, for predictions from sequences.

Shapes: B batch, T frames, I input features, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from hushwork.models.clockwork import ClockworkRNN

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
}


class SequencePredictor(nn.Module):
    """Recurrence → dense layer → activation, for every frame or for the last one alone.

    Shapes: (B, T, I) → (B, T, O), or (B, O) if ``last_only``.

    Args:
        input_size: I.
        output_size: O; ignored without a top layer, where O is the recurrence's own width.
        recurrence: builds the recurrent part when called with ``input_size=``: a clockwork layer or any stack.
        include_top: whether there is a dense layer and its activation.
        activation: of the top layer: "none", "tanh", "sigmoid" or "relu".
        last_only: give the output of the last frame instead of the sequence.

    Raises:
        ValueError: an unknown activation, or one without a top layer to act on.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from hushwork import StackedRNN
        >>> recurrence = partial(StackedRNN, hidden_size=16, cell="gru")
        >>> words = SequencePredictor(input_size=13, output_size=25, recurrence=recurrence, last_only=True)
        >>> words(torch.zeros(4, 100, 13))[0].shape
        torch.Size([4, 25])
    """

    def __init__(
        self,
        *,
        input_size: int,
        output_size: int,
        recurrence: Callable[..., Any],
        include_top: bool = True,
        activation: str = "none",
        last_only: bool = False,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        if activation != "none" and not include_top:
            raise ValueError(
                f"activation is {activation!r}, but include_top is false; set include_top, or omit the activation"
            )
        self.last_only = last_only
        self.recurrence = recurrence(input_size=input_size)
        self.top = nn.Sequential()
        if include_top:
            self.top = nn.Sequential(nn.Linear(self.recurrence.output_size, output_size), ACTIVATIONS[activation]())

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(B, T, I) → the prediction, and the recurrence's state after frame T."""
        hidden, state = self.recurrence(x, state)
        return self.top(hidden[:, -1] if self.last_only else hidden), state


class ClockworkPredictor(SequencePredictor):
    """A clockwork layer with one dense layer on top: the whole of the Keras Clockwork-RNN layer.

    Shapes: (B, T, I) → (B, T, O), or (B, O) if ``last_only``.

    Args:
        input_size, output_size, include_top, activation, last_only: see :class:`SequencePredictor`.
        periods, hidden_sizes, clock: of the layer, see :class:`ClockworkRNN`.

    Raises:
        ValueError: as those two.

    Example:
        Predict the next audio sample; 2,497 parameters.

        >>> import torch
        >>> model = ClockworkPredictor(
        ...     input_size=1, output_size=1, periods=[1, 2, 4, 8, 16, 32, 64, 128], hidden_sizes=8, single_bias=True
        ... )
        >>> sum(parameter.numel() for parameter in model.parameters())
        2497
        >>> prediction, state = model(torch.zeros(1, 1000, 1))
        >>> prediction.shape
        torch.Size([1, 1000, 1])
    """

    def __init__(
        self,
        *,
        input_size: int,
        output_size: int,
        periods: Sequence[int],
        hidden_sizes: int | Sequence[int],
        include_top: bool = True,
        activation: str = "none",
        last_only: bool = False,
        **clock: Any,
    ) -> None:
        super().__init__(
            input_size=input_size,
            output_size=output_size,
            recurrence=lambda input_size: ClockworkRNN(
                input_size=input_size, periods=periods, hidden_sizes=hidden_sizes, **clock
            ),
            include_top=include_top,
            activation=activation,
            last_only=last_only,
        )
