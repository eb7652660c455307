// Sound at another sample rate, in a stream: a windowed sinc, whose kernel is tabulated for each phase.

/** The filter that `hushwork denoise` uses too (soxr, high quality): flat to 91 % of the band, 6 ms of delay. */
export const EXACT = { cutoff: 0.47843591, beta: 13.04013, reach: 96.83368 };
/** For live sound: 2 ms of delay, flat to 84 % of the band. */
export const SHORT = { cutoff: 0.461, beta: 7.9, reach: 32 };

/** The modified Bessel function of the first kind and order 0. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

const commonDivisor = (a, b) => (b ? commonDivisor(b, a % b) : a);

const kernels = new Map(); // made once for all channels

/** For each phase the weights of the samples around it, from `side - 1` before it to `side` after it. */
function kernelOf({ cutoff, beta, reach }, numPhases, share, side) {
  const key = [cutoff, beta, reach, numPhases, share].join();
  if (kernels.has(key)) return kernels.get(key);
  const kernel = new Float32Array(numPhases * 2 * side);
  const scale = (share * 2 * cutoff) / bessel(beta);
  for (let phase = 0, at = 0; phase < numPhases; phase++) {
    for (let tap = 1 - side; tap <= side; tap++, at++) {
      const distance = (phase / numPhases - tap) * share;
      const inside = 1 - (distance / reach) ** 2;
      if (inside <= 0) continue;
      const angle = 2 * Math.PI * cutoff * distance;
      const sinc = Math.abs(angle) < 1e-9 ? 1 : Math.sin(angle) / angle;
      kernel[at] = scale * sinc * bessel(beta * Math.sqrt(inside));
    }
  }
  kernels.set(key, kernel);
  return kernel;
}

/** The sum of products of `count` numbers, four at a time. */
function product(x, atX, y, atY, count) {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  for (let k = 0; k < count; k += 4) {
    a += x[atX + k] * y[atY + k];
    b += x[atX + k + 1] * y[atY + k + 1];
    c += x[atX + k + 2] * y[atY + k + 2];
    d += x[atX + k + 3] * y[atY + k + 3];
  }
  return a + b + c + d;
}

/** Resamples one channel; what comes out is aligned with what went in and lags only as far as the kernel reaches. */
export class Resampler {
  /**
   * @param {number} from Hz, a whole number
   * @param {number} to Hz, a whole number
   * @param {{cutoff: number, beta: number, reach: number}} filter cutoff and reach relative to the lower rate
   * @param {number} maxBlock samples of the longest block
   */
  constructor(from, to, filter, maxBlock) {
    const divisor = commonDivisor(from, to);
    [this.up, this.down] = [to / divisor, from / divisor];
    const share = Math.min(from, to) / from; // of the lower rate in the rate of the input
    this.side = 2 * Math.ceil((filter.reach / share + 1) / 2); // even, so that taps can be taken four at a time
    this.kernel = kernelOf(filter, this.up, share, this.side);
    this.history = new Float32Array(2 * this.side + Math.ceil(this.down / this.up) + 1 + maxBlock);
    this.count = this.side - 1; // samples in the history; before the first one lie zeros
    this.phase = 0;
    this.output = new Float32Array(Math.ceil((this.history.length * this.up) / this.down) + 1);
  }

  /** The first `count` of `samples` → how many samples now lie in `output`. */
  push(samples, count) {
    const { history, kernel, side, up, down, output } = this;
    for (let k = 0; k < count; k++) history[this.count + k] = samples[k];
    this.count += count;
    let [start, made] = [0, 0];
    for (; start + 2 * side <= this.count; made++) {
      output[made] = product(kernel, this.phase * 2 * side, history, start, 2 * side);
      this.phase += down;
      start += Math.floor(this.phase / up);
      this.phase %= up;
    }
    history.copyWithin(0, start, this.count);
    this.count -= start;
    return made;
  }
}
