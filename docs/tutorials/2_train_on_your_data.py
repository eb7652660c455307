"""
2. Train on your own data, and adapt a shipped model
====================================================

You need two folders: one with clean speech, one with noise. The more of both, the better: hours rather than minutes, many speakers, and
the noises of the place where the denoiser will work.
"""

import json

import numpy as np
import soundfile
from terminal import FOLDER, run

import hushwork

# %%
# The folders
# -----------
# Here we take some files of the starter corpus as if they were yours. A folder for each speaker lets the preparer keep speakers apart.

starter = f"{hushwork.__path__[0]}/data/starter"
run(
    f"""for speaker in af_alloy af_bella af_heart am_michael bf_emma bm_lewis; do
  mkdir -p speech/$speaker; cp {starter}/speech/*/"$speaker"_0[12].ogg speech/$speaker/; done
mkdir noise; cp {starter}/noise/train/[c-f]*_01.ogg {starter}/noise/valid/*.ogg noise/""",
    last_lines=0,
)
run("ls speech noise | head -12")

# %%
# The manifest
# ------------
# A preparer reads all files, skips and names those that cannot be used, divides speakers and noise sources among training,
# validation and test, and writes one line for each recording.

run("hushwork prepare folders --speech speech --noise noise", last_lines=8)
run("head -2 data/folders/manifest.jsonl")

# %%
# A training
# ----------
# Four steps show that all works; give ``trainer.max_steps=100000`` and hours for a real one. ``experiment=smoke`` is a tiny setting; for a
# real training choose ``experiment=cwgru``, or ``experiment=default`` for what the shipped model has.

run("hushwork train experiment=smoke data=folders 'metrics=[si_sdr]'", last_lines=12)

# %%
# The run's folder holds the model, the scores, checkpoints and examples. ``--model last`` is the newest model below ``runs/``.

model = next((FOLDER / "runs").rglob("model/config.json"))
run(f"ls {model.parent.parent.relative_to(FOLDER)} {model.parent.relative_to(FOLDER)}")
print("parameters:", json.loads(model.read_text())["parameters"])

# %%
# The same command resumes a training that was stopped, with ``ckpt_path=last``.
#
# Adapt a shipped model to your noise
# -----------------------------------
# A shipped model knows much already. ``experiment=adapt`` trains it on with the noise of your place; half of the mixtures are of the
# starter corpus, so that it keeps what it knows. Your noise is enough: speech is taken from there too, unless you give ``--speech``.
# Record some minutes in several files. Here a hammer stands in.

rng = np.random.default_rng(0)
(FOLDER / "workshop/hammer").mkdir(parents=True)
for number in range(4):
    hits = rng.standard_normal(48_000) * np.exp(-(np.arange(48_000) % rng.integers(4000, 9000)) / 400)
    soundfile.write(FOLDER / f"workshop/hammer/{number}.flac", 0.1 * hits, 16_000)

run("hushwork prepare folders --noise workshop --out data/workshop", last_lines=8)

# %%
# One step here; as the experiment is set, 150 steps take some minutes::
#
#     hushwork prepare folders --noise workshop
#     hushwork train experiment=adapt
#
# ``init_from=small``, ``offline`` or a folder adapts another model, with the network that it has.

run(
    "hushwork train experiment=adapt init_from=small data.manifest=data/workshop/manifest.jsonl trainer.max_steps=1 data.batch_size=2 "
    "data.mixing.segment_s=1 data.mixtures_per_epoch=4 data.num_valid=2 data.num_workers=0 test=false num_examples=0 "
    "callbacks.examples=null scheduler.build.warmup_steps=0 scheduler.build.decay_steps=1",
    last_lines=6,
)

# %%
# Use it, and measure it
# ----------------------
# Compare the shipped model and yours on your own test split, which no training has seen: ``hushwork evaluate data=folders``, then the same
# with ``--model last``. With noise alone: ``hushwork evaluate experiment=adapt data.replay_share=0``.

run(f"hushwork denoise {starter}/../example.flac -o clean.flac --model last")

# %%
# Other corpora, experiments and losses: :doc:`/train`. Several GPUs: :doc:`/multi-gpu`. Millions of recordings: :doc:`/data`.
