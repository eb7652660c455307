// The short-time Fourier transform of a stream, hop by hop, as `hushwork.audio.stft.StreamingStft` computes it.

function primeFactors(n) {
  const factors = [];
  for (let factor = 2; n > 1; factor++) {
    for (; n % factor === 0; n /= factor) factors.push(factor);
  }
  return factors;
}

/** Fourier transform of real signals of even length n: n samples ↔ n / 2 + 1 pairs of real and imaginary parts. */
export class RealFft {
  constructor(n) {
    this.half = n / 2;
    this.factors = primeFactors(this.half);
    this.turns = Float64Array.from({ length: 2 * n }, (_, k) =>
      k % 2 ? Math.sin((Math.PI * (k - 1)) / n) : Math.cos((Math.PI * k) / n),
    ); // exp(2 π i k / n)
    this.values = [new Float64Array(n), new Float64Array(n)];
  }

  forward(samples, spectrum) {
    const { half, turns } = this;
    this.values[0].set(samples);
    const z = this.#transform();
    for (let k = 0; k <= half; k++) {
      const [at, mirrored] = [2 * (k % half), 2 * ((half - k) % half)];
      const evenReal = (z[at] + z[mirrored]) / 2;
      const evenImaginary = (z[at + 1] - z[mirrored + 1]) / 2;
      const oddReal = (z[at + 1] + z[mirrored + 1]) / 2;
      const oddImaginary = (z[mirrored] - z[at]) / 2;
      const [c, s] = [turns[2 * k], -turns[2 * k + 1]];
      spectrum[2 * k] = evenReal + c * oddReal - s * oddImaginary;
      spectrum[2 * k + 1] = evenImaginary + c * oddImaginary + s * oddReal;
    }
  }

  inverse(spectrum, samples) {
    const { half, turns } = this;
    const z = this.values[0];
    for (let k = 0; k < half; k++) {
      const [at, mirrored] = [2 * k, 2 * (half - k)];
      // The imaginary parts of the lowest and the highest bin belong to no real signal.
      const imaginary = k ? spectrum[at + 1] : 0;
      const mirroredImaginary = k ? spectrum[mirrored + 1] : 0;
      const evenReal = (spectrum[at] + spectrum[mirrored]) / 2;
      const evenImaginary = (imaginary - mirroredImaginary) / 2;
      const real = (spectrum[at] - spectrum[mirrored]) / 2;
      const other = (imaginary + mirroredImaginary) / 2;
      const [c, s] = [turns[2 * k], turns[2 * k + 1]];
      const [oddReal, oddImaginary] = [real * c - other * s, real * s + other * c];
      // Conjugated, so that the forward transform computes the inverse.
      z[at] = evenReal - oddImaginary;
      z[at + 1] = -(evenImaginary + oddReal);
    }
    const w = this.#transform();
    for (let k = 0; k < half; k++) {
      samples[2 * k] = w[2 * k] / half;
      samples[2 * k + 1] = -w[2 * k + 1] / half;
    }
  }

  /** Complex transform of half the length, of what lies in `values[0]`, by Stockham's self-sorting passes. */
  #transform() {
    const { half, turns } = this;
    let [from, to] = this.values;
    let done = 1; // length of the transforms that are complete
    for (const factor of this.factors) {
      const length = half / (done * factor);
      for (let block = 0; block < done; block++) {
        for (let place = 0; place < length; place++) {
          for (let part = 0; part < factor; part++) {
            let real = 0;
            let imaginary = 0;
            for (let k = 0; k < factor; k++) {
              const angle = (k * (block + done * part) * length * 2) % (2 * half);
              const c = turns[2 * angle];
              const s = -turns[2 * angle + 1];
              const at = 2 * (place + length * (k + factor * block));
              real += from[at] * c - from[at + 1] * s;
              imaginary += from[at] * s + from[at + 1] * c;
            }
            const at = 2 * (place + length * (block + done * part));
            to[at] = real;
            to[at + 1] = imaginary;
          }
        }
      }
      done *= factor;
      [from, to] = [to, from];
    }
    return from;
  }
}

/** Frames of one channel: give it hops, it gives spectra. */
export class Analysis {
  constructor({ fftSize, hop, window }) {
    this.window = window;
    this.hop = hop;
    this.fft = new RealFft(fftSize);
    this.samples = new Float32Array(fftSize);
    this.windowed = new Float32Array(fftSize);
  }

  /** The next hop of samples → the spectrum of the frame that ends with it. */
  run(hopOfSamples, spectrum) {
    const { samples, windowed, window } = this;
    samples.copyWithin(0, this.hop);
    samples.set(hopOfSamples, samples.length - this.hop);
    for (let k = 0; k < samples.length; k++) windowed[k] = samples[k] * window[k];
    this.fft.forward(windowed, spectrum);
  }
}

/** Samples of one channel from frames, by overlap-add; the first frames count for as much as all later ones. */
export class Synthesis {
  constructor({ fftSize, hop, window }) {
    this.window = window;
    this.hop = hop;
    this.frames = 0;
    this.fft = new RealFft(fftSize);
    this.frame = new Float32Array(fftSize);
    this.sum = new Float32Array(fftSize);
    // The sum of squared windows over a hop, by how many frames reach it.
    this.weights = [];
    let sum = new Float64Array(hop);
    for (let start = 0; start < fftSize; start += hop) {
      sum = sum.map((each, k) => each + window[start + k] ** 2);
      this.weights.push(Float32Array.from(sum, (each) => Math.max(each, 1.1754944e-38)));
    }
  }

  /** The next spectrum → a hop of finished samples. */
  run(spectrum, finished) {
    this.fft.inverse(spectrum, this.frame);
    this.add(this.frame, 1, finished);
  }

  /** The same for a frame of samples that is to be multiplied by a factor. */
  add(frame, factor, finished) {
    const { sum, window, hop } = this;
    const weights = this.weights[Math.min(this.frames++, this.weights.length - 1)];
    for (let k = 0; k < sum.length; k++) sum[k] += frame[k] * window[k] * factor;
    for (let k = 0; k < hop; k++) finished[k] = sum[k] / weights[k];
    sum.copyWithin(0, hop);
    sum.fill(0, sum.length - hop);
  }
}
