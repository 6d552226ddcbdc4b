"""Metrics: pure functions on arrays, one family a file, and a registry of them by name."""

from .bootstrap import bootstrap_interval, normalise
from .comparison import Comparison
from .delta import mae, mae_delta, mse, mse_delta, pearson_delta
from .differential_expression import (
    CELL_EVAL,
    CHALLENGE_2026,
    TRANSPERT,
    Convention,
    DifferentialExpression,
    RankSums,
    differential_expression,
    rank_sums,
)
from .discrimination import discrimination_score, normalised_inverse_rank
from .distribution import energy_distance, maximum_mean_discrepancy
from .gene_agreement import (
    area_under_curve,
    direction_match,
    fold_change_spearman,
    n_significant_ratio,
    n_significant_spearman,
    overlap_at_n,
    precision_at_n,
    significant_recall,
)
from .integrity import variance_ratio, zero_fraction_gap
from .panel import Panel, Summary, summarise
from .population import Population, rank_sums_together
from .registry import METRICS, PANELS, Metric, panel_needs, prepare, resolve_metrics, score_panel

__all__ = [
    "CELL_EVAL",
    "CHALLENGE_2026",
    "METRICS",
    "PANELS",
    "TRANSPERT",
    "Comparison",
    "Convention",
    "DifferentialExpression",
    "Metric",
    "Panel",
    "Population",
    "RankSums",
    "Summary",
    "area_under_curve",
    "bootstrap_interval",
    "differential_expression",
    "direction_match",
    "discrimination_score",
    "energy_distance",
    "fold_change_spearman",
    "mae",
    "mae_delta",
    "maximum_mean_discrepancy",
    "mse",
    "mse_delta",
    "n_significant_ratio",
    "n_significant_spearman",
    "normalise",
    "normalised_inverse_rank",
    "overlap_at_n",
    "panel_needs",
    "pearson_delta",
    "precision_at_n",
    "prepare",
    "rank_sums",
    "resolve_metrics",
    "score_panel",
    "significant_recall",
    "summarise",
    "rank_sums_together",
    "variance_ratio",
    "zero_fraction_gap",
]
