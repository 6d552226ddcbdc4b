"""Scores between a floor and a ceiling, with intervals."""

from __future__ import annotations

import numpy as np

__all__ = ["bootstrap_interval", "normalise"]


def normalise(value: np.ndarray, baseline: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    """Return ``(value - baseline) / (ceiling - baseline)``: 0 is as good as the baseline, 1 as good as a replicate.

    Parameters
    ----------
    value, baseline, ceiling
        Scores that can be broadcast.

    Returns
    -------
    NaN where baseline and ceiling are the same.

    Examples
    --------
    >>> from transpert.metrics import normalise
    >>> float(normalise(0.75, 0.5, 1.0))
    0.5
    """
    span = np.asarray(ceiling, dtype=float) - baseline
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(span == 0, np.nan, (np.asarray(value, dtype=float) - baseline) / span)


def bootstrap_interval(
    values: np.ndarray, *, n_samples: int = 1_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a mean, by resampling perturbations.

    Parameters
    ----------
    values : (P,)
        One value a perturbation, or the difference of two methods (a paired interval); NaN are left out.
    n_samples
        Number of resamples.
    level
        Coverage.
    seed
        Seed of the draw.

    Returns
    -------
    Lower and upper bound; NaN with fewer than two values.

    Examples
    --------
    >>> from transpert.metrics import bootstrap_interval
    >>> low, high = bootstrap_interval([0.4, 0.5, 0.6])
    >>> 0.4 <= low < high <= 0.6
    True
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    means = np.random.default_rng(seed).choice(values, size=(n_samples, len(values))).mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
