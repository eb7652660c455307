// Recordings that are not WAV files, decoded by the browser, which needs to know the sample rate to keep it.

const MAX_BYTES = 1.5e9; // of decoded samples, which lie in memory as a whole
const MPEG_RATES = { 3: [44100, 48000, 32000], 2: [22050, 24000, 16000], 0: [11025, 12000, 8000] };
const ELSE = "convert it to WAV, or use the command hushwork denoise";

/** The sample rate in the first bytes of a FLAC, Ogg or MP3 file; 48 kHz for others. */
function sampleRateOf(bytes) {
  const text = String.fromCharCode(...bytes.subarray(0, 64));
  if (text.startsWith("fLaC")) return (bytes[18] << 12) | (bytes[19] << 4) | (bytes[20] >> 4);
  const vorbis = text.indexOf("\x01vorbis");
  if (vorbis > 0) return new DataView(bytes.buffer, bytes.byteOffset).getUint32(vorbis + 12, true);
  let start = 0;
  if (text.startsWith("ID3")) start = 10 + ((bytes[6] << 21) | (bytes[7] << 14) | (bytes[8] << 7) | bytes[9]);
  const [first, second, third] = bytes.subarray(start, start + 3);
  if (first === 0xff && (second & 0xe6) === 0xe2) return MPEG_RATES[(second >> 3) & 3]?.[(third >> 2) & 3] ?? 48000;
  return 48000;
}

function durationOf(file) {
  return new Promise((resolve) => {
    const player = document.createElement("video");
    player.preload = "metadata";
    const end = (duration) => {
      URL.revokeObjectURL(player.src);
      resolve(duration);
    };
    player.onloadedmetadata = () => end(Number.isFinite(player.duration) ? player.duration : 0);
    player.onerror = () => end(0);
    player.src = URL.createObjectURL(file);
  });
}

/** An audio or video file → {channels, rate}. */
export async function decode(file) {
  const rate = sampleRateOf(new Uint8Array(await file.slice(0, 2 ** 20).arrayBuffer()));
  const durationS = await durationOf(file);
  if (durationS * rate * 2 * 4 > MAX_BYTES) {
    throw new Error(`it is too long to be decoded in a browser (${Math.round(durationS / 60)} minutes); ${ELSE}`);
  }
  let audio;
  try {
    audio = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`this browser cannot decode it; ${ELSE}`);
  }
  return { rate, channels: Array.from({ length: audio.numberOfChannels }, (_, c) => audio.getChannelData(c)) };
}
