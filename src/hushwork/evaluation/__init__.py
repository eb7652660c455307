"""Scores of a denoiser on fixed mixtures, and a corpus in numbers."""
