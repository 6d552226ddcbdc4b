"""Can a perturbation be told from the others by its predicted effect?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from scipy.spatial.distance import cdist

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError, OptionError

from ._inputs import check_deltas, check_same_length
from .metric import DELTA, within_contexts
from .metric import Metric as Entry

type Metric = Literal["l1", "l2", "cosine"]

_ROUNDING = 1e-7  # of the largest distance: what is nearer is compared without what was taken off


@as_annotated(error=MetricInputError, but=("metric",))
@fill_docstring
def discrimination_score(
    predicted: np.ndarray,
    real: np.ndarray,
    *,
    metric: Metric = "l1",
    targets: Sequence[Sequence[int]] | None = None,
    remove: Literal["own", "all"] = "own",
    ties: Literal["first", "middle"] = "first",
    denominator: Literal["n", "n-1"] = "n",
) -> np.ndarray:
    """Rank of the right perturbation among all real effects, ordered by distance to the predicted effect.

    ``1 - rank / n``, with rank 0 for the nearest.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean shifts in log1p of the perturbations of one context, in the same order.
    metric
        Distance between effects: ``"l1"``, ``"l2"`` or ``"cosine"``. An effect of length 0 has cosine distance 1 to
        all others.
    targets
        For each perturbation, the columns of the genes it targets (empty for a drug). A knocked-down gene gives its
        perturbation away, so they are left out.
    remove
        Leave out the ``"own"`` targets of each perturbation (cell-eval), or the targets of ``"all"`` perturbations
        from every comparison (cell-eval2): with the former, a prediction can be right by getting the *other* targets
        wrong.
    ties
        At equal distance, the ``"first"`` in the order given wins (cell-eval), or all take the ``"middle"`` rank, so
        that a prediction without information scores 0.5.
    denominator
        Divide the rank by ``"n"`` perturbations (the worst score is then 1/n), or by ``"n-1"``.

    Returns
    -------
    ``(P,)``, from 0 to 1, higher is better; 1 for a single perturbation.

    %(raises_arrays_differ)s
    transpert.errors.OptionError
        If an option has no such value.

    Notes
    -----
    cell-eval 0.8.2, ``discrimination_score_*``, by default. cell-eval2 0.20.0, ``pds_cosine`` of the preset
    ``vcc2026``, with ``metric="cosine", remove="all", ties="middle", denominator="n-1"``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import discrimination_score
    >>> discrimination_score(np.array([[0.9, 0.0], [1.0, 0.0]]), np.eye(2)).tolist()
    [1.0, 0.5]
    """
    for value, choices in (
        (metric, ("l1", "l2", "cosine")),
        (remove, ("own", "all")),
        (ties, ("first", "middle")),
        (denominator, ("n", "n-1")),
    ):
        if not isinstance(value, str) or value not in choices:
            raise OptionError(
                f"{value!r} is none of {choices}", where="discrimination_score", remedy="Choose one of them."
            )
    predicted, real = check_deltas(predicted, real)
    count = len(real)
    columns = [np.empty(0, dtype=int)] * count if targets is None else [np.asarray(t, dtype=int) for t in targets]
    check_same_length(real, columns, what="lists of targets")
    if remove == "all":
        kept = np.setdiff1d(np.arange(real.shape[1]), np.concatenate(columns))
        distances = effect_distances(predicted[:, kept], real[:, kept], metric)
    else:
        distances = _without_own(predicted, real, metric, columns)
    divisor = count if denominator == "n" else count - 1
    if divisor == 0:
        return np.ones(count)
    return 1 - _ranks(distances, ties) / divisor


@as_annotated(error=MetricInputError)
@fill_docstring
def normalised_inverse_rank(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Rank of the right prediction among all predictions, ordered by distance to the real effect.

    ``1 - rank / (n - 1)``, with rank 0 for the nearest in root mean square error and the middle rank for ties. The
    other way round than :func:`discrimination_score`: it asks whether a prediction is nearer to its own truth than the
    predictions of other perturbations are.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean profiles or mean shifts of the perturbations of one context, in the same order.

    Returns
    -------
    ``(P,)``, from 0 to 1, higher is better; 0.5 if all predictions are the same, NaN for a single perturbation.

    %(raises_arrays_differ)s

    Notes
    -----
    The rank metric of Wu et al. 2024 (PerturBench), reversed and scaled to 1 as in Miller et al. 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import normalised_inverse_rank
    >>> normalised_inverse_rank(np.array([[0.9, 0.0], [0.0, 0.2]]), np.eye(2)).tolist()
    [1.0, 1.0]
    """
    predicted, real = check_deltas(predicted, real)
    if len(real) < 2:
        return np.full(len(real), np.nan)
    return 1 - _ranks(effect_distances(real, predicted, "l2"), "middle") / (len(real) - 1)


def effect_distances(a: np.ndarray, b: np.ndarray, metric: Metric) -> np.ndarray:
    """Distances of each row of ``a`` to each row of ``b``."""
    if metric != "cosine":
        # exact differences: of equal effects the distance is 0, not the rounding of a matrix product
        return cdist(a, b, metric="cityblock" if metric == "l1" else "euclidean")
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    similarity = np.divide(a @ b.T, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return np.clip(1 - similarity, 0, 2)


def _without_own(predicted: np.ndarray, real: np.ndarray, metric: Metric, columns: list[np.ndarray]) -> np.ndarray:
    """Return distances without the genes of each row, whose contribution is subtracted."""
    whole = effect_distances(predicted, real, metric)
    distances = whole.copy()
    products, squares = (predicted @ real.T, (real**2).sum(axis=1)) if metric == "cosine" else (whole, whole)
    for row, genes in enumerate(map(np.unique, columns)):
        if not len(genes):
            continue
        own, others = predicted[row, genes], real[:, genes]
        if metric == "l1":
            left = whole[row] - np.abs(others - own).sum(axis=1)
        elif metric == "l2":
            left = np.sqrt(np.maximum(whole[row] ** 2 - ((others - own) ** 2).sum(axis=1), 0))
        else:
            length = predicted[row] @ predicted[row] - own @ own
            lengths = np.sqrt(np.maximum(length * (squares - (others**2).sum(axis=1)), 0))
            product = products[row] - others @ own
            left = 1 - np.divide(product, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        distances[row] = left
        # rounding must neither make nor break a tie with the right one
        near = np.abs(left - left[row]) <= _ROUNDING * np.abs(whole[row]).max()
        if metric == "cosine":  # nor a direction of what is nothing without the targets
            near |= lengths <= _ROUNDING * np.sqrt(squares * (predicted[row] @ predicted[row]))
        if near.any():
            kept = np.setdiff1d(np.arange(real.shape[1]), genes)
            distances[row, near] = effect_distances(predicted[row : row + 1, kept], real[near][:, kept], metric)[0]
    return distances


def _ranks(distances: np.ndarray, ties: str) -> np.ndarray:
    """Rank of the diagonal in each row."""
    own = np.diag(distances)[:, None]
    nearer = (distances < own).sum(axis=1)
    equal = distances == own
    if ties == "middle":
        return nearer + (equal.sum(axis=1) - 1) / 2
    return nearer + np.tril(equal, -1).sum(axis=1)


_BULK = ("bulk_predicted", "bulk_real", "bulk_controls")


def _of_effects(metric: Metric) -> Callable[[Any], np.ndarray]:
    """Make a metric of a whole prediction out of the score by one distance."""

    def score(summaries: Any) -> np.ndarray:
        return summaries.each(
            lambda rows: discrimination_score(
                summaries["delta_predicted"][rows],
                summaries["delta_real"][rows],
                metric=metric,
                targets=[summaries.targets[row] for row in rows],
            )
        )

    return score


def _pds_cosine(summaries: Any) -> np.ndarray:
    """Score pseudobulks as the challenge of 2026 does."""
    return summaries.each(
        lambda rows: discrimination_score(
            summaries["bulk_predicted"][rows] - summaries["bulk_controls"][rows],
            summaries["bulk_real"][rows] - summaries["bulk_controls"][rows],
            metric="cosine",
            targets=[summaries.targets[row] for row in rows],
            remove="all",
            ties="middle",
            denominator="n-1",
        )
    )


_METRICS: tuple[Metric, ...] = ("l1", "l2", "cosine")
ENTRIES = (
    *(
        Entry(
            f"discrimination_score_{metric}",
            "discrimination",
            "higher",
            DELTA,
            _of_effects(metric),
            level="prediction",
            panels=("cell-eval",),
        )
        for metric in _METRICS
    ),
    Entry(
        "pds_cosine", "challenge", "higher", _BULK, _pds_cosine, level="prediction", panels=("vcc2026",), counts=True
    ),
    Entry(
        "normalised_inverse_rank",
        "calibrated",
        "higher",
        DELTA,
        within_contexts(normalised_inverse_rank, *DELTA),
        level="prediction",
        panels=("calibrated",),
    ),
)
