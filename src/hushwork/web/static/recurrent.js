// The products of vectors and matrices, and the recurrent cells of ONNX for a single frame: (1, B, I) → (1, B, units).

const sigmoidOf = (x) => 1 / (1 + Math.exp(-x));

const TOGETHER = 8; // rows of a product that are computed side by side, which keeps a processor's adders busy

/** An array with room for whole groups of rows; only the first `rows` numbers mean something. */
const roomFor = (rows) => new Float32Array(Math.ceil(rows / TOGETHER) * TOGETHER);

/** A matrix (rows, columns) in the order in which `multiply` reads it: column after column of each group of rows. */
function grouped(matrix, rows, columns) {
  const ordered = new Float32Array(roomFor(rows).length * columns);
  for (let row = 0; row < rows; row++) {
    const start = Math.floor(row / TOGETHER) * TOGETHER * columns + (row % TOGETHER);
    for (let k = 0; k < columns; k++) ordered[start + k * TOGETHER] = matrix[row * columns + k];
  }
  return ordered;
}

/** to[row] = bias[row] + the sum of matrix[row, k] · x[k]; the matrix is `grouped`, `to` and `bias` have room. */
function multiply(matrix, columns, x, bias, to) {
  let at = 0;
  for (let row = 0; row < to.length; row += 8) {
    let a = bias[row];
    let b = bias[row + 1];
    let c = bias[row + 2];
    let d = bias[row + 3];
    let e = bias[row + 4];
    let f = bias[row + 5];
    let g = bias[row + 6];
    let h = bias[row + 7];
    for (let k = 0; k < columns; k++, at += 8) {
      const factor = x[k];
      a += matrix[at] * factor;
      b += matrix[at + 1] * factor;
      c += matrix[at + 2] * factor;
      d += matrix[at + 3] * factor;
      e += matrix[at + 4] * factor;
      f += matrix[at + 5] * factor;
      g += matrix[at + 6] * factor;
      h += matrix[at + 7] * factor;
    }
    to[row] = a;
    to[row + 1] = b;
    to[row + 2] = c;
    to[row + 3] = d;
    to[row + 4] = e;
    to[row + 5] = f;
    to[row + 6] = g;
    to[row + 7] = h;
  }
}

/** ONNX's MatMul of vectors (…, K) and a constant matrix (K, N); of bands, whose columns hold mostly zeros, too. */
export function timesMatrix([x, matrix], array) {
  const [rows, columns] = matrix.dims;
  if (!matrix.constant || x.dims.at(-1) !== rows) throw new Error("MatMul takes vectors and a constant matrix");
  const count = x.data.length / rows;
  const made = array([...x.dims.slice(0, -1), columns]);
  const turned = new Float32Array(rows * columns);
  const [first, end] = [new Int32Array(columns).fill(rows), new Int32Array(columns)];
  for (let column = 0; column < columns; column++) {
    for (let row = 0; row < rows; row++) {
      const weight = matrix.data[row * columns + column];
      turned[column * rows + row] = weight;
      if (weight === 0) continue;
      first[column] = Math.min(first[column], row);
      end[column] = row + 1;
    }
  }
  const isDense = end.reduce((sum, each, k) => sum + Math.max(0, each - first[k]), 0) > turned.length / 2;
  const [from, to] = [vectors(x.data, count), vectors(made.data, count)];
  if (isDense) {
    const [ordered, none, whole] = [grouped(turned, columns, rows), roomFor(columns), roomFor(columns)];
    const result = whole.subarray(0, columns);
    return {
      values: [made],
      run() {
        for (let k = 0; k < count; k++) {
          multiply(ordered, rows, from[k], none, whole);
          to[k].set(result);
        }
      },
    };
  }
  return {
    values: [made],
    run() {
      for (let k = 0; k < count; k++) {
        for (let column = 0; column < columns; column++) {
          let sum = 0;
          const start = column * rows;
          for (let row = first[column]; row < end[column]; row++) sum += turned[start + row] * from[k][row];
          to[k][column] = sum;
        }
      }
    },
  };
}

/** An array as `count` vectors in the same memory. */
function vectors(data, count) {
  const length = data.length / count;
  return Array.from({ length: count }, (_, k) => data.subarray(k * length, (k + 1) * length));
}

/** What a cell reads from its input and from its state, gate after gate; ONNX's inputs X, W, R, B. */
function reading([, input, recurrent, bias]) {
  const [, rows, columns] = input.dims;
  const units = recurrent.dims[2];
  const [fromInput, fromState, inputBias, stateBias] = Array.from({ length: 4 }, () => roomFor(rows));
  inputBias.set(bias.data.subarray(0, rows));
  stateBias.set(bias.data.subarray(rows));
  const [fromInputs, fromStates] = [grouped(input.data, rows, columns), grouped(recurrent.data, rows, units)];
  const read = (x, state) => {
    multiply(fromInputs, columns, x, inputBias, fromInput);
    multiply(fromStates, units, state, stateBias, fromState);
  };
  return { units, fromInput, fromState, read };
}

/** A cell for each of B sequences; `states` are ONNX's inputs, and the step computes the new states from the old ones. */
function cell(inputs, array, states, stepOf) {
  const [frames, count] = inputs[0].dims;
  if (frames !== 1) throw new Error("a cell takes one frame");
  const { units, fromInput, fromState, read } = reading(inputs);
  const made = states.map(() => array([1, count, units]));
  const x = vectors(inputs[0].data, count);
  const places = (arrays) => {
    const each = arrays.map((one) => vectors(one.data, count));
    return x.map((_, place) => each.map((one) => one[place]));
  };
  const [before, after] = [places(states), places(made)];
  const step = stepOf(units, fromInput, fromState);
  const run = () => {
    for (let place = 0; place < count; place++) {
      read(x[place], before[place][0]);
      step(after[place], before[place]);
    }
  };
  return { values: [{ ...made[0], dims: [1, 1, count, units] }, ...made], run };
}

export function rnn(inputs, array) {
  return cell(inputs, array, [inputs[5]], (units, fromInput, fromState) => ([to]) => {
    for (let k = 0; k < units; k++) to[k] = Math.tanh(fromInput[k] + fromState[k]);
  });
}

/** Gates z r n, with `linear_before_reset`. */
export function gru(inputs, array) {
  return cell(inputs, array, [inputs[5]], (units, fromInput, fromState) => ([to], [hidden]) => {
    for (let k = 0; k < units; k++) {
      const update = sigmoidOf(fromInput[k] + fromState[k]);
      const reset = sigmoidOf(fromInput[units + k] + fromState[units + k]);
      const candidate = Math.tanh(fromInput[2 * units + k] + reset * fromState[2 * units + k]);
      to[k] = candidate + update * (hidden[k] - candidate);
    }
  });
}

/** Gates i o f c. */
export function lstm(inputs, array) {
  return cell(inputs, array, [inputs[5], inputs[6]], (units, fromInput, fromState) => ([to, memory], [, kept]) => {
    for (let k = 0; k < units; k++) {
      const [i, o, f, c] = [k, units + k, 2 * units + k, 3 * units + k];
      const old = sigmoidOf(fromInput[f] + fromState[f]) * kept[k];
      memory[k] = old + sigmoidOf(fromInput[i] + fromState[i]) * Math.tanh(fromInput[c] + fromState[c]);
      to[k] = sigmoidOf(fromInput[o] + fromState[o]) * Math.tanh(memory[k]);
    }
  });
}
