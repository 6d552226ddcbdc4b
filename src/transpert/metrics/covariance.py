"""Whether genes vary together over predicted cells as over real ones, which neither means nor single genes tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from transpert._docstrings import fill_docstring
from transpert._matrices import as_dense
from transpert._statistics import pearson

from ._inputs import check_cells
from .metric import CELLS, Direction, Metric

_CONSTANT = 1e-6  # standard deviation below which a gene does not vary
_NO_SPREAD = 1e-10  # standard deviation below which correlations are all the same
_MAX_CELLS = 500
_MIN_CELLS = 50
_MIN_EXPRESSED = 10  # real cells in which a gene that responds is seen
_TOP_GENES, _MIN_GENES = 100, 20
_BLOCK = 512  # genes of which all correlations are held at a time


@fill_docstring
def correlation_agreement(predicted: np.ndarray, real: np.ndarray) -> float:
    """Pearson correlation of the gene-gene correlations of predicted cells with those of real cells.

    Parameters
    ----------
    predicted, real : (N, G), (M, G)
        Log1p counts per 10k.

    Returns
    -------
    From -1 to 1, higher is better; NaN where fewer than two pairs of genes are left or all correlations are the same.
    Genes that are constant on one side are left out.

    %(raises_cells_differ)s

    Notes
    -----
    cell-eval2 0.20.0, ``cell_cov_corr``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics.covariance import correlation_agreement
    >>> cells = np.random.default_rng(0).random((60, 5))
    >>> round(correlation_agreement(cells, cells), 6)
    1.0
    """
    own, other = (_pairs(part) for part in _correlations(predicted, real))
    if len(own) < 2 or min(own.std(), other.std()) <= _NO_SPREAD:
        return float("nan")
    return pearson(own, other)


@fill_docstring
def leading_eigenvalue_ratio(predicted: np.ndarray, real: np.ndarray) -> float:
    """Largest eigenvalue of the gene-gene correlations of predicted cells, over that of real cells.

    Parameters
    ----------
    predicted, real : (N, G), (M, G)
        Log1p counts per 10k.

    Returns
    -------
    1 where the genes have as strong a common programme, below where they are more independent; it says nothing of
    whether it is the same programme. NaN where no gene varies on both sides.

    %(raises_cells_differ)s

    Notes
    -----
    cell-eval2 0.20.0, ``cell_cov_eig_ratio``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics.covariance import leading_eigenvalue_ratio
    >>> rng = np.random.default_rng(0)
    >>> together = rng.random((60, 1)) + np.zeros((60, 4))
    >>> bool(leading_eigenvalue_ratio(rng.random((60, 4)), together) < 0.5)
    True
    """
    own, other = _correlations(predicted, real)
    if not len(own):
        return float("nan")
    return float(np.linalg.eigvalsh(own)[-1] / np.linalg.eigvalsh(other)[-1])


@fill_docstring
def correlation_concordance(predicted: np.ndarray, real: np.ndarray, *, alpha: float = 0.05) -> float:
    """Lin's concordance of the gene-gene correlations that are significant in predicted and in real cells.

    Correlations that have the right pattern and are too weak lower it, other than :func:`correlation_agreement`.

    Parameters
    ----------
    predicted, real : (N, G), (N, G)
        Log1p counts per 10k of as many cells.
    alpha
        A correlation counts if its two-sided p-value is below, on both sides.

    Returns
    -------
    From -1 to 1, higher is better; NaN where fewer than three pairs of genes are left.

    %(raises_cells_differ)s

    Notes
    -----
    cell-eval2 0.20.0, ``cell_cov_ccc``. The correlations of all pairs are never held together: memory is that of
    512 genes with all others.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics.covariance import correlation_concordance
    >>> rng = np.random.default_rng(0)
    >>> cells = rng.random((60, 1)) + rng.random((60, 5)) / 2
    >>> round(correlation_concordance(cells, cells), 6)
    1.0
    """
    own, other = _standardised(predicted, real)
    n_cells, n_genes = real.shape[0], own.shape[1]
    degrees = max(n_cells - 2, 1)
    quantile = float(stats.t.ppf(1 - alpha / 2, degrees))
    least = quantile / np.sqrt(degrees + quantile**2)
    count, sums = 0, np.zeros(5)
    for start in range(0, n_genes, _BLOCK):
        rows = slice(start, start + _BLOCK)
        a, b = own[:, rows].T @ own / len(own), other[:, rows].T @ other / len(other)
        kept = (np.abs(a) >= least) & (np.abs(b) >= least)
        kept &= np.arange(n_genes) > np.arange(start, start + len(a))[:, None]  # every pair once
        a, b = a[kept], b[kept]
        count += len(a)
        sums += (a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum())
    if count < 3:
        return float("nan")
    mean_a, mean_b, square_a, square_b, product = sums / count
    spread = square_a - mean_a**2 + square_b - mean_b**2 + (mean_a - mean_b) ** 2
    return float(2 * (product - mean_a * mean_b) / (spread + 1e-12))


def _standardised(predicted: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the genes that vary on both sides, with mean 0 and standard deviation 1 on each."""
    n_genes = real.shape[-1]
    named = ((predicted, "the predicted cells"), (real, "the real cells"))
    sides = [as_dense(check_cells(cells, where=where, n_genes=n_genes)) for cells, where in named]
    varies = np.logical_and(*(side.std(axis=0) > _CONSTANT for side in sides))
    own, other = ((side[:, varies] - side[:, varies].mean(axis=0)) / side[:, varies].std(axis=0) for side in sides)
    return own, other


def _correlations(predicted: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gene-gene correlations of both sides over the genes that vary on both."""
    own, other = (side.T @ side / len(side) for side in _standardised(predicted, real))
    return own, other


def _pairs(matrix: np.ndarray) -> np.ndarray:
    """Return the entries above the diagonal."""
    return matrix[np.triu_indices(len(matrix), k=1)]


def _equal_numbers(c: Any) -> list[np.ndarray] | None:
    """Return as many predicted as real cells, 500 at most; None where there are fewer than 50."""
    size = min(c.predicted.n_cells, c.real.n_cells, _MAX_CELLS)
    return None if size < _MIN_CELLS else [_drawn(side.cells, size) for side in (c.predicted, c.real)]


def _drawn(cells: Any, size: int) -> np.ndarray:
    """Draw cells, the same ones in whatever order they come."""
    if cells.shape[0] <= size:
        return as_dense(cells)
    order = np.argsort(np.asarray(cells.sum(axis=1)).ravel(), kind="stable")
    chosen = np.random.default_rng(0).choice(len(order), size, replace=False)
    return as_dense(cells[np.sort(order[chosen])])


def _responding(c: Any) -> np.ndarray:
    """Return the columns of the genes that really respond most, among those that enough real cells express."""
    seen, seen_before = (np.asarray((side.cells != 0).sum(axis=0)).ravel() for side in (c.real, c.controls))
    kept = (seen >= _MIN_EXPRESSED) & ((seen > 0) | (seen_before > 0))
    kept[list(c.targets)] = False
    columns = np.flatnonzero(kept)
    change = np.abs(np.log2((c.real.mean_rate + 1) / (c.controls.mean_rate + 1)))
    return np.sort(columns[np.argsort(-change[columns], kind="stable")[:_TOP_GENES]])


def _of_responding(function: Callable) -> Callable[[Any], float]:
    """Make a metric of a population out of a function of cells, over the genes that respond."""

    def compute(c: Any) -> float:
        cells = _equal_numbers(c)
        if cells is None:
            return float("nan")
        columns = _responding(c)
        predicted, real = (side[:, columns] for side in cells)
        varies = (predicted.std(axis=0) > _CONSTANT) & (real.std(axis=0) > _CONSTANT)
        return function(predicted, real) if np.count_nonzero(varies) >= _MIN_GENES else float("nan")

    return compute


def _of_all(c: Any) -> float:
    """Compute the concordance over all genes."""
    cells = _equal_numbers(c)
    return float("nan") if cells is None else correlation_concordance(*cells)


def _entry(name: str, direction: Direction, compute: Callable[[Any], float]) -> Metric:
    """Make an entry of cell-eval2's family of covariances."""
    return Metric(name, "covariance", direction, CELLS, compute)


ENTRIES = (
    _entry("cell_cov_corr", "higher", _of_responding(correlation_agreement)),
    _entry("cell_cov_eig_ratio", "one", _of_responding(leading_eigenvalue_ratio)),
    _entry("cell_cov_ccc", "higher", _of_all),
)
