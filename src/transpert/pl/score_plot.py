"""Scores of models between floor and ceiling."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transpert.errors import UnknownNameError
from transpert.tl.evaluation import MEAN

from ._style import COLOURS, finish, make_axes

__all__ = ["scores"]


def scores(
    table: pd.DataFrame,
    *,
    metric: str = "pearson_delta",
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the mean score of every model with its interval, between the best baseline and the ceiling.

    Parameters
    ----------
    table
        What :func:`transpert.tl.evaluate` returned.
    metric
        The metric.
    ax, show, return_fig
        As in scanpy's plots.

    Returns
    -------
    The axes; the figure with ``return_fig``; nothing if it was shown.

    Raises
    ------
    transpert.errors.UnknownNameError
        If the table lacks the metric.
    """
    if metric not in set(table["metric"]):
        raise UnknownNameError("metric", [metric], sorted(set(table["metric"])), where="the scores")
    means = table[(table["context"] == MEAN) & (table["metric"] == metric)]
    models = means[means["model"] != "ceiling"].sort_values("value")
    figure, axes = make_axes(ax, (5.5, 1.2 + 0.32 * len(models)))
    places = np.arange(len(models))
    low, high = (models["value"] - models["ci_low"]).fillna(0), (models["ci_high"] - models["value"]).fillna(0)
    axes.errorbar(
        models["value"],
        places,
        xerr=[low.clip(lower=0), high.clip(lower=0)],
        fmt="o",
        color=COLOURS[0],
        ecolor="#999999",
        markersize=6,
        linewidth=1,
        capsize=2,
    )
    for column, colour, text in (("baseline", COLOURS[4], "best baseline"), ("ceiling", COLOURS[2], "ceiling")):
        value = models[column].dropna()
        if len(value):
            axes.axvline(value.iloc[0], color=colour, linestyle="--", linewidth=1.2, label=text, zorder=0)
    axes.set(xlabel=metric, ylim=(-0.6, len(models) - 0.4))
    axes.set_yticks(places, models["model"])
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)
