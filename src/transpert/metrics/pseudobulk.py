"""Profiles of summed counts, their sampling noise, and errors corrected for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError

from ._inputs import check_cells, check_deltas, check_same_length, dense
from .metric import Metric

# total of a profile, between the totals at which empty genes or full ones decide everything (cell-eval2)
BULK_TOTAL = 5e4
_BLOCK = 128


@as_annotated(error=MetricInputError)
@fill_docstring
def bulk_profile(counts: np.ndarray | sparse.spmatrix, *, total: float = BULK_TOTAL) -> np.ndarray:
    """Profile of the summed counts of a population: ``log1p(total * sum over cells / sum over cells and genes)``.

    Unlike the mean of log1p values, it does not depend on how counts are spread over cells.

    Parameters
    ----------
    %(scaled_counts)s

    Returns
    -------
    ``(G,)``; zeros for a population without counts.

    Raises
    ------
    transpert.errors.MetricInputError
        If the matrix is empty or holds NaN, infinite or negative values.

    Notes
    -----
    cell-eval2 0.20.0, comparator ``bulk_lognorm``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import bulk_profile
    >>> np.expm1(bulk_profile(np.array([[1, 2], [0, 1]]), total=4)).round(6).tolist()
    [1.0, 3.0]
    """
    counts = check_cells(counts, where="the counts")
    sums = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
    return np.log1p(sums * (total / sums.sum() if sums.sum() > 0 else 0.0))


@as_annotated(error=MetricInputError)
@fill_docstring
def bulk_noise(counts: np.ndarray | sparse.spmatrix, *, total: float = BULK_TOTAL) -> float:
    """Sampling variance of :func:`bulk_profile`, summed over genes, by leaving out one cell at a time.

    Parameters
    ----------
    %(scaled_counts)s

    Returns
    -------
    ``(n - 1) / n`` times the sum over genes and cells of the squared deviation of the profiles that lack one cell from
    their mean; 0 with fewer than two cells.

    Raises
    ------
    transpert.errors.MetricInputError
        If the matrix is empty or holds NaN, infinite or negative values.

    Notes
    -----
    The jackknife of Efron and Stein 1981, as in cell-eval2 0.20.0.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import bulk_noise
    >>> bulk_noise(np.array([[1, 2], [1, 2], [1, 2]]))
    0.0
    """
    counts = check_cells(counts, where="the counts")
    n_cells, n_genes = counts.shape
    sums = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
    everything = sums.sum()
    if n_cells < 2 or everything <= 0:
        return 0.0
    rest = everything - np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    whole = bulk_profile(counts, total=total)
    rows: Any = sparse.csr_matrix(counts) if sparse.issparse(counts) else np.asarray(counts)
    first, second = np.zeros(n_genes), np.zeros(n_genes)
    for start in range(0, n_cells, _BLOCK):
        block = dense(rows[start : start + _BLOCK]).astype(np.float64)
        left = rest[start : start + _BLOCK, None]
        # around the whole profile, or the difference of the two sums would lose its digits
        profiles = np.log1p((sums - block) * np.divide(total, left, out=np.zeros_like(left), where=left > 0)) - whole
        first += profiles.sum(axis=0)
        second += np.einsum("ij,ij->j", profiles, profiles)
    return max(float((n_cells - 1) / n_cells * (second - first**2 / n_cells).sum()), 0.0)


@as_annotated(error=MetricInputError, noise_predicted="P", noise_real="P", noise_controls="P")
@fill_docstring
def noise_corrected_errors(
    predicted: np.ndarray,
    real: np.ndarray,
    controls: np.ndarray,
    noise_predicted: np.ndarray,
    noise_real: np.ndarray,
    noise_controls: np.ndarray,
    *,
    targets: Sequence[Sequence[int]] | None = None,
    capped: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Squared error of predicted profiles, and squared size of real effects, less what sampling noise adds to them.

    ``error = (|predicted - real|^2 - noise_predicted - noise_real) / genes`` and
    ``effect = (|real - controls|^2 - noise_real - noise_controls) / genes``, without the targets of each perturbation.
    With the cap, the noise of a prediction is subtracted only as far as that of the real cells, and in total only as
    far as the predicted profiles differ between perturbations. Otherwise cells scattered around a wrong mean would
    score well.

    Parameters
    ----------
    predicted, real, controls : (P, G)
        Profiles of :func:`bulk_profile` of the perturbations of one context and of their real controls.
    noise_predicted, noise_real, noise_controls : (P,)
        Their noise, from :func:`bulk_noise`.
    targets
        For each perturbation, the columns of the genes it acts on.
    capped
        Cap the noise that is credited.

    Returns
    -------
    Two arrays ``(P,)``. Single values may well be below 0. The normalised error of a prediction is the ratio of their
    sums: 0 for a perfect prediction, 1 for predicting the controls.

    %(raises_arrays_differ)s

    Notes
    -----
    cell-eval2 0.20.0, ``expr_mse_unbiased_capped`` and ``expr_distance_unbiased``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import noise_corrected_errors
    >>> profiles = np.array([[1.0, 1.0]]), np.array([[1.0, 3.0]]), np.array([[0.0, 0.0]])
    >>> noise = np.array([0.5]), np.array([0.5]), np.array([0.5])
    >>> error, size = noise_corrected_errors(*profiles, *noise)
    >>> error.tolist(), size.tolist()
    ([1.75], [4.5])
    """
    predicted, real = check_deltas(predicted, real, what="profiles")
    controls, _ = check_deltas(controls, real, what="profiles of controls")
    noise = [np.asarray(values, dtype=np.float64) for values in (noise_predicted, noise_real, noise_controls)]
    for values in noise:
        check_same_length(values, real, what="noise estimates and profiles")
    if any(values.min() < 0 for values in noise):
        raise MetricInputError(
            "a variance is negative", where="noise estimates", remedy="Give variances from 0 upwards."
        )
    kept = _without_targets(real.shape, targets)
    genes = kept.sum(axis=1)
    weights = np.divide(1.0, genes, out=np.zeros(len(genes)), where=genes > 0)
    credit = np.minimum(noise[0], noise[1]) if capped else noise[0]
    claimed = float(credit @ weights)
    if capped and claimed > 0:
        credit = credit * min(1.0, _spread(predicted, kept, weights) / claimed)
    errors = (((predicted - real) ** 2 * kept).sum(axis=1) - credit - noise[1]) * weights
    effects = (((real - controls) ** 2 * kept).sum(axis=1) - noise[1] - noise[2]) * weights
    return np.where(genes > 0, errors, np.nan), np.where(genes > 0, effects, np.nan)


def normalised_error(errors: np.ndarray, effects: np.ndarray) -> float:
    """Ratio of the sums of errors and effects, NaN where the effects sum to nothing."""
    both = np.isfinite(errors) & np.isfinite(effects)
    total = float(effects[both].sum())
    return float(errors[both].sum()) / total if total > 0 else float("nan")


def _without_targets(shape: tuple[int, int], targets: Sequence[Sequence[int]] | None) -> np.ndarray:
    kept = np.ones(shape, dtype=bool)
    if targets is not None:
        check_same_length(kept, list(targets), what="lists of targets")
        for row, columns in enumerate(targets):
            kept[row, np.asarray(columns, dtype=int)] = False
    return kept


def _spread(predicted: np.ndarray, kept: np.ndarray, weights: np.ndarray) -> float:
    """Weighted squared deviation of profiles from their mean over perturbations, summed over genes."""
    weight = kept * weights[:, None]
    total = weight.sum(axis=0)
    deviation = predicted - predicted.mean(axis=0)
    usable = (kept.sum(axis=0) >= 2) & (total > 0)
    first, second = (weight * deviation).sum(axis=0), (weight * deviation**2).sum(axis=0)
    return float(np.maximum(second[usable] - first[usable] ** 2 / total[usable], 0).sum())


_BULK = ("bulk_predicted", "bulk_real", "bulk_controls")
_NOISE = ("noise_predicted", "noise_real", "noise_controls")


def _nmse(summaries: Any) -> np.ndarray:
    """Normalise the noise-corrected errors of each context."""
    return summaries.one(
        lambda rows: normalised_error(
            *noise_corrected_errors(
                *(summaries[name][rows] for name in (*_BULK, *_NOISE)), targets=[summaries.targets[row] for row in rows]
            )
        )
    )


ENTRIES = (
    Metric(
        "nmse",
        "challenge",
        "lower",
        (*_BULK, *_NOISE),
        _nmse,
        level="prediction",
        per="context",
        panels=("vcc2026",),
        counts=True,
    ),
)
