"""Tools: AnnData in, AnnData slots out."""

from ._evaluation.options import EvaluationOptions
from ._scaling.study import ScalingStudy
from .auditing import AuditLimits, audit
from .challenge_package import to_vcc
from .counterfactual import predict
from .counts import to_counts
from .differential_expression import rank_genes_groups
from .embed import embed_together
from .evaluation import evaluate
from .export import to_cell_eval
from .fold_changes import effects
from .heterogeneity import Responses, responses
from .learnable import EffectShares, effect_shares
from .paired import compare
from .pertpy_distances import distances
from .ranking import rank_targets, score_ranking
from .registration import register_prediction, score_registered
from .scaling import scaling_study
from .score_summary import score_table
from .suggestion import suggest
from .tail_report import rare_tails

__all__ = [
    "AuditLimits",
    "EvaluationOptions",
    "audit",
    "compare",
    "distances",
    "effect_shares",
    "effects",
    "embed_together",
    "evaluate",
    "predict",
    "rank_genes_groups",
    "rank_targets",
    "rare_tails",
    "register_prediction",
    "responses",
    "scaling_study",
    "score_ranking",
    "score_registered",
    "score_table",
    "suggest",
    "to_cell_eval",
    "to_counts",
    "to_vcc",
]
