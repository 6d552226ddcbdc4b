"""Metrics: pure functions on arrays, one family a file, and a registry of them by name."""

from .bootstrap import bootstrap_interval, normalise
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
from .registry import METRICS, PANELS, Comparison, Metric, resolve_metrics

__all__ = [
    "METRICS",
    "PANELS",
    "Comparison",
    "DifferentialExpression",
    "Metric",
    "bootstrap_interval",
    "differential_expression",
    "direction_match",
    "energy_distance",
    "mae_delta",
    "mse_delta",
    "n_significant_ratio",
    "normalise",
    "overlap_at_n",
    "pearson_delta",
    "precision_at_n",
    "resolve_metrics",
    "variance_ratio",
    "zero_fraction_gap",
]
