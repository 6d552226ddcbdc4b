"""What all plots share: colours that the colour-blind can tell apart, and what is returned."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "SOURCE_COLOURS", "finish", "make_axes"]

# Okabe and Ito's palette
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")
SOURCE_COLOURS = {"control": "#BBBBBB", "observed": "#0072B2", "predicted": "#D55E00"}


def make_axes(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return the axes given, or new ones of a size in inches."""
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    return figure, ax


def finish(figure: Figure, axes: Axes, *, own: bool, show: bool | None, return_fig: bool) -> Axes | Figure | None:
    """Show a plot or return it, as scanpy's plots do.

    Parameters
    ----------
    figure, axes
        The plot.
    own
        Whether the figure was made here.
    show
        Show it now; by default only in a figure made here that is not asked for.
    return_fig
        Return the figure.
    """
    if return_fig:
        return figure
    if show or (show is None and own and plt.isinteractive()):
        plt.show()
        return None
    return axes
