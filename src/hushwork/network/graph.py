"""A program of array operations, to be encoded as ONNX or as a plain list for other interpreters.

Operations and their attributes are ONNX's (opset 17, https://onnx.ai/onnx/operators).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import numpy as np

Shape = Sequence[int | str]
"""Sizes, or names of sizes that are known only at run time."""


class Node(NamedTuple):
    """One operation: names of its inputs and outputs; attributes are numbers, lists of integers, or blocks of nodes."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


class Block(NamedTuple):
    """Nodes that run under a condition; they may use all earlier values."""

    nodes: list[Node]
    outputs: tuple[str, ...]


class Value:
    """A value in a graph under construction, float32 unless stated otherwise, with the methods of a tensor."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    def __add__(self, other: Value | float) -> Value:
        return self.graph("Add", self, other)

    def __sub__(self, other: Value | float) -> Value:
        return self.graph("Sub", self, other)

    def __mul__(self, other: Value | float) -> Value:
        return self.graph("Mul", self, other)

    def __truediv__(self, other: Value | float) -> Value:
        return self.graph("Div", self, other)

    def __pow__(self, exponent: float) -> Value:
        return self.graph("Pow", self, exponent)

    def __neg__(self) -> Value:
        return self.graph("Neg", self)

    def clamp(self, *, min: float) -> Value:
        return self.graph("Max", self, min)

    def sqrt(self) -> Value:
        return self.graph("Sqrt", self)

    def log(self) -> Value:
        return self.graph("Log", self)

    def exp(self) -> Value:
        return self.graph("Exp", self)

    def relu(self) -> Value:
        return self.graph("Relu", self)

    def sigmoid(self) -> Value:
        return self.graph("Sigmoid", self)

    def tanh(self) -> Value:
        return self.graph("Tanh", self)


@dataclass
class Graph:
    """Nodes under construction; calling it adds one.

    Arguments of operations are values, numbers (float32) and arrays; a list of integers is an int64 array, None leaves
    an optional input out.

    Attributes:
        nodes: in the order in which they run.
        inputs: name → shape; all float32.
        outputs: name → shape; all float32.
        constants: name → array of float32, int64 or bool.

    Example:
        >>> graph = Graph()
        >>> x = graph.input("x", ["T"])
        >>> graph.output("y", (x * 2).tanh(), ["T"])
        >>> [node.op for node in graph.nodes]
        ['Mul', 'Tanh', 'Identity']
    """

    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, Shape] = field(default_factory=dict)
    outputs: dict[str, Shape] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = count()
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def __call__(self, op: str, *inputs: Any, **attributes: Any) -> Value:
        """Add an operation with one output."""
        return self.several(op, *inputs, outputs=1, **attributes)[0]

    def several(self, op: str, *inputs: Any, outputs: int | Sequence[bool], **attributes: Any) -> list[Value]:
        """Add an operation with several outputs; a list of booleans selects among optional outputs."""
        selected = [True] * outputs if isinstance(outputs, int) else outputs
        names = tuple(f"v{next(self._numbers)}" if each else "" for each in selected)
        self.nodes.append(Node(op, tuple(self._name(each) for each in inputs), names, attributes))
        return [Value(self, name) for name in names if name]

    def constant(self, value: Any) -> Value:
        """A constant; equal constants are stored once."""
        array = np.asarray(value, np.float32 if isinstance(value, int | float) else None)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"c{len(self._known)}"
            self.constants[self._known[key]] = array
        return Value(self, self._known[key])

    def input(self, name: str, shape: Shape) -> Value:
        self.inputs[name] = shape
        return Value(self, name)

    def output(self, name: str, value: Value, shape: Shape) -> None:
        self.nodes.append(Node("Identity", (value.name,), (name,), {}))
        self.outputs[name] = shape

    def choose(self, condition: Value, then: Callable[[], list[Value]], otherwise: list[Value]) -> list[Value]:
        """The values of ``then`` if the condition holds, a bool of one element, else other values of equal shapes."""
        with self._block() as chosen:
            results = then()
        with self._block() as other:
            others = [self("Identity", value) for value in otherwise]  # a block may output only values of its own nodes
        blocks = {
            "then_branch": Block(chosen, tuple(value.name for value in results)),
            "else_branch": Block(other, tuple(value.name for value in others)),
        }
        return self.several("If", condition, outputs=len(results), **blocks)

    @contextmanager
    def _block(self) -> Any:
        """Nodes added meanwhile go into a list of their own."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    def _name(self, value: Any) -> str:
        if value is None:
            return ""
        return value.name if isinstance(value, Value) else self.constant(value).name

    def operations(self) -> dict[str, Any]:
        """The graph as a plain list that JSON can hold; its ``constants`` go beside it, as safetensors for example.

        A node is {"op", "inputs", "outputs", "attributes"}; an "If" holds its two blocks as {"nodes", "outputs"}.
        """
        return {
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "outputs": {name: list(shape) for name, shape in self.outputs.items()},
            "nodes": _plain_nodes(self.nodes),
        }


def _plain_nodes(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        if isinstance(value, Block):
            return {"nodes": _plain_nodes(value.nodes), "outputs": list(value.outputs)}
        return value

    return [
        {
            "op": node.op,
            "inputs": list(node.inputs),
            "outputs": list(node.outputs),
            "attributes": {name: plain(value) for name, value in node.attributes.items()},
        }
        for node in nodes
    ]
