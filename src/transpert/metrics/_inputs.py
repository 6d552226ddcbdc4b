"""One check of the arrays that metrics are given."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from transpert.errors import MetricInputError

__all__ = ["check_cells", "check_deltas"]


def _check_values(values: np.ndarray, where: str) -> None:
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise MetricInputError(f"{wrong} of {values.size} entries are NaN or infinite", where=where)


def check_cells(cells: np.ndarray | sparse.spmatrix, *, where: str, n_genes: int | None = None) -> None:
    """Check a matrix of cells, log1p counts per 10k.

    Parameters
    ----------
    cells : (N, G)
        Dense or sparse.
    where
        Its name, for the message.
    n_genes
        The number of genes it must have.

    Raises
    ------
    transpert.errors.MetricInputError
        If it is empty, has another number of genes, or holds NaN, infinite or negative values.
    """
    if cells.ndim != 2 or 0 in cells.shape:
        raise MetricInputError(f"the matrix has shape {cells.shape}", where=where, remedy="Cells x genes are needed.")
    if n_genes is not None and cells.shape[1] != n_genes:
        hint = "It may be transposed." if cells.shape[0] == n_genes else "Align the genes by name."
        raise MetricInputError(f"the matrix has {cells.shape[1]} genes, not {n_genes}", where=where, remedy=hint)
    values = cells.data if sparse.issparse(cells) else np.asarray(cells)
    _check_values(values, where)
    negative = int(np.count_nonzero(values < 0))
    if negative:
        raise MetricInputError(
            f"{negative} of {values.size} entries are negative", where=where, remedy="Pass log1p counts per 10k."
        )


def check_deltas(predicted: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check two tables of effects, ``(P, G)`` or ``(G,)``, and return them two-dimensional.

    Raises
    ------
    transpert.errors.MetricInputError
        If their shapes differ, they are empty, or hold NaN or infinite values.
    """
    predicted, real = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (predicted, real))
    if predicted.shape != real.shape or 0 in predicted.shape:
        raise MetricInputError(
            f"the predicted effects have shape {predicted.shape}, the real ones {real.shape}",
            where="effects",
            remedy="Both must be perturbations x genes, in the same order.",
        )
    _check_values(predicted, "the predicted effects")
    _check_values(real, "the real effects")
    return predicted, real
