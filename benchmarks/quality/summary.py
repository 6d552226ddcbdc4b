"""Means, intervals, paired differences and normalised values of what has been run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from transpert.metrics import METRICS, bootstrap_interval, normalise

FLOOR, CEILING, OURS = "MeanShift", "Replicate", "SCALE"
# the anchor of SCALE on its own, and the same with effects that depend on the context linearly
ANCHOR, LINEAR = "KernelTransport", "RidgeTransport"
LOWER_IS_BETTER = {"mmd_pca", "de_nsig_counts_pred"}
POPULATION = ["split", "context", "perturbation"]
N_SAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Value:
    """A mean over populations with its interval.

    Parameters
    ----------
    mean, low, high
        The mean, and its 95 % interval by resampling populations.
    n, n_undefined
        Populations, and how many of them the metric is not defined on.
    """

    mean: float
    low: float
    high: float
    n: int
    n_undefined: int = 0

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval does not contain 0."""
        return bool(self.low > 0 or self.high < 0)


class Scores:
    """The rows of one task, as one value a population (averaged over the seeds).

    Parameters
    ----------
    rows
        What :func:`~benchmarks.quality.results.tidy` returned, of one task.
    reference
        Controls of the prediction: ``"real"``, or ``"predicted"`` for those of its own.
    """

    def __init__(self, rows: pd.DataFrame, reference: str = "real") -> None:
        self._rows = rows[rows["reference"] == reference]
        self.values = self._rows.groupby(["method", "metric", *POPULATION], dropna=False)["value"].mean()
        self.seeds = self._rows.groupby("method")["seed"].nunique().to_dict()

    @property
    def methods(self) -> list[str]:
        """Methods that have a result."""
        return sorted(self.seeds)

    def on_common_populations(self, methods: list[str]) -> Scores:
        """The same scores on the populations that all these methods have."""
        rows = self._rows[self._rows["method"].isin(methods)]
        owners = rows.groupby(POPULATION)["method"].transform("nunique")
        kept = rows[owners == len(methods)]
        return Scores(kept, str(kept["reference"].iloc[0]) if len(kept) else "real")

    def populations(self, method: str, metric: str) -> pd.Series:
        """Value of a method on every population."""
        try:
            return self.values.loc[(method, metric)]
        except KeyError:
            return pd.Series(dtype=float)

    def value(self, method: str, metric: str) -> Value | None:
        """Mean of a method over the populations it was run on."""
        found = self.populations(method, metric)
        return None if not len(found) else _value(found.to_numpy(dtype=float))

    def difference(self, method: str, other: str, metric: str) -> Value | None:
        """Paired difference of two methods over the populations that both have."""
        pair = pd.concat([self.populations(method, metric), self.populations(other, metric)], axis=1, join="inner")
        return None if not len(pair) else _value((pair.iloc[:, 0] - pair.iloc[:, 1]).to_numpy(dtype=float))

    def normalised(self, method: str, metric: str) -> float:
        """``(value - floor) / (ceiling - floor)`` of the means over the populations that all three have.

        NaN where the replicate is not clearly better than the floor: there is nothing to be placed between.
        """
        columns = [self.populations(name, metric) for name in (method, FLOOR, CEILING)]
        if not all(len(column) for column in columns):
            return float("nan")
        value, floor, ceiling = pd.concat(columns, axis=1, join="inner").dropna().mean().to_numpy()
        return float(normalise(value, floor, ceiling, direction="lower" if lower_is_better(metric) else "higher"))

    def best(self, metric: str, candidates: list[str]) -> str | None:
        """The candidate with the best mean among those run on the most populations."""
        found = {name: value for name in candidates if (value := self.value(name, metric)) is not None}
        found = {name: value for name, value in found.items() if np.isfinite(value.mean)}
        if not found:
            return None
        largest = max(value.n for value in found.values())
        full = {name: value.mean for name, value in found.items() if value.n == largest}
        return (min if lower_is_better(metric) else max)(full, key=full.__getitem__)


def lower_is_better(metric: str) -> bool:
    """Whether smaller values of a metric are better."""
    return metric in LOWER_IS_BETTER or METRICS[metric].direction == "lower"


def favourable(metric: str, difference: Value) -> bool:
    """Whether a difference has the sign of an improvement and its interval excludes 0."""
    better = difference.mean < 0 if lower_is_better(metric) else difference.mean > 0
    return better and difference.excludes_zero


def not_worse(metric: str, difference: Value) -> bool:
    """Whether a difference is an improvement, or its interval contains 0."""
    better = difference.mean <= 0 if lower_is_better(metric) else difference.mean >= 0
    return better or not difference.excludes_zero


def _value(values: np.ndarray) -> Value:
    defined = values[np.isfinite(values)]
    mean = float(defined.mean()) if len(defined) else float("nan")
    low, high = bootstrap_interval(values, n_samples=N_SAMPLES)
    return Value(mean, low, high, len(values), int(len(values) - len(defined)))
