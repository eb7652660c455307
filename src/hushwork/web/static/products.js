// Products of a constant matrix and a vector, which take most of the time of a network: in WebAssembly, four numbers at a
// time, or in JavaScript where the browser has no WebAssembly or the page's policy forbids it.

const GROUP = 8; // rows that lie together, column after column, so that sums of several rows are computed side by side
const ROOM = 2 * GROUP; // WebAssembly computes two groups at once, which keeps a processor's adders busy

const sections = (...contents) => contents.flatMap(([id, ...bytes]) => [id, ...unsigned(bytes.length), ...bytes]);

/** A number as WebAssembly writes it (LEB128). */
function unsigned(number) {
  return number < 128 ? [number] : [(number & 127) | 128, ...unsigned(number >> 7)];
}

/**
 * The module: a memory of `pages` × 64 KiB and `multiply(matrix, second, x, end, bias, to, last)`, addresses in bytes.
 * For each pair of groups, at `matrix` and `second`, it adds column times number of `x`, from x to `end`, to the bias.
 */
function moduleOf(pages) {
  const [MATRIX, SECOND, X, END, BIAS, TO, LAST, AT, FACTOR, SUMS] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  const [I32, V128] = [0x7f, 0x7b];
  const get = (local) => [0x20, local];
  const set = (local) => [0x21, local];
  const simd = (code, ...rest) => [0xfd, ...unsigned(code), ...rest];
  const load = (offset) => simd(0, 2, offset); // alignment 2² bytes
  const store = (offset) => simd(11, 2, offset);
  const [loadRepeated, add, multiply] = [simd(9, 2, 0), simd(0xe4), simd(0xe6)];
  const advance = (local, bytes) => [...get(local), 0x41, ...bytes, 0x6a, ...set(local)]; // local += bytes
  const whileBelow = (local, limit, ...body) => [0x03, 0x40, ...body, ...get(local), ...get(limit), 0x49, 0x0d, 0, 0x0b];
  const parts = [0, 1, 2, 3]; // of four rows each, two of a group
  const places = parts.map((part) => [part < 2 ? MATRIX : SECOND, 16 * (part % 2)]);
  const code = whileBelow(
    TO,
    LAST,
    ...parts.flatMap((part) => [...get(BIAS), ...load(16 * part), ...set(SUMS + part)]),
    ...[...get(X), ...set(AT)],
    ...whileBelow(
      AT,
      END,
      ...[...get(AT), ...loadRepeated, ...set(FACTOR)],
      ...places.flatMap(([from, offset], part) => [
        ...[...get(SUMS + part), ...get(from), ...load(offset), ...get(FACTOR), ...multiply, ...add],
        ...set(SUMS + part),
      ]),
      ...[...advance(MATRIX, [32]), ...advance(SECOND, [32]), ...advance(AT, [4])],
    ),
    ...parts.flatMap((part) => [...get(TO), ...get(SUMS + part), ...store(16 * part)]),
    // The next pair begins behind the second group, which ends where `second` now is.
    ...[...get(SECOND), ...get(SECOND), ...get(MATRIX), 0x6b, ...get(SECOND), 0x6a, ...set(SECOND), ...set(MATRIX)],
    ...[...advance(BIAS, [0xc0, 0]), ...advance(TO, [0xc0, 0])], // 64, signed
  );
  const body = [2, 1, I32, 5, V128, ...code, 0x0b]; // one local address, factor and sums
  const text = (name) => [name.length, ...Array.from(name, (letter) => letter.charCodeAt(0))];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...sections(
      [1, 1, 0x60, 7, I32, I32, I32, I32, I32, I32, I32, 0], // a type: seven addresses, no result
      [3, 1, 0], // one function
      [5, 1, 0, ...unsigned(pages)], // one memory
      [7, 2, ...text("memory"), 2, 0, ...text("multiply"), 0, 0],
      [10, 1, ...unsigned(body.length), ...body],
    ),
  ]);
}

/** The same in JavaScript, on arrays: to[row] = bias[row] + the sum of matrix[row, k] · x[k]. */
function multiply(matrix, x, bias, to) {
  const columns = x.length;
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

/** The products of one network. */
export class Products {
  /** @param {number} size of all matrices in numbers, about */
  constructor(size) {
    this.used = 0; // bytes of the memory
    try {
      // Rows are filled up to whole rooms: at most twice the numbers, but for a few small matrices.
      const pages = Math.ceil((8 * size + 2 ** 20) / 2 ** 16);
      const module = new WebAssembly.Module(moduleOf(pages));
      ({ memory: this.memory, multiply: this.multiply } = new WebAssembly.Instance(module).exports);
    } catch {
      this.memory = null;
    }
  }

  /** Arrays of these lengths in the memory, each at a multiple of 16 bytes; null if they have no room there. */
  #arrays(lengths) {
    const places = [];
    let end = this.used;
    for (const length of lengths) {
      places.push(end);
      end += Math.ceil(length / 4) * 16;
    }
    if (!this.memory || end > this.memory.buffer.byteLength) return null;
    this.used = end;
    return places.map((place, k) => new Float32Array(this.memory.buffer, place, lengths[k]));
  }

  /**
   * The product of a matrix (rows, columns) and a vector, and a bias added.
   * @returns {{result: Float32Array, run: (x: Float32Array) => void}} `run` computes the result of a vector (columns,)
   */
  product(matrix, rows, columns, bias = new Float32Array(rows)) {
    const room = Math.ceil(rows / ROOM) * ROOM;
    const lengths = [room * columns, room, columns, room];
    const inMemory = this.#arrays(lengths);
    const [ordered, biases, x, to] = inMemory ?? lengths.map((length) => new Float32Array(length));
    biases.set(bias);
    for (let row = 0; row < rows; row++) {
      const start = Math.floor(row / GROUP) * GROUP * columns + (row % GROUP);
      for (let k = 0; k < columns; k++) ordered[start + k * GROUP] = matrix[row * columns + k];
    }
    const result = to.subarray(0, rows);
    if (!inMemory) return { result, run: (vector) => multiply(ordered, vector, biases, to) };
    const second = ordered.byteOffset + 4 * GROUP * columns;
    const [end, last, run] = [x.byteOffset + 4 * columns, to.byteOffset + 4 * room, this.multiply];
    return {
      result,
      run(vector) {
        x.set(vector);
        run(ordered.byteOffset, second, x.byteOffset, end, biases.byteOffset, to.byteOffset, last);
      },
    };
  }
}
