// A stream of sound at any sample rate, denoised: as `hushwork denoise` does it with a file, in constant memory.

import { Queue } from "./queue.js";
import { EXACT, Resampler } from "./resampler.js";
import { Analysis, Synthesis } from "./stft.js";
import { FULL } from "./strength.js";

const TINY = 1.1754944e-38; // the smallest normal number in single precision
const LOUDEST = 1e12; // sample value, beyond which squares may be infinite
const RAMP_S = 0.02;

/** The network over the hops of several channels, which it attenuates alike, so that voices keep their places. */
class Frames {
  constructor(model, numChannels) {
    this.model = model;
    const pairs = model.fftSize + 2;
    // Frame 0 is centred on the first sample; its hop ends where half a window is there.
    const half = model.fftSize / 2;
    this.lead = (model.hop - (half % model.hop)) % model.hop; // zeros before the signal, so that hops end there
    this.toSkip = (half + this.lead) / model.hop - 1;
    this.toDrop = half; // samples before the signal begins
    this.unmasked = model.lookAhead; // of the program's next outputs, those of no frame
    this.stale = 0; // and those of a frame from before the program paused
    this.channels = Array.from({ length: numChannels }, () => ({
      analysis: new Analysis(model),
      synthesis: new Synthesis(model),
      gainSynthesis: new Synthesis(model),
      state: model.program.initialState(),
      // The newest last; the first is masked next.
      frames: Array.from({ length: model.lookAhead + 1 }, () => new Float32Array(pairs)),
      clean: new Float32Array(pairs),
      samples: new Float32Array(model.hop),
      gains: new Float32Array(model.hop),
    }));
    this.gains = new Float32Array(pairs / 2);
    this.floor = 0;
    this.firstHigh = Math.floor(pairs / 4);
  }

  /** A hop of each channel → true once `samples` and `gains` of the channels hold the next finished hop. */
  run(hops, isPassed) {
    const { channels, model } = this;
    for (let c = 0; c < channels.length; c++) {
      const { analysis, frames } = channels[c];
      frames.push(frames.shift());
      analysis.run(hops[c], frames[model.lookAhead]);
    }
    if (this.toSkip > 0) {
      this.toSkip--;
      return false;
    }
    if (isPassed) this.stale = model.lookAhead;
    for (let c = 0; c < channels.length; c++) {
      const { frames, clean, state } = channels[c];
      if (!isPassed) clean.set(model.program.run(frames[model.lookAhead], state));
      if (isPassed || this.stale) clean.set(frames[0]);
    }
    if (!isPassed && this.stale) this.stale--;
    if (this.unmasked > 0) {
      this.unmasked--;
      return false;
    }
    if (channels.length > 1) this.#link();
    for (let c = 0; c < channels.length; c++) this.#synthesise(channels[c]);
    return true;
  }

  #link() {
    const { channels, gains } = this;
    for (let bin = 0; bin < gains.length; bin++) {
      let [before, after] = [0, 0];
      for (let c = 0; c < channels.length; c++) {
        const { frames: [noisy], clean } = channels[c];
        before += noisy[2 * bin] ** 2 + noisy[2 * bin + 1] ** 2;
        after += clean[2 * bin] ** 2 + clean[2 * bin + 1] ** 2;
      }
      gains[bin] = before > TINY ? Math.sqrt(after / before) : 1;
    }
    for (let c = 0; c < channels.length; c++) {
      const { frames: [noisy], clean } = channels[c];
      for (let k = 0; k < clean.length; k++) clean[k] = noisy[k] * gains[k >> 1];
    }
  }

  #synthesise({ frames: [noisy], clean, synthesis, gainSynthesis, samples, gains }) {
    const floor = this.floor;
    let [before, after] = [0, 0];
    for (let bin = 0; bin < this.gains.length; bin++) {
      const [re, im] = [2 * bin, 2 * bin + 1];
      const power = noisy[re] * noisy[re] + noisy[im] * noisy[im];
      let left = clean[re] * clean[re] + clean[im] * clean[im];
      if (left < power * floor * floor) {
        clean[re] = noisy[re] * floor;
        clean[im] = noisy[im] * floor;
        left = power * floor * floor;
      }
      if (bin < this.firstHigh) continue;
      before += power;
      after += left;
    }
    synthesis.run(clean, samples);
    const gain = before > TINY ? Math.min(1, Math.sqrt(after / before)) : 1;
    gainSynthesis.add(this.model.window, gain, gains);
  }
}

/** Sets the samples from `start` to `end` to a value, as a resampler takes what lies beyond a recording. */
function silence(samples, start, end, value) {
  for (let k = Math.max(0, start); k < end; k++) samples[k] = value;
}

/** One channel's way to the model's sample rate and back. */
class Band {
  constructor(rate, model, filter, maxBlock, lead) {
    const capacity = 4 * (maxBlock + model.fftSize * Math.ceil(Math.max(1, rate / model.sampleRate)) + 4096);
    this.isResampled = rate !== model.sampleRate;
    if (this.isResampled) {
      this.down = new Resampler(rate, model.sampleRate, filter, maxBlock);
      this.upClean = new Resampler(model.sampleRate, rate, filter, model.hop);
      this.upInput = new Resampler(model.sampleRate, rate, filter, model.hop);
    }
    this.hasHighBand = rate > model.sampleRate;
    this.ratio = model.sampleRate / rate;
    this.noisy = new Queue(capacity); // at the stream's rate
    this.input = new Queue(capacity); // at the model's rate, not yet read by the network
    this.read = new Queue(capacity); // the same, read but not finished
    this.clean = new Queue(capacity); // at the stream's rate, from here on
    this.low = new Queue(capacity); // the input without its high band
    this.gains = new Queue(capacity); // of the high band, at the model's rate
    this.gainPlace = 0; // within the first of them
    this.pushed = this.received = this.finished = 0; // samples, at the stream's rate and twice at the model's
    this.end = Infinity; // of the signal, in samples at the model's rate
    this.lead = lead; // zeros that go before the signal into the network
    for (let k = 0; k < lead; k++) this.input.push([0]);
  }

  push(samples, count) {
    this.noisy.push(samples, count);
    this.pushed += count;
    if (!this.isResampled) return this.input.push(samples, count);
    const made = this.down.push(samples, count);
    silence(this.down.output, this.end - this.received, made, 0);
    this.received += made;
    this.input.push(this.down.output, made);
  }

  /** No signal follows what was pushed. */
  finishSignal() {
    this.end = Math.round(this.pushed * this.ratio);
  }

  /** Finished samples at the model's rate, what they were before, and gains. */
  finish(samples, before, gains, count) {
    if (!this.isResampled) return this.clean.push(samples, count);
    const left = this.end - this.finished;
    silence(samples, left, count, 0);
    silence(before, left, count, 0);
    silence(gains, left, count, 1);
    this.finished += count;
    this.clean.push(this.upClean.output, this.upClean.push(samples, count));
    if (!this.hasHighBand) return;
    this.low.push(this.upInput.output, this.upInput.push(before, count));
    this.gains.push(gains, count);
  }

  /** The gain of the high band at the next sample. */
  nextGain() {
    const { data, start, length } = this.gains;
    const next = data[start + (length > 1 ? 1 : 0)];
    const gain = data[start] + (next - data[start]) * this.gainPlace;
    this.gainPlace += this.ratio;
    if (this.gainPlace >= 1 && length > 1) {
      this.gainPlace -= 1;
      this.gains.start++;
      this.gains.length--;
    }
    return gain;
  }
}

/**
 * Denoises a stream block by block. `push` takes any number of samples up to `maxBlock`, `available` says how many are
 * finished, `shift` gives them out: the first that comes out is the first that went in.
 */
export class StreamDenoiser {
  /**
   * @param {object} model from `readModel`
   * @param {number} rate Hz, of the stream
   * @param {number} numChannels
   * @param {{filter?: object, maxBlock?: number, strength?: object, onFrame?: (channel: object) => void}} options
   */
  constructor(model, rate, numChannels, { filter = EXACT, maxBlock = 4096, strength = FULL, onFrame } = {}) {
    this.model = model;
    this.maxBlock = maxBlock;
    this.rate = rate;
    this.frames = new Frames(model, numChannels);
    this.bands = Array.from({ length: numChannels }, () => new Band(rate, model, filter, maxBlock, this.frames.lead));
    this.hops = this.bands.map(() => new Float32Array(model.hop));
    this.before = new Float32Array(model.hop);
    this.clean = new Float32Array(maxBlock);
    this.low = new Float32Array(maxBlock);
    this.onFrame = onFrame;
    this.isPassing = false;
    this.setStrength(strength);
    [this.noisyShare, this.cleanShare] = [this.noisyTarget, this.cleanTarget];
    const reach = this.bands[0].isResampled ? (2 * filter.reach) / Math.min(rate, model.sampleRate) : 0;
    const windows = model.fftSize + model.lookAhead * model.hop + this.frames.lead;
    /** Samples by which the output lags at most. */
    this.latency = Math.ceil((windows / model.sampleRate + reach) * rate) + 4;
  }

  /** Changes the strength; the sound follows within 20 ms, without a click. */
  setStrength({ mix, maxAttenuationDb, noiseOnly }) {
    [this.noisyTarget, this.cleanTarget] = noiseOnly ? [mix, -mix] : [1 - mix, mix];
    this.frames.floor = maxAttenuationDb === null ? 0 : 10 ** (-maxAttenuationDb / 20);
  }

  get available() {
    const { clean, noisy, low, hasHighBand } = this.bands[0];
    return Math.min(noisy.length, clean.length, hasHighBand ? low.length : Infinity);
  }

  /** The next samples of each channel, `count` of them. */
  push(channels, count) {
    const { frames, model, bands } = this;
    for (let c = 0; c < bands.length; c++) bands[c].push(channels[c], count);
    while (bands[0].input.length >= model.hop) {
      for (let c = 0; c < bands.length; c++) {
        bands[c].input.shift(this.hops[c]);
        bands[c].read.push(this.hops[c]);
      }
      if (!frames.run(this.hops, this.isPassing)) continue;
      if (this.onFrame) this.onFrame(frames.channels[0]);
      const skipped = Math.min(frames.toDrop, model.hop);
      frames.toDrop -= skipped;
      for (let c = 0; c < bands.length; c++) this.#finish(bands[c], frames.channels[c], skipped);
    }
  }

  #finish(band, channel, skipped) {
    const count = this.model.hop - skipped;
    if (!count) return;
    if (band.lead) band.read.shift(this.before, band.lead);
    band.lead = 0;
    band.read.shift(this.before, count);
    band.finish(channel.samples.subarray(skipped), this.before, channel.gains.subarray(skipped), count);
  }

  /** The end of the stream: finishes all that was pushed. */
  flush() {
    const left = this.bands[0].noisy.length;
    const zeros = this.bands.map(() => new Float32Array(this.maxBlock));
    for (const band of this.bands) band.finishSignal();
    while (this.available < left) this.push(zeros, this.maxBlock);
  }

  /**
   * Moves finished samples into `outputs` (one array a channel), and what they were before into `noisy` if given.
   * @param {number} count at most `available` and `maxBlock`
   */
  shift(outputs, count, noisy = outputs) {
    const step = 1 / (RAMP_S * this.rate);
    const [noisyShare, cleanShare] = [this.noisyShare, this.cleanShare];
    for (let c = 0; c < this.bands.length; c++) {
      const band = this.bands[c];
      band.noisy.shift(noisy[c], count);
      band.clean.shift(this.clean, count);
      if (band.hasHighBand) band.low.shift(this.low, count);
      [this.noisyShare, this.cleanShare] = [noisyShare, cleanShare];
      for (let k = 0; k < count; k++) {
        const before = noisy[c][k];
        let clean = this.clean[k];
        if (band.hasHighBand) clean += (before - this.low[k]) * band.nextGain();
        this.noisyShare += Math.max(-step, Math.min(step, this.noisyTarget - this.noisyShare));
        this.cleanShare += Math.max(-step, Math.min(step, this.cleanTarget - this.cleanShare));
        outputs[c][k] = this.noisyShare * before + this.cleanShare * clean;
      }
    }
  }
}

/** Samples that are no numbers, or far too large, become 0; returns how many there were. */
export function repair(samples) {
  let repaired = 0;
  for (let k = 0; k < samples.length; k++) {
    if (Math.abs(samples[k]) <= LOUDEST) continue;
    samples[k] = 0;
    repaired++;
  }
  return repaired;
}
