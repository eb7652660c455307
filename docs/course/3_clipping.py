"""
3. Clipping by norm and by value
================================

A gradient that explodes throws the weights far away in one step. *Clipping* bounds it before the step, in one of two ways:

- by **norm**: if the whole gradient is longer than a limit, shorten it to the limit; its direction stays;
- by **value**: cut each component on its own to [-limit, limit]; the direction changes.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

# %%
# What both do to one gradient
# ----------------------------

gradient = torch.tensor([3.0, 0.4])
weight = torch.nn.Parameter(torch.zeros(2))

weight.grad = gradient.clone()
torch.nn.utils.clip_grad_norm_([weight], 1.0)
print("by norm: ", weight.grad.numpy().round(3), "length", round(float(weight.grad.norm()), 3))

weight.grad = gradient.clone()
torch.nn.utils.clip_grad_value_([weight], 1.0)
print("by value:", weight.grad.numpy().round(3), "length", round(float(weight.grad.norm()), 3))

# %%
# A training that begins by exploding
# -----------------------------------
# A tanh layer with a recurrent matrix of 1.5 times a rotation learns the running sum of its input, with plain gradient descent.


def train(clip, steps=120):
    torch.manual_seed(0)
    layer, readout = torch.nn.RNN(1, 64, batch_first=True), torch.nn.Linear(64, 1)
    torch.nn.init.orthogonal_(layer.weight_hh_l0, gain=1.5)
    parameters = [*layer.parameters(), *readout.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    losses, norms = [], []
    for _ in range(steps):
        x = torch.randn(32, 60, 1)
        loss = torch.nn.functional.mse_loss(readout(layer(x)[0]), x.cumsum(1).tanh())
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in parameters])))
        clip(parameters)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, norms


runs = {
    "no clipping": train(lambda parameters: None),
    "by norm, 1.0": train(lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, 1.0)),
    "by value, 0.1": train(lambda parameters: torch.nn.utils.clip_grad_value_(parameters, 0.1)),
}
figure, (above, below) = plt.subplots(2, sharex=True, figsize=(8, 5), layout="constrained")
for name, (losses, norms) in runs.items():
    above.plot(losses, label=name)
    below.semilogy(norms)
    print(f"{name:14} largest loss {max(losses):.2f}, at the end {np.mean(losses[-20:]):.2f}")
above.set_ylabel("loss")
above.legend()
below.set(ylabel="gradient norm before clipping", xlabel="step")

# %%
# Without clipping the loss jumps; clipped, it does not. In hushwork the default is clipping by norm at 1, and the norm before
# clipping is logged as ``train/grad_norm``::
#
#     python train.py experiment=rnn trainer.gradient_clip_val=1.0 trainer.gradient_clip_algorithm=norm
#     python train.py experiment=rnn trainer.gradient_clip_val=0.1 trainer.gradient_clip_algorithm=value
#
# Exercise
# --------
# A gradient has 10,000 components of 0.02 each. Does clipping by norm at 1 change it? Does clipping by value at 0.1?
#
# Answer
# ------
# Its norm is 0.02 · √10,000 = 2, so clipping by norm halves it. No component exceeds 0.1, so clipping by value leaves it.

weight = torch.nn.Parameter(torch.zeros(10_000))
weight.grad = torch.full((10_000,), 0.02)
print("norm", float(torch.nn.utils.clip_grad_norm_([weight], 1.0)), "becomes", float(weight.grad.norm()))
assert max(runs["by norm, 1.0"][0]) < max(runs["no clipping"][0])
assert abs(float(weight.grad.norm()) - 1) < 1e-3
