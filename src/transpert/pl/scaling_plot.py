"""Scores by size, with the fitted curves."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from transpert._arguments import check_axes
from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError, check_known
from transpert.tl import ScalingStudy

from ._style import FAINT, finish, legend_beside, make_axes, styles

_POINTS = 100


@as_annotated()
@fill_docstring
def scaling(
    study: ScalingStudy,
    *,
    metric: str | None = None,
    axis: str | None = None,
    scheme: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the normalised scores of every model by size, with its curve and the size at which it saturates.

    A curve is drawn where there are four sizes; a vertical line stands where it exceeds 95 % of the way from floor to
    best.

    Parameters
    ----------
    study
        What :func:`transpert.tl.scaling_study` returned.
    metric, axis, scheme
        Which scores; the first by default.
    %(drawing)s

    Examples
    --------
    >>> import tempfile, transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=4, n_perturbations=3, n_genes=40, n_cells=30)
    >>> tp.pp.split(adata, holdout={"context": "context_0"})
    >>> design = tp.groups.Design("perturbation", "control", ("context",), split_key="split")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     study = tp.tl.scaling_study(
    ...         adata, design, models="MeanShift", axes={"cells": [0.3, 1.0]}, seeds=1, out=folder, progress=False
    ...     )
    >>> tp.pl.scaling(study, show=False).get_xlabel()
    'cells'
    """
    check_axes(ax, name="ax")
    table = study.table
    metric = metric or str(table["metric"].iloc[0])
    axis = axis or study.axes[0]
    scheme = scheme or str(table["scheme"].iloc[0])
    for kind, name, known in (
        ("metric", metric, table["metric"]),
        ("axis", axis, study.axes),
        ("scheme", scheme, table["scheme"]),
    ):
        check_known(kind, [name], set(known), where="the study")
    rows = table[(table["metric"] == metric) & (table["scheme"] == scheme) & (table[f"n_{axis}"] > 0)]
    figure, axes = make_axes(ax, (6.0, 4.0))
    looks = styles(list(dict.fromkeys(rows["model"])))
    for model, part in rows.groupby("model", sort=False):
        colour, marker = looks[str(model)]
        runs = part.groupby([f"n_{axis}", "seed"])["normalised"].mean().reset_index()
        axes.scatter(
            runs[f"n_{axis}"], runs["normalised"], color=colour, marker=marker, s=16, label=str(model), alpha=0.7
        )
        try:
            curve = study.curve(str(model), scheme=scheme, metric=metric, axis=axis, n_bootstrap=100)
        except MetricInputError:
            continue
        sizes = np.geomspace(curve.sizes.min(), curve.sizes.max(), _POINTS)
        values = curve.predict(sizes)
        axes.plot(sizes, values[0], color=colour)
        axes.fill_between(sizes, *np.quantile(values[1:], [0.05, 0.95], axis=0), color=colour, alpha=0.15, linewidth=0)
        point = curve.saturation()[0]
        if np.isfinite(point):
            axes.axvline(point, color=colour, linewidth=0.8, linestyle=":")
    for level in (0, 1):
        axes.axhline(level, color=FAINT, linewidth=1, zorder=0)
    _sizes_along(axes, rows[f"n_{axis}"].min(), rows[f"n_{axis}"].max())
    axes.set(xlabel=axis.replace("_", " "), ylabel=f"{metric}\n0: no change, 1: a replicate")
    legend_beside(axes, own=ax is None)
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _sizes_along(axes: Axes, smallest: float, largest: float) -> None:
    """Make the axis of sizes logarithmic, with whole numbers at ticks that do not run into each other."""
    axes.set_xscale("log")
    if largest < 100 * smallest:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
