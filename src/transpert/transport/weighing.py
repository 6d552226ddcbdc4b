"""How much a second prediction counts beside a first one, measured on units that neither has seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from transpert.conditions import Condition
from transpert.conditions.text import population_text

_GRID = np.linspace(0, 1, 21)  # weights of the second prediction that are compared
CERTAINTY = 0.9  # with which the second must be better on another unit before it counts
FEWEST_UNITS = 5  # any three of them can agree by chance
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class FittedWeight:
    """The weight of a second prediction, and what speaks for it.

    A *unit* is what was left out as a whole: a context, a perturbation, or a pair. Groups of one unit err together, so
    that only units are independent evidence. The gain of a unit is half the logarithm of how many times smaller its
    squared error gets, plus what its correlation gains, less what the first prediction would gain by being smaller.
    Every unit counts the same, however strong its effects are.
    """

    weight: float = 0.0
    n_units: int = 0
    gain: float = 0.0
    gain_lower: float = 0.0


def fit_weight(
    observed: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    units: Sequence[str],
    *,
    fewest: int = FEWEST_UNITS,
    least_gain: float = 0.0,
) -> FittedWeight:
    """Weigh two predictions of the same shifts, each ``(P, G)``, by what both say about units they have not seen.

    The weight is the one whose gain has the largest lower confidence bound over the units, and 0 where no weight has a
    bound above ``least_gain``. A handful of units is therefore not enough, unless they all say the same.
    """
    n_units = len(set(units))
    if n_units < fewest:
        return FittedWeight(n_units=n_units)
    # to make the first prediction smaller is no merit of the second
    smaller = gains_of_weights(observed, first, np.zeros_like(first))
    gains = gains_of_weights(observed, first, second) - np.maximum(smaller, 0)
    of_units = pd.DataFrame(gains).groupby(list(units), sort=False).mean().to_numpy()
    mean, error = of_units.mean(axis=0), of_units.std(axis=0, ddof=1) / np.sqrt(n_units)
    lower = mean - stats.t.ppf(CERTAINTY, n_units - 1) * error
    best = int(np.argmax(lower))
    if lower[best] <= least_gain:
        best = 0  # the first prediction alone, which gains nothing
    return FittedWeight(float(_GRID[best]), n_units, float(mean[best]), float(lower[best]))


def gains_of_weights(observed: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return what every weight of the grid gains over the first prediction alone, ``(P, 21)``."""
    apart = second - first
    error = _along(observed - first, observed - first)[:, None]
    squared = error - 2 * _GRID * _along(observed - first, apart)[:, None] + _GRID**2 * _along(apart, apart)[:, None]
    o, a, d = (values - values.mean(axis=1, keepdims=True) for values in (observed, first, apart))
    shared = _along(o, a)[:, None] + _GRID * _along(o, d)[:, None]
    spread = _along(a, a)[:, None] + 2 * _GRID * _along(a, d)[:, None] + _GRID**2 * _along(d, d)[:, None]
    norm = np.sqrt(np.maximum(spread, 0) * _along(o, o)[:, None])
    correlation = np.divide(shared, norm, out=np.zeros_like(shared), where=norm > _TINY)
    return 0.5 * np.log((error + _TINY) / (np.maximum(squared, 0) + _TINY)) + correlation - correlation[:, :1]


def units_of(contexts: Iterable[object], conditions: Sequence[Condition], level: str) -> list[str]:
    """Name the unit that every row was left out with, if whole contexts, perturbations or pairs were."""
    labels, names = [condition.label for condition in conditions], list(map(str, contexts))
    if level == "context":
        return names
    return labels if level == "perturbation" else list(map(population_text, names, labels))


def _along(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner products of rows, ``(P,)``."""
    return np.einsum("pg,pg->p", first, second)
