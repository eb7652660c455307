"""Larger networks initialised with smaller ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain

import torch
from torch import Tensor, nn

from hushwork.models.clockwork import ClockworkRNN
from hushwork.models.denoiser import Denoiser
from hushwork.models.recurrence import RecurrentStack


def start_as(denoiser: Denoiser, smaller: Denoiser) -> None:
    """Give a network the weights of another, which may have fewer units, read one direction instead of both, and have
    no filter beside its mask and no layers that refine it in each band.

    It then computes the same function. The units of the smaller network are the first of each module, the same in both
    directions. Their weights from the added units, the mask's, the taps of a filter and what layers for each band add
    start at 0; the added units keep the weights that they were initialised with.

    Raises:
        ValueError: the networks differ in more than that, or the other is the larger one.

    Source: Chen et al., "Net2Net", ICLR 2016, section 2.3 (networks that grow start as the same function).
    """
    stack, source = denoiser.masker.recurrence, smaller.masker.recurrence
    target, weights = denoiser.state_dict(), smaller.state_dict()
    if _shapes(target) == _shapes(weights):
        denoiser.load_state_dict(weights)
        return
    grown: tuple[str, ...] = ("masker.recurrence.", "masker.output.")
    if smaller.masker.subband is None:
        grown += ("masker.subband.",)
    rest, target_rest = ({k: v for k, v in them.items() if not k.startswith(grown)} for them in (weights, target))
    head = denoiser.masker.head
    masks = [one.masker.sizes[: head.outputs] for one in (smaller, denoiser)]
    masks_alike = masks[0] == masks[1] and smaller.masker.head in (head, replace(head, taps=0, filtered_bins=0))
    alike = (
        masks_alike
        and isinstance(stack, RecurrentStack)
        and isinstance(source, RecurrentStack)
        and _may_grow(source, stack)
    )
    if not alike or _shapes(rest) != _shapes(target_rest):
        numbers = [sum(value.numel() for value in them.values()) for them in (weights, target)]
        raise ValueError(f"weights ({numbers[0]:,} numbers) that do not fit this network ({numbers[1]:,})")
    assert isinstance(stack, RecurrentStack)
    assert isinstance(source, RecurrentStack)
    denoiser.load_state_dict(rest, strict=False)
    with torch.no_grad():
        if denoiser.masker.subband is not None and smaller.masker.subband is None:
            for parameter in denoiser.masker.subband.output.parameters():
                parameter.zero_()
        output, outputs = denoiser.masker.output, _outputs(source, stack)
        for name, values in smaller.masker.output.named_parameters():
            parameter = output.get_parameter(name)
            parameter.zero_()
            _copy_into(values, parameter, torch.arange(len(values)), outputs[0])
        for direction, layers in enumerate((stack.forwards, stack.backwards)):
            models = source.backwards if direction and len(source.backwards) else source.forwards
            for number, (layer, model) in enumerate(zip(layers, models, strict=False)):
                _start_layer(layer, model, outputs[direction] if number else None)


def _may_grow(model: RecurrentStack, stack: RecurrentStack) -> bool:
    """Whether both networks are of one kind, and the second has at least the units of the first."""
    free = ("hidden_size", "hidden_sizes", "bidirectional", "dropout", "backend")
    kinds = [{key: value for key, value in one.settings.items() if key not in free} for one in (model, stack)]
    grows = all(few <= many for few, many in zip(_sizes(model.forwards[0]), _sizes(stack.forwards[0]), strict=False))
    both_ways = model.is_causal <= stack.is_causal or stack.merge == "concat"
    return kinds[0] == kinds[1] and grows and both_ways and not (stack.is_causal and not model.is_causal)


def _outputs(model: RecurrentStack, stack: RecurrentStack) -> tuple[Tensor, Tensor]:
    """Where the outputs of one of the model's layers are in the stack's, as each of its directions takes them."""
    sizes = _sizes(stack.forwards[0])
    one = _places(_sizes(model.forwards[0]), sizes)
    other = one + sum(sizes)
    if stack.is_causal or stack.merge == "sum":
        return one, one
    return (one, other) if model.is_causal else (torch.cat([one, other]),) * 2


def _start_layer(layer: nn.Module, model: nn.Module, inputs: Tensor | None) -> None:
    """One layer in one direction; ``inputs``: which of its inputs are the model's, in that order, None: all."""
    sizes, few = _sizes(layer), _sizes(model)
    cells = layer.clocked if isinstance(layer, ClockworkRNN) else [layer]
    models = model.clocked if isinstance(model, ClockworkRNN) else [model]
    for i, (cell, given) in enumerate(zip(cells, models, strict=True)):
        sources = layer.sources(i) if isinstance(layer, ClockworkRNN) else range(0)
        values = dict(given.named_parameters())
        own = torch.arange(few[i])
        for name, parameter in cell.named_parameters():
            gates = len(parameter) // sizes[i]
            rows = torch.cat([own + gate * sizes[i] for gate in range(gates)])
            if "_hh" in name or parameter.ndim == 1:
                _copy_into(values[name], parameter, rows, own)
                continue
            width = parameter.shape[1] - sum(sizes[k] for k in sources)
            others = _places([few[k] for k in sources], [sizes[k] for k in sources])
            columns = torch.cat([torch.arange(width) if inputs is None else inputs, width + others])
            _copy_into(values[name], parameter, rows, columns)
    if isinstance(layer, ClockworkRNN) and isinstance(model, ClockworkRNN):
        layer.pool_logits.load_state_dict(model.pool_logits.state_dict())


def _copy_into(values: Tensor, parameter: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Write what a smaller network has into these rows, and 0 where they have more columns."""
    planted = parameter.new_zeros(len(rows), *parameter.shape[1:])
    if parameter.ndim == 1:
        planted.copy_(values)
    else:
        planted[:, columns] = values
    parameter[rows] = planted


def _sizes(layer: nn.Module) -> Sequence[int]:
    """Units of each module; a plain layer is one."""
    return layer.hidden_sizes if isinstance(layer, ClockworkRNN) else [layer.hidden_size]  # type: ignore[list-item]


def _places(few: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Where the first units of each module are among all."""
    starts = accumulate(sizes, initial=0)
    places = [range(start, start + number) for start, number in zip(starts, few, strict=False)]
    return torch.tensor(list(chain(*places)), dtype=torch.long)


def _shapes(values: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in values.items()}
