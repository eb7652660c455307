"""
4. Gates: LSTM and GRU
======================

LSTM and GRU let the network decide in each frame what to keep. A *gate* is a layer with a sigmoid: numbers between 0 (closed) and 1
(open) that multiply something.

**LSTM** has a second vector besides the hidden state, the cell c, which changes by addition::

    i = sigmoid(…)   how much new comes in          c(t) = f · c(t-1) + i · g
    f = sigmoid(…)   how much of the cell stays     h(t) = o · tanh(c(t))
    o = sigmoid(…)   how much is shown
    g = tanh(…)      the new content

Each … is W x(t) + U h(t-1) + b with weights of its own. **GRU** has two gates and no cell::

    r = sigmoid(…)   how much of the old state the new content sees
    z = sigmoid(…)   how much of the old state stays
    n = tanh(W x(t) + b + r · (U h(t-1) + c))
    h(t) = (1 - z) · n + z · h(t-1)
"""

import matplotlib.pyplot as plt
import torch

# %%
# Both as loops
# -------------
# In PyTorch the gates' weights stand below each other in one matrix, in the order i f g o and r z n.

INPUTS, UNITS = 8, 6
torch.manual_seed(0)
x = torch.randn(20, INPUTS)


def lstm_loop(layer, x):
    W, U = layer.weight_ih_l0, layer.weight_hh_l0
    b = layer.bias_ih_l0 + layer.bias_hh_l0
    h, c, outputs = torch.zeros(UNITS), torch.zeros(UNITS), []
    for frame in x:
        i, f, g, o = (W @ frame + U @ h + b).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs)


def gru_loop(layer, x):
    h, outputs = torch.zeros(UNITS), []
    for frame in x:
        xr, xz, xn = (layer.weight_ih_l0 @ frame + layer.bias_ih_l0).chunk(3)
        hr, hz, hn = (layer.weight_hh_l0 @ h + layer.bias_hh_l0).chunk(3)
        r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
        h = (1 - z) * (xn + r * hn).tanh() + z * h
        outputs.append(h)
    return torch.stack(outputs)


for kind, loop in ((torch.nn.LSTM, lstm_loop), (torch.nn.GRU, gru_loop)):
    layer = kind(INPUTS, UNITS)
    with torch.no_grad():
        difference = float((layer(x)[0] - loop(layer, x)).abs().max())
    print(f"{kind.__name__}: largest difference to PyTorch {difference:.1e}")
    assert difference < 1e-5

# %%
# Why gradients live longer
# -------------------------
# From c(t-1) to c(t) the factor is f: where the forget gate is open, it is close to 1, for as long as the network wants. We measure
# what lesson 2 measured, with the forget gate open (bias 3) as a trained network may have it.


def gradient_by_distance(layer, units=64, frames=100):
    torch.manual_seed(0)
    x = torch.randn(8, frames, units, requires_grad=True)
    layer(x)[0][:, -1].sum().backward()
    norms = x.grad.norm(dim=-1).mean(0).flip(0)
    return norms / norms[0]


torch.manual_seed(0)
layers = {"RNN": torch.nn.RNN(64, 64, batch_first=True), "GRU": torch.nn.GRU(64, 64, batch_first=True)}
layers["LSTM"] = torch.nn.LSTM(64, 64, batch_first=True)
layers["LSTM, forget gate open"] = torch.nn.LSTM(64, 64, batch_first=True)
with torch.no_grad():
    layers["LSTM, forget gate open"].bias_ih_l0[64:128] = 3.0

plt.figure(figsize=(8, 4))
left = {}
for name, layer in layers.items():
    left[name] = gradient_by_distance(layer)
    plt.semilogy(left[name], label=name)
    print(f"{name:24} after 20 frames {float(left[name][20]):.1e} of the gradient")
plt.ylim(1e-12, 10)
plt.xlabel("frames back")
plt.ylabel("gradient relative to the last frame's")
plt.legend()
plt.tight_layout()

# %%
# Exercise
# --------
# A tanh layer of H units and I inputs has H · (I + H) weights. How many have an LSTM and a GRU of the same size?
#
# Answer
# ------
# Four times and three times as many: one set for each gate and for the new content.


def weights(layer):
    return sum(parameter.numel() for name, parameter in layer.named_parameters() if name.startswith("weight"))


print({name: weights(layer) for name, layer in layers.items()})
assert weights(layers["LSTM"]) == 4 * weights(layers["RNN"])
assert weights(layers["GRU"]) == 3 * weights(layers["RNN"])
assert left["LSTM, forget gate open"][20] > 100 * left["RNN"][20]
