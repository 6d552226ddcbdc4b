"""Is a predicted population like cells at all?"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from transpert._signatures import as_annotated
from transpert.errors import MetricInputError

from .metric import CELLS, Metric
from .population import Population

type Cells = np.ndarray | sparse.spmatrix | Population


@as_annotated(error=MetricInputError, but=("cells", "real"))
def variance_ratio(cells: Cells, real: Cells) -> float:
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
    predicted, truth = (population.variance for population in _populations(cells, real))
    varying = truth > 0
    return float(np.median(predicted[varying] / truth[varying])) if varying.any() else float("nan")


@as_annotated(error=MetricInputError, but=("cells", "real"))
def zero_fraction_gap(cells: Cells, real: Cells) -> float:
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
    predicted, truth = (population.share_above_zero for population in _populations(cells, real))
    return float(np.abs(predicted - truth).mean())


def _populations(cells: Cells, real: Cells) -> tuple[Population, Population]:
    """Return both as populations of the same genes."""
    truth = Population.of(real, where="the real cells")
    predicted = Population.of(cells)
    predicted.check_genes(truth.n_genes)
    return predicted, truth


ENTRIES = (
    Metric("variance_ratio", "integrity", "one", CELLS, lambda c: variance_ratio(c.predicted, c.real)),
    Metric("zero_fraction_gap", "integrity", "lower", CELLS, lambda c: zero_fraction_gap(c.predicted, c.real)),
)
