"""Seeds of draws, checked in one place."""

from __future__ import annotations

from transpert._arguments import check_whole


def check_seed(seed: int) -> int:
    """Return a seed as an int."""
    return check_whole(seed, name="seed")
