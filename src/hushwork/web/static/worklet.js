// Live sound: the engine inside an AudioWorklet. Its node is made by `createDenoiser` in hushwork.js.

import { StreamDenoiser } from "./denoiser.js";
import { LoadWatch } from "./load.js";
import { readModel } from "./model.js";
import { SHORT } from "./resampler.js";

const REPORT_S = 0.1;

class DenoiserProcessor extends AudioWorkletProcessor {
  constructor({ processorOptions: { model, strength } }) {
    super();
    this.denoiser = new StreamDenoiser(readModel(model), sampleRate, 1, { filter: SHORT, maxBlock: 4096, strength });
    this.denoiser.frames.run(this.denoiser.hops, false); // compiled before it is in a hurry
    this.denoiser = new StreamDenoiser(this.denoiser.model, sampleRate, 1, { filter: SHORT, maxBlock: 4096, strength });
    this.owed = this.denoiser.latency; // silence that goes out before the first sample
    this.mixed = new Float32Array(4096);
    this.clean = [new Float32Array(4096)];
    this.busyMs = this.samples = this.passed = 0;
    this.watch = new LoadWatch();
    this.peaks = [0, 0];
    this.isClosed = false;
    this.port.onmessage = ({ data }) => {
      if (data.strength) this.denoiser.setStrength(data.strength);
      if (data.close) this.isClosed = true;
    };
    this.port.postMessage({ latencyS: this.denoiser.latency / sampleRate });
  }

  process([input], [output]) {
    if (this.isClosed) return false;
    const count = output[0].length;
    const started = Date.now(); // milliseconds only, but right on average; worklets have no finer clock everywhere
    this.#mix(input, count);
    this.denoiser.push([this.mixed], count);
    const silent = Math.min(count, this.owed);
    this.owed -= silent;
    const [clean] = this.clean;
    if (silent < count) this.denoiser.shift(this.clean, count - silent);
    for (let c = 0; c < output.length; c++) {
      for (let k = silent; k < count; k++) output[c][k] = clean[k - silent];
    }
    for (let k = 0; k < count; k++) {
      this.peaks[0] = Math.max(this.peaks[0], Math.abs(this.mixed[k]));
      this.peaks[1] = Math.max(this.peaks[1], Math.abs(output[0][k]));
    }
    this.busyMs += Date.now() - started;
    this.samples += count;
    if (this.denoiser.isPassing) this.passed += count;
    if (this.samples >= REPORT_S * sampleRate) this.#report();
    return true;
  }

  /** The mean of the channels that come in; samples that are no numbers count as 0. */
  #mix(channels, count) {
    const { mixed } = this;
    for (let k = 0; k < count; k++) {
      let sum = 0;
      for (let c = 0; c < channels.length; c++) sum += channels[c][k];
      mixed[k] = Math.abs(sum) < 1e12 ? sum / Math.max(1, channels.length) : 0;
    }
  }

  #report() {
    const load = this.busyMs / ((1000 * this.samples) / sampleRate);
    this.watch.report(load, currentTime);
    this.denoiser.isPassing = this.watch.isPassing;
    const [before, after] = this.peaks;
    this.port.postMessage({ before, after, load, isPassing: this.denoiser.isPassing, passedS: this.passed / sampleRate });
    this.peaks.fill(0);
    this.busyMs = this.samples = 0;
  }
}

/** Hands on what it gets to the page, for recordings. */
class RecorderProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.isClosed = false;
    this.port.onmessage = () => (this.isClosed = true);
  }

  process([[samples]]) {
    if (samples && !this.isClosed) this.port.postMessage(samples.slice());
    return !this.isClosed;
  }
}

registerProcessor("hushwork-recorder", RecorderProcessor);
registerProcessor("hushwork-denoiser", DenoiserProcessor);
