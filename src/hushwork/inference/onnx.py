"""Writes ONNX models: nodes, constants and graphs in the format's own encoding.

The format is protocol buffers with few message types, so that denoising needs no library beyond the runtime.

Source: onnx/onnx.proto3 of https://github.com/onnx/onnx (field numbers), https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

OPSET = 17
IR_VERSION = 8
DATA_TYPES = {"float32": 1, "int64": 7, "bool": 9}


class Graph:
    """A list of nodes under construction; calling it adds one and names its output.

    Constants of inner graphs (branches) are kept by the outermost one, each once.

    Example:
        >>> graph = Graph()
        >>> y = graph("Add", graph.input("x", ["T"]), graph.constant(np.float32(1)))
        >>> model = graph.model({"y": (y, ["T"])}, {"made": "by hand"})
        >>> import onnxruntime
        >>> onnxruntime.InferenceSession(model).run(None, {"x": np.float32([1, 2])})
        [array([2., 3.], dtype=float32)]
    """

    def __init__(self, outer: Graph | None = None) -> None:
        self._outer = outer
        self._nodes: list[bytes] = []
        self._inputs: list[bytes] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = outer._constants if outer else {}
        self._names: Iterator[int] = outer._names if outer else count()

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output. An empty input name leaves an optional input out."""
        return self.several(op, *inputs, outputs=1, **attributes)[0]

    def several(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        names = [f"v{next(self._names)}" for _ in range(outputs)]
        fields = [_text(1, name) for name in inputs] + [_text(2, name) for name in names] + [_text(4, op)]
        fields += [_bytes(5, _attribute(key, value)) for key, value in attributes.items()]
        self._nodes.append(b"".join(fields))
        return names

    def constant(self, value: Any) -> str:
        """A constant: a numpy array or scalar of float32, int64 or bool; lists of integers are int64."""
        array = np.asarray(value)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = f"c{len(self._constants)}"
        return self._constants[key]

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        """A float32 input of the whole; dimensions are sizes or names."""
        self._inputs.append(_value_info(name, shape))
        return name

    def branch(self) -> Graph:
        """An inner graph, which may use all values made so far; see :meth:`choose`."""
        return Graph(self)

    def choose(
        self, condition: str, then: tuple[Graph, Sequence[str]], other: tuple[Graph, Sequence[str]]
    ) -> list[str]:
        """Run one of two branches, each given with its outputs; returns as many outputs."""
        branches = [graph._encode(outputs) for graph, outputs in (then, other)]
        return self.several(
            "If", condition, outputs=len(then[1]), then_branch=_Encoded(branches[0]), else_branch=_Encoded(branches[1])
        )

    def model(self, outputs: Mapping[str, tuple[str, Sequence[int | str]]], metadata: Mapping[str, str]) -> bytes:
        """The finished model.

        Args:
            outputs: public name → (value, shape); all float32.
            metadata: kept in the model for the reader.
        """
        for name, (value, _) in outputs.items():
            self._nodes.append(_text(1, value) + _text(2, name) + _text(4, "Identity"))
        infos = [_value_info(name, shape) for name, (_, shape) in outputs.items()]
        constants = [
            _tensor(name, np.frombuffer(data, kind).reshape(shape))
            for (kind, shape, data), name in self._constants.items()
        ]
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _text(2, "hushwork")
        graph += b"".join(_bytes(5, constant) for constant in constants)
        graph += b"".join(_bytes(11, info) for info in self._inputs) + b"".join(_bytes(12, info) for info in infos)
        model = _number(1, IR_VERSION) + _text(2, "hushwork") + _bytes(7, graph) + _bytes(8, _number(2, OPSET))
        return model + b"".join(_bytes(14, _text(1, key) + _text(2, value)) for key, value in metadata.items())

    def _encode(self, outputs: Sequence[str]) -> bytes:
        # A branch may hand on only what its own nodes made.
        names = [self("Identity", value) for value in outputs]
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _text(2, "branch")
        return graph + b"".join(_bytes(12, _text(1, name)) for name in names)


class _Encoded(bytes):
    """A graph as the value of an attribute."""


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _attribute(name: str, value: Any) -> bytes:
    if isinstance(value, _Encoded):
        return _text(1, name) + _bytes(6, value) + _number(20, 5)
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _number(20, 3)
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, 2)
    return _text(1, name) + b"".join(_number(8, item) for item in value) + _number(20, 7)


def _tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(_number(1, size) for size in array.shape)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return dims + _number(2, DATA_TYPES[array.dtype.name]) + _text(8, name) + _bytes(9, little.tobytes())


def _value_info(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_bytes(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, DATA_TYPES["float32"]) + _bytes(2, dims)))
