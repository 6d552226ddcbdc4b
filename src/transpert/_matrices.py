"""Matrices of cells x genes as they come in: checked before anything compiled reads them, and brought to one form."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from transpert.errors import BackedDataError, CountsError, OptionError

type Matrix = np.ndarray | sparse.csr_matrix

_MEND = "Make the matrix again from the original data; whatever wrote this one is at fault."


def check_there(matrix: Any, *, where: str) -> None:
    """Refuse a slot that holds no matrix, as ``X`` may."""
    if matrix is None:
        raise CountsError(
            "there are no values", where=where, remedy="Name the layer that holds them, or put them into X."
        )


def is_in_memory(matrix: Any) -> bool:
    """Whether a matrix is in memory, not in a file or still to be computed."""
    return isinstance(matrix, np.ndarray) or sparse.issparse(matrix)


def canonical(matrix: Any, *, where: str) -> Matrix:
    """Return a dense array, or CSR with sorted and distinct genes and no stored zeros; the matrix is not changed."""
    check_there(matrix, where=where)
    if not is_in_memory(matrix):
        raise _not_in_memory(matrix, where)
    if len(matrix.shape) != 2:
        raise CountsError(f"the values have shape {matrix.shape}", where=where, remedy="Cells x genes are needed.")
    if matrix.dtype.kind not in "biuf":
        raise CountsError(
            f"the values are of type {matrix.dtype}, not numbers", where=where, remedy="Give a matrix of numbers."
        )
    if not sparse.issparse(matrix):
        return _computable(np.asarray(matrix))
    matrix = matrix if matrix.format in ("csr", "csc") else _from_entries(matrix, where)
    check_structure(matrix, where=where)
    return _canonical_rows(matrix)


def as_dense(matrix: Any, dtype: Any = np.float64) -> np.ndarray:
    """Return a matrix, dense or sparse, as an array."""
    return np.asarray(matrix.toarray() if sparse.issparse(matrix) else matrix, dtype=dtype)


def _not_in_memory(matrix: Any, where: str) -> BackedDataError | OptionError:
    what = f"the values are of type {type(matrix).__name__}"
    if any(hasattr(matrix, name) for name in ("compute", "chunks", "backend")):  # of dask, of h5py and zarr, of anndata
        return BackedDataError(
            f"{what}, lazy or in a file, and are needed in memory",
            where=where,
            remedy="Read them with adata.to_memory(), or give the path of the file where a function takes one.",
        )
    return OptionError(what, where=where, remedy="Give an array or a sparse matrix of cells x genes, such as adata.X.")


def _computable(values: np.ndarray) -> np.ndarray:
    """Return numbers of a type that scipy and numba compute with; half precision has none of its own."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _from_entries(matrix: Any, where: str) -> sparse.csr_matrix:
    """Return a sparse matrix of another format as CSR, by its entries, whose places are looked at first."""
    entries = matrix.tocoo()
    for places, size, what in zip((entries.row, entries.col), matrix.shape, ("cells", "genes"), strict=True):
        _check_within(places, size, what, where)
    return sparse.csr_matrix((_computable(entries.data), (entries.row, entries.col)), shape=matrix.shape)


def _check_within(places: np.ndarray, size: int, what: str, where: str) -> None:
    if len(places) and (int(places.min()) < 0 or int(places.max()) >= size):
        wrong = int(np.count_nonzero((places < 0) | (places >= size)))
        raise CountsError(
            f"{wrong} entries of the sparse matrix stand outside its {size} {what}", where=where, remedy=_MEND
        )


def check_sound(matrix: Any, *, where: str) -> None:
    """Refuse a damaged sparse matrix; anything else is taken as it is."""
    if sparse.issparse(matrix) and matrix.format in ("csr", "csc"):
        check_structure(matrix, where=where)


def check_structure(matrix: Any, *, where: str) -> None:
    """Refuse a CSR or CSC matrix whose parts do not fit together, which compiled code would follow out of bounds."""
    by_cell = matrix.format == "csr"
    rows, columns = matrix.shape if by_cell else matrix.shape[::-1]
    if len(matrix.indices) != len(matrix.data):
        raise CountsError(
            f"the sparse matrix has {len(matrix.indices)} indices for {len(matrix.data)} values",
            where=where,
            remedy=_MEND,
        )
    check_starts(matrix.indptr, rows, len(matrix.data), where=where)
    _check_within(matrix.indices[: int(matrix.indptr[-1])], columns, "genes" if by_cell else "cells", where)


def check_starts(indptr: np.ndarray, n_rows: int, n_stored: int, *, where: str) -> None:
    """Refuse starts of rows (``indptr``) that do not fit the rows and the stored values."""
    fault = None
    if indptr.ndim != 1 or indptr.dtype.kind not in "iu" or len(indptr) != n_rows + 1:
        fault = f"indptr has shape {indptr.shape} and type {indptr.dtype} for {n_rows} rows"
    elif int(indptr[0]) != 0 or bool((indptr[1:] < indptr[:-1]).any()):
        fault = "indptr does not go up from 0"
    elif int(indptr[-1]) > n_stored:
        fault = f"indptr ends at {int(indptr[-1])}, and {n_stored} values are stored"
    if fault is not None:
        raise CountsError(f"the sparse matrix is damaged: {fault}", where=where, remedy=_MEND)


def _canonical_rows(matrix: Any) -> sparse.csr_matrix:
    """Return a sound CSR or CSC matrix as CSR in canonical form."""
    make = sparse.csr_matrix if matrix.format == "csr" else sparse.csc_matrix
    # made again, because the flags that a matrix keeps of itself may be outdated
    rows = make((_computable(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape).tocsr()
    if rows.has_canonical_format and rows.data.all():
        return rows
    rows = sparse.csr_matrix(rows, copy=True)
    rows.sort_indices()
    if not rows.has_canonical_format:
        rows = rows.astype(np.float64)  # sums of small integers would overflow
        rows.sum_duplicates()
    rows.eliminate_zeros()
    return rows


def csr_of_dense(values: np.ndarray) -> sparse.csr_matrix:
    """Return a dense array as CSR in canonical form, several times faster than scipy finds what is not 0."""
    values = np.ascontiguousarray(values)
    there = values != 0
    places = np.flatnonzero(there)
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(there, axis=1))])
    genes = (places % max(values.shape[1], 1)).astype(np.int32)
    return sparse.csr_matrix((values.ravel()[places], genes, starts.astype(np.int32)), shape=values.shape)


def csr_of_parts(
    values: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int], *, where: str
) -> sparse.csr_matrix:
    """Return a CSR matrix in canonical form of parts that come from a file."""
    check_starts(indptr, shape[0], min(len(values), len(indices)), where=where)
    _check_within(indices, shape[1], "genes", where)  # before scipy chooses a narrower type for them
    return sparse.csr_matrix(canonical(sparse.csr_matrix((_computable(values), indices, indptr), shape), where=where))


def narrowed(values: np.ndarray, dtype: Any, *, where: str) -> np.ndarray:
    """Return whole numbers as another type of number, and refuse those that it cannot hold."""
    wanted = np.dtype(dtype)
    if values.dtype == wanted or np.can_cast(values.dtype, wanted):
        return values.astype(wanted, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(wanted)
        wrong = int(np.count_nonzero(cast != values))
    if wrong:
        raise CountsError(
            f"{wrong} values, up to {values.max():g}, cannot be held as {wanted}",
            where=where,
            remedy="Are they counts?",
        )
    return cast
