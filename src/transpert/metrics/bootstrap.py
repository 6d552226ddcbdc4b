"""Scores between a floor and a ceiling, with intervals."""

from __future__ import annotations

from typing import Literal

import numpy as np

from transpert._arguments import check_arguments
from transpert._signatures import as_annotated
from transpert._statistics import percentile_interval
from transpert.errors import MetricInputError, OptionError

# the interval of a mean over tens of populations is about as wide; what lies nearer together is not told apart, and
# dividing by it makes hundreds out of noise
_MIN_SPAN = 0.05


@as_annotated(error=MetricInputError)
def normalise(
    value: np.ndarray | float,
    baseline: np.ndarray | float,
    ceiling: np.ndarray | float,
    *,
    direction: Literal["higher", "lower", "one", "none"],
) -> np.ndarray:
    """Return ``(value - baseline) / (ceiling - baseline)``: 0 is as good as the baseline, 1 as good as a replicate.

    Parameters
    ----------
    value, baseline, ceiling
        Scores that can be broadcast.
    direction
        Which values are better: ``metric.direction``.

    Returns
    -------
    NaN unless the ceiling is better than the baseline by at least 5 % of the larger of their absolute values: there is
    no scale between them otherwise. The ceiling is one half of the cells, and can be worse than a good baseline. NaN
    for ``"one"`` and ``"none"``, which have no better and worse along a line.

    Raises
    ------
    transpert.errors.OptionError
        If there is no such direction.

    Examples
    --------
    >>> from transpert.metrics import normalise
    >>> float(normalise(0.75, 0.5, 1.0, direction="higher"))
    0.5
    >>> float(normalise(0.0, 0.913, 0.752, direction="higher"))
    nan
    """
    if direction not in ("higher", "lower", "one", "none"):
        raise OptionError(f"direction is {direction!r}", remedy="Choose 'higher', 'lower', 'one' or 'none'.")
    value, baseline, ceiling = (np.asarray(scores, dtype=float) for scores in (value, baseline, ceiling))
    span = ceiling - baseline
    gain = {"higher": span, "lower": -span}.get(direction, np.full_like(span, np.nan))
    apart = (gain > 0) & (gain >= _MIN_SPAN * np.maximum(np.abs(baseline), np.abs(ceiling)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart, (value - baseline) / span, np.nan)


@as_annotated(but=("n_samples", "level", "seed"), values="...")
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

    Raises
    ------
    transpert.errors.OptionError
        If ``level`` is not between 0 and 1.

    Examples
    --------
    >>> from transpert.metrics import bootstrap_interval
    >>> low, high = bootstrap_interval([0.4, 0.5, 0.6])
    >>> 0.4 <= low < high <= 0.6
    True
    """
    check_arguments(locals())
    values = np.asarray(values, dtype=float).ravel()
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    means = np.random.default_rng(seed).choice(values, size=(n_samples, len(values))).mean(axis=1)
    return percentile_interval(means, level)
