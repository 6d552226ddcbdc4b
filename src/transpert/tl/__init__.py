"""Tools: AnnData in, AnnData slots out."""

from .auditing import audit
from .counterfactual import predict
from .counts import to_counts
from .differential_expression import rank_genes_groups
from .embed import embed_together
from .evaluation import evaluate
from .export import to_cell_eval
from .fold_changes import effects
from .learnable import EffectShares, effect_shares
from .paired import compare
from .score_summary import score_table

__all__ = [
    "EffectShares",
    "audit",
    "compare",
    "effect_shares",
    "effects",
    "embed_together",
    "evaluate",
    "predict",
    "rank_genes_groups",
    "score_table",
    "to_cell_eval",
    "to_counts",
]
