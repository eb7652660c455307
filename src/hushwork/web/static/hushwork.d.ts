/** How much of the noise is removed. */
export interface Strength {
  /** Share of the denoised sound, 0 (the input, unchanged) to 1 (default); the rest is the input. */
  mix: number;
  /** No frequency is turned down by more than this; null (default) sets no limit. */
  maxAttenuationDb: number | null;
  /** Gives what is removed instead of what remains. */
  noiseOnly: boolean;
}

/** Ten times a second. */
export interface Status {
  /** Largest absolute sample since the last status, before and after. */
  before: number;
  after: number;
  /** Share of the time that there is for computing; above 0.9 for half a second, sound is passed through. */
  load: number;
  /** Whether sound is passed through because the machine is too slow. */
  isPassing: boolean;
  /** Seconds that were passed through so far. */
  passedS: number;
}

export interface DenoiserNode extends AudioWorkletNode {
  /** Delay of the sound in seconds, the same for all settings. */
  readonly latencyS: number;
  /** Changes some of the settings within 20 ms, without a click. */
  setStrength(changes: Partial<Strength>): void;
  onstatus: ((status: Status) => void) | null;
  /** Disconnects the node and frees its memory. */
  close(): void;
}

/**
 * Makes a node that removes noise from speech. Several channels are mixed into one.
 *
 * @param context of any sample rate; needs a page from https or localhost
 * @param options.model "small" (default), "default", or the bytes of a model file that `hushwork web --model` wrote
 * @throws Error if the model cannot be loaded or read
 */
export function createDenoiser(
  context: BaseAudioContext,
  options?: { model?: string | ArrayBuffer; strength?: Partial<Strength> },
): Promise<DenoiserNode>;
