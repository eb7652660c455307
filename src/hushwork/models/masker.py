"""The network between features and mask.

Shapes: B batch, T frames, F bins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hushwork.models.recurrence import Recurrence
from hushwork.models.subband import SubbandRNN
from hushwork.network.heads import HEADS
from hushwork.network.specification import MaskerSettings


class RecurrentMasker(nn.Module):
    """Features → (projection) → recurrence → dropout → one dense layer a frame (→ refinement in each band) → activation
    of the head.

    Shapes: (B, T, F) → (B, T, O·F), O outputs of the head for each bin, and those of its filter.

    Args:
        num_bins: F.
        recurrence: builds the recurrent part when called with ``input_size=``.
        head: meaning of the outputs, see :data:`hushwork.network.heads.HEADS`: "mask" (multiplies the noisy spectrum),
            "magnitude" (the clean magnitude itself, compressed), …
        ceiling: largest output, above 0; a mask up to 1 can only attenuate.
        projection_size: width of a dense layer with ReLU before the recurrence; None leaves it out.
        dropout: probability, for each unit and frame, before the dense layer; in [0, 1).
        subband_size, subband_layers: units and number of the layers of :class:`SubbandRNN`, which refine the first
            output of each band; None leaves them out.

    Raises:
        ValueError: an unknown head, or a number outside its range.
    """

    def __init__(
        self,
        *,
        num_bins: int,
        recurrence: Callable[..., Recurrence],
        head: str = MaskerSettings.head,
        ceiling: float = MaskerSettings.ceiling,
        projection_size: int | None = MaskerSettings.projection_size,
        dropout: float = MaskerSettings.dropout,
        subband_size: int | None = MaskerSettings.subband_size,
        subband_layers: int = MaskerSettings.subband_layers,
    ) -> None:
        super().__init__()
        MaskerSettings.check(
            projection_size=projection_size, dropout=dropout, subband_size=subband_size, subband_layers=subband_layers
        )
        MaskerSettings.check_head(head, ceiling)
        self.head = HEADS[head]
        self.ceiling = ceiling
        self.projection = nn.Sequential()
        if projection_size is not None:
            self.projection = nn.Sequential(nn.Linear(num_bins, projection_size), nn.ReLU())
        self.recurrence = recurrence(input_size=projection_size or num_bins)
        self.dropout = nn.Dropout(dropout)
        self.sizes = self.head.sizes(num_bins)
        self.output = nn.Linear(self.recurrence.output_size, sum(self.sizes))
        with torch.no_grad():  # the filter's taps start at 0
            for parameter in self.output.parameters():
                parameter[self.head.outputs * num_bins :] = 0
        self.subband: SubbandRNN | None = None
        if subband_size is not None:
            self.subband = SubbandRNN(
                num_bands=num_bins,
                hidden_size=subband_size,
                num_layers=subband_layers,
                bidirectional=not self.recurrence.is_causal,
            )
        self.settings = {
            "_target_": MaskerSettings.target,
            "_partial_": True,
            "head": head,
            "ceiling": ceiling,
            "projection_size": projection_size,
            "dropout": dropout,
            "subband_size": subband_size,
            "subband_layers": subband_layers,
            "recurrence": self.recurrence.settings,
        }

    @property
    def is_causal(self) -> bool:
        return self.recurrence.is_causal

    def forward(
        self, features: Tensor, state: Any = None, lengths: Tensor | None = None, levels: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Features (B, T, F) → outputs (B, T, O·F) and those of the head's filter, and the state.

        ``lengths`` (B,) are in frames; ``levels`` are the features before their running mean is taken from them, by
        default the features.
        """
        before, subband_before = state or (None, None)
        hidden, after = self.recurrence(self.projection(features), before, lengths)
        pieces = list(self.output(self.dropout(hidden)).split(self.sizes, dim=-1))
        subband_after = None
        if self.subband is not None:
            levels = features if levels is None else levels
            change, subband_after = self.subband(features, levels, pieces[0], subband_before, lengths)
            pieces[0] = pieces[0] + change
        return torch.cat(self.head.activate(pieces, self.ceiling), dim=-1), (after, subband_after)
