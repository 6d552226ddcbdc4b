"""Differential expression of populations against their controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import sparse
from scipy.stats import false_discovery_control

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated, check_fields
from transpert.errors import MetricInputError

from ._inputs import check_cells
from .rank_tests import RankSums, SortedCells


@dataclass(frozen=True, slots=True)
class Convention:
    """How fold changes are taken and which genes are tested; the rank-sum test itself is the same everywhere.

    Parameters
    ----------
    mean
        ``"arithmetic"`` mean of the counts per 10k, or ``"geometric"``: ``expm1`` of the mean log1p.
    pseudo_rate
        Counts per 10k added to both means before the ratio is taken. With 0, a gene that is 0 on one side has an
        infinite fold change, and one that is 0 on both sides a fold change of 0.
    min_control_rate
        A gene is tested only where the mean counts per 10k of the controls exceed this; None tests every gene. It
        decides over how many genes false discoveries are controlled.
    alpha
        Level of significance after Benjamini-Hochberg.
    from_counts
        Test log1p values computed from the raw counts in double precision, in place of those of the cells.
    single_precision
        Round adjusted p-values and fold changes to float32 before they are compared and ranked.
    """

    mean: Literal["arithmetic", "geometric"] = "arithmetic"
    pseudo_rate: float = 1e-3
    min_control_rate: float | None = None
    alpha: float = 0.05
    from_counts: bool = False
    single_precision: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


# ours: a zero on one side gives a large but finite fold change
TRANSPERT = Convention()
# cell-eval 0.8.2 (pdex with epsilon 0, read into float32 columns)
CELL_EVAL = Convention(mean="geometric", pseudo_rate=0.0, single_precision=True)
# cell-eval2 0.20.0, preset vcc2026: 1e-9 and 5 counts per million are 1e-11 and 0.05 per 10k
CHALLENGE_2026 = Convention(pseudo_rate=1e-11, min_control_rate=0.05, from_counts=True)
CONVENTIONS: dict[str, Convention] = {"transpert": TRANSPERT, "cell-eval": CELL_EVAL, "vcc2026": CHALLENGE_2026}


@dataclass(frozen=True, slots=True, eq=False)
class DifferentialExpression:
    """Rank-sum tests of every gene in one population against its controls.

    Parameters
    ----------
    log2_fold_change : (G,)
        Of the mean counts per 10k.
    p_value, adjusted : (G,)
        Two-sided p-value, and after Benjamini-Hochberg; both are 1 for a gene that is not tested.
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


@as_annotated(error=MetricInputError, but=("populations", "controls"))
@fill_docstring
def rank_sums(
    populations: Sequence[np.ndarray | sparse.spmatrix], controls: np.ndarray | sparse.spmatrix
) -> list[RankSums]:
    """Test every gene of several populations against the same controls.

    Much faster than one call a population, because the controls are sorted once.

    Parameters
    ----------
    populations : sequence of (N, G)
        Values that are compared by rank only: log1p counts per 10k.
    controls : (M, G)
        The same of the controls.

    Returns
    -------
    One :class:`RankSums` a population.

    %(raises_bad_matrices)s

    Notes
    -----
    Asymptotic, with tie and continuity correction, as :func:`scipy.stats.mannwhitneyu` and scanpy with
    ``tie_correct=True``. The controls are sorted once, and each cell is looked up among them.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import rank_sums
    >>> rng = np.random.default_rng(0)
    >>> controls = rng.random((50, 1))
    >>> same, shifted = rank_sums([rng.random((50, 1)), rng.random((50, 1)) + 1], controls)
    >>> bool(same.p_value[0] > 0.05 > shifted.p_value[0])
    True
    """
    controls = check_cells(controls, where="the control cells")
    n_genes = controls.shape[1]
    if not isinstance(populations, list | tuple):
        raise MetricInputError(
            f"the populations are of type {type(populations).__name__}", where="populations", remedy="Give a list."
        )
    checked = [check_cells(cells, where="the cells", n_genes=n_genes) for cells in populations]
    if not checked:
        return []
    known = SortedCells.of(controls)
    return [known.test(cells) for cells in checked]


@as_annotated(error=MetricInputError, but=("cells", "controls"))
@fill_docstring
def differential_expression(
    cells: np.ndarray | sparse.spmatrix,
    controls: np.ndarray | sparse.spmatrix,
    *,
    alpha: float = 0.05,
    convention: Convention | None = None,
) -> DifferentialExpression:
    """Test every gene of a population against its controls with the Mann-Whitney rank-sum test.

    Parameters
    ----------
    cells, controls : (N, G), (M, G)
        Log1p counts per 10k.
    alpha
        Level of significance after Benjamini-Hochberg, where no convention is given.
    convention
        How fold changes are taken and which genes are tested: a value of ``CONVENTIONS``, ``"transpert"`` by default.

    Returns
    -------
    The tests. A gene that is constant over all cells has p-value 1.

    %(raises_bad_matrices)s

    Notes
    -----
    The tests are those of :func:`rank_sums`.

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
    tests = rank_sums([cells], controls)[0]
    convention = convention or Convention(alpha=alpha)
    rates = [mean_rate(matrix, geometric=convention.mean == "geometric") for matrix in (cells, controls)]
    tested = rates[1] if convention.mean == "arithmetic" else mean_rate(controls)
    return assemble(tests, rates[0], rates[1], tested, convention)


def assemble(
    tests: RankSums, rate: np.ndarray, control_rate: np.ndarray, filter_rate: np.ndarray, convention: Convention
) -> DifferentialExpression:
    """Join tests with fold changes of the given means; ``filter_rate`` decides which genes are tested."""
    p_value, adjusted = tests.p_value, np.ones_like(tests.p_value)
    tested = np.ones(len(p_value), dtype=bool)
    if convention.min_control_rate is not None:
        tested = filter_rate > convention.min_control_rate
        p_value = np.where(tested, p_value, 1.0)
    if tested.any():
        adjusted[tested] = false_discovery_control(p_value[tested])
    with np.errstate(divide="ignore", invalid="ignore"):
        fold = np.log2((rate + convention.pseudo_rate) / (control_rate + convention.pseudo_rate))
    fold[np.isnan(fold)] = 0.0  # nothing on both sides is no change
    if convention.single_precision:
        fold, adjusted = fold.astype(np.float32), adjusted.astype(np.float32)
    return DifferentialExpression(fold, p_value, adjusted, tests.z_score, convention.alpha)


def mean_rate(cells: np.ndarray | sparse.spmatrix, *, geometric: bool = False) -> np.ndarray:
    """Mean counts per 10k of log1p values, arithmetic or geometric."""
    # scipy averages float32 in float32, whatever dtype is asked for
    values: Any = cells.astype(np.float64) if sparse.issparse(cells) else np.asarray(cells, dtype=np.float64)
    if geometric:
        return np.expm1(np.asarray(values.mean(axis=0)).ravel())
    with np.errstate(over="ignore"):  # an audit asks for predictions that lie beyond all numbers
        rates = values.expm1() if sparse.issparse(values) else np.expm1(values)
    return np.asarray(rates.mean(axis=0)).ravel()
