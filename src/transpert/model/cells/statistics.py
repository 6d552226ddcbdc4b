"""Statistics of groups in one pass over the cells, a block of them at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from transpert import _keys
from transpert.data import CellSource
from transpert.data.sets.prefetch import prefetch
from transpert.data.store.runs import CellRun
from transpert.transport.moments import MomentSums
from transpert.transport.statistics import CELLS_AT_ONCE, PooledStatistics, moments_of_groups


def stream_statistics(
    source: CellSource,
    codes: np.ndarray,
    rows: np.ndarray,
    *,
    cells_per_block: int = CELLS_AT_ONCE,
    known: Iterable[CellRun] = (),
    columns: np.ndarray | None = None,
) -> PooledStatistics:
    """Compute the statistics of rows of groups in one pass over cells that are read group after group.

    Memory is that of the result, four arrays of float32 with a row for each row, and of two blocks.
    """
    moments = moments_of_groups(source.library_size, codes, rows, source.n_vars)
    to_read = codes >= 0
    begun = _add_runs(moments, codes, known, columns, to_read)
    left = np.flatnonzero(to_read)
    left = left[np.argsort(codes[left], kind="stable")]
    blocks = [left[start : start + cells_per_block] for start in range(0, len(left), cells_per_block)]
    counts_of = prefetch(lambda: map(source.read, blocks), ahead=1)
    for positions, counts in zip(blocks, counts_of, strict=True):
        factor = _keys.SCALE_FACTOR / np.asarray(source.library_size)[positions]
        for part in _parts(codes[positions], begun):
            group = int(codes[positions[part.start]])
            if group in begun:
                moments.add_known(group, begun.pop(group))
            moments.add(counts[part], factor[part], codes[positions[part]])
    return PooledStatistics.of(moments)


def _add_runs(
    moments: MomentSums, codes: np.ndarray, known: Iterable[CellRun], columns: np.ndarray | None, to_read: np.ndarray
) -> dict[int, np.ndarray]:
    """Add groups of which all is known, and return the sums over the known cells of the others."""
    begun: dict[int, np.ndarray] = {}
    missing = moments.n_cells.copy()
    for run in known:
        group = int(codes[run.start])
        if group < 0 or (codes[run.start : run.stop] != group).any():
            continue
        sums = np.stack([run.rate, run.rate_squared, run.log, run.log_squared])
        sums = sums if columns is None else sums[:, columns]
        begun[group] = begun[group] + sums if group in begun else sums
        missing[group] -= run.stop - run.start
        to_read[run.start : run.stop] = False
        if not missing[group]:
            moments.add_known(group, begun.pop(group))
    return begun


def _parts(codes: np.ndarray, begun: dict[int, np.ndarray]) -> Iterator[slice]:
    """Cut a block before each group of which some cells are known."""
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    cuts = [0, *(int(start) for start in starts if start and int(codes[start]) in begun), len(codes)]
    return (slice(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True))
