"""Metrics of mean effects: how well is the shift of the mean predicted?"""

from __future__ import annotations

import numpy as np

from ._inputs import check_deltas

__all__ = ["mae_delta", "mse_delta", "pearson_delta"]

# a shift this small, in log1p, is the rounding of a mean and no prediction
_NOTHING = 1e-6


def pearson_delta(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Pearson correlation over genes of predicted and real mean shifts (PDCorr).

    Parameters
    ----------
    predicted, real : (P, G)
        Mean log1p of the perturbed cells minus mean log1p of the *same real controls*.

    Returns
    -------
    ``(P,)``, from -1 to 1, higher is better; NaN where one of the two is constant.

    Raises
    ------
    transpert.errors.MetricInputError
        If the arrays do not fit.

    Notes
    -----
    cell-eval's ``pearson_delta`` takes the predicted controls for the predicted shift.

    Examples
    --------
    >>> from transpert.metrics import pearson_delta
    >>> pearson_delta([[1.0, 2.0, 3.0]], [[2.0, 4.0, 6.0]]).round(6).tolist()
    [1.0]
    """
    predicted, real = check_deltas(predicted, real)
    a, b = (values - values.mean(axis=1, keepdims=True) for values in (predicted, real))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    constant = np.minimum(np.ptp(predicted, axis=1), np.ptp(real, axis=1)) < _NOTHING
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(constant, np.nan, (a * b).sum(axis=1) / scale)


def mse_delta(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean squared error of the mean shift, over genes.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean shifts in log1p.

    Returns
    -------
    ``(P,)``, from 0, lower is better.

    Raises
    ------
    transpert.errors.MetricInputError
        If the arrays do not fit.

    Examples
    --------
    >>> from transpert.metrics import mse_delta
    >>> mse_delta([[1.0, 2.0]], [[1.0, 0.0]]).tolist()
    [2.0]
    """
    predicted, real = check_deltas(predicted, real)
    return ((predicted - real) ** 2).mean(axis=1)


def mae_delta(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean absolute error of the mean shift, over genes.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean shifts in log1p.

    Returns
    -------
    ``(P,)``, from 0, lower is better.

    Raises
    ------
    transpert.errors.MetricInputError
        If the arrays do not fit.

    Examples
    --------
    >>> from transpert.metrics import mae_delta
    >>> mae_delta([[1.0, 2.0]], [[1.0, 0.0]]).tolist()
    [1.0]
    """
    predicted, real = check_deltas(predicted, real)
    return np.abs(predicted - real).mean(axis=1)
