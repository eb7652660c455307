"""
7. A complete example: from arrays of magnitudes to audio
=========================================================

Now all of it together, as in the Keras tutorial that this project grew out of: stacked LSTMs predict clean magnitudes from noisy ones.

- input: log magnitudes of noisy speech, mean 0 and deviation 1 in each bin, shape (samples, frames, bins);
- target: magnitudes of the clean speech, compressed and scaled to [0, 1];
- network: two LSTM layers, dropout, one dense layer with a sigmoid for each frame;
- loss: mean squared error; optimiser: Adam, gradients clipped at norm 1.

It is not the best way to denoise (the models of hushwork predict a mask and read recordings of any level), but the simplest.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from terminal import FOLDER, run
from torch import nn

from hushwork import SequencePredictor, StackedRNN
from hushwork.data.stft_arrays import Scaling

# %%
# The arrays
# ----------
# ``hushwork prepare stft-arrays`` mixes speech and noise of the starter corpus and writes the arrays. 192 mixtures of a second are few; the
# tutorial had more than 10,000.

run("hushwork prepare stft-arrays arrays --samples 192 --seconds 1", last_lines=1)
noisy, clean, phase = (np.load(FOLDER / "arrays" / f"{name}.npy") for name in ("noisy", "clean", "phase"))
scaling = Scaling.load(FOLDER / "arrays")
print("noisy", noisy.shape, "clean", clean.shape)

# %%
# The last tenth validates, as ``validation_split=0.1`` does in Keras.

inputs, targets = torch.from_numpy(noisy), torch.from_numpy(clean)
first_valid = int(0.9 * len(inputs))

# %%
# The network and its training
# ----------------------------

torch.manual_seed(0)
network = SequencePredictor(
    input_size=257,
    output_size=257,
    activation="sigmoid",
    recurrence=lambda input_size: StackedRNN(
        input_size=input_size, hidden_size=64, cell="lstm", num_layers=2, dropout=0.1
    ),
)
optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
training, validation = [], []
for _ in range(16):
    network.train()
    for batch in torch.randperm(first_valid).split(16):
        loss = nn.functional.mse_loss(network(inputs[batch])[0], targets[batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    training.append(float(loss.detach()))
    network.eval()
    with torch.no_grad():
        validation.append(float(nn.functional.mse_loss(network(inputs[first_valid:])[0], targets[first_valid:])))

plt.figure(figsize=(8, 3))
plt.plot(range(1, 17), training, label="training, last batch")
plt.plot(range(1, 17), validation, label="validation")
plt.xlabel("epoch")
plt.ylabel("mean squared error")
plt.legend()
plt.tight_layout()

# %%
# The result, and back to audio
# -----------------------------
# The predicted magnitude and the noisy phase give a spectrum; the inverse transform gives a wave.

with torch.no_grad():
    predicted = network(inputs[first_valid:])[0].numpy()
audio = scaling.audio(predicted, phase[first_valid:])
print("audio:", audio.shape, "samples at", scaling.sample_rate, "Hz")

figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
for axis, (title, picture) in zip(
    axes, {"noisy": noisy[first_valid], "predicted": predicted[0], "clean": clean[first_valid]}.items(), strict=True
):
    axis.imshow(picture.T, origin="lower", aspect="auto", cmap="magma")
    axis.set(title=title, xlabel="frame")

# %%
# The same training at full length is one command; its network is `experiment=tutorial`, and ``data.last_only=true``,
# ``model.masker.recurrence.cell=gru`` or ``model.masker.recurrence.bidirectional=true`` are its variants::
#
#     python train.py experiment=tutorial data=stft_arrays data.noisy=arrays/noisy.npy data.clean=arrays/clean.npy
#
# Exercise
# --------
# The code printed in the Keras tutorial sets ``y_train = X[:10000]``: the target is the noisy input. What would the network learn?
#
# Answer
# ------
# To copy its input: it would never see clean speech, and its error would fall all the same. A falling loss alone shows nothing; compare
# with something that must be beaten, here the best constant, the mean of each bin.

constant = targets[:first_valid].mean(dim=(0, 1))
baseline = float(((targets[first_valid:] - constant) ** 2).mean())
print(f"network {validation[-1]:.4f}, best constant {baseline:.4f}")
assert validation[-1] < baseline
