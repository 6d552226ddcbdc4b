"""Metrics of mean effects: how well is the shift of the mean predicted?"""

from __future__ import annotations

import numpy as np

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError

from ._inputs import check_deltas, pearson_rows
from .metric import DELTA, MEAN, Metric, of_means


@as_annotated(error=MetricInputError)
@fill_docstring
def pearson_delta(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Pearson correlation over genes of predicted and real mean shifts (PDCorr).

    Parameters
    ----------
    predicted, real : (P, G)
        Mean log1p of the perturbed cells minus mean log1p of the *same real controls*.

    Returns
    -------
    ``(P,)``, from -1 to 1, higher is better; NaN where one of the two is constant.

    %(raises_arrays_differ)s

    Notes
    -----
    cell-eval's ``pearson_delta`` is this with the *predicted* controls for the predicted shift.

    Examples
    --------
    >>> from transpert.metrics import pearson_delta
    >>> pearson_delta([[1.0, 2.0, 3.0]], [[2.0, 4.0, 6.0]]).round(6).tolist()
    [1.0]
    """
    return pearson_rows(*check_deltas(predicted, real))


@as_annotated(error=MetricInputError)
@fill_docstring
def mse_delta(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean squared error of the mean shift, over genes.

    Parameters
    ----------
    %(shifts)s

    Returns
    -------
    ``(P,)``, from 0, lower is better.

    %(raises_arrays_differ)s

    Examples
    --------
    >>> from transpert.metrics import mse_delta
    >>> mse_delta([[1.0, 2.0]], [[1.0, 0.0]]).tolist()
    [2.0]
    """
    predicted, real = check_deltas(predicted, real)
    return ((predicted - real) ** 2).mean(axis=1)


@as_annotated(error=MetricInputError)
@fill_docstring
def mae_delta(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean absolute error of the mean shift, over genes.

    Parameters
    ----------
    %(shifts)s

    Returns
    -------
    ``(P,)``, from 0, lower is better.

    %(raises_arrays_differ)s

    Examples
    --------
    >>> from transpert.metrics import mae_delta
    >>> mae_delta([[1.0, 2.0]], [[1.0, 0.0]]).tolist()
    [1.0]
    """
    predicted, real = check_deltas(predicted, real)
    return np.abs(predicted - real).mean(axis=1)


@as_annotated(error=MetricInputError)
@fill_docstring
def mse(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean squared error of the mean profile, over genes.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean log1p of the perturbed cells.

    Returns
    -------
    ``(P,)``, from 0, lower is better. The same as :func:`mse_delta` where both shifts are taken from the same controls.

    %(raises_arrays_differ)s

    Notes
    -----
    cell-eval 0.8.2, ``mse``.

    Examples
    --------
    >>> from transpert.metrics import mse
    >>> mse([[1.0, 2.0]], [[1.0, 0.0]]).tolist()
    [2.0]
    """
    predicted, real = check_deltas(predicted, real, what="mean profiles")
    return ((predicted - real) ** 2).mean(axis=1)


@as_annotated(error=MetricInputError)
@fill_docstring
def mae(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean absolute error of the mean profile, over genes.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean log1p of the perturbed cells.

    Returns
    -------
    ``(P,)``, from 0, lower is better.

    %(raises_arrays_differ)s

    Notes
    -----
    cell-eval 0.8.2, ``mae``.

    Examples
    --------
    >>> from transpert.metrics import mae
    >>> mae([[1.0, 2.0]], [[1.0, 0.0]]).tolist()
    [1.0]
    """
    predicted, real = check_deltas(predicted, real, what="mean profiles")
    return np.abs(predicted - real).mean(axis=1)


_PANELS = ("cell-eval",)
ENTRIES = (
    Metric("pearson_delta", "delta", "higher", DELTA, of_means(pearson_delta, *DELTA), panels=_PANELS),
    Metric("mse_delta", "delta", "lower", DELTA, of_means(mse_delta, *DELTA), panels=_PANELS),
    Metric("mae_delta", "delta", "lower", DELTA, of_means(mae_delta, *DELTA), panels=_PANELS),
    Metric("mse", "delta", "lower", MEAN, of_means(mse, *MEAN), panels=_PANELS),
    Metric("mae", "delta", "lower", MEAN, of_means(mae, *MEAN), panels=_PANELS),
)
