"""What voices and noises of the starter corpus agree on."""

from __future__ import annotations

import hashlib

SAMPLE_RATE = 16_000
LEVEL_DBFS = -26.0
PEAK = 0.98


class StarterError(RuntimeError):
    """The corpus cannot be built. The message says what to install or change."""


def seed_of(*parts: object) -> int:
    """A 160-bit seed from the SHA-1 of the parts, the same on every machine and in every process."""
    return int(hashlib.sha1(" ".join(map(str, parts)).encode()).hexdigest(), 16)
