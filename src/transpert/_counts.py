"""Counts, and log1p of counts per 10,000: checks and the one way from the first to the second."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, overload

import numpy as np
import pandas as pd
from scipy import sparse

from transpert import _keys
from transpert._docstrings import fill_docstring
from transpert._matrices import Matrix, canonical
from transpert.errors import CountsError, check_known

_LARGEST_COUNT = 1 << 24  # networks and statistics compute with float32, which holds every whole number up to this
_LARGEST_LOG1P = np.log1p(_keys.SCALE_FACTOR)
_BLOCK = 1 << 20  # values looked at in one go, so that a check needs no second matrix


def _count(values: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray]) -> int:
    return sum(int(np.count_nonzero(wrong(values[i : i + _BLOCK]))) for i in range(0, values.size, _BLOCK))


def _stored_values(matrix: Matrix) -> np.ndarray:
    """Return the values that are stored: all of a dense matrix, the explicit ones of a sparse one."""
    return np.asarray(matrix.data if sparse.issparse(matrix) else matrix).ravel()


def _check_values(values: np.ndarray, where: str) -> None:
    wrong = _count(values, lambda block: ~np.isfinite(block))
    if wrong:
        raise CountsError(f"{wrong} values are NaN or infinite", where=where, remedy="Remove or replace them.")
    negative = _count(values, lambda block: block < 0)
    if negative:
        raise CountsError(
            f"{negative} values are negative",
            where=where,
            remedy="Scaled or centred data cannot be used; pass the raw counts.",
        )


def read_counts(matrix: Any, *, where: str) -> Matrix:
    """Return raw counts in canonical form, once it is known that they are raw counts."""
    matrix = canonical(matrix, where=where)
    values = _stored_values(matrix)
    _check_values(values, where)
    fractions = _count(values, lambda block: block != np.rint(block)) if values.dtype.kind == "f" else 0
    if fractions:
        looks_log = values.max() <= _LARGEST_LOG1P + 1e-3
        raise CountsError(
            f"{fractions} of {values.size} values are not integers"
            + (", they look like log1p values" if looks_log else ""),
            where=where,
            remedy="Raw counts are needed: name their layer in layer=.",
        )
    if values.size and values.max() > _LARGEST_COUNT:
        raise CountsError(
            f"{_count(values, lambda block: block > _LARGEST_COUNT)} counts are above {_LARGEST_COUNT:,}, up to "
            f"{values.max():,.0f}, which is more than single precision holds exactly",
            where=where,
            remedy="No cell has so many counts of a gene: correct them, or drop these cells.",
        )
    return matrix


def check_counts(matrix: Any, *, where: str) -> None:
    """Check that a matrix holds raw counts."""
    read_counts(matrix, where=where)


def read_log1p(matrix: Any, *, where: str) -> Matrix:
    """Return log1p counts per 10k in canonical form, once it is known that they are, and no counts."""
    matrix = canonical(matrix, where=where)
    values = _stored_values(matrix)
    _check_values(values, where)
    if not values.size:
        return matrix
    high = _count(values, lambda block: block > _LARGEST_LOG1P + 1e-3)
    integers = values.max() > 1 and _count(values, lambda block: block != np.rint(block)) == 0
    if high or integers:
        what = f"{high} values are above log1p(10,000)" if high else "all values are integers"
        raise CountsError(
            f"{what}, so these are no log1p counts per 10k",
            where=where,
            remedy="Normalise with sc.pp.normalize_total(adata, target_sum=1e4) and sc.pp.log1p(adata).",
        )
    return matrix


def check_log1p(matrix: Any, *, where: str) -> None:
    """Check that a matrix holds log1p counts per 10k, and not counts."""
    read_log1p(matrix, where=where)


def check_library_sizes(
    library_size: np.ndarray,
    counts: Matrix | None = None,
    *,
    predicted: np.ndarray | None = None,
    where: str = "the library size",
) -> None:
    """Check that library sizes can be totals over all measured genes."""
    wrong = int(np.count_nonzero(~np.isfinite(library_size) | (library_size <= 0)))
    if wrong:
        raise CountsError(
            f"{wrong} cells have a library size that is not above 0, or not finite",
            where=where,
            remedy="Drop empty cells.",
        )
    if counts is None:
        return
    fewer = library_size < library_sizes(counts) - 0.5
    small = int(np.count_nonzero(fewer if predicted is None else fewer & ~predicted))
    if small:
        raise CountsError(
            f"{small} cells have fewer counts in all than in the genes at hand",
            where=where,
            remedy="It must be the total over all measured genes, in raw counts.",
        )


def library_size_column(key: str | None, columns: Container[Any]) -> str | None:
    """Return the column with the library sizes: the one that is named, or ``library_size`` if it is there."""
    return _keys.LIBRARY_SIZE if key is None and _keys.LIBRARY_SIZE in columns else key


def read_library_sizes(obs: pd.DataFrame, key: str) -> np.ndarray:
    """Return the library sizes in a column of ``obs``, ``(n_obs,)`` float64."""
    check_known("column", [key], obs, where="obs")
    column = obs[key]
    if not pd.api.types.is_numeric_dtype(column):
        column = column.astype(object).infer_objects()
    if not pd.api.types.is_numeric_dtype(column):
        raise CountsError(
            "the library sizes are not numbers",
            where=f"obs[{key!r}]",
            remedy="Name the column with the total counts in library_size_key=.",
        )
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def library_sizes(counts: Matrix) -> np.ndarray:
    """Return the sum of the counts of every cell.

    Parameters
    ----------
    counts : (N, G)
        Raw counts.

    Returns
    -------
    ``(N,)`` float64.

    Raises
    ------
    transpert.errors.OptionError, transpert.errors.CountsError, transpert.errors.BackedDataError
        If it is no matrix of numbers in memory, such as a whole AnnData.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.pp import library_sizes
    >>> library_sizes(np.array([[1, 2], [0, 3]])).tolist()
    [3.0, 3.0]
    """
    matrix = canonical(counts, where="counts")
    if isinstance(matrix, np.ndarray):
        return matrix.sum(axis=1, dtype=np.float64)
    sums, filled = np.zeros(matrix.shape[0]), np.flatnonzero(np.diff(matrix.indptr))
    if len(filled):  # scipy would sum float32 in float32
        sums[filled] = np.add.reduceat(matrix.data, matrix.indptr[filled], dtype=np.float64)
    return sums


@overload
def log1p_per_10k(counts: np.ndarray, library_size: np.ndarray) -> np.ndarray: ...
@overload
def log1p_per_10k(counts: sparse.csr_matrix, library_size: np.ndarray) -> sparse.csr_matrix: ...
@fill_docstring
def log1p_per_10k(counts: Matrix, library_size: np.ndarray) -> Matrix:
    """Return ``log(1 + counts / library_size * 1e4)``, sparse if the counts are.

    Parameters
    ----------
    %(counts_and_library_sizes)s

    Returns
    -------
    ``(N, G)`` float32; CSR for sparse counts. Shares no memory with the counts. A cell without counts stays empty.

    Raises
    ------
    transpert.errors.CountsError
        If there is not one library size for each cell, or one is negative, not finite, or zero in a cell with counts.
    transpert.errors.OptionError, transpert.errors.BackedDataError
        If the counts are no matrix in memory, such as a whole AnnData.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.pp import log1p_per_10k
    >>> log1p_per_10k(np.array([[1.0, 0.0]]), np.array([1e4])).round(3).tolist()
    [[0.6930000185966492, 0.0]]
    """
    counts = canonical(counts, where="counts")
    library = _checked_library(counts, library_size)
    factor = np.divide(_keys.SCALE_FACTOR, library, out=np.zeros_like(library), where=library > 0)
    if isinstance(counts, np.ndarray):
        return np.log1p(np.asarray(counts, dtype=np.float64) * factor[:, None]).astype(np.float32)
    matrix: Any = counts
    values = np.empty(matrix.nnz, dtype=np.float32)
    of_cell = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    for start in range(0, matrix.nnz, _BLOCK):  # in double precision, without a second matrix
        here = slice(start, start + _BLOCK)
        values[here] = np.log1p(matrix.data[here] * factor[of_cell[here]])
    # with copies of the indices: dropping zeros from one matrix in place must not tear the other one
    return sparse.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape, copy=True)


def library_of_each(counts: Matrix, library_size: np.ndarray) -> np.ndarray:
    """Return library sizes as ``(N,)`` float64."""
    try:
        library = np.asarray(library_size, dtype=np.float64)
    except (TypeError, ValueError):
        raise CountsError(
            "the library sizes are not numbers", where="library_size", remedy="Give the total counts of each cell."
        ) from None
    if library.shape != (counts.shape[0],):
        raise CountsError(
            f"the library sizes have shape {library.shape}, and there are {counts.shape[0]} cells",
            where="library_size",
            remedy="Give the total counts of each cell over all measured genes.",
        )
    return library


def _checked_library(counts: Matrix, library_size: np.ndarray) -> np.ndarray:
    library = library_of_each(counts, library_size)
    wrong = ~np.isfinite(library) | (library < 0)
    empty = np.flatnonzero(library == 0)
    if empty.size:
        wrong[empty] = np.asarray(abs(counts[empty]).sum(axis=1)).ravel() > 0
    if wrong.any():
        raise CountsError(
            f"{int(wrong.sum())} library sizes are negative, not finite, or zero in a cell with counts",
            where="library_size",
            remedy="Give the total counts of each cell over all measured genes.",
        )
    return library
