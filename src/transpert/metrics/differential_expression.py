"""Differential expression of one population against its controls, and metrics that compare two such tables."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass

import anndata
import illico
import numpy as np
import pandas as pd
from loguru import logger
from scipy import sparse
from scipy.stats import false_discovery_control

from transpert.errors import MetricInputError

from ._inputs import check_cells

__all__ = [
    "DifferentialExpression",
    "differential_expression",
    "direction_match",
    "n_significant_ratio",
    "overlap_at_n",
    "precision_at_n",
]

# counts per 10k that are added before a fold change is taken, so that a zero on one side is not infinite
PSEUDO_RATE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class DifferentialExpression:
    """Rank-sum tests of every gene in one population against its controls.

    Parameters
    ----------
    log2_fold_change : (G,)
        Of the mean counts per 10k.
    p_value, adjusted : (G,)
        Two-sided p-value, and after Benjamini-Hochberg.
    z_score : (G,)
        Signed statistic.
    alpha
        Level of significance.
    """

    log2_fold_change: np.ndarray
    p_value: np.ndarray
    adjusted: np.ndarray
    z_score: np.ndarray
    alpha: float = 0.05

    @property
    def significant(self) -> np.ndarray:
        """Which genes are significant, ``(G,)`` bool."""
        return self.adjusted < self.alpha

    @property
    def n_significant(self) -> int:
        """How many are."""
        return int(self.significant.sum())

    def ranked(self) -> np.ndarray:
        """Return the significant genes, the largest absolute fold change first."""
        genes = np.flatnonzero(self.significant)
        return genes[np.argsort(-np.abs(self.log2_fold_change[genes]), kind="stable")]


def differential_expression(
    cells: np.ndarray | sparse.spmatrix, controls: np.ndarray | sparse.spmatrix, *, alpha: float = 0.05
) -> DifferentialExpression:
    """Test every gene of a population against its controls with the Mann-Whitney rank-sum test.

    Parameters
    ----------
    cells, controls : (N, G), (M, G)
        Log1p counts per 10k.
    alpha
        Level of significance after Benjamini-Hochberg.

    Returns
    -------
    The tests. A gene that is constant over all cells has p-value 1.

    Raises
    ------
    transpert.errors.MetricInputError
        If the matrices are empty, do not fit, or hold NaN, infinite or negative values.

    Notes
    -----
    The tests are those of illico, asymptotic with tie and continuity correction, as in scanpy with
    ``tie_correct=True``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import differential_expression
    >>> rng = np.random.default_rng(0)
    >>> controls = rng.random((50, 2))
    >>> cells = rng.random((50, 2)) + [0.0, 1.0]
    >>> differential_expression(cells, controls).significant.tolist()
    [False, True]
    """
    check_cells(controls, where="the control cells")
    check_cells(cells, where="the cells", n_genes=controls.shape[1])
    stacked = sparse.vstack([sparse.csr_matrix(cells), sparse.csr_matrix(controls)], format="csr").astype(np.float32)
    stacked.sort_indices()
    obs = pd.DataFrame({"group": ["cells"] * cells.shape[0] + ["controls"] * controls.shape[0]})
    obs.index = obs.index.astype(str)
    adata = anndata.AnnData(stacked, obs=obs)
    # illico logs to loguru and draws its own bar, in the middle of ours
    logger.disable("illico")
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        table = illico.asymptotic_wilcoxon(
            adata, is_log1p=True, group_keys="group", reference="controls", groups=["cells", "controls"]
        )
    table = table.xs("cells", level=0)
    p_value = np.nan_to_num(table["p_value"].to_numpy(dtype=float), nan=1.0)
    rates = [_mean_rate(matrix) for matrix in (cells, controls)]
    fold = np.log2(rates[0] + PSEUDO_RATE) - np.log2(rates[1] + PSEUDO_RATE)
    z_score = np.nan_to_num(table[_z_column(table)].to_numpy(dtype=float))
    return DifferentialExpression(fold, p_value, false_discovery_control(p_value), z_score, alpha)


def _z_column(table: pd.DataFrame) -> str:
    return next(column for column in table.columns if column.startswith("z"))


def _mean_rate(cells: np.ndarray | sparse.spmatrix) -> np.ndarray:
    if sparse.issparse(cells):
        return np.asarray(sparse.csr_matrix(cells).expm1().mean(axis=0), dtype=np.float64).ravel()
    return np.expm1(np.asarray(cells, dtype=np.float64)).mean(axis=0)


def _check_pair(predicted: DifferentialExpression, real: DifferentialExpression) -> None:
    if len(predicted.p_value) != len(real.p_value):
        raise MetricInputError(
            f"{len(predicted.p_value)} predicted and {len(real.p_value)} real genes", where="differential expression"
        )


def overlap_at_n(predicted: DifferentialExpression, real: DifferentialExpression, *, n: int | None = None) -> float:
    """Share of the top really significant genes that are among the top predicted ones.

    ``|top-k real & top-k predicted| / k``, both ranked by absolute fold change among the significant genes, ``k``
    the number of really significant genes, or ``n`` if that is smaller.

    Parameters
    ----------
    predicted, real
        The tests.
    n
        Look at this many genes at most; all really significant ones by default.

    Returns
    -------
    From 0 to 1, higher is better; 0 if nothing is predicted significant, NaN if nothing really is.

    Raises
    ------
    transpert.errors.MetricInputError
        If the tables are of different genes.
    """
    _check_pair(predicted, real)
    k = real.n_significant if n is None else min(n, real.n_significant)
    if k == 0:
        return float("nan")
    return len(np.intersect1d(real.ranked()[:k], predicted.ranked()[:k])) / k


def precision_at_n(predicted: DifferentialExpression, real: DifferentialExpression, *, n: int | None = None) -> float:
    """Like :func:`overlap_at_n`, with ``k`` the number of genes predicted significant.

    Parameters
    ----------
    predicted, real
        The tests.
    n
        Look at this many genes at most.

    Returns
    -------
    From 0 to 1, higher is better; 0 if nothing is predicted significant, NaN if nothing really is.

    Raises
    ------
    transpert.errors.MetricInputError
        If the tables are of different genes.
    """
    _check_pair(predicted, real)
    if real.n_significant == 0:
        return float("nan")
    k = predicted.n_significant if n is None else min(n, predicted.n_significant)
    return len(np.intersect1d(real.ranked()[:k], predicted.ranked()[:k])) / k if k else 0.0


def direction_match(predicted: DifferentialExpression, real: DifferentialExpression) -> float:
    """Share of the really significant genes whose predicted fold change has the right sign.

    Parameters
    ----------
    predicted, real
        The tests.

    Returns
    -------
    From 0 to 1, higher is better; NaN if nothing is really significant. A gene predicted not to change does not match.

    Raises
    ------
    transpert.errors.MetricInputError
        If the tables are of different genes.
    """
    _check_pair(predicted, real)
    genes = real.significant
    if not genes.any():
        return float("nan")
    return float(np.mean(np.sign(predicted.log2_fold_change[genes]) == np.sign(real.log2_fold_change[genes])))


def n_significant_ratio(predicted: DifferentialExpression, real: DifferentialExpression) -> float:
    """Number of genes predicted significant over the number that really are.

    Parameters
    ----------
    predicted, real
        The tests.

    Returns
    -------
    From 0, 1 is best; NaN if nothing is really significant. Far above 1 the prediction has
    lost the noise of real cells.

    Raises
    ------
    transpert.errors.MetricInputError
        If the tables are of different genes.
    """
    _check_pair(predicted, real)
    return predicted.n_significant / real.n_significant if real.n_significant else float("nan")
