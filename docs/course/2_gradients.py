"""
2. Gradients that vanish and explode
====================================

Training asks how an output depends on an input many frames earlier. By the chain rule the answer is a product with one factor for each
frame between them: the matrix U times the slope of tanh. If the factors are smaller than one, the product dies out: the gradient
*vanishes*, and the network does not learn long dependencies. If they are larger, it *explodes*, and training jumps away.
"""

import matplotlib.pyplot as plt
import torch

# %%
# The product alone
# -----------------
# Numbers first: a factor of 0.9, and one of 1.1, over a second of speech (62 frames of 16 ms).

print(f"0.9 to the power 62 is {0.9**62:.4f}; 1.1 to the power 62 is {1.1**62:.0f}")

# %%
# In a network
# ------------
# A layer of 64 units whose recurrent matrix is a rotation times a factor. We ask how much the last output depends on the input
# d frames earlier: the norm of the gradient.

FRAMES, UNITS = 100, 64


def gradient_by_distance(factor):
    torch.manual_seed(0)
    layer = torch.nn.RNN(UNITS, UNITS, batch_first=True)
    with torch.no_grad():
        torch.nn.init.orthogonal_(layer.weight_hh_l0, gain=factor)
        layer.weight_ih_l0.mul_(1e-3)  # small states, where tanh is nearly a straight line
        layer.bias_ih_l0.zero_()
        layer.bias_hh_l0.zero_()
    x = torch.randn(4, FRAMES, UNITS, requires_grad=True)
    output, _ = layer(x)
    output[:, -1].sum().backward()
    norms = x.grad.norm(dim=-1).mean(0).flip(0)  # entry d: d frames before the last
    return norms / norms[0]


plt.figure(figsize=(8, 4))
for factor in (0.9, 1.0, 1.1):
    relative = gradient_by_distance(factor)
    plt.semilogy(relative, label=f"recurrent matrix {factor} times a rotation")
    print(f"{factor}: after 50 frames {float(relative[50]):.4g} of the gradient")
plt.xlabel("frames back")
plt.ylabel("gradient relative to the last frame's")
plt.legend()
plt.tight_layout()

# %%
# The factor 1 looks ideal, but it cannot be held: each training step changes U, and where states grow, the slope of tanh falls
# below 1. Three remedies follow in this course: clipping (lesson 3) against explosion, gates (lesson 4) and slow clocks (lesson 6)
# against vanishing.
#
# Exercise
# --------
# With a factor of 0.9, after how many frames is less than a thousandth of the gradient left?
#
# Answer
# ------
# Solve 0.9 to the power d < 0.001: d > log 0.001 / log 0.9 = 65.6. The network agrees:

relative = gradient_by_distance(0.9)
print("first frame below a thousandth:", int((relative < 1e-3).nonzero()[0]))
assert 62 <= int((relative < 1e-3).nonzero()[0]) <= 67
