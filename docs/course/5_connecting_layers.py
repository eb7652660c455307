"""
5. Two directions, and how layers connect
=========================================

How does a recurrent layer hand on what it knows? There are three questions: does it read the sequence in one direction or in both?
Does the next layer get the whole sequence or the last state alone? And what does a layer that is not recurrent do with a sequence?
"""

import torch

from hushwork import SequencePredictor, StackedRNN

torch.manual_seed(0)
x = torch.randn(3, 50, 10)  # 3 recordings, 50 frames, 10 features

# %%
# Two directions
# --------------
# Where the recording is complete, a second layer can read it from its end. Both outputs are concatenated or added. Frame t then knows
# what comes later, and cannot be computed live.

forward_only = StackedRNN(input_size=10, hidden_size=16, cell="gru", num_layers=1)
both = StackedRNN(input_size=10, hidden_size=16, cell="gru", num_layers=1, bidirectional=True, merge="concat")
added = StackedRNN(input_size=10, hidden_size=16, cell="gru", num_layers=1, bidirectional=True, merge="sum")
lengths = torch.tensor([50, 50, 30])  # frames that are not padding: a backward layer starts at a recording's own end
for name, layer in (("one direction", forward_only), ("both, concatenated", both), ("both, added", added)):
    print(f"{name:20}{tuple(layer(x, None, lengths)[0].shape)}  causal: {layer.is_causal}")

# %%
# Does frame 10 depend on frame 12? Change frame 12 and look.

changed = x.clone()
changed[:, 12] += 1
for name, layer in (("one direction", forward_only), ("both", both)):
    with torch.no_grad():
        effect = (layer(changed, None, lengths)[0] - layer(x, None, lengths)[0])[0, 10].abs().max()
    print(f"{name}: frame 10 changes by {float(effect):.2g}")

# %%
# The sequence or its end
# -----------------------
# Denoising needs an output for every frame. A question about the whole recording (which word is it?) needs one. In Keras this is
# ``return_sequences``; here it is ``last_only``.


def recurrence(input_size):
    return StackedRNN(input_size=input_size, hidden_size=16, cell="lstm", num_layers=2)


every_frame = SequencePredictor(input_size=10, output_size=5, recurrence=recurrence)
end = SequencePredictor(input_size=10, output_size=5, recurrence=recurrence, last_only=True)
print("for every frame:", tuple(every_frame(x)[0].shape))
print("for the end:    ", tuple(end(x)[0].shape))

# %%
# A dense layer for each frame
# ----------------------------
# ``nn.Linear`` acts on the last axis and leaves the others alone: one and the same layer for every frame. Keras calls that
# ``TimeDistributed``. Dropout sets random units of random frames to 0 in training, and does nothing in use.

dense = torch.nn.Linear(16, 5)
hidden = forward_only(x)[0]
all_at_once = dense(hidden)
one_by_one = torch.stack([dense(hidden[:, t]) for t in range(hidden.shape[1])], dim=1)
print("largest difference:", float((all_at_once - one_by_one).abs().max().detach()))

dropout = torch.nn.Dropout(0.5)
print("in training half are 0:", float((dropout(hidden) == 0).float().mean()))
print("in use none are:       ", float((dropout.eval()(hidden) == 0).float().mean()))

# %%
# Exercise
# --------
# A stack of two bidirectional LSTM layers with 16 units in each direction, merged by concatenation, reads 10 features. How many inputs has
# its second layer, and how many frames of the future does a frame see?
#
# Answer
# ------
# 32 inputs: both directions of the first layer. And all of the future: the backward layer starts at the last frame. Hence
# ``is_causal`` is false, and hushwork refuses to stream such a model.

stack = StackedRNN(input_size=10, hidden_size=16, cell="lstm", num_layers=2, bidirectional=True)
print("output:", stack.output_size, "causal:", stack.is_causal)
assert stack.output_size == 32
assert not stack.is_causal
assert torch.allclose(all_at_once, one_by_one, atol=1e-6)
