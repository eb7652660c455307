"""
6. The clockwork RNN
====================

A clockwork layer (Koutník, Greff, Gomez, Schmidhuber, *A Clockwork RNN*, ICML 2014, https://arxiv.org/abs/1402.3511) divides its units
into modules with periods 1, 2, 4, 8 … In frame t only those modules are updated whose period divides t; the others hold their value. A
module reads the input, itself and the slower modules.

A module of period 8 crosses 80 frames in ten steps. So its gradient has ten factors instead of eighty, and it costs an eighth.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
from torch import nn

import hushwork
from hushwork import ClockworkPredictor, ClockworkRNN, SequencePredictor, StackedRNN

# %%
# The layer as a loop
# -------------------
# Two modules, of 3 units with period 1 and 2 units with period 4. First hushwork's layer:

torch.manual_seed(0)
PERIODS, SIZES, INPUTS = (1, 4), (3, 2), 5
layer = ClockworkRNN(input_size=INPUTS, hidden_sizes=SIZES, periods=PERIODS, backend="cascade")
x = torch.randn(1, 12, INPUTS)
with torch.no_grad():
    output, _ = layer(x)
for name, parameter in layer.named_parameters():
    print(f"{name:32}{tuple(parameter.shape)}")

# %%
# The fast module's input weights have 5 + 2 columns: the input, and the slow module. As a loop over frames, straight from the paper:

fast, slow = layer.clocked
fast_state, slow_state, frames = torch.zeros(3), torch.zeros(2), []
with torch.no_grad():
    for t, frame in enumerate(x[0]):
        seen = torch.cat([frame, slow_state])  # the slow module as it stood one frame earlier
        if t % 4 == 0:
            bias = slow.bias_ih_l0 + slow.bias_hh_l0
            slow_state = torch.tanh(slow.weight_ih_l0 @ frame + slow.weight_hh_l0 @ slow_state + bias)
        bias = fast.bias_ih_l0 + fast.bias_hh_l0
        fast_state = torch.tanh(fast.weight_ih_l0 @ seen + fast.weight_hh_l0 @ fast_state + bias)
        frames.append(torch.cat([fast_state, slow_state]))
print("largest difference:", float((torch.stack(frames) - output[0]).abs().max()))
assert torch.allclose(torch.stack(frames), output[0], atol=1e-6)

# %%
# The first columns of the output are those of the fast module, the last of the slow one, which changes at frames 0, 4 and 8 only:

plt.figure(figsize=(8, 3))
plt.step(range(12), output[0, :, :3], where="post", color="tab:blue", alpha=0.6)
plt.step(range(12), output[0, :, 3:], where="post", color="tab:red")
plt.xlabel("frame")
plt.ylabel("state (blue: period 1, red: period 4)")
plt.tight_layout()
held = (output[0, 1:, 3:] == output[0, :-1, 3:]).all(dim=1)
print("frames in which the slow module held its value:", (held.nonzero()[:, 0] + 1).tolist())

# %%
# The paper's first experiment
# ----------------------------
# A network without any input learns to generate a piece of audio. What it outputs at frame 300 it must carry through all frames before.
# Here: 160 samples of a recording, networks of about 500 parameters, 100 steps.

audio, _ = soundfile.read(Path(hushwork.__file__).parent / "data" / "example.flac", dtype="float32")
start = int(np.argmax(np.abs(audio)))
target = torch.from_numpy(audio[start : start + 160])[None, :, None]
target = target / target.abs().max()
silence = torch.zeros_like(target)


def learn(network, steps=100):
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = nn.functional.mse_loss(network(silence)[0], target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        said = network(silence)[0]
    return said[0, :, 0], float(((said - target) ** 2).mean() / target.var())


torch.manual_seed(1)
networks = {
    "clockwork RNN": ClockworkPredictor(
        input_size=1, output_size=1, periods=[1, 2, 4, 8, 16, 32, 64], hidden_sizes=4, single_bias=True
    ),
    "simple RNN": SequencePredictor(
        input_size=1,
        output_size=1,
        recurrence=lambda input_size: StackedRNN(input_size=input_size, hidden_size=21, cell="rnn", num_layers=1),
    ),
}
plt.figure(figsize=(8, 3))
plt.plot(target[0, :, 0], color="black", label="target")
errors = {}
for name, network in networks.items():
    said, errors[name] = learn(network)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    plt.plot(said, label=name)
    print(f"{name:14} {parameters} parameters, error relative to the target's variance {errors[name]:.3f}")
plt.xlabel("sample")
plt.legend()
plt.tight_layout()

# %%
# The whole experiment, with 50 networks of each kind and size, and the second one (spoken words), are in :doc:`/clockwork_paper`, with
# what of the paper reproduces and what does not.
#
# Exercise
# --------
# Modules of 64 units each have periods 1, 2, 4 and 8. How many module updates are there in 8 frames, and what share is that of a plain
# layer, which updates all four parts in each frame?
#
# Answer
# ------
# 8 + 4 + 2 + 1 = 15 of 32: 47 %.

updates = sum(frame % period == 0 for frame in range(8) for period in (1, 2, 4, 8))
print(updates, "of", 4 * 8)
assert updates == 15
assert (held.nonzero()[:, 0] + 1).tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
assert errors["clockwork RNN"] < errors["simple RNN"]
