"""Small statistics that several rooms share."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two vectors, NaN with fewer than two entries or where one is constant."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def finite_mean(values: np.ndarray) -> float:
    """Mean of the finite values, NaN where there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Bounds between which a share ``level`` of the draws lies."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_and_error(values: np.ndarray | sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean of every gene over cells, and the squared standard error of that mean, each ``(G,)``."""
    mean = np.asarray(values.mean(axis=0), dtype=np.float64).ravel()
    squared: Any = np.square(values) if isinstance(values, np.ndarray) else values.multiply(values)
    variance = np.asarray(squared.mean(axis=0), dtype=np.float64).ravel() - mean**2
    return mean, np.maximum(variance, 0) / max(values.shape[0] - 1, 1)
