"""The metrics of the Virtual Cell Challenge 2026 (cell-eval2, preset ``vcc2026``), and its score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError, list_names

from ._inputs import check_same_length
from .differential_expression import CHALLENGE_2026, DifferentialExpression
from .metric import Direction, Metric

# share of right signs up to which a ranking counts as pure
PURITY = 0.9
# an average over fewer genes is noise
MIN_GENES = 10

# lowest and highest value a metric can add to the score, None where it is not bounded
CHALLENGE_LIMITS: dict[str, tuple[float | None, float | None]] = {
    "pds_cosine": (None, None),
    "nmse": (0.0, 1.0),
    "direction_fidelity": (None, None),
    "direction_reach": (None, None),
    "sig_jaccard": (None, None),
    "lfc_nmae": (-6.0, None),
}
_LOWER = ("nmse", "lfc_nmae")


@as_annotated(error=MetricInputError)
@fill_docstring
def direction_fidelity(
    predicted: DifferentialExpression, real: DifferentialExpression, *, targets: Sequence[int] = ()
) -> float:
    """Genes called with the right sign, over the larger of the numbers of predicted and real calls.

    ``k / max(n_pred, n_real)``: ``n_pred`` counts genes predicted significant that have a real direction, ``k`` those
    of them with the right sign, ``n_real`` the really significant genes.

    Parameters
    ----------
    %(tables_without_targets)s

    Returns
    -------
    From 0 to 1, higher is better; NaN if there is no call on either side.

    %(raises_genes_differ)s

    Notes
    -----
    cell-eval2 0.20.0, ``de_wilcoxon_direction_fidelity_yield_raw``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, direction_fidelity
    >>> sure = np.full(3, 0.01)
    >>> real = DifferentialExpression(np.array([1.0, 1.0, -1.0]), sure, sure, sure)
    >>> predicted = DifferentialExpression(np.array([1.0, -1.0, -1.0]), sure, sure, sure)
    >>> round(direction_fidelity(predicted, real), 3)
    0.667
    """
    kept = _without_targets(predicted, real, targets)
    called = predicted.significant & kept & (real.log2_fold_change != 0)
    largest = max(np.count_nonzero(called), np.count_nonzero(real.significant & kept))
    return float(np.count_nonzero(called & _right(predicted, real)) / largest) if largest else float("nan")


@as_annotated(error=MetricInputError)
@fill_docstring
def direction_reach(
    predicted: DifferentialExpression,
    real: DifferentialExpression,
    *,
    targets: Sequence[int] = (),
    purity: float = PURITY,
) -> float:
    """How deep the prediction's ranking of the really significant genes keeps its signs right.

    The really significant genes are ranked by predicted adjusted p-value, p-value and absolute fold change. The reach
    is the deepest rank down to which at least a share ``purity`` has the right sign, over the number of really
    significant genes.

    Parameters
    ----------
    %(tables_without_targets)s
    purity
        Share of right signs that must be kept.

    Returns
    -------
    From 0 to 1, higher is better; NaN if nothing is really significant.

    %(raises_genes_differ)s

    Notes
    -----
    cell-eval2 0.20.0, ``de_wilcoxon_direction_reach_raw``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, direction_reach
    %(example_tables)s
    >>> direction_reach(predicted, real)
    0.5
    """
    genes = np.flatnonzero(real.significant & _without_targets(predicted, real, targets))
    if not len(genes):
        return float("nan")
    order = np.lexsort(
        (-np.abs(predicted.log2_fold_change[genes]), predicted.p_value[genes], predicted.adjusted[genes])
    )
    ranked = genes[order]
    # a gene that is significant without a direction tells nothing, and does not count as a step
    ranked = ranked[real.log2_fold_change[ranked] != 0]
    depth = np.arange(1, len(ranked) + 1)
    pure = np.cumsum(_right(predicted, real)[ranked]) / depth >= purity
    return float(depth[pure].max(initial=0)) / len(genes)


@as_annotated(error=MetricInputError)
@fill_docstring
def significant_jaccard(
    predicted: DifferentialExpression, real: DifferentialExpression, *, targets: Sequence[int] = ()
) -> float:
    """Genes significant on both sides, over genes significant on either.

    Parameters
    ----------
    %(tables_without_targets)s

    Returns
    -------
    From 0 to 1, higher is better; 1 if nothing is significant on either side.

    %(raises_genes_differ)s

    Notes
    -----
    cell-eval2 0.20.0, ``de_wilcoxon_sig_jaccard``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, significant_jaccard
    %(example_tables)s
    >>> significant_jaccard(predicted, real)
    0.3333333333333333
    """
    kept = _without_targets(predicted, real, targets)
    either = np.count_nonzero((predicted.significant | real.significant) & kept)
    both = np.count_nonzero(predicted.significant & real.significant & kept)
    return float(both / either) if either else 1.0


@as_annotated(error=MetricInputError)
@fill_docstring
def fold_change_error(
    predicted: DifferentialExpression,
    real: DifferentialExpression,
    *,
    targets: Sequence[int] = (),
    min_genes: int = MIN_GENES,
) -> float:
    """Mean absolute error of log2 fold changes over the really significant genes, over their mean absolute fold change.

    Parameters
    ----------
    %(tables_without_targets)s
    min_genes
        Fewest really significant genes.

    Returns
    -------
    From 0, lower is better; 1 for predicting no change. NaN with fewer than ``min_genes`` genes. A predicted fold
    change that is not finite counts as 0.

    %(raises_genes_differ)s

    Notes
    -----
    cell-eval2 0.20.0, ``de_wilcoxon_lfc_nmae``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import DifferentialExpression, fold_change_error
    %(example_tables)s
    >>> fold_change_error(predicted, real, min_genes=2)
    0.8
    """
    genes = real.significant & _without_targets(predicted, real, targets)
    truth = real.log2_fold_change[genes]
    size = np.abs(truth).mean() if len(truth) else 0.0
    if len(truth) < min_genes or not np.isfinite(size) or size == 0:
        return float("nan")
    guess = predicted.log2_fold_change[genes]
    return float(np.abs(np.where(np.isfinite(guess), guess, 0.0) - truth).mean() / size)


@as_annotated(error=MetricInputError)
def challenge_score(
    values: Mapping[str, float], baseline: Mapping[str, float], replicate: Mapping[str, float]
) -> tuple[float, dict[str, float]]:
    """Score of the challenge: the mean over its six metrics of ``(value - baseline) / (replicate - baseline)``.

    Parameters
    ----------
    values
        Means over perturbations of the metrics of the panel ``"vcc2026"``, by name.
    baseline
        The same of the baseline: every perturbation predicted by the mean response.
    replicate
        The same of one half of the real cells against the other half.

    Returns
    -------
    The score (0 as good as the mean response, 1 as good as a replicate), and its six parts. The part of the normalised
    error lies between 0 and 1, that of the fold changes above -6. A metric that is not defined counts as
    its worst value.

    Raises
    ------
    transpert.errors.MetricInputError
        If a metric is missing, or the replicate is not better than the baseline, so that there is no scale.

    Notes
    -----
    cell-eval2 0.20.0, ``score_metrics``, column ``from_replicate``.

    Examples
    --------
    >>> from transpert.metrics import challenge_score
    >>> names = ["pds_cosine", "direction_fidelity", "direction_reach", "sig_jaccard"]
    >>> errors = ["nmse", "lfc_nmae"]
    >>> baseline = {**dict.fromkeys(names, 0.2), **dict.fromkeys(errors, 1.0)}
    >>> replicate = {**dict.fromkeys(names, 0.8), **dict.fromkeys(errors, 0.0)}
    >>> values = {**dict.fromkeys(names, 0.5), **dict.fromkeys(errors, 0.5)}
    >>> round(challenge_score(values, baseline, replicate)[0], 6)
    0.5
    """
    missing = [name for name in CHALLENGE_LIMITS if not all(name in table for table in (values, baseline, replicate))]
    if missing:
        raise MetricInputError(
            f"metrics are missing: {list_names(missing)}",
            where="challenge_score",
            remedy="Compute the panel 'vcc2026' for all three.",
        )
    parts = {name: _part(name, values[name], baseline[name], replicate[name]) for name in CHALLENGE_LIMITS}
    return float(np.mean(list(parts.values()))), parts


def _part(name: str, value: float, baseline: float, replicate: float) -> float:
    span = replicate - baseline
    if not np.isfinite(span) or (span >= 0 if name in _LOWER else span <= 0):
        raise MetricInputError(
            f"the baseline has {baseline:.3g}, the replicate {replicate:.3g}: there is no scale between them",
            where=name,
            remedy="Leave the metric out, or give a replicate that is better than the baseline.",
        )
    low, high = CHALLENGE_LIMITS[name]
    if not np.isfinite(value):
        # the worst a share can be is 0; the two errors have a lowest part instead
        return low if low is not None else -baseline / span
    return float(np.clip((value - baseline) / span, low, high))


def _without_targets(
    predicted: DifferentialExpression, real: DifferentialExpression, targets: Sequence[int]
) -> np.ndarray:
    """Leave the targets of the perturbation out of both tables."""
    check_same_length(predicted.p_value, real.p_value, what="genes in the tables of differential expression")
    kept = np.ones(len(real.p_value), dtype=bool)
    beyond = [target for target in targets if not -len(kept) <= target < len(kept)]
    if beyond:
        raise MetricInputError(
            f"there are {len(kept)} genes, and targets {list_names(beyond, quote=False)}",
            where="targets",
            remedy="Give the positions of the targets among the genes, from 0.",
        )
    kept[np.asarray(targets, dtype=int)] = False
    return kept


def _right(predicted: DifferentialExpression, real: DifferentialExpression) -> np.ndarray:
    """Return which genes have a real direction that is predicted right."""
    signs = np.sign(real.log2_fold_change)
    return (signs != 0) & (np.sign(predicted.log2_fold_change) == signs)


def _entry(name: str, function: Callable, direction: Direction = "higher") -> Metric:
    """Make an entry of a function of tables that leaves the targets out."""

    def compute(c: Any) -> float:
        return float(function(*c.tables(CHALLENGE_2026), targets=c.targets))

    return Metric(name, "challenge", direction, ("tables",), compute, panels=("vcc2026",), counts=True)


ENTRIES = (
    _entry("direction_fidelity", direction_fidelity),
    _entry("direction_reach", direction_reach),
    _entry("sig_jaccard", significant_jaccard),
    _entry("lfc_nmae", fold_change_error, "lower"),
)
