"""
4. Sweep and compare runs
=========================

With ``-m`` one command trains every combination of the values that you list. ``hushwork runs`` puts the runs side by side.
"""

from terminal import FOLDER, run

# %%
# Two cells
# ---------
# ``experiment=smoke`` is a training of four steps, so the scores below say nothing about the cells; they show what you will see.

SMALL = "experiment=smoke 'metrics=[si_sdr,estoi]'"
run(f"hushwork train -m {SMALL} model=gru,cwgru", last_lines=3)

# %%
# The same command again trains nothing: every combination is there. After an interruption it would do the rest.

run(f"hushwork train -m {SMALL} model=gru,cwgru", last_lines=6)

# %%
# Side by side
# ------------

run("hushwork runs runs/sweeps --sort si_sdr")

# %%
# Two networks that denoise the same mixtures can be compared mixture by mixture, which tells far smaller differences apart than two means:

gru = next((FOLDER / "runs/sweeps").glob("*model=gru*"))
run(f"hushwork runs runs/sweeps --against {gru.relative_to(FOLDER)}")

# %%
# Searches with Optuna, several GPUs, Ray and Slurm: :doc:`/sweeps`. ``tensorboard --logdir runs`` shows the curves.
