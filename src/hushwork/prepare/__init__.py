"""Preparers, which write the manifests of corpora."""
