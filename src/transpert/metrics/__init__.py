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
from .population import Population, rank_sums_together
from .pseudobulk import bulk_noise, bulk_profile, noise_corrected_errors
from .rare_tails import top_average_precision, top_recall, unique_gene_error
from .registry import METRICS, PANELS, Metric, prepare, resolve_metrics, score_prediction, summary_needs
from .residuals import interaction, residual_pearson, residual_r2
from .summaries import Summaries, Summary, summarise
from .systema import centroid_accuracy, pearson_delta_perturbed

__all__ = [
    "METRICS",
    "PANELS",
    "Metric",
    "Population",
    "challenge_score",
    "differential_expression",
    "discrimination_score",
    "energy_distance",
    "interaction",
    "normalise",
    "overlap_at_n",
    "pearson_delta",
]
