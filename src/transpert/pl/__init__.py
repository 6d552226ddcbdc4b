"""Plots of predictions, scores and what the tools wrote."""

from .dose_curves import dose_response
from .effects import effects_scatter
from .embedded_cells import embedding
from .overlap import overlap_curve
from .page import report
from .response_plot import responses
from .scaling_plot import scaling
from .score_map import score_heatmap
from .score_plot import scores
from .shares import effect_shares
from .significance import calibration
from .target_plot import targets

__all__ = [
    "calibration",
    "dose_response",
    "effect_shares",
    "effects_scatter",
    "embedding",
    "overlap_curve",
    "report",
    "responses",
    "scaling",
    "score_heatmap",
    "scores",
    "targets",
]
