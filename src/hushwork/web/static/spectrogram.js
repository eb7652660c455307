const [COLUMNS, ROWS] = [480, 96];

/** Pictures of the sound before and after, collected frame by frame: the peak power within each of its cells. */
export class Spectrogram {
  constructor(model, durationS, { mix, noiseOnly }) {
    const numFrames = Math.ceil((durationS * model.sampleRate) / model.hop) + 2;
    this.columns = Math.min(COLUMNS, numFrames);
    this.framesPerColumn = numFrames / this.columns;
    this.bins = model.fftSize / 2;
    this.rows = Math.min(ROWS, this.bins);
    this.shares = noiseOnly ? [mix, -mix] : [1 - mix, mix];
    this.frame = 0;
    this.powers = [0, 1].map(() => new Float32Array(this.columns * this.rows));
  }

  add({ frames: [noisy], clean }) {
    const column = Math.min(this.columns - 1, Math.floor(this.frame++ / this.framesPerColumn));
    const [a, b] = this.shares;
    const [before, after] = this.powers;
    for (let bin = 0; bin < this.bins; bin++) {
      const at = column * this.rows + Math.floor((bin * this.rows) / this.bins);
      const [re, im] = [2 * bin, 2 * bin + 1];
      before[at] = Math.max(before[at], noisy[re] ** 2 + noisy[im] ** 2);
      after[at] = Math.max(after[at], (a * noisy[re] + b * clean[re]) ** 2 + (a * noisy[im] + b * clean[im]) ** 2);
    }
  }

  /** Levels 0 (75 dB below the loudest cell of the input, or lower) to 255, column after column from the lowest row. */
  images() {
    const loudest = this.powers[0].reduce((a, b) => Math.max(a, b), 1e-12);
    const [before, after] = this.powers.map((powers) =>
      Uint8Array.from(powers, (power) => 255 * Math.max(0, 1 + Math.log10(power / loudest + 1e-20) / 7.5)),
    );
    return { columns: this.columns, rows: this.rows, before, after };
  }
}
