"""Every metric by name, on one comparison of a predicted with a real population."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import sparse

from transpert.errors import UnknownNameError

from .delta import mae_delta, mse_delta, pearson_delta
from .differential_expression import (
    DifferentialExpression,
    differential_expression,
    direction_match,
    n_significant_ratio,
    overlap_at_n,
    precision_at_n,
)
from .distribution import energy_distance
from .integrity import variance_ratio, zero_fraction_gap

__all__ = ["METRICS", "PANELS", "Comparison", "Metric", "resolve_metrics"]

type Cells = np.ndarray | sparse.spmatrix


@dataclass(eq=False)
class Comparison:
    """A predicted population, the real one, and the controls of both; what metrics share is computed once.

    Parameters
    ----------
    predicted, real : (N, G), (M, G)
        Log1p counts per 10k.
    controls : (K, G)
        Real control cells.
    predicted_controls : (L, G)
        Controls that the prediction is compared with; the real ones by default.
    """

    predicted: Cells
    real: Cells
    controls: Cells
    predicted_controls: Cells | None = None

    @cached_property
    def de_real(self) -> DifferentialExpression:
        """Tests of the real cells against the real controls."""
        return differential_expression(self.real, self.controls)

    @cached_property
    def de_predicted(self) -> DifferentialExpression:
        """Tests of the predicted cells against their controls."""
        return differential_expression(self.predicted, self._reference)

    @cached_property
    def delta_real(self) -> np.ndarray:
        """Mean shift of the real cells, ``(G,)``."""
        return _mean(self.real) - _mean(self.controls)

    @cached_property
    def delta_predicted(self) -> np.ndarray:
        """Mean shift of the predicted cells, ``(G,)``."""
        return _mean(self.predicted) - _mean(self._reference)

    @property
    def _reference(self) -> Cells:
        return self.controls if self.predicted_controls is None else self.predicted_controls


def _mean(cells: Cells) -> np.ndarray:
    # scipy averages float32 in float32, whatever dtype is asked for
    matrix = cells.astype(np.float64) if sparse.issparse(cells) else np.asarray(cells, dtype=np.float64)
    return np.asarray(matrix.mean(axis=0)).ravel()


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Parameters
    ----------
    name
        Its name.
    family
        What it looks at: ``"delta"``, ``"differential expression"``, ``"distribution"`` or ``"integrity"``.
    direction
        Whether ``"higher"`` or ``"lower"`` values are better, or those nearest to ``"one"``.
    needs
        Attributes of :class:`Comparison` that it reads.
    function
        Maps a comparison to a number; NaN where the metric is not defined.
    """

    name: str
    family: str
    direction: Literal["higher", "lower", "one"]
    needs: tuple[str, ...]
    function: Callable[[Comparison], float]

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is a better score than ``b``."""
        if self.direction == "one":
            return abs(np.log(max(a, 1e-9))) < abs(np.log(max(b, 1e-9)))
        return a > b if self.direction == "higher" else a < b


_DE = ("de_predicted", "de_real")
_DELTA = ("delta_predicted", "delta_real")
_CELLS = ("predicted", "real")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "pearson_delta",
            "delta",
            "higher",
            _DELTA,
            lambda c: float(pearson_delta(c.delta_predicted, c.delta_real)[0]),
        ),
        Metric("mse_delta", "delta", "lower", _DELTA, lambda c: float(mse_delta(c.delta_predicted, c.delta_real)[0])),
        Metric("mae_delta", "delta", "lower", _DELTA, lambda c: float(mae_delta(c.delta_predicted, c.delta_real)[0])),
        Metric(
            "overlap_at_n",
            "differential expression",
            "higher",
            _DE,
            lambda c: overlap_at_n(c.de_predicted, c.de_real),
        ),
        Metric(
            "precision_at_n",
            "differential expression",
            "higher",
            _DE,
            lambda c: precision_at_n(c.de_predicted, c.de_real),
        ),
        Metric(
            "n_sig_ratio",
            "differential expression",
            "one",
            _DE,
            lambda c: n_significant_ratio(c.de_predicted, c.de_real),
        ),
        Metric(
            "direction_match",
            "differential expression",
            "higher",
            _DE,
            lambda c: direction_match(c.de_predicted, c.de_real),
        ),
        Metric("energy_distance", "distribution", "lower", _CELLS, lambda c: energy_distance(c.predicted, c.real)),
        Metric("variance_ratio", "integrity", "one", _CELLS, lambda c: variance_ratio(c.predicted, c.real)),
        Metric(
            "zero_fraction_gap",
            "integrity",
            "lower",
            _CELLS,
            lambda c: zero_fraction_gap(c.predicted, c.real),
        ),
    )
}

PANELS: dict[str, tuple[str, ...]] = {
    "default": (
        "pearson_delta",
        "overlap_at_n",
        "n_sig_ratio",
        "direction_match",
        "mse_delta",
        "energy_distance",
        "variance_ratio",
        "zero_fraction_gap",
    ),
    "all": tuple(METRICS),
}


def resolve_metrics(metrics: str | Sequence[str]) -> list[Metric]:
    """Return metrics by the name of a panel or by their own names.

    Parameters
    ----------
    metrics
        ``"default"``, ``"all"``, or names of metrics.

    Returns
    -------
    The metrics, in that order.

    Raises
    ------
    transpert.errors.UnknownNameError
        If there is no such panel or metric; the nearest name is offered.
    """
    if isinstance(metrics, str):
        names: Sequence[str] = PANELS.get(metrics, (metrics,))
    else:
        names = metrics
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise UnknownNameError("metric", unknown, [*METRICS, *PANELS])
    return [METRICS[name] for name in names]
