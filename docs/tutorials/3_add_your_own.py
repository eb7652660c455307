"""
3. Add a loss, a cell, a head
=============================

Each of them has one place in the code.
"""

import torch
from torch import nn

from hushwork import StackedRNN, load_for_training, register_cell
from hushwork.losses import Loss
from hushwork.network.cells import CELLS
from hushwork.network.heads import HEADS

# %%
# A loss
# ------
# A subclass of ``hushwork.losses.Loss`` defines ``compare``: estimate and reference (recordings, samples), zero behind their lengths, give
# a number. The base class removes padding and computes in float32.


class MeanAbsoluteError(Loss):
    """Mean absolute difference of the waves, over valid samples."""

    def compare(self, estimate, reference, lengths):
        return (estimate - reference).abs().sum() / lengths.sum()


loss = MeanAbsoluteError()
reference = torch.randn(2, 16000)
lengths = torch.tensor([16000, 8000])
print("equal signals:", float(loss(reference, reference, lengths)))
print("silence:      ", float(loss(torch.zeros_like(reference), reference, lengths)))

# %%
# It can train at once: one step of the shipped model ``small`` with it.

denoiser = load_for_training("small").train()
noisy = reference + 0.5 * torch.randn(2, 16000)
value = loss(denoiser(noisy), reference, lengths)
value.backward()
print("loss", float(value.detach()))

# %%
# To choose it with ``loss=mean_absolute`` put the class into ``src/hushwork/losses/waveform.py``, its name into ``losses/__init__.py``, and
# a line into ``conf/loss/mean_absolute.yaml``::
#
#     _target_: hushwork.losses.MeanAbsoluteError
#
# A cell, to try it
# -----------------
# ``register_cell`` takes a module that computes one step. From then on every recurrent layer of this process knows its name. Here: a leaky
# unit that moves a learned part of the way to its new value.


class LeakyCell(nn.Module):
    def __init__(self, input_size, units):
        super().__init__()
        self.candidate = nn.Linear(input_size + units, units)
        self.rate = nn.Parameter(torch.zeros(units))

    def forward(self, x, hidden):
        new = torch.tanh(self.candidate(torch.cat([x, hidden], dim=-1)))
        return hidden + self.rate.sigmoid() * (new - hidden)


register_cell("leaky", LeakyCell)
layer = StackedRNN(input_size=20, hidden_size=32, cell="leaky", num_layers=2)
output, _ = layer(torch.randn(4, 50, 20))
print(tuple(output.shape))

# %%
# It runs one step after the other in Python: good for trying, slow for training, and it cannot be exported.
#
# A cell, to keep it
# ------------------
# A cell that is RNN, LSTM or GRU with tied gates is one row in ``src/hushwork/network/cells.py``. Then it is fast, streams, and is
# exported. The minimal gated unit is such a row: a GRU with r = f and z = 1 - f.

print("cells:", ", ".join(CELLS))
print("gates of mgu, as (own gate, sign) for each gate of the GRU:", CELLS["mgu"].gates)

# %%
# With the row comes an experiment of four lines (``conf/experiment/cwmgu.yaml``) and its equations in ``tests/network/test_cells.py``.
#
# A head
# ------
# A head says what the last layer's outputs mean. It is one row in ``src/hushwork/network/heads.py``: how many outputs for each bin, their
# activation, and how they become a filter for the noisy spectrum.

for name, head in HEADS.items():
    print(f"{name:10} {head.outputs} output(s) a bin, {head.activation}")

# %%
# ``model.masker.head=complex`` chooses one. The tests run over the tables: a new row is trained, streamed and exported by them without a
# line of test code. ``CONTRIBUTING.md`` has the table of where to add what.
assert float(loss(reference, reference, lengths)) == 0
assert output.shape == (4, 50, 32)
