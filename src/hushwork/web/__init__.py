"""Denoising in a browser: the page, and model files for its engine."""
