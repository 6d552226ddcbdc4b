"""Counts, and log1p of counts per 10,000: checks and the one way from the first to the second."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from transpert import _keys
from transpert.errors import CountsError

__all__ = ["check_counts", "check_log1p", "library_sizes", "log1p_per_10k", "stored_values"]

type Matrix = np.ndarray | sparse.csr_matrix | sparse.csr_array

_LARGEST_LOG1P = np.log1p(_keys.SCALE_FACTOR)


def stored_values(matrix: Matrix) -> np.ndarray:
    """Return the values that are stored: all of a dense matrix, the explicit ones of a sparse one."""
    return matrix.data if sparse.issparse(matrix) else np.asarray(matrix).ravel()


def _check_finite(values: np.ndarray, where: str) -> None:
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise CountsError(f"{wrong} values are NaN or infinite", where=where, remedy="Remove or replace them.")
    negative = int(np.count_nonzero(values < 0))
    if negative:
        raise CountsError(
            f"{negative} values are negative",
            where=where,
            remedy="Scaled or centred data cannot be used; pass the raw counts.",
        )


def check_counts(matrix: Matrix, *, where: str) -> None:
    """Check that a matrix holds raw counts.

    Parameters
    ----------
    matrix : (N, G)
        Dense or sparse.
    where
        The slot it came from, for the message.

    Raises
    ------
    transpert.errors.CountsError
        If values are NaN, infinite, negative or not integers; the message says how many, and whether they look
        like log1p values.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.pp import check_counts
    >>> check_counts(np.array([[0, 3], [1, 0]]), where="X")
    """
    values = stored_values(matrix)
    _check_finite(values, where)
    fractions = int(np.count_nonzero(values != np.rint(values)))
    if fractions:
        looks_log = values.max() <= _LARGEST_LOG1P + 1e-3
        raise CountsError(
            f"{fractions} of {values.size} values are not integers"
            + (", they look like log1p values" if looks_log else ""),
            where=where,
            remedy="Raw counts are needed: name their layer in layer=.",
        )


def check_log1p(matrix: Matrix, *, where: str) -> None:
    """Check that a matrix holds log1p counts per 10k, and not counts.

    Parameters
    ----------
    matrix : (N, G)
        Dense or sparse.
    where
        The slot it came from, for the message.

    Raises
    ------
    transpert.errors.CountsError
        If values are NaN, infinite or negative, above ``log1p(1e4)``, or all integers.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.pp import check_log1p
    >>> check_log1p(np.log1p(np.array([[0.0, 3.0]])), where="X")
    """
    values = stored_values(matrix)
    _check_finite(values, where)
    if not values.size:
        return
    high = int(np.count_nonzero(values > _LARGEST_LOG1P + 1e-3))
    integers = values.max() > 1 and bool(np.all(values == np.rint(values)))
    if high or integers:
        what = f"{high} values are above log1p(10,000)" if high else "all values are integers"
        raise CountsError(
            f"{what}, so these are no log1p counts per 10k",
            where=where,
            remedy="Normalise with sc.pp.normalize_total(adata, target_sum=1e4) and sc.pp.log1p(adata).",
        )


def library_sizes(counts: Matrix) -> np.ndarray:
    """Return the sum of the counts of every cell.

    Parameters
    ----------
    counts : (N, G)
        Raw counts.

    Returns
    -------
    ``(N,)`` float64.
    """
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def log1p_per_10k(counts: Matrix, library_size: np.ndarray) -> Matrix:
    """Return ``log(1 + counts / library_size * 1e4)``, sparse if the counts are.

    Parameters
    ----------
    counts : (N, G)
        Raw counts.
    library_size : (N,)
        Total counts of each cell over all measured genes.

    Returns
    -------
    ``(N, G)`` float32; CSR for sparse counts.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.pp import log1p_per_10k
    >>> log1p_per_10k(np.array([[1.0, 0.0]]), np.array([1e4])).round(3).tolist()
    [[0.6930000185966492, 0.0]]
    """
    factor = _keys.SCALE_FACTOR / np.asarray(library_size, dtype=np.float64)
    if not sparse.issparse(counts):
        return np.log1p(np.asarray(counts, dtype=np.float64) * factor[:, None]).astype(np.float32)
    counts = sparse.csr_matrix(counts)
    values = np.log1p(counts.data * np.repeat(factor, np.diff(counts.indptr))).astype(np.float32)
    return sparse.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)
