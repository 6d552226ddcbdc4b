"""How many of the top genes are the right ones, for every length of the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert.errors import MetricInputError, OptionError
from transpert.groups import Design
from transpert.metrics import DifferentialExpression

from ._comparison import tested_populations
from ._style import MUTED, finish, legend_beside, make_axes, styles

_ENOUGH = 10  # genes in a list whose overlap says something


@fill_docstring
def overlap_curve(
    pred: AnnData | Mapping[str, AnnData],
    truth: AnnData,
    *,
    population: str | None = None,
    max_k: int | None = None,
    design: Design | None = None,
    context_keys: str | Sequence[str] | None = None,
    layer: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the share of the top ``k`` really changed genes among the top ``k`` predicted ones, against ``k``.

    Genes are ranked as in the metric ``overlap_at_n`` (significant ones, by absolute fold change), so that the curve
    ends where that metric stands. A dotted line shows what a list drawn by chance would reach.

    Parameters
    ----------
    pred
        A prediction, or several by name: cells with log1p counts per 10k in ``X``, labelled like the truth.
    truth
        The real cells with controls, log1p counts per 10k in ``X``.
    population
        Which one, ``"context: condition"``. By default the mean over all populations that have ``k`` significant
        genes; it ends where fewer than half of those with at least ten of them do.
    max_k
        Longest list; the number of really significant genes by default.
    %(design)s
    %(own_context_keys)s
    %(log_layer)s
    %(drawing)s

    Raises
    ------
    transpert.errors.UnknownNameError
        If there is no such population.
    transpert.errors.MetricInputError
        If no population is real and predicted, or none has a really significant gene.
    transpert.errors.OptionError
        If ``max_k`` is below 1, or cells come as something else than an AnnData, such as a list.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=60, n_cells=60, effect_size=2.0)
    >>> tp.pl.overlap_curve({"the truth itself": adata}, adata, show=False).get_xlabel()
    'k, genes in the list'
    """
    check_arguments(locals())
    if max_k is not None and max_k < 1:
        raise OptionError(f"max_k is {max_k}", where="overlap_curve", remedy="Give 1 or more.")
    tested = tested_populations(
        pred,
        truth,
        population=population,
        design=design,
        context_keys=context_keys,
        layer=layer,
    )
    found = [item for item in tested if item.real.n_significant]
    if not found:
        raise MetricInputError(
            "no gene is really significant in any population",
            where="overlap_curve",
            remedy="There is nothing to compare: give more cells, or other populations.",
        )
    numbers = [item.real.n_significant for item in found]
    # populations in which hardly anything changes would end the curve before it says something
    length = int(np.median([number for number in numbers if number >= _ENOUGH] or numbers))
    length = length if max_k is None else min(length, max_k)
    lists = np.arange(1, length + 1)
    figure, axes = make_axes(ax, (6.4, 4.0))
    models = list(found[0].predicted)
    for model, (colour, _) in styles(models).items():
        curves = [_overlaps(item.predicted[model], item.real, length) for item in found]
        axes.plot(lists, np.nanmean(curves, axis=0), color=colour, linewidth=1.8, label=model)
    axes.plot(lists, lists / truth.n_vars, color=MUTED, linestyle=":", linewidth=1.4, label="by chance")
    title = found[0].name if len(found) == 1 else f"mean over {len(found)} populations"
    axes.set(xlabel="k, genes in the list", ylabel="overlap of the top k", title=title, ylim=(0, 1.02))
    # overlaps of a few genes jump; a curve over a single list has no width
    axes.set_xlim(_ENOUGH if length >= 4 * _ENOUGH else 1, max(length, 2))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.spines[["top", "right"]].set_visible(False)
    legend_beside(axes, own=ax is None)
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _overlaps(predicted: DifferentialExpression, real: DifferentialExpression, length: int) -> np.ndarray:
    """Overlap of the top k for k from 1 to ``length``; NaN where fewer genes are really significant."""
    own, theirs = real.ranked(), predicted.ranked()
    # a gene enters the overlap at the later of its two places
    places = np.full(len(real.p_value), np.iinfo(np.int64).max)
    places[theirs] = np.arange(len(theirs))
    enters = np.maximum(np.arange(len(own)), places[own])
    n_lists = min(length, len(own))
    shared = np.bincount(enters[enters < n_lists], minlength=n_lists).cumsum()
    curve = np.full(length, np.nan)
    curve[:n_lists] = shared / np.arange(1, n_lists + 1)
    return curve
