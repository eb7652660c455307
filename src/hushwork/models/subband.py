"""Recurrent layers that share their weights over all bands.

Shapes: B batch, T frames, K bins or bands, C numbers of each, H units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hushwork.models.recurrence import build_cell, reverse_frames
from hushwork.network.features import NEIGHBOURS, SUBBAND_INPUTS, bounded

SubbandState = tuple[Any, ...]


class SubbandLayer(nn.Module):
    """A dense layer over each band and its neighbours, ReLU, and a GRU over the frames of each band.

    Shapes: (B, T, K, C) → (B, T, K, H), or 2H if bidirectional.

    Args:
        input_size: C.
        hidden_size: H.
        bidirectional: whether another GRU runs backwards.
    """

    def __init__(self, input_size: int, hidden_size: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.across = nn.Linear((2 * NEIGHBOURS + 1) * input_size, hidden_size)
        directions = 2 if bidirectional else 1
        self.over_time = nn.ModuleList(
            build_cell("gru", hidden_size, hidden_size, batch_first=False) for _ in range(directions)
        )
        self.output_size = directions * hidden_size

    def forward(self, x: Tensor, position: Tensor | float, state: Any, lengths: Tensor | None) -> tuple[Tensor, Any]:
        """``position`` (K, H) is added before the ReLU; ``state`` and the state returned are None if bidirectional."""
        # The dense layer as a convolution along the bands: torch needs no copy of x for each neighbour.
        kernel = self.across.weight.unflatten(1, (2 * NEIGHBOURS + 1, 1, -1)).permute(0, 3, 2, 1).contiguous()
        around = nn.functional.conv2d(x.permute(0, 3, 1, 2), kernel, self.across.bias, padding=(0, NEIGHBOURS))
        read = (around.permute(0, 2, 3, 1) + position).relu()
        ahead, state = self._run(0, read, state)
        if len(self.over_time) == 1:
            return ahead, state
        back, _ = self._run(1, reverse_frames(read.flatten(2), lengths).view_as(read), None)
        return torch.cat([ahead, reverse_frames(back.flatten(2), lengths).view_as(ahead)], dim=-1), None

    def _run(self, direction: int, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """(B, T, K, H) through one of the GRUs, each band of each recording a sequence by itself."""
        batch, _, bands, _ = x.shape
        y, state = self.over_time[direction](x.transpose(0, 1).flatten(1, 2), state)
        return y.unflatten(1, (batch, bands)).transpose(0, 1), state


class SubbandRNN(nn.Module):
    """Refines what a network predicts for all bands together, in each band by the same weights.

    Every band of every frame teaches the same few weights, so that they need little data, and hold for voices and
    noises that no training has shown. Its output is added to the prediction.

    Shapes: (B, T, K) three times → (B, T, K).

    Args:
        num_bands: K.
        hidden_size: H, units of each layer, band and direction.
        num_layers: on top of each other.
        bidirectional: whether each layer also runs backwards.

    Example:
        >>> refine = SubbandRNN(num_bands=128, hidden_size=24, num_layers=2)
        >>> change, state = refine(*torch.zeros(3, 4, 100, 128))
        >>> change.shape
        torch.Size([4, 100, 128])

    Source: Hao et al., "FullSubNet: a full-band and sub-band fusion model for real-time single-channel speech
    enhancement", ICASSP 2021, section 2 (a recurrent network that reads a bin with its neighbours and the output of a
    network that reads all of them; here it corrects that output instead of replacing it).
    """

    def __init__(self, *, num_bands: int, hidden_size: int, num_layers: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.num_bands = num_bands
        self.position = nn.Parameter(torch.zeros(num_bands, hidden_size))
        width = hidden_size * (2 if bidirectional else 1)
        sizes = [SUBBAND_INPUTS] + [width] * (num_layers - 1)
        self.layers = nn.ModuleList(SubbandLayer(size, hidden_size, bidirectional=bidirectional) for size in sizes)
        self.output = nn.Linear(width, 1)

    def forward(
        self,
        features: Tensor,
        levels: Tensor,
        predicted: Tensor,
        state: SubbandState | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, SubbandState]:
        """What is to be added to the prediction, and the state after frame T, one entry a layer.

        Args:
            features: of the noisy speech, (B, T, K).
            levels: the same before their running mean is taken from them, (B, T, K); the difference tells how loud
                steady noise is in each band.
            predicted: the mask before its activation, (B, T, K).
            state: where an earlier call ended; None at the start, and if bidirectional.
            lengths: (B,) frames that are not padding.
        """
        x = torch.stack([features, levels, bounded(predicted)], dim=-1)
        before, after = state or (None,) * len(self.layers), []
        total: Tensor | float = 0.0
        for number, (layer, layer_state) in enumerate(zip(self.layers, before, strict=True)):
            x, layer_state = layer(x, 0.0 if number else self.position, layer_state, lengths)
            total = total + x
            after.append(layer_state)
        return self.output(total)[..., 0], tuple(after)

    def macs_per_frame(self) -> float:
        """Multiply-accumulates of the matrix products, of all bands."""
        weights = [*self.layers.parameters(), *self.output.parameters()]
        return self.num_bands * sum(weight.numel() for weight in weights if weight.ndim == 2)
