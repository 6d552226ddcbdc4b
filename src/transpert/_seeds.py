"""Seeds of draws, checked in one place."""

from __future__ import annotations

import operator

from transpert.errors import OptionError


def check_seed(seed: int) -> int:
    """Return a seed as an int."""
    try:
        whole = operator.index(seed)
    except TypeError:
        whole = -1
    if whole < 0:
        raise OptionError(f"seed is {seed!r}", remedy="Give a whole number from 0 upwards.")
    return whole
