"""Reproducible bytes without two equal blocks near each other, so that loss, repetition and exchange change the hash."""

import hashlib
import random

BLOCK = 1 << 20
_BASE = memoryview(random.Random(7).randbytes(2 * BLOCK))


def blocks(total):
    """Yields `total` bytes in blocks."""
    index = 0
    while total > 0:
        start = index * 4099 % BLOCK
        size = min(BLOCK, total)
        yield _BASE[start : start + size]
        total -= size
        index += 1


def digest(total):
    """The SHA-256 of `blocks(total)`, in hexadecimal."""
    state = hashlib.sha256()
    for block in blocks(total):
        state.update(block)
    return state.hexdigest()
