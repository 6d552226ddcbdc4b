"""Statistics of groups in one pass over the cells, a block of them at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from transpert.data import CellSource
from transpert.data.prefetch import prefetch
from transpert.data.runs import CellRun
from transpert.transport import GroupStatistics, group_statistics

CELLS_PER_BLOCK = 16_384  # cells whose statistics are computed at a time


def stream_statistics(
    source: CellSource,
    codes: np.ndarray,
    n_groups: int,
    *,
    cells_per_block: int = CELLS_PER_BLOCK,
    known: Iterable[CellRun] = (),
    columns: np.ndarray | None = None,
) -> GroupStatistics:
    """Compute the statistics of groups in one pass over cells that are read a block at a time.

    Memory is that of the result, four arrays ``(P, G)`` of float64, and of two blocks.
    """
    used = np.flatnonzero(codes >= 0)
    n_cells = np.bincount(codes[used], minlength=n_groups)
    # first and second moments, which are divided by the number of cells at the end
    moments = {name: np.zeros((n_groups, source.n_vars)) for name in ("mean_rate", "var_rate", "mean_log", "var_log")}
    inverse = np.zeros(n_groups)
    to_read = codes >= 0
    for run in known:
        group = codes[run.start]
        if group < 0 or (codes[run.start : run.stop] != group).any():
            continue
        for name, sums in zip(moments, (run.rate, run.rate_squared, run.log, run.log_squared), strict=True):
            moments[name][group] += sums if columns is None else sums[columns]
        inverse[group] += run.inverse_library
        to_read[run.start : run.stop] = False
    left = np.flatnonzero(to_read)
    blocks = [left[start : start + cells_per_block] for start in range(0, len(left), cells_per_block)]
    counts_of = prefetch(lambda: map(source.read, blocks), ahead=1)
    for positions, counts in zip(blocks, counts_of, strict=True):
        present, local = np.unique(codes[positions], return_inverse=True)
        part = group_statistics(counts, source.library_size[positions], local, len(present))
        weight = part.n_cells[:, None]
        for kind in ("rate", "log"):
            mean, var = getattr(part, f"mean_{kind}"), getattr(part, f"var_{kind}")
            moments[f"mean_{kind}"][present] += weight * mean
            moments[f"var_{kind}"][present] += weight * (var + mean**2)
        inverse[present] += part.n_cells * part.mean_inverse_library
    divisor = np.maximum(n_cells, 1)
    for kind in ("rate", "log"):
        mean, square = moments[f"mean_{kind}"], moments[f"var_{kind}"]
        mean /= divisor[:, None]
        square /= divisor[:, None]
        square -= mean**2
        np.maximum(square, 0, out=square)
    return GroupStatistics(n_cells, mean_inverse_library=inverse / divisor, **moments)
