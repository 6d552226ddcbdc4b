"""Transport without learning: effects of groups, the anchor, the stack, and the count read-out."""

from .anchor import Anchor, AnchorPrediction
from .dependence import ContextScores, Dependence
from .effects import GroupEffects, PopulationMeans, effects_from_statistics, group_effects, rows_of_groups
from .evidence import Evidence, WeighedEvidence
from .exported import ExportedPredictor
from .fitting import fit_anchor
from .novelty import NOVELTIES, Novelty, amount_distance, predict_as_new
from .options import AnchorOptions, ReadoutOptions
from .perturbation_ridge import PerturbationRidge, RidgeChoice
from .rates import mean_log_of_rate, shift_mean_log
from .readout import estimate_dispersion, transport_counts
from .shrinkage import shrink_effects
from .stack import fit_stack
from .statistics import GroupStatistics, PooledStatistics, group_statistics
from .uncertainty import PSEUDO_RATE, ErrorModel, log_fold_of_means, observed_log_folds

__all__ = [
    "Anchor",
    "AnchorOptions",
    "Evidence",
    "ExportedPredictor",
    "ReadoutOptions",
    "fit_anchor",
]
