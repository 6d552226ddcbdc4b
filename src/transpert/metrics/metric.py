"""What the registry knows of a metric; its entry stands in the file of its function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .differential_expression import Convention

type Direction = Literal["higher", "lower", "one", "none"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Parameters
    ----------
    name
        Its name.
    family
        What it looks at, for example ``"delta"`` or ``"distribution"``.
    direction
        Whether ``"higher"`` or ``"lower"`` values are better, those nearest to ``"one"``, or ``"none"`` (a number to
        look at).
    needs
        Attributes of :class:`Comparison` that it reads.
    function
        Maps a comparison to a number (level ``"population"``), or the summaries of a prediction to an array (level
        ``"prediction"``); NaN where the metric is not defined.
    level
        ``"population"`` or ``"prediction"``.
    per
        What the values of a metric of level ``"prediction"`` belong to: each ``"population"``, or each ``"context"``.
    panels
        Panels it is in, besides ``"all"``.
    counts
        Whether it is computed from raw counts.
    """

    name: str
    family: str
    direction: Direction
    needs: tuple[str, ...]
    function: Callable
    level: Literal["population", "prediction"] = "population"
    per: Literal["population", "context"] = "population"
    panels: tuple[str, ...] = ()
    counts: bool = False

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is a better score than ``b``; never, for a metric without a direction."""
        if self.direction == "none":
            return False
        if self.direction == "one":
            return abs(np.log(max(a, 1e-9))) < abs(np.log(max(b, 1e-9)))
        return a > b if self.direction == "higher" else a < b


CELLS = ("predicted", "real")
DELTA = ("delta_predicted", "delta_real")
MEAN = ("mean_predicted", "mean_real")


def of_means(function: Callable, predicted: str, real: str) -> Callable[[Any], float]:
    """Make a metric of one population out of a function of rows."""
    return lambda c: float(function(getattr(c, predicted), getattr(c, real))[0])


def of_tables(function: Callable, convention: Convention, **options: object) -> Callable[[Any], float]:
    """Make a metric of one population out of a function of two tables of tests."""
    return lambda c: float(function(*c.tables(convention), **options))


def within_contexts(function: Callable, *names: str) -> Callable[[Any], np.ndarray]:
    """Make a metric that compares the perturbations of a context out of a function of their rows."""
    return lambda summaries: summaries.each(lambda rows: function(*(summaries[name][rows] for name in names)))
