"""
1. Denoise your recordings
==========================

One file, a folder, a folder of videos; how strong; what was removed; how to check the result.
"""

import av
import matplotlib.pyplot as plt
import numpy as np
import soundfile
from terminal import FOLDER, run

import hushwork

# %%
# Something to denoise
# --------------------
# You have recordings of your own. Here we mix one from the starter corpus in the package: a voice and a vacuum cleaner.

starter = f"{hushwork.__path__[0]}/data/starter"
speech, rate = soundfile.read(f"{starter}/speech/test/bf_emma_02.ogg", dtype="float32")
noise, _ = soundfile.read(f"{starter}/noise/test/vacuum-c_01.ogg", dtype="float32")
noisy = speech + np.resize(noise, speech.shape)
(FOLDER / "recordings/monday").mkdir(parents=True)
soundfile.write(FOLDER / "noisy.wav", noisy, rate)
soundfile.write(FOLDER / "recordings/monday/a.flac", noisy, rate)

# %%
# One file
# --------

run("hushwork denoise noisy.wav -o clean.wav")

# %%
# ``check`` verifies what was promised of the output: sample rate, length, channels, no delay, no gain, tags.

run("hushwork check noisy.wav clean.wav")

# %%

clean, _ = soundfile.read(FOLDER / "clean.wav", dtype="float32")
figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for axis, (title, audio) in zip(axes, {"noisy.wav": noisy, "clean.wav": clean}.items(), strict=True):
    axis.specgram(audio, NFFT=512, noverlap=384, Fs=rate, vmin=-110, vmax=-40, cmap="magma")
    axis.set(title=title, xlabel="s")

# %%
# A folder of mp4
# ---------------
# Videos are denoised like audio: the picture is copied unchanged, the sound keeps its codec. Here is a film of a second, made of a grey
# picture and our recording:

with av.open(FOLDER / "recordings/talk.mp4", "w") as film:
    picture = film.add_stream("mpeg4", rate=10, width=64, height=48, pix_fmt="yuv420p")
    sound = film.add_stream("aac", rate=rate, layout="mono")
    for _ in range(10):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), format="rgb24")
        film.mux(picture.encode(frame))
    film.mux(picture.encode(None))
    samples = av.AudioFrame.from_ndarray(noisy[None, :rate], format="fltp", layout="mono")
    samples.sample_rate = rate
    film.mux(sound.encode(samples))
    film.mux(sound.encode(None))

run("hushwork denoise recordings -o cleaned && find cleaned -name '*.mp4' -o -name '*.flac'")

# %%
# Run the same command again, and nothing is done twice. After an interruption it does the rest.

run("hushwork denoise recordings -o cleaned")

# %%
# Less, or only the noise
# -----------------------
# ``--mix 0.8`` keeps a fifth of the noisy signal, which some listeners and recognisers prefer. ``--noise-only`` writes what is removed:
# if you hear words in it, denoise less.

run("hushwork denoise noisy.wav -o gentle.wav --mix 0.8 && hushwork denoise noisy.wav -o removed.wav --noise-only")

# %%
# In Python
# ---------

denoiser = hushwork.load_pretrained()
same = hushwork.denoise(noisy, rate, denoiser)
print("largest difference to the file:", float(np.abs(same - clean).max()))

# %%
# Every option: :doc:`/denoise`. Large collections: :doc:`/scale`. What is promised: :doc:`/contract`.
