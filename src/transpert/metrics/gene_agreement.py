"""Do two tables of differential expression agree on which genes respond, how, and in which order?"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy.stats import spearmanr

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError, OptionError

from ._inputs import check_same_length
from .differential_expression import CELL_EVAL, TRANSPERT, DifferentialExpression
from .metric import Direction, Metric, of_tables

# adjusted p-values below this count as equally significant (cell-eval 0.8.2)
_SMALLEST = 1e-10


def _check_pair(predicted: DifferentialExpression, real: DifferentialExpression) -> None:
    check_same_length(predicted.p_value, real.p_value, what="genes in the tables of differential expression")


def _check_n(n: int | None) -> None:
    if n is None:
        return
    try:
        whole = operator.index(n)
    except TypeError:
        whole = 0
    if whole < 1:
        raise OptionError(f"n is {n!r}", remedy="Give a whole number of genes, at least 1, or None for all.")


@as_annotated(error=MetricInputError, but=("n",))
@fill_docstring
def overlap_at_n(
    predicted: DifferentialExpression, real: DifferentialExpression, *, n: int | None = None, empty: float = np.nan
) -> float:
    """Share of the top really significant genes that are among the top predicted ones.

    ``|top-k real & top-k predicted| / k``, both ranked by absolute fold change among the significant genes, ``k``
    the number of really significant genes, or ``n`` if that is smaller.

    Parameters
    ----------
    %(tables)s
    n
        Look at this many genes at most; all really significant ones by default.
    empty
        Value if nothing is really significant. cell-eval says 0, which makes an easy perturbation look badly
        predicted; we say missing.

    Returns
    -------
    From 0 to 1, higher is better; 0 if nothing is predicted significant.

    %(raises_genes_differ)s
    transpert.errors.OptionError
        If ``n`` is not a whole number from 1 upwards.

    Notes
    -----
    cell-eval 0.8.2, ``overlap_at_*``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, overlap_at_n
    >>> sure, unsure = np.array([0.01, 0.01, 0.9]), np.array([0.01, 0.9, 0.01])
    >>> real = DifferentialExpression(np.array([3.0, 2.0, 1.0]), sure, sure, sure)
    >>> predicted = DifferentialExpression(np.array([3.0, 2.0, 1.0]), unsure, unsure, unsure)
    >>> overlap_at_n(predicted, real)
    0.5
    """
    _check_pair(predicted, real)
    _check_n(n)
    k = real.n_significant if n is None else min(n, real.n_significant)
    if k == 0:
        return float(empty)
    return _shared_top(predicted, real, k)


@as_annotated(error=MetricInputError, but=("n",))
@fill_docstring
def precision_at_n(
    predicted: DifferentialExpression, real: DifferentialExpression, *, n: int | None = None, empty: float = np.nan
) -> float:
    """Like :func:`overlap_at_n`, with ``k`` the number of genes predicted significant.

    Parameters
    ----------
    %(tables)s
    n
        Look at this many genes at most.
    empty
        Value if nothing is really significant.

    Returns
    -------
    From 0 to 1, higher is better; 0 if nothing is predicted significant.

    %(raises_genes_differ)s
    transpert.errors.OptionError
        If ``n`` is not a whole number from 1 upwards.

    Notes
    -----
    cell-eval 0.8.2, ``precision_at_*``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, precision_at_n
    %(example_tables)s
    >>> precision_at_n(predicted, real)
    0.5
    """
    _check_pair(predicted, real)
    _check_n(n)
    if real.n_significant == 0:
        return float(empty)
    k = predicted.n_significant if n is None else min(n, predicted.n_significant)
    return _shared_top(predicted, real, k) if k else 0.0


def _shared_top(predicted: DifferentialExpression, real: DifferentialExpression, k: int) -> float:
    """Share of the top ``k`` genes that are the same on both sides."""
    return len(np.intersect1d(real.ranked()[:k], predicted.ranked()[:k])) / k


@as_annotated(error=MetricInputError)
@fill_docstring
def direction_match(predicted: DifferentialExpression, real: DifferentialExpression) -> float:
    """Share of the really significant genes whose predicted fold change has the right sign.

    Parameters
    ----------
    %(tables)s

    Returns
    -------
    From 0 to 1, higher is better; NaN if nothing is really significant. A gene predicted not to change does not match.

    %(raises_genes_differ)s

    Notes
    -----
    cell-eval 0.8.2, ``de_direction_match``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, direction_match
    %(example_tables)s
    >>> direction_match(predicted, real)
    0.5
    """
    _check_pair(predicted, real)
    genes = real.significant
    if not genes.any():
        return float("nan")
    return float(np.mean(np.sign(predicted.log2_fold_change[genes]) == np.sign(real.log2_fold_change[genes])))


@as_annotated(error=MetricInputError)
@fill_docstring
def fold_change_spearman(predicted: DifferentialExpression, real: DifferentialExpression) -> float:
    """Spearman correlation of predicted and real fold changes over the really significant genes.

    Parameters
    ----------
    %(tables)s

    Returns
    -------
    From -1 to 1, higher is better; NaN with fewer than two really significant genes, or if one side is constant.

    %(raises_genes_differ)s

    Notes
    -----
    cell-eval 0.8.2, ``de_spearman_lfc_sig``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, fold_change_spearman
    %(example_tables)s
    >>> round(fold_change_spearman(predicted, real), 6)
    1.0
    """
    _check_pair(predicted, real)
    genes = real.significant
    return spearman(predicted.log2_fold_change[genes], real.log2_fold_change[genes])


@as_annotated(error=MetricInputError)
@fill_docstring
def significant_recall(predicted: DifferentialExpression, real: DifferentialExpression) -> float:
    """Share of the really significant genes that are predicted significant.

    Parameters
    ----------
    %(tables)s

    Returns
    -------
    From 0 to 1, higher is better; NaN if nothing is really significant.

    %(raises_genes_differ)s

    Notes
    -----
    cell-eval 0.8.2, ``de_sig_genes_recall``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, significant_recall
    %(example_tables)s
    >>> significant_recall(predicted, real)
    0.5
    """
    _check_pair(predicted, real)
    both = np.count_nonzero(predicted.significant & real.significant)
    return float(both / real.n_significant) if real.n_significant else float("nan")


@as_annotated(error=MetricInputError)
@fill_docstring
def area_under_curve(
    predicted: DifferentialExpression, real: DifferentialExpression, *, curve: Literal["pr", "roc"] = "pr"
) -> float:
    """How well predicted significance ranks the really significant genes before the others.

    Genes are ranked by ``-log10`` of the predicted adjusted p-value, no smaller than 1e-10.

    Parameters
    ----------
    %(tables)s
    curve
        ``"pr"`` average precision, or ``"roc"`` area under the receiver operating characteristic.

    Returns
    -------
    From 0 to 1, higher is better; NaN if no gene or every gene is really significant.

    %(raises_genes_differ)s
    transpert.errors.OptionError
        If there is no such curve.

    Notes
    -----
    cell-eval 0.8.2, ``pr_auc`` and ``roc_auc``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, area_under_curve
    %(example_tables)s
    >>> area_under_curve(predicted, real, curve="roc")
    0.25
    """
    if curve not in ("pr", "roc"):
        raise OptionError(f"curve is {curve!r}", remedy="Choose 'pr' or 'roc'.")
    _check_pair(predicted, real)
    labels = real.significant
    if labels.all() or not labels.any():
        return float("nan")
    scores = -np.log10(np.clip(predicted.adjusted, predicted.adjusted.dtype.type(_SMALLEST), 1))
    # true and false positives at every threshold; genes with the same score pass it together
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(labels[order])[last].astype(float)
    misses = last + 1 - hits
    if curve == "pr":
        return float(np.sum(np.diff(hits, prepend=0) * hits / (last + 1)) / hits[-1])
    return float(np.trapezoid(np.append(0, hits), np.append(0, misses)) / (hits[-1] * misses[-1]))


@as_annotated(error=MetricInputError)
@fill_docstring
def n_significant_ratio(predicted: DifferentialExpression, real: DifferentialExpression) -> float:
    """Number of genes predicted significant over the number that really are.

    Parameters
    ----------
    %(tables)s

    Returns
    -------
    From 0, 1 is best; NaN if nothing is really significant. Far above 1 the prediction has
    lost the noise of real cells.

    %(raises_genes_differ)s

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, n_significant_ratio
    %(example_tables)s
    >>> n_significant_ratio(predicted, real)
    1.0
    """
    _check_pair(predicted, real)
    return predicted.n_significant / real.n_significant if real.n_significant else float("nan")


@as_annotated(error=MetricInputError, predicted="P", real="Q")
def n_significant_spearman(predicted: np.ndarray, real: np.ndarray) -> float:
    """Spearman correlation over perturbations of predicted and real numbers of significant genes.

    Perturbations without any really significant gene are left out.

    Parameters
    ----------
    predicted, real : (P,)
        Numbers of significant genes.

    Returns
    -------
    From -1 to 1, higher is better; 1 if no perturbation has a really significant gene; NaN with a single one, or if one
    side is constant.

    Raises
    ------
    transpert.errors.MetricInputError
        If there are not as many of both.

    Notes
    -----
    cell-eval 0.8.2, ``de_spearman_sig``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import n_significant_spearman
    >>> round(n_significant_spearman(np.array([5, 9, 90, 0]), np.array([1, 2, 3, 0])), 6)
    1.0
    """
    predicted, real = np.asarray(predicted), np.asarray(real)
    check_same_length(predicted, real, what="numbers of significant genes")
    some = real > 0
    return spearman(predicted[some], real[some]) if some.any() else 1.0


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman correlation, NaN where it is not defined."""
    if len(a) < 2 or np.all(a == a[0]) or np.all(b == b[0]):
        return float("nan")
    return float(spearmanr(a, b).statistic)


_FAMILY = "differential expression"
_COUNTS = ("n_significant_predicted", "n_significant_real")


def _count(predicted: DifferentialExpression, real: DifferentialExpression, *, side: str) -> float:
    """Count the significant genes of one side."""
    return float((predicted if side == "pred" else real).n_significant)


def _spearman_counts(summaries: Any) -> np.ndarray:
    """Correlate the numbers of significant genes over the perturbations of each context."""
    return summaries.one(lambda rows: n_significant_spearman(*(summaries[name][rows] for name in _COUNTS)))


def _ours(name: str, function: Callable, direction: Direction = "higher") -> Metric:
    """Make an entry by the convention of this package."""
    return Metric(name, _FAMILY, direction, ("de_real", "de_predicted"), of_tables(function, TRANSPERT))


def _theirs(name: str, function: Callable, direction: Direction = "higher", **options: object) -> Metric:
    """Make an entry by the convention of cell-eval."""
    compute = of_tables(function, CELL_EVAL, **options)
    return Metric(name, _FAMILY, direction, ("tables",), compute, panels=("cell-eval",))


ENTRIES = (
    _ours("overlap_at_n", overlap_at_n),
    _ours("precision_at_n", precision_at_n),
    _ours("n_sig_ratio", n_significant_ratio, "one"),
    _ours("direction_match", direction_match),
    _theirs("overlap_at_all", overlap_at_n, n=None, empty=0.0),
    *(_theirs(f"overlap_at_{n}", overlap_at_n, n=n, empty=0.0) for n in (50, 100, 200, 500)),
    _theirs("precision_at_all", precision_at_n, n=None, empty=0.0),
    *(_theirs(f"precision_at_{n}", precision_at_n, n=n, empty=0.0) for n in (50, 100, 200, 500)),
    Metric(
        "de_spearman_sig",
        _FAMILY,
        "higher",
        _COUNTS,
        _spearman_counts,
        level="prediction",
        per="context",
        panels=("cell-eval",),
    ),
    _theirs("de_direction_match", direction_match),
    _theirs("de_spearman_lfc_sig", fold_change_spearman),
    _theirs("de_sig_genes_recall", significant_recall),
    _theirs("de_nsig_counts_real", _count, "none", side="real"),
    _theirs("de_nsig_counts_pred", _count, "none", side="pred"),
    _theirs("pr_auc", area_under_curve, curve="pr"),
    _theirs("roc_auc", area_under_curve, curve="roc"),
)
