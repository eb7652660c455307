"""The loop over time of a recurrent layer, for training on the CPU: the same numbers as torch's layers, less work.

Through ``nn.RNN`` and ``nn.GRU`` on the CPU, autograd records every operation of every frame. Here nothing inside the
loop is recorded, and the backward pass is written out: what does not recur is done for all frames at once, before the
loop the factors of every gradient, after it one product for the weights. That leaves two calls a frame for a tanh
layer, three for a GRU, five for an LSTM.

The three functions are exact but cannot be differentiated twice. Under autocast they compute in float32.

Shapes: T frames, B batch, u units. Gates lie side by side in torch's order: r z n of a GRU, i f g o of an LSTM.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class TanhLoop(Function):
    """h(t) = tanh(a(t) + W h(t-1)).

    ``apply(a (T, B, u), weight W (u, u), hidden (B, u)) → y (T, B, u)``
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, a: Tensor, weight: Tensor, hidden: Tensor) -> Tensor:
        y = torch.empty_like(a)
        recurrent = weight.t().contiguous()
        h = hidden
        for frame, out in zip(a.unbind(), y.unbind(), strict=True):
            torch.addmm(frame, h, recurrent, out=out).tanh_()
            h = out
        ctx.save_for_backward(y, weight, hidden)
        return y

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, weight, hidden = ctx.saved_tensors
        slope = 1 - y.square()
        da = torch.empty_like(y)
        torch.mul(grad[-1], slope[-1], out=da[-1])
        for t in range(len(y) - 2, -1, -1):
            torch.addmm(grad[t], da[t + 1], weight, out=da[t]).mul_(slope[t])
        return da, _weight_grad(da, _before(y, hidden)), da[0] @ weight


class GruLoop(Function):
    """With r, z = σ(a + W h(t-1)): n = tanh(a + r · (W h(t-1) + b)), h(t) = n + z · (h(t-1) - n).

    ``apply(a (T, B, 3u), weight W (3u, u), bias of n (u,), hidden (B, u)) → y (T, B, u)``; the other biases are in a.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, a: Tensor, weight: Tensor, bias: Tensor, hidden: Tensor) -> Tensor:
        units = hidden.shape[-1]
        gates, candidate = a[..., : 2 * units].contiguous(), a[..., 2 * units :].contiguous()
        y, read = torch.empty_like(candidate), torch.empty_like(candidate)
        of_gates, of_candidate = (part.t().contiguous() for part in weight.split([2 * units, units]))
        bias = bias.expand(len(hidden), units)
        resets, updates = gates[..., :units], gates[..., units:]
        h = hidden
        parts = (gates, resets, updates, candidate, read, y)
        for gate, r, z, n, inner, out in zip(*(part.unbind() for part in parts), strict=True):
            torch.addmm(gate, h, of_gates, out=gate).sigmoid_()
            torch.addmm(bias, h, of_candidate, out=inner)
            n.addcmul_(r, inner).tanh_()
            torch.lerp(n, h, z, out=out)
            h = out
        ctx.save_for_backward(gates, candidate, read, y, weight, hidden)
        return y

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gates, n, read, y, weight, hidden = ctx.saved_tensors
        num_frames, _, units = y.shape
        before = _before(y, hidden)
        r, z = gates.unflatten(-1, (2, units)).unbind(-2)
        of_candidate = (1 - z) * (1 - n.square())
        factor = torch.stack([of_candidate * read * r * (1 - r), (before - n) * z * (1 - z), of_candidate * r], dim=2)
        dh, dgates = torch.empty_like(y), torch.empty_like(factor)
        flat = dgates.flatten(2)
        dh[-1] = grad[-1]
        for t in range(num_frames - 1, 0, -1):
            torch.mul(dh[t, :, None], factor[t], out=dgates[t])
            torch.addcmul(grad[t - 1], dh[t], z[t], out=dh[t - 1])
            dh[t - 1].addmm_(flat[t], weight)
        torch.mul(dh[0, :, None], factor[0], out=dgates[0])
        dhidden = torch.addmm(dh[0] * z[0], flat[0], weight)
        dcandidate = dh * of_candidate
        da = torch.cat([flat[..., : 2 * units], dcandidate], dim=-1)
        return da, _weight_grad(flat, before), dgates[:, :, 2].sum((0, 1)), dhidden


class LstmLoop(Function):
    """With i, f, o = σ and g = tanh of a + W h(t-1): c(t) = f · c(t-1) + i · g, h(t) = o · tanh c(t).

    ``apply(a (T, B, 4u), weight W (4u, u), hidden (B, u), cell (B, u)) → y (T, B, u), last cell (B, u)``
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, a: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        num_frames, batch, units = len(a), *hidden.shape
        gates = torch.empty_like(a)
        y, cells, squashed = (a.new_empty(num_frames, batch, units) for _ in range(3))
        recurrent = weight.t().contiguous()
        parts = (a, gates, gates[..., : 2 * units], *gates.split(units, dim=-1), y, cells, squashed)
        h, c = hidden, cell
        for frame, gate, i_f, i, f, g, o, out, after, squash in zip(*(part.unbind() for part in parts), strict=True):
            torch.addmm(frame, h, recurrent, out=gate)
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, c, out=after).addcmul_(i, g)
            torch.tanh(after, out=squash)
            torch.mul(o, squash, out=out)
            h, c = out, after
        ctx.save_for_backward(gates, y, cells, squashed, weight, hidden, cell)
        return y, c.clone()

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_cell: Tensor) -> tuple[Tensor | None, ...]:
        gates, y, cells, squashed, weight, hidden, cell = ctx.saved_tensors
        num_frames, _, units = y.shape
        i, f, g, o = gates.unflatten(-1, (4, units)).unbind(2)
        into_cell = o * (1 - squashed.square())
        factor = torch.stack([g * i * (1 - i), _before(cells, cell) * f * (1 - f), i * (1 - g.square())], dim=2)
        of_output = squashed * o * (1 - o)
        da = torch.empty_like(gates)
        by_gate = da.unflatten(-1, (4, units))
        dh, dc = grad[-1], grad_cell
        for t in range(num_frames - 1, -1, -1):
            dc = torch.addcmul(dc, dh, into_cell[t])
            torch.mul(dc[:, None], factor[t], out=by_gate[t, :, :3])
            torch.mul(dh, of_output[t], out=by_gate[t, :, 3])
            dc.mul_(f[t])
            dh = torch.addmm(grad[t - 1], da[t], weight) if t else da[0] @ weight
        return da, _weight_grad(da, _before(y, hidden)), dh, dc


def _before(y: Tensor, first: Tensor) -> Tensor:
    """(T, B, u): what was there one frame earlier."""
    return torch.cat([first[None], y[:-1]])


def _weight_grad(dgates: Tensor, before: Tensor) -> Tensor:
    return dgates.flatten(0, 1).t() @ before.flatten(0, 1)
