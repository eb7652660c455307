"""A literal interpreter of :meth:`hushwork.network.graph.Graph.operations`, as another language would write it."""

import numpy as np


def run_operations(program, constants, inputs):
    """Results by name."""
    values = {"": None, **constants, **inputs}
    _run(program["nodes"], values)
    return {name: values[name] for name in program["outputs"]}


def _run(nodes, values):
    for node in nodes:
        arguments = [values[name] for name in node["inputs"]]
        if node["op"] == "If":
            block = node["attributes"]["then_branch" if arguments[0].item() else "else_branch"]
            _run(block["nodes"], values)
            results = [values[name] for name in block["outputs"]]
        else:
            results = OPERATIONS[node["op"]](*arguments, **node["attributes"])
        results = results if isinstance(results, list) else [results]
        outputs = [name for name in node["outputs"] if name]
        values.update(zip(outputs, results[-len(outputs) :], strict=True))


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _pad(x, pads, value):
    before, after = np.split(pads, 2)
    return np.pad(x, list(zip(before, after, strict=True)), constant_values=value)


def _slice(x, starts, ends, axes):
    (start,), (end,), (axis,) = starts, ends, axes
    return x[(slice(None),) * axis + (slice(start, min(end, x.shape[axis])),)]


def _split(x, sizes, axis):
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _gates(x, weight, recurrent, bias, hidden):
    """Of one frame (1, B, I), what is read from the input and from the state, each a list of gates (B, u)."""
    assert len(x) == 1
    units = hidden.shape[-1]
    biases = np.split(bias[0], 2)
    read = x[0] @ weight[0].T + biases[0], hidden[0] @ recurrent[0].T + biases[1]
    return [np.split(each, each.shape[-1] // units, axis=-1) for each in read]


def _rnn(x, weight, recurrent, bias, _, hidden, hidden_size):
    (new,), (old,) = _gates(x, weight, recurrent, bias, hidden)
    return [np.tanh(new + old)[None]]


def _gru(x, weight, recurrent, bias, _, hidden, hidden_size, linear_before_reset):
    (z, r, n), (hz, hr, hn) = _gates(x, weight, recurrent, bias, hidden)
    update = _sigmoid(z + hz)
    return [(1 - update) * np.tanh(n + _sigmoid(r + hr) * hn)[None] + update * hidden]


def _lstm(x, weight, recurrent, bias, _, hidden, cell, hidden_size):
    i, o, f, c = (new + old for new, old in zip(*_gates(x, weight, recurrent, bias, hidden), strict=True))
    cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(c)
    return [_sigmoid(o) * np.tanh(cell), cell]


OPERATIONS = {
    "Add": np.add,
    "And": np.logical_and,
    "Cast": lambda x, to: x.astype({1: np.float32, 7: np.int64}[to]),
    "Concat": lambda *values, axis: np.concatenate(values, axis),
    "Div": np.divide,
    "Equal": np.equal,
    "GRU": _gru,
    "Gather": lambda x, index, axis=0: np.take(x, index, axis),
    "Greater": np.greater,
    "Identity": lambda x: x,
    "LSTM": _lstm,
    "Less": np.less,
    "Log": np.log,
    "MatMul": np.matmul,
    "Max": np.maximum,
    "Mod": lambda x, y, fmod=0: np.mod(x, y),
    "Mul": np.multiply,
    "Neg": np.negative,
    "Pad": _pad,
    "Pow": np.power,
    "RNN": _rnn,
    "ReduceMean": lambda x, axes: x.mean(tuple(axes), keepdims=True),
    "ReduceSumSquare": lambda x, axes, keepdims: np.square(x).sum(tuple(axes)),
    "Relu": lambda x: np.maximum(x, 0),
    "Reshape": np.reshape,
    "Sigmoid": _sigmoid,
    "Slice": _slice,
    "Split": _split,
    "Sqrt": np.sqrt,
    "Squeeze": lambda x, axes: np.squeeze(x, tuple(axes)),
    "Sub": np.subtract,
    "Tanh": np.tanh,
    "Transpose": lambda x, perm: np.transpose(x, perm),
    "Where": np.where,
    "Unsqueeze": lambda x, axes: np.expand_dims(x, tuple(axes)),
}
