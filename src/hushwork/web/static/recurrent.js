// The recurrent cells of ONNX for a single frame, (1, B, I) → (1, B, units), and products with matrices.

const sigmoidOf = (x) => 1 / (1 + Math.exp(-x));

/** ONNX's MatMul of vectors (…, K) and a constant matrix (K, N); of bands, whose columns hold mostly zeros, too. */
export function timesMatrix([x, matrix], array, products) {
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
    const { result, run } = products.product(turned, columns, rows);
    return {
      values: [made],
      run() {
        for (let k = 0; k < count; k++) {
          run(from[k]);
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
function reading([, input, recurrent, bias], products) {
  const [, rows, columns] = input.dims;
  const units = recurrent.dims[2];
  const fromInput = products.product(input.data, rows, columns, bias.data.subarray(0, rows));
  const fromState = products.product(recurrent.data, rows, units, bias.data.subarray(rows));
  return { units, fromInput, fromState };
}

/** A cell for each of B sequences; `states` are ONNX's inputs, and the step computes the new states from the old ones. */
function cell(inputs, array, products, states, stepOf) {
  const [frames, count] = inputs[0].dims;
  if (frames !== 1) throw new Error("a cell takes one frame");
  const { units, fromInput, fromState } = reading(inputs, products);
  const made = states.map(() => array([1, count, units]));
  const x = vectors(inputs[0].data, count);
  const places = (arrays) => {
    const each = arrays.map((one) => vectors(one.data, count));
    return x.map((_, place) => each.map((one) => one[place]));
  };
  const [before, after] = [places(states), places(made)];
  const step = stepOf(units, fromInput.result, fromState.result);
  const run = () => {
    for (let place = 0; place < count; place++) {
      fromInput.run(x[place]);
      fromState.run(before[place][0]);
      step(after[place], before[place]);
    }
  };
  return { values: [{ ...made[0], dims: [1, 1, count, units] }, ...made], run };
}

export function rnn(inputs, array, products) {
  return cell(inputs, array, products, [inputs[5]], (units, fromInput, fromState) => ([to]) => {
    for (let k = 0; k < units; k++) to[k] = Math.tanh(fromInput[k] + fromState[k]);
  });
}

/** Gates z r n, with `linear_before_reset`. */
export function gru(inputs, array, products) {
  return cell(inputs, array, products, [inputs[5]], (units, fromInput, fromState) => ([to], [hidden]) => {
    for (let k = 0; k < units; k++) {
      const update = sigmoidOf(fromInput[k] + fromState[k]);
      const reset = sigmoidOf(fromInput[units + k] + fromState[units + k]);
      const candidate = Math.tanh(fromInput[2 * units + k] + reset * fromState[2 * units + k]);
      to[k] = candidate + update * (hidden[k] - candidate);
    }
  });
}

/** Gates i o f c. */
export function lstm(inputs, array, products) {
  return cell(inputs, array, products, [inputs[5], inputs[6]], (units, fromInput, fromState) => ([to, memory], [, kept]) => {
    for (let k = 0; k < units; k++) {
      const [i, o, f, c] = [k, units + k, 2 * units + k, 3 * units + k];
      const old = sigmoidOf(fromInput[f] + fromState[f]) * kept[k];
      memory[k] = old + sigmoidOf(fromInput[i] + fromState[i]) * Math.tanh(fromInput[c] + fromState[c]);
      to[k] = sigmoidOf(fromInput[o] + fromState[o]) * Math.tanh(memory[k]);
    }
  });
}
