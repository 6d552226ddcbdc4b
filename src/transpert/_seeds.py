"""Seeds of draws, checked in one place."""

from __future__ import annotations

import threading

import numpy as np

from transpert._arguments import check_whole, refused

# torch draws from one generator in the whole process: whoever seeds it keeps other threads out until it is given back
ONE_AT_A_TIME = threading.RLock()


def check_seed(seed: int) -> int:
    """Return a seed as an int."""
    whole: int = check_whole(seed, name="seed")
    if whole >= 2**63:  # torch holds seeds in 64 bits
        raise refused("seed", seed, "Give a whole number below 2 ** 63.")
    return whole


def sample_rows(rows: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """Return at most ``limit`` rows, drawn without replacement, in ascending order."""
    if limit is None or len(rows) <= limit:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
