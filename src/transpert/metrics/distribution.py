"""Distances between populations of cells."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ._inputs import check_cells

__all__ = ["energy_distance"]

_BLOCK = 1024


def energy_distance(cells: np.ndarray | sparse.spmatrix, other: np.ndarray | sparse.spmatrix) -> float:
    """Energy distance of two populations, ``2 E|x - y| - E|x - x'| - E|y - y'|``, plain Euclidean, no self-pairs.

    Parameters
    ----------
    cells, other : (N, G), (M, G)
        Log1p counts per 10k, or any other space.

    Returns
    -------
    From about 0 (it is unbiased, and can be a little below), lower is better. A population of one cell has no distance
    within itself, which then counts as 0.

    Raises
    ------
    transpert.errors.MetricInputError
        If the matrices are empty, do not fit, or hold NaN, infinite or negative values.

    Notes
    -----
    pertpy's ``edistance`` is the same but for the self-pairs, which it counts as distances of 0: it is larger by
    ``within / n`` for each population. scPerturb and CellFlow use squared distances. Computed block by block, so that
    no matrix of all pairs is held.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import energy_distance
    >>> energy_distance(np.array([[0.0], [0.0]]), np.array([[1.0], [1.0]]))
    2.0
    """
    check_cells(other, where="the other cells")
    check_cells(cells, where="the cells", n_genes=other.shape[1])
    x, y = (_dense(matrix) for matrix in (cells, other))
    between = _total(x, y) / (len(x) * len(y))
    within = [_total(z, z, symmetric=True) / max(len(z) * (len(z) - 1), 1) for z in (x, y)]
    return float(2 * between - within[0] - within[1])


def _dense(matrix: np.ndarray | sparse.spmatrix) -> np.ndarray:
    return np.asarray(matrix.todense() if sparse.issparse(matrix) else matrix, dtype=np.float64)


def _total(x: np.ndarray, y: np.ndarray, *, symmetric: bool = False) -> float:
    """Sum of all pairwise distances."""
    squares_x, squares_y = (x**2).sum(axis=1), (y**2).sum(axis=1)
    total = 0.0
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, start + _BLOCK)
        squared = squares_x[rows, None] + squares_y - 2 * x[rows] @ y.T
        if symmetric:
            # rounding makes the distance of a cell to itself a little more than nothing
            local = np.arange(len(squared))
            squared[local, start + local] = 0
        total += float(np.sqrt(np.maximum(squared, 0)).sum())
    return total
