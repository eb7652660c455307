/** Samples that wait, first in, first out. It grows when it must; a queue of the right capacity allocates nothing. */
export class Queue {
  constructor(capacity) {
    this.data = new Float32Array(capacity);
    this.start = 0;
    this.length = 0;
  }

  push(samples, count = samples.length) {
    if (this.start + this.length + count > this.data.length) this.#makeRoom(count);
    const end = this.start + this.length;
    for (let k = 0; k < count; k++) this.data[end + k] = samples[k];
    this.length += count;
  }

  /** Removes the next samples and copies them into an array. */
  shift(to, count = to.length) {
    for (let k = 0; k < count; k++) to[k] = this.data[this.start + k];
    this.start += count;
    this.length -= count;
  }

  #makeRoom(count) {
    const old = this.data;
    if (this.length + count > old.length / 2) this.data = new Float32Array(2 * (this.length + count));
    this.data.set(old.subarray(this.start, this.start + this.length));
    this.start = 0;
  }
}
