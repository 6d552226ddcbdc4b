"""Checks of the arrays that metrics are given, and small array arithmetic that several families share."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
from scipy import sparse

from transpert._matrices import as_dense, canonical
from transpert.errors import MetricInputError

# a shift this small, in log1p, is the rounding of a mean and no prediction
_NOTHING = 1e-6


def check_finite(values: np.ndarray, where: str) -> None:
    """Check that no entry is NaN or infinite."""
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise MetricInputError(
            f"{wrong} of {values.size} entries are NaN or infinite", where=where, remedy="Remove or replace them."
        )


def check_cells(cells: Any, *, where: str, n_genes: int | None = None) -> np.ndarray | sparse.spmatrix:
    """Check cells, log1p counts per 10k, and return them as a matrix."""
    if not sparse.issparse(cells):
        cells = _array(cells, where)
    if cells.ndim != 2 or 0 in cells.shape:
        raise MetricInputError(f"the matrix has shape {cells.shape}", where=where, remedy="Cells x genes are needed.")
    if n_genes is not None and cells.shape[1] != n_genes:
        hint = "It may be transposed." if cells.shape[0] == n_genes else "Align the genes by name."
        raise MetricInputError(f"the matrix has {cells.shape[1]} genes, not {n_genes}", where=where, remedy=hint)
    cells = canonical(cells, where=where)
    values: np.ndarray = np.asarray(cells.data if sparse.issparse(cells) else cells)
    check_finite(values, where)
    negative = int(np.count_nonzero(values < 0))
    if negative:
        raise MetricInputError(
            f"{negative} of {values.size} entries are negative", where=where, remedy="Pass log1p counts per 10k."
        )
    return cells


def _array(cells: Any, where: str) -> np.ndarray:
    remedy = "Cells x genes are needed."
    if not (isinstance(cells, list | tuple) or hasattr(cells, "__array__")):  # numpy would take an AnnData to pieces
        what = f"the values are of type {type(cells).__name__}, not numbers"
        raise MetricInputError(what, where=where, remedy=remedy)
    try:
        array = np.asarray(cells)
    except ValueError:  # rows of different lengths
        raise MetricInputError("the values make no matrix", where=where, remedy=remedy) from None
    if array.dtype.kind not in "biuf":
        raise MetricInputError(f"the values are of type {array.dtype}, not numbers", where=where, remedy=remedy)
    return array


def check_deltas(predicted: np.ndarray, real: np.ndarray, *, what: str = "effects") -> tuple[np.ndarray, np.ndarray]:
    """Check two tables, ``(P, G)`` or ``(G,)``, and return them two-dimensional."""
    try:
        predicted, real = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (predicted, real))
    except (TypeError, ValueError):
        raise MetricInputError(
            f"the {what} are no table of numbers", where=what, remedy="Give arrays of perturbations x genes."
        ) from None
    if predicted.ndim != 2 or predicted.shape != real.shape or 0 in predicted.shape:
        is_transposed = predicted.ndim == 2 and predicted.shape == real.shape[::-1]
        raise MetricInputError(
            f"the predicted {what} have shape {predicted.shape}, the real ones {real.shape}",
            where=what,
            remedy=("One of them may be transposed. " if is_transposed else "")
            + "Both must be perturbations x genes, in the same order.",
        )
    check_finite(predicted, f"the predicted {what}")
    check_finite(real, f"the real {what}")
    return predicted, real


def check_same_length(a: Sized, b: Sized, *, what: str) -> None:
    """Check that two arrays have as many entries."""
    if len(a) != len(b):
        raise MetricInputError(
            f"{len(a)} predicted and {len(b)} real {what}",
            where=what,
            remedy="Give one of each for every population, in the same order.",
        )


def dense(cells: Any) -> np.ndarray:
    """Return cells as a dense matrix of floating type: float32 stays float32, everything else becomes float64."""
    values = as_dense(cells, None)
    return values if values.dtype == np.float32 else values.astype(np.float64, copy=False)


def same_values(a: Any, b: Any) -> bool:
    """Whether two checked matrices are of one kind and type, and have the same values."""
    if type(a) is not type(b) or a.shape != b.shape or a.dtype != b.dtype:
        return False
    parts = ("indptr", "indices", "data") if sparse.issparse(a) else (None,)
    return all(np.array_equal(*(m if part is None else getattr(m, part) for m in (a, b))) for part in parts)


def pearson_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of the rows of two matrices, NaN where a row is constant up to rounding."""
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (a, b))
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    constant = np.minimum(np.ptp(a, axis=1), np.ptp(b, axis=1)) < _NOTHING
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(constant, np.nan, (x * y).sum(axis=1) / scale)
