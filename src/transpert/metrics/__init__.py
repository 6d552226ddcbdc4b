"""Metrics: pure functions on arrays, one family a file, and a registry of them by name."""

from .bootstrap import bootstrap_interval, normalise
from .calibrated import dynamic_range_fraction, effect_weights, weighted_mse, weighted_r2
from .challenge import challenge_score, direction_fidelity, direction_reach, fold_change_error, significant_jaccard
from .comparison import Comparison
from .delta import mae, mae_delta, mse, mse_delta, pearson_delta
from .differential_expression import (
    CONVENTIONS,
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
from .pseudobulk import bulk_noise, bulk_profile, noise_corrected_errors
from .rare_tails import top_average_precision, top_recall, unique_gene_error
from .registry import METRICS, PANELS, Metric, panel_needs, prepare, resolve_metrics, score_panel
from .residuals import interaction, residual_pearson, residual_r2
from .systema import centroid_accuracy, pearson_delta_perturbed

__all__ = [
    "CONVENTIONS",
    "METRICS",
    "PANELS",
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
    "bulk_noise",
    "bulk_profile",
    "centroid_accuracy",
    "challenge_score",
    "differential_expression",
    "direction_fidelity",
    "direction_match",
    "direction_reach",
    "discrimination_score",
    "dynamic_range_fraction",
    "effect_weights",
    "energy_distance",
    "fold_change_error",
    "fold_change_spearman",
    "interaction",
    "mae",
    "mae_delta",
    "maximum_mean_discrepancy",
    "mse",
    "mse_delta",
    "n_significant_ratio",
    "n_significant_spearman",
    "noise_corrected_errors",
    "normalise",
    "normalised_inverse_rank",
    "overlap_at_n",
    "panel_needs",
    "pearson_delta",
    "pearson_delta_perturbed",
    "precision_at_n",
    "prepare",
    "rank_sums",
    "rank_sums_together",
    "residual_pearson",
    "residual_r2",
    "resolve_metrics",
    "score_panel",
    "significant_jaccard",
    "significant_recall",
    "summarise",
    "top_average_precision",
    "top_recall",
    "unique_gene_error",
    "variance_ratio",
    "weighted_mse",
    "weighted_r2",
    "zero_fraction_gap",
]
