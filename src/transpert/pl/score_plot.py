"""Scores of models between floor and ceiling."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert.errors import check_known
from transpert.metrics import METRICS
from transpert.model import BASELINES
from transpert.tl.score_summary import CEILING, MEAN, check_scores, scores_of

from ._style import COLOURS, FAINT, MUTED, direction_hint, finish, legend_beside, make_axes

_BELOW = 0.22  # how far below its mean a single population stands, in rows


@fill_docstring
def scores(
    table: pd.DataFrame | AnnData,
    *,
    metric: str = "pearson_delta",
    populations: bool = True,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the mean score of every model with its interval, between the best baseline and the ceiling.

    Parameters
    ----------
    table
        What :func:`transpert.tl.evaluate` returned, or the real cells, into which it wrote the same.
    metric
        The metric.
    populations
        Also draw the score of each population, as a faint dot below the mean, where there are several.
    %(drawing)s

    Raises
    ------
    transpert.errors.UnknownNameError
        If the table lacks the metric or a column.
    transpert.errors.OptionError
        If the table holds no scores, or two of the same model, population and metric; if the cells carry none.

    Examples
    --------
    >>> import pandas as pd, transpert as tp
    >>> row = {"context": "mean", "perturbation": "mean", "metric": "pearson_delta", "ci_low": 0.5, "ci_high": 0.7}
    >>> table = pd.DataFrame([{"model": "mine", "value": 0.6, "baseline": 0.4, "ceiling": 0.9, **row}])
    >>> tp.pl.scores(table, show=False).get_xlabel()
    'pearson_delta (higher is better)'
    """
    check_arguments(locals(), but=("table",))
    given = scores_of(table)
    check_scores(given, values=("value", "baseline", CEILING, "ci_low", "ci_high"))
    check_known("metric", [metric], set(given["metric"]), where="the scores")
    direction = METRICS[metric].direction if metric in METRICS else None
    rows = given[(given["metric"] == metric) & (given["model"] != CEILING)]
    means = rows[rows["context"] == MEAN]
    models = means.iloc[_best_last(means["value"].to_numpy(dtype=float), direction)]
    if direction == "one":
        least = _least_ratio(rows["value"])
        shown = ["value", "baseline", CEILING, "ci_low", "ci_high"]
        rows, models = (part.assign(**part[shown].clip(lower=least)) for part in (rows, models))
    figure, axes = make_axes(ax, (6.4, 1.3 + 0.3 * len(models)))
    places = dict(zip(models["model"], np.arange(len(models)), strict=True))
    _draw_bounds(axes, models)
    single = rows[rows["context"] != MEAN]
    if populations and len(single) > len(models):
        axes.scatter(
            single["value"],
            single["model"].map(places) - _BELOW,
            s=10,
            color=MUTED,
            alpha=0.45,
            linewidths=0,
            label="one population",
            zorder=2,
        )
    _draw_means(axes, models, places)
    for name in models.loc[models["value"].isna(), "model"]:
        across = axes.get_yaxis_transform()
        axes.text(0.02, places[name], "undefined", transform=across, va="center", fontsize=8, color=MUTED)
    axes.set(xlabel=metric + direction_hint(direction), ylim=(-0.6, len(models) - 0.4))
    if direction == "one":
        _show_ratios(axes, least)
    axes.set_yticks(list(places.values()), list(places))
    axes.spines[["top", "right"]].set_visible(False)
    legend_beside(axes, own=ax is None)
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _least_ratio(values: pd.Series) -> float:
    """Return where ratios of zero stand on a logarithmic axis: left of all others."""
    positive = values[values > 0]
    return min(float(positive.min()) if len(positive) else 1.0, 1.0) / 3


def _show_ratios(axes: Axes, least: float) -> None:
    """Show ratios on a logarithmic axis, with 0 at the left end."""
    axes.set_xscale("log")
    axes.axvline(1.0, color=MUTED, linewidth=0.8, zorder=0)
    low, high = axes.get_xlim()
    low, high = min(low, least / 1.3), max(high, 1.5)
    powers = [power for power in 10.0 ** np.arange(-6, 7) if 1.5 * least < power <= high]
    steps = [step for step in (0.5, 1.0, 2.0) if 1.5 * least < step <= high]
    ticks = powers if len(powers) > 2 else sorted({*powers, *steps})
    axes.set_xticks([least, *ticks], ["0", *(f"{tick:g}" for tick in ticks)])
    axes.minorticks_off()
    axes.set_xlim(low, high)


def _best_last(values: np.ndarray, direction: str | None) -> np.ndarray:
    """Return the order in which undefined values come first and the best last."""
    if direction == "lower":
        goodness = -values
    elif direction == "one":
        goodness = -np.abs(np.log(np.maximum(values, 1e-9)))
    else:
        goodness = values
    return np.argsort(np.where(np.isnan(goodness), -np.inf, goodness), kind="stable")


def _draw_bounds(axes: Axes, models: pd.DataFrame) -> None:
    """Draw floor and ceiling as lines, and shade what lies between them."""
    found = {column: models[column].dropna() for column in ("baseline", CEILING)}
    values = {column: float(series.iloc[0]) for column, series in found.items() if len(series)}
    if len(values) == len(found):
        axes.axvspan(values["baseline"], values[CEILING], color=FAINT, alpha=0.35, linewidth=0, zorder=0)
    looks = {"baseline": (COLOURS[4], "--", "best baseline"), CEILING: (COLOURS[2], ":", "ceiling")}
    for column, value in values.items():
        colour, line, text = looks[column]
        axes.axvline(value, color=colour, linestyle=line, linewidth=1.6, label=text, zorder=1)


def _draw_means(axes: Axes, models: pd.DataFrame, places: dict[str, int]) -> None:
    """Draw the mean of each model with its interval."""
    baseline = models["model"].isin(list(BASELINES)).to_numpy()
    for chosen, face, text in ((baseline, "white", "baseline"), (~baseline, COLOURS[0], "prediction")):
        part = models[chosen]
        if not len(part):
            continue
        error = [
            (part["value"] - part["ci_low"]).fillna(0).clip(lower=0),
            (part["ci_high"] - part["value"]).fillna(0).clip(lower=0),
        ]
        axes.errorbar(
            part["value"],
            part["model"].map(places),
            xerr=error,
            fmt="o",
            color=COLOURS[0],
            markerfacecolor=face,
            markersize=6.5,
            linewidth=1.4,
            label=text,
            zorder=3,
        )
