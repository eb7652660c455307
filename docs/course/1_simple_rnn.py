"""
1. The simple recurrent network
===============================

A recurrent layer reads a sequence frame by frame and keeps a vector, its *hidden state*. In each frame it computes the new state from
the frame and the old state, always with the same weights:

    h(t) = tanh(W x(t) + U h(t-1) + b)

Since the weights do not depend on t, a sequence may have any length. Since the state passes on, the output at frame t can depend on
everything before it. Speech needs that: whether a burst of energy is a consonant or a door depends on what came before.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import soundfile
import torch

import hushwork

# %%
# A sequence to read
# ------------------
# The starter corpus in the package has speech. Its short-time spectrum is a sequence of frames: one column every 16 ms.

starter = Path(hushwork.__file__).parent / "data" / "starter"
audio, rate = soundfile.read(starter / "speech/test/bf_emma_02.ogg", dtype="float32")
window = torch.hann_window(512)
spectrum = torch.stft(torch.from_numpy(audio), 512, hop_length=256, window=window, return_complex=True)
frames = torch.log(spectrum.abs() + 1e-3).T  # (frames, bins)
print(f"{len(audio) / rate:.1f} s of speech are {frames.shape[0]} frames of {frames.shape[1]} bins")

plt.figure(figsize=(8, 3))
plt.imshow(frames.T, origin="lower", aspect="auto", cmap="magma")
plt.xlabel("frame")
plt.ylabel("bin")
plt.tight_layout()

# %%
# The layer as a loop
# -------------------
# The equation above, line by line. This is all that a simple recurrent layer does.

torch.manual_seed(0)
layer = torch.nn.RNN(input_size=257, hidden_size=16, batch_first=True)
W, U = layer.weight_ih_l0.detach(), layer.weight_hh_l0.detach()
b = (layer.bias_ih_l0 + layer.bias_hh_l0).detach()

state = torch.zeros(16)
states = []
for frame in frames:
    state = torch.tanh(W @ frame + U @ state + b)
    states.append(state)
states = torch.stack(states)

# %%
# PyTorch's layer computes the same:

with torch.no_grad():
    theirs, last = layer(frames[None])
print("largest difference:", float((theirs[0] - states).abs().max()))
assert torch.allclose(theirs[0], states, atol=1e-4)

# %%
# The state is a memory
# ---------------------
# Read the sequence in two pieces. With the state handed on, the result is the same; without it, the second piece begins with an
# empty memory. A denoiser of live streams does exactly this with every chunk.

with torch.no_grad():
    first, handed_on = layer(frames[None, :100])
    second, _ = layer(frames[None, 100:], handed_on)
    forgetful, _ = layer(frames[None, 100:])
print("with the state:   ", float((second[0] - states[100:]).abs().max()))
print("without the state:", float((forgetful[0] - states[100:]).abs().max()))

# %%
# Several layers
# --------------
# :class:`hushwork.StackedRNN` puts such layers on top of each other: the states of one are the frames of the next.

stack = hushwork.StackedRNN(input_size=257, hidden_size=16, cell="rnn", num_layers=2)
output, state = stack(frames[None])
print(tuple(output.shape), "is (recordings, frames, units)")

# %%
# Exercise
# --------
# How many parameters has the layer above, and how does the number grow with the length of the recording?
#
# Answer
# ------
# W has 16 · 257, U has 16 · 16, and PyTorch has two biases of 16, which it adds. The length does not matter, since all frames
# share the weights.

count = sum(parameter.numel() for parameter in layer.parameters())
print(count)
assert count == 16 * 257 + 16 * 16 + 2 * 16
