"""Predicted against observed fold changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from transpert import _keys
from transpert._anndata import check_kind
from transpert.errors import UnknownNameError
from transpert.groups import Design
from transpert.tl._populations import design_of_metadata
from transpert.tl.fold_changes import effects_of

from ._style import COLOURS, finish, make_axes


def effects_scatter(
    pred: AnnData | pd.DataFrame,
    truth: AnnData | pd.DataFrame,
    *,
    population: str | None = None,
    genes: str | Sequence[str] | None = None,
    n_labels: int = 12,
    design: Design | None = None,
    context_keys: str | Sequence[str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot predicted against observed log2 fold changes of every gene, some of them by name.

    Parameters
    ----------
    pred, truth
        Cells with their controls, or tables of :func:`transpert.tl.effects`.
    population
        Which one, ``"context: condition"``; the first of the prediction by default.
    genes
        Which ones are named; by default the ``n_labels`` with the largest fold changes.
    n_labels
        How many, where ``genes`` does not say which.
    design
        The columns of ``obs`` that say what was done to a cell and where it came from (:class:`transpert.Design`); by
        default what a prediction of this package says, else ``"perturbation"`` and ``"control"`` in one context.
    context_keys
        Columns that make a context, where they are others than the design says.
    ax, show, return_fig
        As in scanpy's plots.

    Returns
    -------
    The axes; the figure with ``return_fig``; nothing if it was shown.

    Raises
    ------
    transpert.errors.UnknownNameError
        If there is no such population or gene.
    transpert.errors.OptionError
        If one of them is neither cells nor a table.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=50, n_cells=40)
    >>> axes = tp.pl.effects_scatter(adata, adata, genes=["gene_3", "gene_7"], show=False)
    >>> sorted(text.get_text() for text in axes.texts)
    ['gene_3', 'gene_7']
    """
    for data, kind in ((pred, "the prediction"), (truth, "the truth")):
        check_kind(data, (AnnData, pd.DataFrame), name=kind, wanted="an AnnData, or a table of tl.effects")
    own = next((data for data in (pred, truth) if isinstance(data, AnnData)), None)
    design = design_of_metadata(
        {} if own is None else own.uns.get(_keys.UNS, {}),
        () if own is None else own.obs.columns,
        design=design,
        context_keys=context_keys,
    )
    tables = [data if isinstance(data, pd.DataFrame) else effects_of(data, design) for data in (pred, truth)]
    name = population or tables[0].columns[0]
    for table in tables:
        if name not in table:
            raise UnknownNameError("population", [name], table.columns)
    shared = tables[0].index.intersection(tables[1].index)
    predicted, observed = (table.loc[shared, name].to_numpy(float) / np.log(2) for table in tables)
    chosen = _choose_genes(genes, n_labels, np.abs(observed) + np.abs(predicted), shared)
    figure, axes = make_axes(ax, (5.2, 5.2))
    limit = 1.12 * max(np.abs(predicted).max(), np.abs(observed).max(), 0.1)
    axes.axline((0, 0), slope=1, color="#BBBBBB", linewidth=1, zorder=0)
    axes.axhline(0, color="#DDDDDD", linewidth=0.8, zorder=0)
    axes.axvline(0, color="#DDDDDD", linewidth=0.8, zorder=0)
    axes.scatter(observed, predicted, s=9, color=COLOURS[0], alpha=0.6, linewidths=0, rasterized=True)
    axes.scatter(observed[chosen], predicted[chosen], s=14, color=COLOURS[1], linewidths=0, rasterized=True)
    _name_genes(axes, shared, observed, predicted, chosen, limit)
    correlation = np.corrcoef(observed, predicted)[0, 1] if predicted.std() and observed.std() else np.nan
    axes.set(
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        xlabel="observed log2 fold change",
        ylabel="predicted log2 fold change",
        title=f"{name}\nPearson r = {correlation:.2f}, {len(shared):,} genes",
    )
    axes.set_aspect("equal")
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _choose_genes(genes: str | Sequence[str] | None, n_labels: int, sizes: np.ndarray, known: pd.Index) -> np.ndarray:
    if genes is None:
        return np.argsort(-sizes, kind="stable")[:n_labels]
    names = [genes] if isinstance(genes, str) else list(genes)
    absent = [name for name in names if name not in known]
    if absent:
        raise UnknownNameError("gene", absent, known, where="both tables")
    return known.get_indexer(pd.Index(names))


def _name_genes(
    axes: Axes, genes: pd.Index, observed: np.ndarray, predicted: np.ndarray, chosen: np.ndarray, limit: float
) -> None:
    """Name genes beside their points, each at a height of its own, so that names never cover each other."""
    order = sorted(chosen, key=lambda i: (predicted[i], observed[i]))
    gap = min(0.09 * limit, 1.9 * limit / max(len(order), 1))
    # as near to the points as the gaps allow, and never above the frame
    heights = [max(float(predicted[i]), -0.95 * limit) for i in order]
    for k in range(1, len(heights)):
        heights[k] = max(heights[k], heights[k - 1] + gap)
    ceiling = 0.95 * limit
    for k in reversed(range(len(heights))):
        heights[k] = min(heights[k], ceiling)
        ceiling = heights[k] - gap
    for i, height in zip(order, heights, strict=True):
        # names of genes that go up stand to the left of their points, where there is room
        side = 1 if observed[i] >= 0 else -1
        axes.annotate(
            str(genes[i]),
            (observed[i], predicted[i]),
            xytext=(observed[i] - side * 0.3 * limit, height),
            fontsize=7.5,
            ha="right" if side > 0 else "left",
            va="center",
            path_effects=[withStroke(linewidth=2, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2},
        )
