// Model files of `hushwork web`: safetensors that hold the constants of a program, and in their metadata the program.

import { FrameProgram } from "./program.js";

const READERS = {
  F32: (bytes) => new Float32Array(bytes),
  F16: fromHalves,
  I64: (bytes) => Float32Array.from(new BigInt64Array(bytes), Number),
  BOOL: (bytes) => Float32Array.from(new Uint8Array(bytes)),
};

/** A half-precision number, given as its 16 bits. */
function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

let halves = null; // the number of each pattern of 16 bits

function fromHalves(bytes) {
  halves ??= Float32Array.from({ length: 2 ** 16 }, (_, bits) => fromHalf(bits));
  const bits = new Uint16Array(bytes);
  const numbers = new Float32Array(bits.length);
  for (let k = 0; k < bits.length; k++) numbers[k] = halves[bits[k]];
  return numbers;
}

/** Text without accents and the like; worklets have no TextDecoder. */
const ascii = (bytes) => bytes.reduce((text, byte) => text + String.fromCharCode(byte), "");

/**
 * Reads a model file.
 * @param {ArrayBuffer} file
 * @returns {{name: string, sampleRate: number, fftSize: number, hop: number, lookAhead: number,
 *   window: Float32Array, program: FrameProgram}}
 */
export function readModel(file) {
  let header, start;
  try {
    const length = Number(new DataView(file).getBigUint64(0, true));
    start = 8 + length;
    header = JSON.parse(ascii(new Uint8Array(file, 8, length)));
  } catch {
    throw new Error("this is no model file; hushwork web --out DIR writes them");
  }
  const { __metadata__: metadata, ...tensors } = header;
  if (metadata?.format !== "hushwork-web-1") {
    throw new Error(`this model file has the format ${metadata?.format}; write it again with hushwork web --out DIR`);
  }
  const constants = new Map();
  for (const [name, { dtype, shape, data_offsets: [first, end] }] of Object.entries(tensors)) {
    constants.set(name, { dims: shape, data: READERS[dtype](file.slice(start + first, start + end)) });
  }
  const window = constants.get("window").data;
  constants.delete("window");
  const { program, ...settings } = JSON.parse(metadata.model);
  return { lookAhead: 0, ...settings, window, program: new FrameProgram(program, constants) };
}
