"""Preparers: what writes the manifest of a corpus."""
