// Recordings: the engine in a worker. One message starts a recording, which is then denoised block by block.

import { repair, StreamDenoiser } from "./denoiser.js";
import { readModel } from "./model.js";
import { Spectrogram } from "./spectrogram.js";
import { readWavHeader, readWavSamples, WavWriter } from "./wav.js";

const BLOCK = 4096;
const READ_S = 8;

let model = null;

/** Where samples come from: a WAV file read in slices, or what the browser has decoded. */
async function openSource({ file, channels, rate }) {
  if (channels) {
    return {
      rate,
      numChannels: channels.length,
      numSamples: channels[0].length,
      bits: 16,
      read: (from, count) => channels.map((each) => each.slice(from, from + count)),
    };
  }
  const header = await readWavHeader(file);
  const bits = header.isFloat || header.bits > 24 ? 32 : Math.max(16, header.bits);
  return { ...header, bits, read: (from, count) => readWavSamples(file, header, from, count) };
}

async function denoise(source, strength, post) {
  const { rate, numChannels, numSamples, bits } = source;
  if (!numSamples) throw new Error("it holds no sound");
  const spectrogram = new Spectrogram(model, numSamples / rate, strength);
  const options = { strength, maxBlock: BLOCK, onFrame: (channel) => spectrogram.add(channel) };
  const denoiser = new StreamDenoiser(model, rate, numChannels, options);
  const [clean, removed] = [0, 1].map(() => new WavWriter({ rate, numChannels, bits }));
  const make = () => Array.from({ length: numChannels }, () => new Float32Array(BLOCK));
  const [outputs, noisy] = [make(), make()];
  let [read, written, repaired] = [0, 0, 0];
  const write = () => {
    for (let count; (count = Math.min(denoiser.available, numSamples - written, BLOCK)); written += count) {
      denoiser.shift(outputs, count, noisy);
      for (let c = 0; c < numChannels; c++) {
        for (let k = 0; k < count; k++) noisy[c][k] -= outputs[c][k];
      }
      clean.write(outputs, count);
      removed.write(noisy, count);
    }
  };
  while (read < numSamples) {
    const block = await source.read(read, Math.min(Math.round(READ_S * rate), numSamples - read));
    const length = block[0].length;
    if (!length) throw new Error("it ends before its header says so");
    repaired += block.reduce((sum, each) => sum + repair(each), 0);
    for (let start = 0; start < length; start += BLOCK) {
      const count = Math.min(BLOCK, length - start);
      denoiser.push(block.map((each) => each.subarray(start)), count);
      write();
    }
    read += length;
    post({ progress: written / numSamples });
  }
  denoiser.flush();
  write();
  post({
    done: { clean: clean.finish(), removed: removed.finish() },
    spectrogram: spectrogram.images(),
    durationS: numSamples / rate,
    rate,
    numChannels,
    repaired,
    limited: clean.limited,
  });
}

onmessage = async ({ data }) => {
  try {
    if (data.model) model = readModel(data.model);
    await denoise(await openSource(data), data.strength, postMessage.bind(globalThis));
  } catch (error) {
    postMessage({ error: error.message });
  }
};
