"""Numbers of the features that a network sees, shared by training and denoising."""

SILENT_POWER = 1e-30
"""Below this power of a frame there is nothing to divide by."""

FLOOR_DB = -80.0
"""Magnitudes that lie lower, relative to the running level, count as this."""

OFFSET_DB, SCALE_DB = 25.0, 20.0
"""Added to decibels, and what the sum is divided by: then they have about mean 0 and deviation 1."""

PEAK_DB = 40.0
"""What an output of 1 means for a head that predicts magnitudes, relative to the running level."""
