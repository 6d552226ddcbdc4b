"""Scores of one model, populations x metrics."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from transpert._arguments import check_arguments, check_text, name_list
from transpert._docstrings import fill_docstring
from transpert.conditions.text import population_text
from transpert.errors import OptionError, check_known
from transpert.metrics import METRICS
from transpert.tl.score_summary import CEILING, MEAN, check_scores, scores_of

from ._style import FAINT, MUTED, finish, make_axes


@fill_docstring
def score_heatmap(
    table: pd.DataFrame | AnnData,
    *,
    model: str | None = None,
    metrics: str | Sequence[str] | None = None,
    max_rows: int = 40,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the scores of one model as a map of populations x metrics.

    The numbers are the scores. The colours say where each lies between the best baseline (0, white) and the ceiling
    (1, the darkest green); worse than the baseline is purple. Numbers without a colour have no place between those
    two: those of ratios for which 1 is best, and those of populations whose ceiling is not clearly better than the
    baseline.

    Parameters
    ----------
    table
        What :func:`transpert.tl.evaluate` returned, with baselines and ceiling, or the real cells, into which it wrote
        the same.
    model
        Which one; by default the first of the table.
    metrics
        Which ones, in this order, or one; by default all of the table.
    max_rows
        Populations shown. Where there are more, the best and the worst of the first metric are shown.
    %(drawing)s

    Raises
    ------
    transpert.errors.UnknownNameError
        If the table lacks the model, a metric or a column.
    transpert.errors.OptionError
        If ``max_rows`` is below 2, no metric is named, or the table holds no scores of models, or two of the same.

    Examples
    --------
    >>> import pandas as pd, transpert as tp
    >>> row = {"model": "mine", "perturbation": "IFNB", "metric": "pearson_delta"}
    >>> scores = {"value": [0.6, 0.7], "normalised": [0.5, 0.7]}
    >>> axes = tp.pl.score_heatmap(pd.DataFrame({"context": ["B", "NK"], **row, **scores}), show=False)
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['NK: IFNB', 'B: IFNB']
    """
    check_arguments(locals(), but=("table",))
    check_text(model, name="model", optional=True)
    if max_rows < 2:
        raise OptionError(f"max_rows is {max_rows}", where="score_heatmap", remedy="Give 2 or more.")
    given = scores_of(table)
    check_scores(given, values=("value", "normalised"))
    models = [name for name in given["model"].unique() if name != CEILING]
    if not models:
        raise OptionError("no row is of a model", where="the scores", remedy="Give scores with the rows of a model.")
    model = models[0] if model is None else model
    check_known("model", [model], models, where="the scores")
    known = list(given["metric"].unique())
    columns = known if metrics is None else name_list(metrics)
    if not columns:
        raise OptionError("no metric is named", where="metrics", remedy="Leave metrics= out to draw all.")
    check_known("metric", columns, known, where="the scores")
    values, normalised, left_out = _arrange(given[given["model"] == model], columns, max_rows)
    figure, axes = make_axes(ax, (1.9 + 0.72 * len(columns) + 0.8, 2.0 + 0.27 * max(len(values), 3)))
    colours = mpl.colormaps["PRGn"].with_extremes(bad="white")
    edges = [np.arange(n + 1) - 0.5 for n in (len(columns), len(values))]
    image = axes.pcolormesh(
        *edges, np.ma.masked_invalid(normalised), cmap=colours, norm=Normalize(-1, 1), edgecolors=FAINT, linewidth=0.6
    )
    axes.invert_yaxis()
    _write_numbers(axes, values, normalised)
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(values)), values.index)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    shown = f"\nthe best and the worst {max_rows} of {len(values) + left_out}" if left_out else ""
    axes.set_title(f"{model}{shown}")
    bar = figure.colorbar(image, ax=axes, ticks=[-1, 0, 1], shrink=min(1.0, 6 / max(len(values), 1)), pad=0.02)
    bar.ax.set_yticklabels(["as far below", "best baseline", "ceiling"], fontsize=8)
    bar.outline.set_visible(False)
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _arrange(rows: pd.DataFrame, columns: list[str], max_rows: int) -> tuple[pd.DataFrame, np.ndarray, int]:
    """Values and normalised values, populations x metrics, the best of the first metric on top."""
    rows = rows[(rows["context"] != MEAN) & rows["metric"].isin(columns)]
    keys = zip(rows["context"].astype(str), rows["perturbation"].astype(str), strict=True)
    rows = rows.assign(population=[population_text(*key) for key in keys])
    values = rows.pivot(index="population", columns="metric", values="value").reindex(columns=columns)
    normalised = rows.pivot(index="population", columns="metric", values="normalised").reindex_like(values)
    first = METRICS.get(columns[0])
    ascending = first is not None and first.direction == "lower"
    order = values[columns[0]].sort_values(ascending=ascending, na_position="last", kind="stable").index
    left_out = max(len(order) - max_rows, 0)
    if left_out:
        top = (max_rows + 1) // 2
        order = order[:top].append(order[len(order) - (max_rows - top) :])
    return values.loc[order], normalised.loc[order].to_numpy(dtype=float), left_out


def _write_numbers(axes: Axes, values: pd.DataFrame, normalised: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(values.to_numpy(dtype=float)):
        dark = abs(np.nan_to_num(normalised[row, column])) > 0.65
        axes.text(
            column,
            row,
            "–" if np.isnan(value) else f"{value:.2g}" if abs(value) < 10 else f"{value:,.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else MUTED if np.isnan(value) else "black",
        )
