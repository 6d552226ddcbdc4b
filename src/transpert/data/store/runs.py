"""Sums over runs of neighbouring cells of one group, written with a store: a training then need not read all cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from transpert import _keys
from transpert._counts import log1p_per_10k

# the sums over fewer cells take as much space as the cells
CELLS_OF_A_RUN = 256
_CELLS_AT_ONCE = 4096  # a run may be a whole part, and its values are needed four times over


@dataclass(frozen=True, slots=True, eq=False)
class CellRun:
    """Neighbouring cells of one group."""

    start: int
    stop: int
    rate: np.ndarray
    rate_squared: np.ndarray
    log: np.ndarray
    log_squared: np.ndarray
    inverse_library: float


def write_runs(path: Path, counts: sparse.csr_matrix, library_size: np.ndarray, codes: np.ndarray) -> None:
    """Write the sums over the long runs of a part."""
    bounds = np.flatnonzero(np.diff(codes, prepend=-1, append=-1))
    runs = [(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True) if b - a >= CELLS_OF_A_RUN]
    sums = np.zeros((len(runs), 4, counts.shape[1]))
    inverse = np.zeros(len(runs))
    for row, (start, stop) in enumerate(runs):
        for first in range(start, stop, _CELLS_AT_ONCE):
            cells = slice(first, min(first + _CELLS_AT_ONCE, stop))
            logs = log1p_per_10k(counts[cells], library_size[cells])
            values = logs.data.astype(np.float64)
            rates = np.expm1(values)
            for number, weights in enumerate((rates, rates**2, values, values**2)):
                sums[row, number] += np.bincount(logs.indices, weights=weights, minlength=counts.shape[1])
        inverse[row] = (_keys.SCALE_FACTOR / library_size[start:stop]).sum()
    path.parent.mkdir(exist_ok=True)
    np.savez(path, bounds=np.array(runs, dtype=np.int64).reshape(-1, 2), sums=sums, inverse_library=inverse)


def read_runs(path: Path, first: int) -> Iterator[CellRun]:
    """Read what :func:`write_runs` wrote about the part whose first cell has the position ``first``."""
    with np.load(path, allow_pickle=False) as arrays:
        sums, inverse = arrays["sums"], arrays["inverse_library"]
        for (start, stop), values, total in zip(arrays["bounds"].tolist(), sums, inverse.tolist(), strict=True):
            rate, rate_squared, log, log_squared = values
            yield CellRun(first + start, first + stop, rate, rate_squared, log, log_squared, total)
