"""Is a predicted population like cells at all?"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from transpert._signatures import as_annotated
from transpert.errors import MetricInputError

from ._inputs import check_cells
from .metric import CELLS, Metric


@as_annotated(error=MetricInputError, but=("cells", "real"))
def variance_ratio(cells: np.ndarray | sparse.spmatrix, real: np.ndarray | sparse.spmatrix) -> float:
    """Median over genes of predicted over real variance.

    Parameters
    ----------
    cells, real : (N, G), (M, G)
        Log1p counts per 10k.

    Returns
    -------
    From 0, 1 is best; near 0 the cells have collapsed to their mean. NaN if no gene varies in the real cells.

    Raises
    ------
    transpert.errors.MetricInputError
        If the matrices do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import variance_ratio
    >>> variance_ratio(np.array([[1.0], [1.0]]), np.array([[0.0], [1.0]]))
    0.0
    """
    real = check_cells(real, where="the real cells")
    cells = check_cells(cells, where="the cells", n_genes=real.shape[1])
    predicted, truth = _variance(cells), _variance(real)
    varying = truth > 0
    return float(np.median(predicted[varying] / truth[varying])) if varying.any() else float("nan")


@as_annotated(error=MetricInputError, but=("cells", "real"))
def zero_fraction_gap(cells: np.ndarray | sparse.spmatrix, real: np.ndarray | sparse.spmatrix) -> float:
    """Mean over genes of the absolute difference in the share of zeros.

    Parameters
    ----------
    cells, real : (N, G), (M, G)
        Log1p counts per 10k.

    Returns
    -------
    From 0 to 1, lower is better.

    Raises
    ------
    transpert.errors.MetricInputError
        If the matrices do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import zero_fraction_gap
    >>> zero_fraction_gap(np.array([[0.1], [0.1]]), np.array([[0.0], [1.0]]))
    0.5
    """
    real = check_cells(real, where="the real cells")
    cells = check_cells(cells, where="the cells", n_genes=real.shape[1])
    shares = [np.asarray((matrix > 0).mean(axis=0), dtype=float).ravel() for matrix in (cells, real)]
    return float(np.abs(shares[0] - shares[1]).mean())


def _variance(cells: np.ndarray | sparse.spmatrix) -> np.ndarray:
    if not sparse.issparse(cells):
        return np.asarray(cells, dtype=np.float64).var(axis=0)
    matrix = sparse.csr_matrix(cells, dtype=np.float64)
    mean = np.asarray(matrix.mean(axis=0)).ravel()
    return np.maximum(np.asarray(matrix.multiply(matrix).mean(axis=0)).ravel() - mean**2, 0)


ENTRIES = (
    Metric("variance_ratio", "integrity", "one", CELLS, lambda c: variance_ratio(c.predicted.cells, c.real.cells)),
    Metric(
        "zero_fraction_gap", "integrity", "lower", CELLS, lambda c: zero_fraction_gap(c.predicted.cells, c.real.cells)
    ),
)
