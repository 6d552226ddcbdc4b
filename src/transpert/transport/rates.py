"""From a mean rate to a mean log1p, for negative-binomial counts."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.stats import nbinom

from transpert import _keys
from transpert._signatures import as_annotated

_SMALLEST_RATE, _LARGEST_RATE = 1e-4, _keys.SCALE_FACTOR  # no gene has more than all counts of a cell
# 70 up to half the counts of a cell, which few genes reach, and as close together up to all of them
_RATES = np.concatenate([np.geomspace(_SMALLEST_RATE, 5e3, 70), np.geomspace(5e3, _LARGEST_RATE, 4)[1:]])
_DISPERSIONS = np.geomspace(1e-3, 10, 13)


@lru_cache(maxsize=8)
def _table(scale: float) -> RegularGridInterpolator:
    """Tabulate the mean log1p over rates and dispersions for cells whose one count is ``scale`` per 10k."""
    rates = np.concatenate([[0.0], _RATES])
    values = np.zeros((len(rates), len(_DISPERSIONS)))
    for row, rate in enumerate(rates[1:], start=1):
        mean = rate / scale
        for column, dispersion in enumerate(_DISPERSIONS):
            size = 1 / dispersion
            top = mean + 12 * np.sqrt(mean + dispersion * mean**2) + 20
            # counts that matter, at most 2,000 of them, evenly spread where there are more
            counts = np.unique(np.linspace(0, np.ceil(top), 2_000).astype(int))
            mass = np.diff(nbinom.cdf(np.concatenate([[-1], counts]), size, size / (size + mean)))
            values[row, column] = mass @ np.log1p(scale * counts)
    points = (np.log(rates + _SMALLEST_RATE), np.log(_DISPERSIONS))
    return RegularGridInterpolator(points, values, bounds_error=False, fill_value=None)


@as_annotated(rate="... G", dispersion="... G")
def mean_log_of_rate(rate: np.ndarray, dispersion: np.ndarray, scale: float) -> np.ndarray:
    """Return the mean log1p counts per 10k of negative-binomial counts with a given mean.

    Parameters
    ----------
    rate : (G,)
        Mean counts per 10k; above 10,000 it is taken for that.
    dispersion : (G,)
        Negative-binomial dispersion.
    scale
        Counts per 10k that one count of a typical cell is worth, ``1e4 / library size``.

    Returns
    -------
    ``(G,)``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.transport import mean_log_of_rate
    >>> mean_log_of_rate(np.array([0.0]), np.array([1.0]), 5.0).tolist()
    [0.0]
    """
    # two significant digits are plenty, and let the table be reused
    table = _table(float(f"{scale:.2g}"))
    rate = np.clip(rate, 0, _LARGEST_RATE)
    points = np.stack([np.log(rate + _SMALLEST_RATE), np.log(np.clip(dispersion, 1e-3, 10))], axis=-1)
    return np.maximum(table(points), 0)


@as_annotated(mean_log="... G", mean_rate="... G", log_fold="... G", dispersion="... G")
def shift_mean_log(
    mean_log: np.ndarray,
    mean_rate: np.ndarray,
    log_fold: np.ndarray,
    *,
    pseudo_rate: float,
    dispersion: np.ndarray,
    scale: float,
) -> np.ndarray:
    """Apply a log fold change of the mean rate to a mean log1p.

    Parameters
    ----------
    mean_log, mean_rate : (G,)
        Of the control cells.
    log_fold : (G,)
        ``log(mu1 + pseudo_rate) - log(mu0 + pseudo_rate)``.
    pseudo_rate
        In counts per 10k.
    dispersion : (G,)
        Negative-binomial dispersion.
    scale
        ``1e4 / library size`` of a typical cell.

    Returns
    -------
    ``(G,)``: mean log1p after the change. Unchanged genes keep theirs exactly.
    """
    rate = np.maximum(np.exp(log_fold) * (mean_rate + pseudo_rate) - pseudo_rate, 0)
    before = mean_log_of_rate(mean_rate, dispersion, scale)
    after = mean_log_of_rate(rate, dispersion, scale)
    moved = np.where(after >= before, mean_log + after - before, mean_log * after / np.maximum(before, 1e-9))
    return np.where(log_fold == 0, mean_log, moved)


def visibility(rate: np.ndarray) -> np.ndarray:
    """By how much a small log fold change of a mean rate shows in its log1p: hardly where expression is low."""
    return rate / (rate + 1)
