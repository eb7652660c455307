// WAV files: read in slices, so that a recording never lies in memory as a whole, and written.

const TYPES = { 1: "integer", 3: "float" };

/**
 * Finds the sound in a WAV file (RIFF or RF64).
 * @param {Blob} file
 * @returns {Promise<null | {rate, numChannels, bits, isFloat, start, numSamples}>} null: it is no PCM in a WAV file
 */
export async function readWavHeader(file) {
  const view = async (start, length) => new DataView(await file.slice(start, start + length).arrayBuffer());
  const word = (data, at) => String.fromCharCode(...new Uint8Array(data.buffer, at, 4));
  const head = await view(0, 12);
  if (head.byteLength < 12 || !["RIFF", "RF64"].includes(word(head, 0)) || word(head, 8) !== "WAVE") return null;
  let format = null;
  let longSize = null;
  for (let at = 12; at + 8 <= file.size; ) {
    const chunk = await view(at, 56);
    let size = chunk.getUint32(4, true);
    const name = word(chunk, 0);
    if (name === "ds64") longSize = Number(chunk.getBigUint64(16, true));
    if (name === "fmt ") {
      const tag = chunk.getUint16(8, true);
      const kind = TYPES[tag === 0xfffe ? chunk.getUint16(32, true) : tag];
      if (!kind) return null;
      const bits = chunk.getUint16(22, true);
      format = { numChannels: chunk.getUint16(10, true), rate: chunk.getUint32(12, true), bits, isFloat: kind === "float" };
    }
    if (name === "data") {
      if (!format || !format.numChannels || ![8, 16, 24, 32, 64].includes(format.bits)) return null;
      if (size === 0xffffffff && longSize !== null) size = longSize;
      const length = Math.min(size, file.size - at - 8); // a header may promise more than there is
      return { ...format, start: at + 8, numSamples: Math.floor((length * 8) / format.bits / format.numChannels) };
    }
    at += 8 + size + (size % 2);
  }
  return null;
}

/** Reads samples `from` up to `from + count` → one Float32Array a channel. */
export async function readWavSamples(file, { numChannels, bits, isFloat, start }, from, count) {
  const bytes = bits / 8;
  const step = bytes * numChannels;
  const data = new DataView(await file.slice(start + from * step, start + (from + count) * step).arrayBuffer());
  const number = isFloat
    ? bits === 64
      ? (at) => data.getFloat64(at, true)
      : (at) => data.getFloat32(at, true)
    : {
        8: (at) => (data.getUint8(at) - 128) / 128,
        16: (at) => data.getInt16(at, true) / 2 ** 15,
        24: (at) => (data.getUint8(at) | (data.getInt16(at + 1, true) << 8)) / 2 ** 23,
        32: (at) => data.getInt32(at, true) / 2 ** 31,
      }[bits];
  const length = Math.floor(data.byteLength / step);
  return Array.from({ length: numChannels }, (_, c) =>
    Float32Array.from({ length }, (_, k) => number(k * step + c * bytes)),
  );
}

const PART = 2 ** 22; // bytes that are kept in memory before they become a Blob, which browsers keep on disk

/** Collects blocks of samples into a WAV file. */
export class WavWriter {
  /** @param {{rate: number, numChannels: number, bits: 16 | 24 | 32}} format 32 bits are float */
  constructor({ rate, numChannels, bits }) {
    Object.assign(this, { rate, numChannels, bytes: bits / 8, parts: [], latest: [], numBytes: 0, limited: 0 });
  }

  write(channels, count) {
    const { numChannels, bytes } = this;
    const data = new DataView(new ArrayBuffer(count * numChannels * bytes));
    const full = 2 ** (8 * bytes - 1);
    for (let c = 0; c < numChannels; c++) {
      for (let k = 0; k < count; k++) {
        const at = (k * numChannels + c) * bytes;
        if (bytes === 4) {
          data.setFloat32(at, channels[c][k], true);
          continue;
        }
        const value = Math.round(channels[c][k] * full);
        const held = Math.max(-full, Math.min(full - 1, value));
        if (held !== value) this.limited++;
        if (bytes === 2) data.setInt16(at, held, true);
        else {
          data.setInt16(at + 1, held >> 8, true);
          data.setUint8(at, held & 255);
        }
      }
    }
    this.latest.push(data.buffer);
    this.numBytes += data.byteLength;
    if (this.latest.length * data.byteLength >= PART) this.parts.push(new Blob(this.latest.splice(0)));
  }

  finish() {
    const { rate, numChannels, bytes, numBytes } = this;
    if (numBytes > 0xffffff00) throw new Error("the result is longer than a WAV file can hold (4 GB); use hushwork denoise");
    const data = new DataView(new ArrayBuffer(44));
    const put = (at, text) => [...text].forEach((letter, k) => data.setUint8(at + k, letter.charCodeAt(0)));
    put(0, "RIFF");
    data.setUint32(4, 36 + numBytes, true);
    put(8, "WAVEfmt ");
    data.setUint32(16, 16, true);
    data.setUint16(20, bytes === 4 ? 3 : 1, true);
    data.setUint16(22, numChannels, true);
    data.setUint32(24, rate, true);
    data.setUint32(28, rate * numChannels * bytes, true);
    data.setUint16(32, numChannels * bytes, true);
    data.setUint16(34, 8 * bytes, true);
    put(36, "data");
    data.setUint32(40, numBytes, true);
    return new Blob([data.buffer, ...this.parts, ...this.latest], { type: "audio/wav" });
  }
}
