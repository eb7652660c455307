"""Training mixtures: noises, rooms, levels, as pure functions."""
