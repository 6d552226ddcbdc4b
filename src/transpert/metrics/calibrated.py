"""Calibrated metrics: weighted towards the genes that respond, so that predicting the mean does not win."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError

from ._inputs import check_deltas
from .metric import DELTA, Direction, Metric


@as_annotated(error=MetricInputError)
def effect_weights(scores: np.ndarray) -> np.ndarray:
    """Weights of genes: absolute scores of differential expression, scaled to 0..1, squared, summing to 1.

    Parameters
    ----------
    scores : (P, G)
        Signed or unsigned statistics of the real perturbed cells against the real controls.

    Returns
    -------
    ``(P, G)``; NaN in a row where all absolute scores are the same.

    Raises
    ------
    transpert.errors.MetricInputError
        If the scores are empty, NaN or infinite.

    Notes
    -----
    Mejia et al. 2025, equation of the weighted mean squared error.

    Examples
    --------
    >>> from transpert.metrics import effect_weights
    >>> effect_weights([[0.0, -2.0, 1.0]]).tolist()
    [[0.0, 0.8, 0.2]]
    """
    scores, _ = check_deltas(scores, scores, what="scores")
    size = np.abs(scores)
    low, high = size.min(axis=1, keepdims=True), size.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = ((size - low) / (high - low)) ** 2
    return weights / weights.sum(axis=1, keepdims=True)


@as_annotated(error=MetricInputError)
@fill_docstring
def weighted_mse(predicted: np.ndarray, real: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared error of the mean shift, each gene by its weight.

    Parameters
    ----------
    %(weighted_shifts)s

    Returns
    -------
    ``(P,)``, from 0, lower is better; NaN where the weights are.

    %(raises_arrays_differ)s

    Notes
    -----
    Mejia et al. 2025.

    Examples
    --------
    >>> from transpert.metrics import weighted_mse
    >>> weighted_mse([[1.0, 2.0]], [[1.0, 0.0]], [[0.75, 0.25]]).tolist()
    [1.0]
    """
    predicted, real, weights = _weighted(predicted, real, weights)
    return (weights * (predicted - real) ** 2).sum(axis=1)


@as_annotated(error=MetricInputError)
@fill_docstring
def weighted_r2(predicted: np.ndarray, real: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the weighted variance of the real mean shift over genes that is predicted.

    ``1 - sum w (predicted - real)^2 / sum w (real - sum w real)^2``.

    Parameters
    ----------
    %(weighted_shifts)s

    Returns
    -------
    ``(P,)``, up to 1, higher is better; NaN where the weights are, or the weighted real shift is constant.

    %(raises_arrays_differ)s

    Notes
    -----
    Mejia et al. 2025, ``R2_w(delta)``.

    Examples
    --------
    >>> from transpert.metrics import weighted_r2
    >>> weighted_r2([[0.0, 2.0]], [[0.0, 2.0]], [[0.5, 0.5]]).tolist()
    [1.0]
    """
    predicted, real, weights = _weighted(predicted, real, weights)
    mean = (weights * real).sum(axis=1, keepdims=True)
    variance = (weights * (real - mean) ** 2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variance > 0, 1 - (weights * (predicted - real) ** 2).sum(axis=1) / variance, np.nan)


@as_annotated(error=MetricInputError, positive="...", negative="...", perfect="...")
def dynamic_range_fraction(positive: np.ndarray, negative: np.ndarray, perfect: np.ndarray) -> np.ndarray:
    """How much of a metric's range lies between an uninformative and a good prediction: is the metric calibrated?

    ``(positive - negative) / (perfect - negative)``.

    Parameters
    ----------
    positive
        Score of a positive control: one half of the real cells as prediction of the other half.
    negative
        Score of a negative control: the mean over perturbations.
    perfect
        Best possible score.

    Returns
    -------
    1 if the positive control is as good as can be, 0 or less if the metric cannot tell it from the negative one; NaN if
    the negative control is perfect.

    Notes
    -----
    Miller et al. 2025.

    Examples
    --------
    >>> from transpert.metrics import dynamic_range_fraction
    >>> float(dynamic_range_fraction(0.75, 0.5, 1.0))
    0.5
    """
    span = np.asarray(perfect, dtype=float) - negative
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(span == 0, np.nan, (np.asarray(positive, dtype=float) - negative) / span)


def _weighted(predicted: np.ndarray, real: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """Check shifts and weights, and return them as tables of the same shape."""
    predicted, real = check_deltas(predicted, real)
    weights = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    if weights.shape != real.shape:
        raise MetricInputError(
            f"the weights have shape {weights.shape}, the effects {real.shape}",
            where="weights",
            remedy="Give one weight for every effect.",
        )
    negative = int(np.count_nonzero(weights < 0))
    if negative:
        raise MetricInputError(
            f"{negative} of {weights.size} entries are negative", where="weights", remedy="Give weights from 0 upwards."
        )
    return predicted, real, weights


def _entry(name: str, function: Callable, direction: Direction) -> Metric:
    """Make an entry of a function of rows and weights of genes."""

    def compute(c: Any) -> float:
        return float(function(c.delta_predicted, c.delta_real, effect_weights(c.z_real))[0])

    return Metric(name, "calibrated", direction, (*DELTA, "z_real"), compute, panels=("calibrated",))


ENTRIES = (_entry("weighted_mse", weighted_mse, "lower"), _entry("weighted_r2_delta", weighted_r2, "higher"))
