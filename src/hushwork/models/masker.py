"""The network between features and mask.

Shapes: B batch, T frames, F bins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from hushwork.models.recurrence import Recurrence

HEADS = ("mask", "magnitude")


class RecurrentMasker(nn.Module):
    """Features → (projection) → recurrence → dropout → one dense layer a frame → sigmoid.

    Shapes: (B, T, F) → (B, T, F).

    Args:
        num_bins: F.
        recurrence: builds the recurrent part when called with ``input_size=``.
        head: "mask" (output in [0, ``ceiling``], multiplies the noisy spectrum) or "magnitude" (output in [0, 1], the
            clean magnitude itself, compressed).
        ceiling: largest mask value, above 0; 1 can only attenuate.
        projection_size: width of a dense layer with ReLU before the recurrence; None leaves it out.
        dropout: probability, for each unit and frame, before the last layer; in [0, 1).

    Raises:
        ValueError: an unknown head, or a number outside its range.
    """

    def __init__(
        self,
        *,
        num_bins: int,
        recurrence: Callable[..., Recurrence],
        head: str = "mask",
        ceiling: float = 1.0,
        projection_size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ValueError(f"head is {head!r}; choose one of {', '.join(HEADS)}")
        if ceiling <= 0 or (head == "magnitude" and ceiling != 1):
            raise ValueError(f"ceiling is {ceiling}; it must be above 0, and 1 for the magnitude head")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; it must lie in [0, 1)")
        self.head = head
        self.ceiling = ceiling
        self.projection = nn.Sequential()
        if projection_size is not None:
            self.projection = nn.Sequential(nn.Linear(num_bins, projection_size), nn.ReLU())
        self.recurrence = recurrence(input_size=projection_size or num_bins)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.recurrence.output_size, num_bins)
        self.settings = {
            "_target_": "hushwork.models.masker.RecurrentMasker",
            "_partial_": True,
            "head": head,
            "ceiling": ceiling,
            "projection_size": projection_size,
            "dropout": dropout,
            "recurrence": self.recurrence.settings,
        }

    @property
    def is_causal(self) -> bool:
        return self.recurrence.is_causal

    def forward(self, features: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Features (B, T, F) → mask or magnitude (B, T, F) and the recurrence's state; ``lengths`` (B,) in frames."""
        hidden, state = self.recurrence(self.projection(features), state, lengths)
        return self.ceiling * self.output(self.dropout(hidden)).sigmoid(), state
