"""The few genes with the largest effects, and those that only one perturbation moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError, OptionError

from ._inputs import check_deltas
from .metric import DELTA, Metric, within_contexts


@as_annotated(error=MetricInputError)
@fill_docstring
def top_recall(predicted: np.ndarray, real: np.ndarray, *, share: float = 0.01) -> np.ndarray:
    """Share of the genes with the largest real effects that are among as many with the largest predicted effects.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean shifts in log1p; their absolute values count.
    share
        Share of all genes to look at, at least one gene.

    Returns
    -------
    ``(P,)``, from 0 to 1, higher is better; NaN where the real effect is 0 for some of those genes. Predicted effects
    of the same size count in part, so that a constant prediction scores ``share``.

    %(raises_arrays_differ)s
    transpert.errors.OptionError
        If the share is not between 0 and 1.

    Examples
    --------
    >>> from transpert.metrics import top_recall
    >>> top_recall([[3.0, 0.0, 2.0, 1.0]], [[4.0, -3.0, 0.0, 1.0]], share=0.5).tolist()
    [0.5]
    """
    guess, top = _tops(predicted, real, share)
    k = top.sum(axis=1)
    result = np.full(len(guess), np.nan)
    for row in np.flatnonzero(k):
        cut = np.partition(guess[row], -k[row])[-k[row]]
        above, at = guess[row] > cut, guess[row] == cut
        hits = np.count_nonzero(top[row] & above)
        result[row] = (hits + np.count_nonzero(top[row] & at) * (k[row] - above.sum()) / at.sum()) / k[row]
    return result


@as_annotated(error=MetricInputError)
@fill_docstring
def top_average_precision(predicted: np.ndarray, real: np.ndarray, *, share: float = 0.01) -> np.ndarray:
    """Average precision with which predicted effects rank the genes with the largest real effects first.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean shifts in log1p; their absolute values count.
    share
        Share of all genes to find, at least one gene.

    Returns
    -------
    ``(P,)``, from 0 to 1, higher is better; a constant prediction scores ``share``. NaN where the real effect is 0 for
    some of those genes.

    %(raises_arrays_differ)s
    transpert.errors.OptionError
        If the share is not between 0 and 1.

    Examples
    --------
    >>> from transpert.metrics import top_average_precision
    >>> top_average_precision([[3.0, 0.0, 2.0, 1.0]], [[4.0, -3.0, 0.0, 1.0]], share=0.5).tolist()
    [0.75]
    """
    guess, top = _tops(predicted, real, share)
    return np.array(
        [average_precision_score(*pair) if pair[0].any() else np.nan for pair in zip(top, guess, strict=True)]
    )


@as_annotated(error=MetricInputError)
@fill_docstring
def unique_gene_error(
    predicted: np.ndarray, real: np.ndarray, significant: np.ndarray, *, max_others: int = 0
) -> np.ndarray:
    """Error of the mean shift on genes that only this perturbation moves, over the size of their real shift.

    ``mean |predicted - real| / mean |real|`` over the genes that are significant for the perturbation and for at most
    ``max_others`` others of its context. The mean response says nothing about them.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean shifts in log1p of the perturbations of one context.
    significant : (P, G)
        Which genes are really significant.
    max_others
        How many other perturbations may move such a gene.

    Returns
    -------
    ``(P,)``, from 0, lower is better; 1 for predicting no change. NaN where there is no such gene, and for a single
    perturbation.

    %(raises_arrays_differ)s

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import unique_gene_error
    >>> unique_gene_error(np.array([[1.0, 2.0], [1.0, 0.0]]), np.eye(2) * 2, np.eye(2) > 0).tolist()
    [0.5, 1.0]
    """
    predicted, real = check_deltas(predicted, real)
    significant = np.asarray(significant, dtype=bool)
    if significant.shape != real.shape:
        raise MetricInputError(
            f"they have shape {significant.shape}, not {real.shape}",
            where="significant genes",
            remedy="Give one value for every effect.",
        )
    if len(real) < 2:
        return np.full(len(real), np.nan)
    unique = significant & (significant.sum(axis=0) - 1 <= max_others)
    size = (np.abs(real) * unique).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(size > 0, (np.abs(predicted - real) * unique).sum(axis=1) / size, np.nan)


def _tops(predicted: np.ndarray, real: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of predicted effects, and which genes have the largest real ones (none where those are not defined)."""
    if not 0 < share < 1:
        raise OptionError(f"share is {share}", remedy="Choose a share of the genes between 0 and 1.")
    predicted, real = check_deltas(predicted, real)
    k = max(1, round(share * real.shape[1]))
    size = np.abs(real)
    order = np.argsort(-size, axis=1, kind="stable")[:, :k]
    top = np.zeros(real.shape, dtype=bool)
    np.put_along_axis(top, order, True, axis=1)
    top[np.take_along_axis(size, order[:, -1:], axis=1)[:, 0] == 0] = False
    return np.abs(predicted), top


def _top(name: str, function: Callable, label: str, share: float) -> Metric:
    """Make an entry of a function of the share of genes with the largest effects."""

    def compute(c: Any) -> float:
        return float(function(c.delta_predicted, c.delta_real, share=share)[0])

    return Metric(f"top_{name}_{label}", "rare tails", "higher", DELTA, compute)


_UNIQUE = (*DELTA, "significant_real")
ENTRIES = (
    *(
        _top(name, function, label, share)
        for name, function in (("recall", top_recall), ("average_precision", top_average_precision))
        for label, share in (("0.1%", 0.001), ("1%", 0.01))
    ),
    Metric(
        "unique_gene_error",
        "rare tails",
        "lower",
        _UNIQUE,
        within_contexts(unique_gene_error, *_UNIQUE),
        level="prediction",
    ),
)
