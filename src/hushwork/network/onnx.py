"""ONNX models in the format's own encoding.

The format is protocol buffers with few message types, so that denoising needs no library beyond the runtime.

Source: onnx/onnx.proto3 of https://github.com/onnx/onnx (field numbers), https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hushwork.network.graph import Block, Graph, Node, Shape

OPSET = 17
IR_VERSION = 8
DATA_TYPES = {"float32": 1, "int64": 7, "bool": 9}


def encode(graph: Graph, metadata: Mapping[str, str] | None = None) -> bytes:
    """An ONNX model.

    Args:
        graph: finished.
        metadata: kept in the model for the reader.

    Example:
        >>> graph = Graph()
        >>> graph.output("y", graph.input("x", ["T"]) + 1.0, ["T"])
        >>> import onnxruntime
        >>> onnxruntime.InferenceSession(encode(graph)).run(None, {"x": np.float32([1, 2])})
        [array([2., 3.], dtype=float32)]
    """
    body = _nodes(graph.nodes) + _text(2, "hushwork")
    body += b"".join(_bytes(5, _tensor(name, array)) for name, array in graph.constants.items())
    body += b"".join(_bytes(11, _value_info(name, shape)) for name, shape in graph.inputs.items())
    body += b"".join(_bytes(12, _value_info(name, shape)) for name, shape in graph.outputs.items())
    model = _number(1, IR_VERSION) + _text(2, "hushwork") + _bytes(7, body) + _bytes(8, _number(2, OPSET))
    return model + b"".join(_bytes(14, _text(1, key) + _text(2, value)) for key, value in (metadata or {}).items())


def _nodes(nodes: Sequence[Node]) -> bytes:
    return b"".join(_bytes(1, _node(node)) for node in nodes)


def _node(node: Node) -> bytes:
    fields = [_text(1, name) for name in node.inputs] + [_text(2, name) for name in node.outputs] + [_text(4, node.op)]
    return b"".join(fields + [_bytes(5, _attribute(key, value)) for key, value in node.attributes.items()])


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
    if isinstance(value, Block):
        block = _nodes(value.nodes) + _text(2, name) + b"".join(_bytes(12, _text(1, each)) for each in value.outputs)
        return _text(1, name) + _bytes(6, block) + _number(20, 5)
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _number(20, 3)
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, 2)
    return _text(1, name) + b"".join(_number(8, item) for item in value) + _number(20, 7)


def _tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(_number(1, size) for size in array.shape)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return dims + _number(2, DATA_TYPES[array.dtype.name]) + _text(8, name) + _bytes(9, little.tobytes())


def _value_info(name: str, shape: Shape) -> bytes:
    dims = b"".join(_bytes(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, DATA_TYPES["float32"]) + _bytes(2, dims)))
