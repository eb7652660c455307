"""The loop over time of a recurrent layer, for training on the CPU: the same numbers as torch's layers, less work.

Through ``nn.RNN`` and ``nn.GRU`` on the CPU, autograd records every operation of every frame. Here nothing inside the
loop is recorded, and the backward pass is written out: everything that does not recur is computed for all frames at
once, the factors of every gradient before the loop and the product for the weights after it. That leaves two calls a
frame for a tanh layer, three for a GRU, five for an LSTM.

The functions are exact but cannot be differentiated twice. Under autocast the loops compute in float32. They return the
hidden states with the initial one in front, which the backward pass and other modules need.

Shapes: T frames, B batch, u units. Gates lie side by side in torch's order: r z n of a GRU, i f g o of an LSTM.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from hushwork.network.cells import GRU, LSTM, RNN, Operator


@cache
def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16; others take several times as long as for float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x (T, B, I), weight (O, I), bias (O,) or None → x Wᵀ + b (T, B, O)``, float32: one product for all frames.

    Under autocast to bfloat16 the factors are rounded to it (8 bits of precision) where that is quicker; sums stay
    float32. The loops do not round: for a frame at a time it gains nothing.
    """
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
    return Projection.apply(x, weight, bias, autocast and multiplies_bfloat16())


class Projection(Function):
    """See :func:`project`.

    Of a view that is not contiguous, such as every fourth frame, torch would make a product for each frame, or keep a
    copy for backward. Here the view is kept, and copied again when it is needed.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rounds: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.product = _rounded_product if rounds else torch.mm
        flat = x.flatten(0, 1)
        if not rounds:
            return torch.nn.functional.linear(flat, weight, bias).unflatten(0, x.shape[:2])
        y = _rounded_product(flat, weight.t())
        return (y if bias is None else y.add_(bias)).unflatten(0, x.shape[:2])

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        flat = grad.flatten(0, 1)
        dx = ctx.product(flat, weight).unflatten(0, x.shape[:2]) if wants_x else None
        dweight = ctx.product(flat.t(), x.flatten(0, 1)) if wants_weight else None
        return dx, dweight, flat.sum(0) if wants_bias else None, None


def _rounded_product(a: Tensor, b: Tensor) -> Tensor:
    return (a.bfloat16() @ b.bfloat16()).float()


class TanhLoop(Function):
    """h(t) = tanh(a(t) + W h(t-1)).

    ``apply(a (T, B, u), weight W (u, u), hidden (B, u)) → h (1 + T, B, u)``
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, a: Tensor, weight: Tensor, hidden: Tensor) -> Tensor:
        history = torch.cat([hidden[None], a])
        recurrent = weight.t().contiguous()
        h = hidden
        for out in history[1:].unbind():
            h = out.addmm_(h, recurrent).tanh_()
        ctx.save_for_backward(history, weight)
        return history

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        history, weight = ctx.saved_tensors
        da = grad[1:].clone(memory_format=torch.contiguous_format)
        frames = zip(da.unbind(), (1 - history[1:].square()).unbind(), strict=True)
        later = torch.zeros_like(history[0])
        for frame, slope in reversed(list(frames)):
            later = frame.addmm_(later, weight).mul_(slope)
        return da, _weight_grad(da, history[:-1]), torch.addmm(grad[0], da[0], weight)


class GruLoop(Function):
    """With r, z = σ(a + W h(t-1)): n = tanh(a + r · (W h(t-1) + b)), h(t) = n + z · (h(t-1) - n).

    ``apply(a (T, B, 3u), weight W (3u, u), bias b (u,), hidden (B, u)) → h (1 + T, B, u)``; other biases are in a.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, a: Tensor, weight: Tensor, bias: Tensor, hidden: Tensor) -> Tensor:
        units = hidden.shape[-1]
        gates, candidate = a[..., : 2 * units].contiguous(), a[..., 2 * units :].contiguous()
        history, read = a.new_empty(1 + len(a), *hidden.shape), torch.empty_like(candidate)
        history[0] = hidden
        of_gates, of_candidate = (part.t().contiguous() for part in weight.split([2 * units, units]))
        bias = bias.expand(len(hidden), units)
        resets, updates = gates[..., :units], gates[..., units:]
        h = hidden
        parts = (gates, resets, updates, candidate, read, history[1:])
        for gate, r, z, n, inner, out in zip(*(part.unbind() for part in parts), strict=True):
            gate.addmm_(h, of_gates).sigmoid_()
            torch.addmm(bias, h, of_candidate, out=inner)
            n.addcmul_(r, inner).tanh_()
            h = torch.lerp(n, h, z, out=out)
        ctx.save_for_backward(gates, candidate, read, history, weight)
        return history

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gates, n, read, history, weight = ctx.saved_tensors
        units = history.shape[-1]
        before = history[:-1]
        r, z = gates.unflatten(-1, (2, units)).unbind(-2)
        of_candidate = (1 - z) * (1 - n.square())
        factor = torch.stack([of_candidate * read * r * (1 - r), (before - n) * z * (1 - z), of_candidate * r], dim=2)
        dh, dgates = grad.clone(memory_format=torch.contiguous_format), torch.empty_like(factor)
        flat = dgates.flatten(2)
        parts = (dh[:-1], dh[1:], dh[1:, :, None], z, factor, dgates, flat)
        for earlier, now, broadcast, keep, each, gates_now, flat_now in reversed(
            list(zip(*(part.unbind() for part in parts), strict=True))
        ):
            torch.mul(broadcast, each, out=gates_now)
            earlier.addcmul_(now, keep).addmm_(flat_now, weight)
        dhidden, dh = dh[0], dh[1:]
        dcandidate = dh * of_candidate
        da = torch.cat([flat[..., : 2 * units], dcandidate], dim=-1)
        return da, _weight_grad(flat, before), dgates[:, :, 2].sum((0, 1)), dhidden


class LstmLoop(Function):
    """With i, f, o = σ and g = tanh of a + W h(t-1): c(t) = f · c(t-1) + i · g, h(t) = o · tanh c(t).

    ``apply(a (T, B, 4u), weight W (4u, u), hidden (B, u), cell (B, u)) → h (1 + T, B, u), last cell (B, u)``
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, a: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        num_frames, batch, units = len(a), *hidden.shape
        gates = a.clone()
        history = a.new_empty(1 + num_frames, batch, units)
        history[0] = hidden
        cells, squashed = (a.new_empty(num_frames, batch, units) for _ in range(2))
        recurrent = weight.t().contiguous()
        parts = (gates, gates[..., : 2 * units], *gates.split(units, dim=-1), history[1:], cells, squashed)
        h, c = hidden, cell
        for gate, i_f, i, f, g, o, out, after, squash in zip(*(part.unbind() for part in parts), strict=True):
            gate.addmm_(h, recurrent)
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, c, out=after).addcmul_(i, g)
            torch.tanh(after, out=squash)
            h, c = torch.mul(o, squash, out=out), after
        ctx.save_for_backward(gates, history, cells, squashed, weight, cell)
        return history, c.clone()

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_cell: Tensor) -> tuple[Tensor | None, ...]:
        gates, history, cells, squashed, weight, cell = ctx.saved_tensors
        units = history.shape[-1]
        i, f, g, o = gates.unflatten(-1, (4, units)).unbind(2)
        into_cell = o * (1 - squashed.square())
        before = torch.cat([cell[None], cells[:-1]])
        factor = torch.stack([g * i * (1 - i), before * f * (1 - f), i * (1 - g.square())], dim=2)
        of_output = squashed * o * (1 - o)
        da = torch.empty_like(gates)
        by_gate = da.unflatten(-1, (4, units))
        dh, dc = grad.clone(memory_format=torch.contiguous_format), grad_cell.clone()
        parts = (dh[:-1], dh[1:], into_cell, factor, of_output, f, da, by_gate[:, :, :3], by_gate[:, :, 3])
        for earlier, now, into, each, of, keep, gates_now, into_i_f_g, into_o in reversed(
            list(zip(*(part.unbind() for part in parts), strict=True))
        ):
            dc.addcmul_(now, into)
            torch.mul(dc[:, None], each, out=into_i_f_g)
            torch.mul(now, of, out=into_o)
            dc.mul_(keep)
            earlier.addmm_(gates_now, weight)
        return da, _weight_grad(da, history[:-1]), dh[0], dc


def _weight_grad(dgates: Tensor, before: Tensor) -> Tensor:
    return dgates.flatten(0, 1).t() @ before.flatten(0, 1)


LOOPS: dict[Operator, Callable[..., tuple[Tensor, ...]]] = {
    RNN: lambda a, weight, inner_bias, hidden: (TanhLoop.apply(a, weight, hidden),),
    GRU: lambda a, weight, inner_bias, hidden: (GruLoop.apply(a, weight, inner_bias, hidden),),
    LSTM: lambda a, weight, inner_bias, hidden, cell: LstmLoop.apply(a, weight, hidden, cell),
}
"""``(a, weight, inner bias, states) → states (1 + T, B, u) of all frames, and the last cell state if there is one``"""

FAST_FORWARD = (LSTM,)
"""Operators for whose forward pass torch has a kernel on the CPU that is quicker than a loop."""
