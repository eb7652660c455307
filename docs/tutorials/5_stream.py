"""
5. Stream in real time
======================

A stream takes chunks of any size and gives the same samples as the whole recording at once, 511 samples (32 ms) later.
"""

import time

import numpy as np
import soundfile
from terminal import FOLDER, run

import hushwork
from hushwork import DenoiserStream, Strength, denoise, load_pretrained

speech, rate = soundfile.read(f"{hushwork.__path__[0]}/data/starter/speech/test/bf_emma_02.ogg", dtype="float32")
noisy = (speech + 0.05 * np.random.default_rng(0).standard_normal(speech.size)).astype(np.float32)

# %%
# Chunks in, chunks out
# ---------------------
# A sound card gives 10 ms at a time: 160 samples at 16 kHz. A stream works at the model's sample rate.

denoiser = load_pretrained()
stream = DenoiserStream(denoiser)
print("latency:", stream.latency_samples, "samples,", 1000 * stream.latency_samples / denoiser.sample_rate, "ms")

played, milliseconds = [], []
for start in range(0, noisy.size, 160):
    begin = time.perf_counter()
    played.append(stream.process(noisy[start : start + 160]))
    milliseconds.append(1000 * (time.perf_counter() - begin))
played.append(stream.flush())
print([chunk.size for chunk in played[:8]], "samples came out of the first chunks")

# %%
# Once the first 511 samples are in, as many samples come out as go in. The whole is that of the recording at once:

whole = denoise(noisy, rate, denoiser)
difference = float(np.abs(np.concatenate(played) - whole).max())
print("largest difference:", difference)

# %%
# In time?
# --------
# A chunk of 10 ms must take less than 10 ms. On the machine that built this page:

print(f"median {np.median(milliseconds):.2f} ms, slowest of 100 {np.percentile(milliseconds, 99):.2f} ms")

# %%
# Change the strength on the way
# ------------------------------
# ``strength`` may be changed at any time, without a click.

stream = DenoiserStream(denoiser)
stream.process(noisy[:16000])
stream.strength = Strength(mix=0.5)
stream.process(noisy[16000:32000])
stream.strength = Strength(noise_only=True)
print("still in step:", stream.process(noisy[32000:40000]).size, "samples")

# %%
# Pipes
# -----
# Other programs can stream through standard input and output, at any rate: 16-bit samples in, 16-bit samples out.

soundfile.write(FOLDER / "noisy.raw", noisy, rate, subtype="PCM_16", format="RAW")
run(f"hushwork denoise - -o - --raw-rate {rate} < noisy.raw > clean.raw && ls -s --block-size=1 *.raw")

# %%
# ``hushwork live`` denoises the microphone with a level meter (extra ``live``). Models that read both directions, such as ``offline``, cannot
# stream.
assert difference < 1e-4
assert stream.latency_samples == 511
