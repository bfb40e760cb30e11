"""Which side a sample is on, from its content alone: it never changes when other samples come or go."""

import hashlib


def split_of(key: str, *, salt: str, val_fraction: float, heldout_fraction: float) -> str:
    """`train`, `val` or `heldout`, from a salted SHA-256 of `key` (a group, or a sample_id)."""
    digest = hashlib.sha256(f"{salt}:{key}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64  # uniform in 0..1
    if position < heldout_fraction:
        return "heldout"
    return "val" if position < heldout_fraction + val_fraction else "train"
