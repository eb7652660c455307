// Runs the engine on raw float32 files: node engine.mjs COMMAND MODEL INPUT OUTPUT [OPTIONS AS JSON]

import fs from "node:fs";

const source = new URL("../../src/hushwork/web/static/", import.meta.url);
const { readModel } = await import(new URL("model.js", source));
const { StreamDenoiser } = await import(new URL("denoiser.js", source));
const { FULL } = await import(new URL("strength.js", source));

const bytes = (path) => {
  const content = fs.readFileSync(path);
  return content.buffer.slice(content.byteOffset, content.byteOffset + content.byteLength);
};
const [command, modelPath, input, output, json = "{}"] = process.argv.slice(2);
const options = JSON.parse(json);
if (options.withoutWebAssembly) delete globalThis.WebAssembly;
const model = readModel(bytes(modelPath));
const given = new Float32Array(bytes(input));

/** Frames, one after another, `repeat` times. */
function frames() {
  const pairs = model.fftSize + 2;
  const state = model.program.initialState();
  const clean = new Float32Array(given.length);
  for (let round = 0; round < (options.repeat ?? 1); round++) {
    for (let start = 0; start < given.length; start += pairs) {
      clean.set(model.program.run(given.subarray(start, start + pairs), state), start);
    }
  }
  return clean;
}

/** Channels one after another, in blocks whose sizes take turns. */
function stream() {
  const { rate, channels, blocks, strength, passing: [passFrom, passTo] = [0, 0] } = options;
  const length = given.length / channels;
  const inputs = Array.from({ length: channels }, (_, c) => given.subarray(c * length, (c + 1) * length));
  const made = new Float32Array(given.length);
  const denoiser = new StreamDenoiser(model, rate, channels, { strength: { ...FULL, ...strength } });
  let [read, written] = [0, 0];
  const take = () => {
    const count = Math.min(denoiser.available, length - written, denoiser.maxBlock);
    denoiser.shift(Array.from({ length: channels }, (_, c) => made.subarray(c * length + written)), count);
    written += count;
    return count;
  };
  for (let turn = 0; read < length; turn++) {
    const count = Math.min(blocks[turn % blocks.length], length - read);
    denoiser.isPassing = read >= passFrom && read < passTo;
    denoiser.push(inputs.map((each) => each.subarray(read)), count);
    read += count;
    while (take());
    if (read - written > denoiser.latency) throw new Error(`${read - written} samples wait, more than ${denoiser.latency}`);
  }
  denoiser.flush();
  while (take());
  return made;
}

/** Loads in turns with the times of their reports → 1 where sound passes after a report, else 0. */
async function load() {
  const { LoadWatch } = await import(new URL("load.js", source));
  const watch = new LoadWatch();
  return given.map((each, k) => (k % 2 ? each : (watch.report(each, given[k + 1]), watch.isPassing ? 1 : 0)));
}

/** The product of a matrix with a vector, and a bias: numbers in this order → the result, and zeros. */
async function product() {
  const { Products } = await import(new URL("products.js", source));
  const { rows, columns } = options;
  const products = new Products(0); // with room for all but large matrices
  if (!products.memory !== (options.withoutWebAssembly ?? false)) throw new Error("WebAssembly was tried in vain");
  products.product(given, 1, columns).run(given.subarray(0, columns)); // another one, in the same memory
  const [matrix, x] = [given.subarray(0, rows * columns), given.subarray(rows * columns, (rows + 1) * columns)];
  const { result, run } = products.product(matrix, rows, columns, given.subarray((rows + 1) * columns));
  for (let k = 0; k < 2; k++) run(x); // the second time as the first
  const made = new Float32Array(given.length);
  made.set(result);
  return made;
}

const result = await { frames, stream, load, product }[command]();
fs.writeFileSync(output, new Uint8Array(result.buffer));
