"""Predicted against observed fold changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transpert.errors import UnknownNameError
from transpert.tl import effects as compute_effects

from ._style import COLOURS, finish, make_axes

__all__ = ["effects_scatter"]


def effects_scatter(
    pred: AnnData | pd.DataFrame,
    truth: AnnData | pd.DataFrame,
    *,
    population: str | None = None,
    n_labels: int = 12,
    perturbation_key: str | None = None,
    control: str | None = None,
    context_keys: str | list[str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot predicted against observed log2 fold changes of every gene, the largest by name.

    Parameters
    ----------
    pred, truth
        Cells with their controls, or tables of :func:`transpert.tl.effects`.
    population
        Which one, ``"context: condition"``; the first of the prediction by default.
    n_labels
        Genes that are named.
    perturbation_key, control, context_keys
        Columns and label; by default what a prediction of this package says.
    ax, show, return_fig
        As in scanpy's plots.

    Returns
    -------
    The axes; the figure with ``return_fig``; nothing if it was shown.

    Raises
    ------
    transpert.errors.UnknownNameError
        If there is no such population.
    """
    own = pred.uns.get("transpert", {}).get("design", {}) if isinstance(pred, AnnData) else {}
    keys = {
        "perturbation_key": perturbation_key or own.get("perturbation_key"),
        "control": control or own.get("control"),
        "context_keys": context_keys if context_keys is not None else [str(k) for k in own.get("context_keys", [])],
    }
    tables = [
        data if isinstance(data, pd.DataFrame) else compute_effects(data, **keys, key_added="effects")
        for data in (pred, truth)
    ]
    name = population or tables[0].columns[0]
    for table in tables:
        if name not in table:
            raise UnknownNameError("population", [name], table.columns)
    genes = tables[0].index.intersection(tables[1].index)
    predicted, observed = (table.loc[genes, name].to_numpy(float) / np.log(2) for table in tables)
    figure, axes = make_axes(ax, (5.2, 5.2))
    limit = 1.12 * max(np.abs(predicted).max(), np.abs(observed).max(), 0.1)
    axes.axline((0, 0), slope=1, color="#BBBBBB", linewidth=1, zorder=0)
    axes.axhline(0, color="#DDDDDD", linewidth=0.8, zorder=0)
    axes.axvline(0, color="#DDDDDD", linewidth=0.8, zorder=0)
    axes.scatter(observed, predicted, s=9, color=COLOURS[0], alpha=0.6, linewidths=0, rasterized=True)
    _name_genes(axes, genes, observed, predicted, n_labels, limit)
    correlation = np.corrcoef(observed, predicted)[0, 1] if predicted.std() and observed.std() else np.nan
    axes.set(
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        xlabel="observed log2 fold change",
        ylabel="predicted log2 fold change",
        title=f"{name}\nPearson r = {correlation:.2f}, {len(genes):,} genes",
    )
    axes.set_aspect("equal")
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _name_genes(
    axes: Axes, genes: pd.Index, observed: np.ndarray, predicted: np.ndarray, n_labels: int, limit: float
) -> None:
    """Name the genes that move most, in a column beside the points, so that names never cover each other."""
    chosen = np.argsort(-(np.abs(observed) + np.abs(predicted)))[:n_labels]
    for side in (-1, 1):
        mine = [i for i in chosen if (observed[i] >= 0) == (side > 0)]
        mine.sort(key=lambda i: predicted[i])
        gap = 0.09 * limit
        # as near to the points as the gaps allow, and never above the frame
        heights = [float(predicted[i]) for i in mine]
        for k in range(1, len(heights)):
            heights[k] = max(heights[k], heights[k - 1] + gap)
        ceiling = 0.95 * limit
        for k in reversed(range(len(heights))):
            heights[k] = min(heights[k], ceiling)
            ceiling = heights[k] - gap
        for i, height in zip(mine, heights, strict=True):
            # names of genes that go up stand to the left of their points, where there is room
            axes.annotate(
                str(genes[i]),
                (observed[i], predicted[i]),
                xytext=(observed[i] - side * 0.3 * limit, height),
                fontsize=7.5,
                ha="right" if side > 0 else "left",
                va="center",
                arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2},
            )
