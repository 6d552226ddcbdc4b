"""Predicted against observed fold changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transpert._anndata import check_kind, frame, metadata_of
from transpert._arguments import check_arguments, name_list
from transpert._docstrings import fill_docstring
from transpert._statistics import mean_and_error, pearson
from transpert.conditions.text import population_text, split_population
from transpert.errors import GeneError, UnknownNameError, check_known
from transpert.groups import Design
from transpert.tl._populations import design_of_metadata, log_values, populations
from transpert.tl.fold_changes import effects_of

from ._style import COLOURS, FAINT, finish, make_axes

_ROOM = 0.3  # of the width, for names of genes


@fill_docstring
def effects_scatter(
    pred: AnnData | pd.DataFrame,
    truth: AnnData | pd.DataFrame,
    *,
    population: str | None = None,
    perturbation: str | None = None,
    context: str | None = None,
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
        Which one, ``"context: condition"``. By default the one with the largest observed effect, less what sampling
        noise adds, of those that are both predicted and observed; the title says which.
    perturbation, context
        The same among the populations of this perturbation or context alone.
    genes
        Which ones are named; by default the ``n_labels`` with the largest fold changes.
    n_labels
        How many, where ``genes`` does not say which.
    %(design)s
    %(own_context_keys)s
    %(drawing)s

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
    check_arguments(locals())
    for data, kind in ((pred, "the prediction"), (truth, "the truth")):
        check_kind(data, (AnnData, pd.DataFrame), name=kind, wanted="an AnnData, or a table of tl.effects")
    own = next((data for data in (pred, truth) if isinstance(data, AnnData)), None)
    design = design_of_metadata(
        {} if own is None else metadata_of(own),
        () if own is None else own.obs.columns,
        design=design,
        context_keys=context_keys,
    )
    tables = [data if isinstance(data, pd.DataFrame) else effects_of(data, design) for data in (pred, truth)]
    sizes = _signal(truth, design) if isinstance(truth, AnnData) else (tables[1] ** 2).sum()
    name, note = _choose_population(tables[0], sizes, population, perturbation, context)
    shared = _shared_genes(*tables)
    predicted, observed = (table.loc[shared, name].to_numpy(float) / np.log(2) for table in tables)
    chosen = _choose_genes(genes, n_labels, np.abs(observed) + np.abs(predicted), shared)
    figure, axes = make_axes(ax, (6.2, 5.2))
    low, high = (float(function([predicted, observed])) for function in (np.min, np.max))
    margin = 0.06 * max(high - low, 0.2)
    low, high = low - margin, high + margin
    axes.plot([low, high], [low, high], color="#BBBBBB", linewidth=1, zorder=0)
    axes.plot([low, high], [0, 0], color=FAINT, linewidth=0.8, zorder=0)
    axes.plot([0, 0], [low, high], color=FAINT, linewidth=0.8, zorder=0)
    axes.scatter(observed, predicted, s=9, color=COLOURS[0], alpha=0.6, linewidths=0, rasterized=True)
    axes.scatter(observed[chosen], predicted[chosen], s=14, color=COLOURS[1], linewidths=0, rasterized=True)
    _name_genes(axes, shared, observed, predicted, chosen, (low, high))
    correlation = pearson(observed, predicted)
    axes.set(
        xlim=(low, high + (_ROOM * (high - low) if len(chosen) else 0)),
        ylim=(low, high),
        xlabel="observed log2 fold change",
        ylabel="predicted log2 fold change",
        title=f"{name}{note}\nPearson r = {correlation:.2f}, {len(shared):,} genes",
    )
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= high])
    axes.set_aspect("equal")
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _shared_genes(predicted: pd.DataFrame, observed: pd.DataFrame) -> pd.Index:
    """Return the genes that both tables have, each once."""
    shared = predicted.index.intersection(observed.index)
    if not len(shared) or not (predicted.index.is_unique and observed.index.is_unique):
        what = "a gene stands in a table more than once" if len(shared) else "no gene is in both"
        raise GeneError(
            what, where="the prediction and the truth", remedy="Give tables of the same genes, each once, by name."
        )
    return shared


def _choose_population(
    predicted: pd.DataFrame,
    sizes: pd.Series,
    population: str | None,
    perturbation: str | None,
    context: str | None,
) -> tuple[str, str]:
    """Return the population that is asked for, the strongest of several, and what the title says of the choice."""
    if population is not None:
        for known in (predicted.columns, sizes.index):
            check_known("population", [population], known)
        return population, ""
    shared = [str(name) for name in predicted.columns.intersection(sizes.index)]
    parts = {name: split_population(name) for name in shared}
    for kind, wanted, place in (("perturbation", perturbation, 1), ("context", context, 0)):
        found = [name for name in shared if wanted is None or _is_population_of(parts[name][place], wanted)]
        if shared and not found:
            offered = dict.fromkeys(parts[name][place] for name in shared)
            raise UnknownNameError(kind, [str(wanted)], offered, where="the populations")
        shared = found
    if not shared:
        raise UnknownNameError(
            "population",
            map(str, predicted.columns),
            map(str, sizes.index),
            where="the prediction",
            remedy="Label the prediction like the truth, contexts included.",
        )
    strongest = str(sizes[shared].idxmax())
    return strongest, f" (the strongest of {len(shared)})" if len(shared) > 1 else ""


def _signal(truth: AnnData, design: Design) -> pd.Series:
    """Squared length of every observed effect in log1p, less the sampling noise that few cells add to it."""
    values = log_values(truth, None, where="the cells")
    found = populations(frame(truth.obs), design)
    moments = {context: mean_and_error(values[rows]) for context, rows in found.controls.items()}
    sizes = {}
    for (context, label), rows in found.cells.items():
        mean, error = mean_and_error(values[rows])
        before, error_before = moments[context]
        sizes[population_text(context, label)] = float(((mean - before) ** 2 - error - error_before).sum())
    return pd.Series(sizes)


def _is_population_of(label: str, wanted: str) -> bool:
    """Whether a label is the one wanted, at whatever dose, time or direction."""
    return label == wanted or label.startswith(f"{wanted}, ")


def _choose_genes(genes: str | Sequence[str] | None, n_labels: int, sizes: np.ndarray, known: pd.Index) -> np.ndarray:
    if genes is None:
        return np.argsort(-sizes, kind="stable")[:n_labels]
    names = name_list(genes)
    check_known("gene", names, known, where="both tables")
    return known.get_indexer(pd.Index(names))


def _name_genes(
    axes: Axes,
    genes: pd.Index,
    observed: np.ndarray,
    predicted: np.ndarray,
    chosen: np.ndarray,
    limits: tuple[float, float],
) -> None:
    """Name genes in a column right of all points, in the order of their points, so that names cover nothing."""
    low, high = limits
    order = sorted(chosen, key=lambda i: (predicted[i], observed[i]))
    span = high - low
    gap = min(0.045 * span, 0.96 * span / max(len(order), 1))
    # as near to the points as the gaps allow, and never above the frame
    heights = [max(float(predicted[i]), low + 0.02 * span) for i in order]
    for k in range(1, len(heights)):
        heights[k] = max(heights[k], heights[k - 1] + gap)
    ceiling = low + 0.98 * span
    for k in reversed(range(len(heights))):
        heights[k] = min(heights[k], ceiling)
        ceiling = heights[k] - gap
    for i, height in zip(order, heights, strict=True):
        axes.annotate(
            str(genes[i]),
            (observed[i], predicted[i]),
            xytext=(high + 0.04 * span, height),
            fontsize=7.5,
            ha="left",
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 2},
        )
