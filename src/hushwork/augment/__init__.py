"""Effects of training mixtures: noises, reverberation, levels, as pure functions."""
