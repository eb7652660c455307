const TOO_SLOW = 0.9; // share of the time that there is for computing
const PATIENCE_S = 0.5; // how long it may be exceeded
const PAUSE_S = 2; // how long sound is passed through before the denoiser tries again

/** Decides when a machine is too slow, so that sound must pass unchanged for a while. */
export class LoadWatch {
  constructor() {
    this.slowSince = null;
    this.passingSince = null;
  }

  get isPassing() {
    return this.passingSince !== null;
  }

  /** The load since the last report, at a time in seconds. */
  report(load, timeS) {
    if (this.isPassing) {
      if (timeS - this.passingSince >= PAUSE_S) this.passingSince = this.slowSince = null;
      return;
    }
    this.slowSince = load > TOO_SLOW ? this.slowSince ?? timeS : null;
    if (this.slowSince !== null && timeS - this.slowSince >= PATIENCE_S) this.passingSince = timeS;
  }
}
