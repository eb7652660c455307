"""The parts of prepare_debian.py: rules, packages, signal processing, and the making of recordings."""
