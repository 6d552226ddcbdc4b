"""Plots of what the tools wrote."""

from .effects import effects_scatter
from .score_plot import scores

__all__ = ["effects_scatter", "scores"]
