"""Whether as many genes are predicted to change as really do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert.groups import Design

from ._comparison import tested_populations
from ._style import FAINT, MUTED, finish, legend_beside, make_axes, styles


@fill_docstring
def calibration(
    pred: AnnData | Mapping[str, AnnData],
    truth: AnnData,
    *,
    design: Design | None = None,
    context_keys: str | Sequence[str] | None = None,
    layer: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the number of genes predicted significant against the number that really are, one point a population.

    Points above the line: the predicted cells vary too little, so that a rank test calls too many genes. Points below:
    the predicted effects are too weak. Both axes are logarithmic, with a zero. The band spans a factor of two.

    Parameters
    ----------
    pred
        A prediction, or several by name: cells with log1p counts per 10k in ``X``, labelled like the truth.
    truth
        The real cells with controls, log1p counts per 10k in ``X``.
    %(design)s
    %(own_context_keys)s
    %(log_layer)s
    %(drawing)s

    Raises
    ------
    transpert.errors.MetricInputError
        If no population is real and predicted.
    transpert.errors.OptionError
        If cells come as something else than an AnnData, such as a list.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=60, n_cells=60)
    >>> axes = tp.pl.calibration({"the truth itself": adata}, adata, show=False)
    >>> bool((axes.collections[-1].get_offsets()[:, 0] == axes.collections[-1].get_offsets()[:, 1]).all())
    True
    """
    check_arguments(locals())
    tested = tested_populations(
        pred,
        truth,
        population=None,
        design=design,
        context_keys=context_keys,
        layer=layer,
    )
    figure, axes = make_axes(ax, (6.2, 4.2))
    models = list(tested[0].predicted)
    largest = max(n.n_significant for item in tested for n in (item.real, *item.predicted.values()))
    limit = 2.0 * max(largest, 5)
    axes.fill_between([0, limit], [0, limit / 2], [0, 2 * limit], color=FAINT, alpha=0.4, linewidth=0, zorder=0)
    axes.plot([0, limit], [0, limit], color=MUTED, linewidth=1, zorder=1, label="as many as really are")
    for model, (colour, marker) in styles(models).items():
        axes.scatter(
            [item.real.n_significant for item in tested],
            [item.predicted[model].n_significant for item in tested],
            s=42,
            color=colour,
            marker=marker,
            alpha=0.85,
            edgecolors="white",
            linewidths=0.6,
            label=model,
            zorder=3,
        )
    for axis, side in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        getattr(axes, f"set_{side}scale")("symlog", linthresh=1, linscale=0.4)
        axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set(
        xlim=(-0.25, limit),
        ylim=(-0.25, limit),
        xlabel="really significant genes",
        ylabel="genes predicted significant",
    )
    axes.set_box_aspect(1)
    axes.spines[["top", "right"]].set_visible(False)
    legend_beside(axes, own=ax is None)
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)
