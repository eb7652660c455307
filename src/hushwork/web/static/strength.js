/**
 * How much of the noise is removed.
 * @typedef {{mix: number, maxAttenuationDb: number | null, noiseOnly: boolean}} Strength
 */
export const FULL = { mix: 1, maxAttenuationDb: null, noiseOnly: false };

