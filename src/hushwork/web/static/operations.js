// ONNX operations (opset 17) on arrays of known shapes.
//
// Each takes arrays, attributes and the network's products, and returns the arrays that it makes, with a function that
// computes them, unless they are views of the same memory. All memory is allocated here, before the first frame.

import { gru, lstm, rnn, timesMatrix } from "./recurrent.js";

const size = (dims) => dims.reduce((product, each) => product * each, 1);

function strides(dims) {
  const steps = new Array(dims.length).fill(1);
  for (let axis = dims.length - 2; axis >= 0; axis--) steps[axis] = steps[axis + 1] * dims[axis + 1];
  return steps;
}

/** An array with its shape; `constant` ones never change after compilation. */
export function array(dims, data = new Float32Array(size(dims)), constant = false) {
  return { dims, data, constant };
}

const view = (x, dims) => array(dims, x.data, x.constant);
const withSize = (dims, changed, count) => dims.map((each, axis) => (axis === changed ? count : each));
const positive = (axis, dims) => (axis < 0 ? axis + dims.length : axis);

/** For each element of an array of shape `dims`, where it lies in `x`, whose axes of size 1 are repeated. */
function broadcastIndex(x, dims) {
  const lacking = dims.length - x.dims.length;
  const own = strides(x.dims);
  const all = strides(dims);
  return Int32Array.from({ length: size(dims) }, (_, flat) => {
    let place = 0;
    for (let axis = 0; axis < dims.length; axis++) {
      const position = Math.floor(flat / all[axis]) % dims[axis];
      if (axis >= lacking && x.dims[axis - lacking] > 1) place += position * own[axis - lacking];
    }
    return place;
  });
}

function broadcastDims(...arrays) {
  const rank = Math.max(...arrays.map((x) => x.dims.length));
  return Array.from({ length: rank }, (_, axis) =>
    Math.max(...arrays.map((x) => x.dims[axis - rank + x.dims.length] ?? 1)),
  );
}

function elementwise(f) {
  return ([x]) => {
    const from = x.data;
    const made = array(x.dims);
    const to = made.data;
    return {
      values: [made],
      run() {
        for (let k = 0; k < to.length; k++) to[k] = f(from[k]);
      },
    };
  };
}

function binary(f) {
  return ([x, y]) => {
    const made = array(broadcastDims(x, y));
    const [a, b, to] = [x.data, y.data, made.data];
    let run;
    if (a.length === to.length && b.length === to.length) {
      run = () => {
        for (let k = 0; k < to.length; k++) to[k] = f(a[k], b[k]);
      };
    } else if (a.length === to.length && b.length === 1) {
      run = () => {
        const second = b[0];
        for (let k = 0; k < to.length; k++) to[k] = f(a[k], second);
      };
    } else {
      const [left, right] = [broadcastIndex(x, made.dims), broadcastIndex(y, made.dims)];
      run = () => {
        for (let k = 0; k < to.length; k++) to[k] = f(a[left[k]], b[right[k]]);
      };
    }
    return { values: [made], run };
  };
}

function reduce(each, last) {
  return ([x], { axes, keepdims = 1 }) => {
    const reduced = axes.map((axis) => positive(axis, x.dims));
    const kept = x.dims.map((count, axis) => (reduced.includes(axis) ? 1 : count));
    const index = broadcastIndex(array(kept), x.dims);
    const made = array(keepdims ? kept : x.dims.filter((_, axis) => !reduced.includes(axis)));
    const [from, to] = [x.data, made.data];
    const sums = new Float64Array(to.length);
    const count = from.length / to.length;
    return {
      values: [made],
      run() {
        sums.fill(0);
        for (let k = 0; k < from.length; k++) sums[index[k]] += each(from[k]);
        for (let k = 0; k < to.length; k++) to[k] = last(sums[k], count);
      },
    };
  };
}

/** The elements of `x` at `index`. */
function gathered(x, dims, index) {
  const made = array(dims);
  const [from, to] = [x.data, made.data];
  return {
    values: [made],
    run() {
      for (let k = 0; k < to.length; k++) to[k] = from[index[k]];
    },
  };
}

/** The stretch [start, end) of an axis; a view where it lies in one piece. */
function stretch(x, axis, start, end) {
  const dims = withSize(x.dims, axis, end - start);
  const inner = size(x.dims.slice(axis + 1));
  if (size(x.dims.slice(0, axis)) === 1) {
    return { values: [array(dims, x.data.subarray(start * inner, end * inner), x.constant)] };
  }
  const index = broadcastIndex(array(dims), dims).map((place) => {
    const block = (end - start) * inner;
    return Math.floor(place / block) * x.dims[axis] * inner + start * inner + (place % block);
  });
  return gathered(x, dims, index);
}

function concat(arrays, { axis: signed }) {
  const axis = positive(signed, arrays[0].dims);
  const dims = withSize(arrays[0].dims, axis, arrays.reduce((sum, x) => sum + x.dims[axis], 0));
  const made = array(dims);
  const outer = size(dims.slice(0, axis));
  const block = size(dims.slice(axis));
  const copies = [];
  for (let row = 0; row < outer; row++) {
    let to = row * block;
    for (const x of arrays) {
      const count = x.data.length / outer;
      copies.push([x.data.subarray(row * count, (row + 1) * count), to]);
      to += count;
    }
  }
  return {
    values: [made],
    run() {
      for (let k = 0; k < copies.length; k++) made.data.set(copies[k][0], copies[k][1]);
    },
  };
}

function pad([x, pads, value]) {
  const rank = x.dims.length;
  const before = Array.from(pads.data.slice(0, rank));
  const dims = x.dims.map((count, axis) => count + before[axis] + pads.data[rank + axis]);
  const all = strides(dims);
  const own = strides(x.dims);
  const index = new Int32Array(size(dims));
  for (let flat = 0; flat < index.length; flat++) {
    for (let axis = 0; axis < rank && index[flat] >= 0; axis++) {
      const position = (Math.floor(flat / all[axis]) % dims[axis]) - before[axis];
      index[flat] = position >= 0 && position < x.dims[axis] ? index[flat] + position * own[axis] : -1;
    }
  }
  const made = array(dims);
  return {
    values: [made],
    run() {
      for (let k = 0; k < index.length; k++) made.data[k] = index[k] < 0 ? value.data[0] : x.data[index[k]];
    },
  };
}

function transpose([x], { perm }) {
  const dims = perm.map((axis) => x.dims[axis]);
  const long = perm.filter((axis) => x.dims[axis] > 1);
  if (long.every((axis, k) => k === 0 || axis > long[k - 1])) return { values: [view(x, dims)] };
  const own = perm.map((axis) => strides(x.dims)[axis]);
  const all = strides(dims);
  const index = Int32Array.from({ length: size(dims) }, (_, flat) =>
    dims.reduce((place, count, axis) => place + (Math.floor(flat / all[axis]) % count) * own[axis], 0),
  );
  return gathered(x, dims, index);
}

function split([x, sizes], { axis: signed }) {
  const axis = positive(signed, x.dims);
  let start = 0;
  const parts = Array.from(sizes.data, (count) => stretch(x, axis, start, (start += count)));
  const runs = parts.map((part) => part.run).filter(Boolean);
  return { values: parts.flatMap((part) => part.values), run: runs.length ? () => runs.forEach((run) => run()) : undefined };
}

function slice([x, starts, ends, axes, steps]) {
  if (starts.data.length !== 1 || (steps && steps.data[0] !== 1)) throw new Error("Slice takes one axis, forwards");
  const axis = axes ? positive(axes.data[0], x.dims) : 0;
  const count = x.dims[axis];
  const within = (place) => Math.min(count, Math.max(0, place < 0 ? place + count : place));
  return stretch(x, axis, within(starts.data[0]), within(ends.data[0]));
}

function gather([x, index], { axis: signed = 0 }) {
  const axis = positive(signed, x.dims);
  const inner = size(x.dims.slice(axis + 1));
  const outer = size(x.dims.slice(0, axis));
  const made = array([...x.dims.slice(0, axis), ...index.dims, ...x.dims.slice(axis + 1)]);
  return {
    values: [made],
    run() {
      let to = 0;
      for (let row = 0; row < outer; row++) {
        for (let k = 0; k < index.data.length; k++) {
          const from = (row * x.dims[axis] + index.data[k]) * inner;
          for (let place = 0; place < inner; place++) made.data[to++] = x.data[from + place];
        }
      }
    },
  };
}

function where([condition, x, y]) {
  const made = array(broadcastDims(condition, x, y));
  const [c, a, b] = [condition, x, y].map((each) => broadcastIndex(each, made.dims));
  return {
    values: [made],
    run() {
      for (let k = 0; k < c.length; k++) made.data[k] = condition.data[c[k]] ? x.data[a[k]] : y.data[b[k]];
    },
  };
}

function reshape([x, shape]) {
  const dims = Array.from(shape.data);
  const free = dims.indexOf(-1);
  if (free >= 0) dims[free] = x.data.length / -size(dims);
  return { values: [view(x, dims)] };
}

function squeeze([x, axes]) {
  const dropped = Array.from(axes.data, (axis) => positive(axis, x.dims));
  return { values: [view(x, x.dims.filter((_, axis) => !dropped.includes(axis)))] };
}

function unsqueeze([x, axes]) {
  const rank = x.dims.length + axes.data.length;
  const dims = [...x.dims];
  for (const axis of Array.from(axes.data, (each) => (each < 0 ? each + rank : each)).sort((a, b) => a - b)) {
    dims.splice(axis, 0, 1);
  }
  return { values: [view(x, dims)] };
}

function cast([x], { to }) {
  return to === 7 ? elementwise(Math.trunc)([x]) : { values: [view(x, x.dims)] };
}

// A remainder has the divisor's sign unless `fmod` is set.
const modulo = (inputs, { fmod = 0 }) =>
  binary(fmod ? (a, b) => a % b : (a, b) => a - b * Math.floor(a / b))(inputs);

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

export const OPERATIONS = {
  Add: binary((a, b) => a + b),
  And: binary((a, b) => a && b),
  Cast: cast,
  Concat: concat,
  Div: binary((a, b) => a / b),
  Equal: binary((a, b) => (a === b ? 1 : 0)),
  Exp: elementwise(Math.exp),
  GRU: (inputs, _, products) => gru(inputs, array, products),
  Gather: gather,
  Greater: binary((a, b) => (a > b ? 1 : 0)),
  Identity: ([x]) => ({ values: [view(x, x.dims)] }),
  LSTM: (inputs, _, products) => lstm(inputs, array, products),
  Less: binary((a, b) => (a < b ? 1 : 0)),
  Log: elementwise(Math.log),
  MatMul: (inputs, _, products) => timesMatrix(inputs, array, products),
  Max: binary(Math.max),
  Mod: modulo,
  Mul: binary((a, b) => a * b),
  Neg: elementwise((x) => -x),
  Not: elementwise((x) => (x ? 0 : 1)),
  Or: binary((a, b) => a || b),
  Pad: pad,
  Pow: binary(Math.pow),
  RNN: (inputs, _, products) => rnn(inputs, array, products),
  ReduceMean: reduce((x) => x, (sum, count) => sum / count),
  ReduceSumSquare: reduce((x) => x * x, (sum) => sum),
  Relu: elementwise((x) => (x > 0 ? x : 0)),
  Reshape: reshape,
  Sigmoid: elementwise(sigmoid),
  Slice: slice,
  Split: split,
  Sqrt: elementwise(Math.sqrt),
  Squeeze: squeeze,
  Sub: binary((a, b) => a - b),
  Tanh: elementwise(Math.tanh),
  Transpose: transpose,
  Unsqueeze: unsqueeze,
  Where: where,
};
