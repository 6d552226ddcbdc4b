"""Seeds of draws, checked in one place."""

from __future__ import annotations

import threading

from transpert._arguments import check_whole

# torch draws from one generator in the whole process: whoever seeds it keeps other threads out until it is given back
ONE_AT_A_TIME = threading.RLock()


def check_seed(seed: int) -> int:
    """Return a seed as an int."""
    return check_whole(seed, name="seed", most=2**63 - 1)  # torch holds seeds in 64 bits
