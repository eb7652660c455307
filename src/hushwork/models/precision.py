"""Signal processing in float32, independent of the precision of the network.

Powers of spectra leave the range of float16, and their sums the precision of bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Method = TypeVar("Method", bound=Callable[..., Any])


def in_float32(method: Method) -> Method:
    """Run a method of tensors outside autocast, with its float16 and bfloat16 arguments as float32; float64 stays."""

    @wraps(method)
    def run(self: Any, first: Tensor, *others: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return method(self, *(_at_least_float32(value) for value in (first, *others)))

    return cast(Method, run)


def _at_least_float32(value: Any) -> Any:
    is_half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if is_half else value
