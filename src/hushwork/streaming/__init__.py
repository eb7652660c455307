"""Denoising in chunks: streams, long recordings, and several recordings side by side. No torch."""
