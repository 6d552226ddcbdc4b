"""Scores as one tidy table: values, means, floors, ceilings and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from transpert import _keys
from transpert._anndata import metadata_of
from transpert._arguments import check_arguments, check_table
from transpert._statistics import finite_mean, percentile_interval
from transpert.errors import OptionError, UnknownNameError, list_names
from transpert.metrics import Metric, Summaries, bootstrap_interval, normalise

from ._evaluation.blocks import CEILING, Scored

MEAN = "mean"  # in the columns context and perturbation: the mean over all populations
ALL = "all"  # in the column perturbation: a score of a whole context
_KEYS = ["context", "perturbation", "metric"]
COLUMNS = ["model", *_KEYS, "value", "baseline", "ceiling", "normalised", "ci_low", "ci_high", "n", "n_undefined"]


def tabulate(
    scored: Sequence[Scored],
    metrics: Sequence[Metric],
    models: Sequence[str],
    baselines: Sequence[str],
    *,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Arrange scores in one table."""
    parts, means = [], []
    for model in models:
        own = [score for score in scored if score.model == model]
        kept = [score.summary for score in own if score.summary is not None]
        summaries = Summaries.gather(kept) if kept else None
        for metric in metrics:
            part = _values(own, summaries, metric)
            parts.append(part.assign(model=model, metric=metric.name))
            low, high = _interval(part["value"].to_numpy(), summaries, metric, n_bootstrap, seed)
            means.append(
                {
                    "model": model,
                    "context": MEAN,
                    "perturbation": MEAN,
                    "metric": metric.name,
                    "value": part["value"].mean(),
                    "ci_low": low,
                    "ci_high": high,
                    "n": len(part),
                    "n_undefined": int(part["value"].isna().sum()),
                }
            )
    table = pd.concat([*parts, pd.DataFrame(means)], ignore_index=True)
    return _with_bounds(table, metrics, baselines)[COLUMNS]


def _values(own: Sequence[Scored], summaries: Summaries | None, metric: Metric) -> pd.DataFrame:
    """The values of one model and metric."""
    labels = pd.DataFrame({"context": [s.context for s in own], "perturbation": [s.label for s in own]}, dtype=object)
    if metric.level == "population":
        return labels.assign(value=[score.values[metric.name] for score in own])
    values = np.array([]) if summaries is None else metric.function(summaries)
    if metric.per == "context":
        by_context = {} if summaries is None else dict(zip(summaries.contexts, values, strict=True))
        contexts = list(dict.fromkeys(labels["context"]))
        one = pd.DataFrame({"context": contexts, "perturbation": ALL}, dtype=object)
        return one.assign(value=[by_context.get(context, np.nan) for context in contexts])
    # populations too small for a summary have no value, and are counted as undefined
    full = np.full(len(own), np.nan)
    full[[score.summary is not None for score in own]] = values
    return labels.assign(value=full)


def _interval(
    values: np.ndarray, summaries: Summaries | None, metric: Metric, n_bootstrap: int, seed: int
) -> tuple[float, float]:
    """Return the interval of a mean score, by resampling perturbations."""
    if not n_bootstrap:
        return float("nan"), float("nan")
    if metric.per == "population" or metric.level == "population":
        return bootstrap_interval(values, n_samples=n_bootstrap, seed=seed)
    if summaries is None or len(summaries.context) < 2:
        return float("nan"), float("nan")
    # the score of a context is computed again from resampled perturbations
    rng = np.random.default_rng(seed)
    rows = [summaries.rows(context) for context in summaries.contexts]
    drawn = [np.concatenate([rng.choice(own, len(own)) for own in rows]) for _ in range(n_bootstrap)]
    means = [finite_mean(metric.function(_resampled(summaries, chosen, metric.needs))) for chosen in drawn]
    means = [mean for mean in means if np.isfinite(mean)]
    if len(means) < 2:
        return float("nan"), float("nan")
    return percentile_interval(np.array(means))


def _resampled(summaries: Summaries, rows: np.ndarray, needs: Sequence[str]) -> Summaries:
    return Summaries(
        summaries.perturbation[rows],
        summaries.context[rows],
        tuple(summaries.targets[row] for row in rows),
        {name: summaries[name][rows] for name in needs},
    )


def _with_bounds(table: pd.DataFrame, metrics: Sequence[Metric], baselines: Sequence[str]) -> pd.DataFrame:
    """Add floors, ceilings and normalised values."""
    by_name = {metric.name: metric for metric in metrics}
    means = table[table["context"] == MEAN].set_index(["model", "metric"])["value"]
    table["baseline"] = np.nan
    for name, metric in by_name.items():
        best = best_of(metric, {baseline: means.get((baseline, name), np.nan) for baseline in baselines})
        if best is not None:
            floor = table[(table["model"] == best) & (table["metric"] == name)].set_index(_KEYS)["value"]
            rows = table["metric"] == name
            table.loc[rows, "baseline"] = floor.reindex(pd.MultiIndex.from_frame(table.loc[rows, _KEYS])).to_numpy()
    ceiling = table[table["model"] == CEILING].set_index(_KEYS)["value"]
    table["ceiling"] = ceiling.reindex(pd.MultiIndex.from_frame(table[_KEYS])).to_numpy()
    table["normalised"] = np.nan
    for name, metric in by_name.items():
        rows = table["metric"] == name
        scores = table.loc[rows, ["value", "baseline", "ceiling"]].to_numpy(dtype=float)
        table.loc[rows, "normalised"] = normalise(*scores.T, direction=metric.direction)
    return table


def best_of(metric: Metric, values: Mapping[str, float]) -> str | None:
    """Return the name with the best value, None where there is none."""
    best: str | None = None
    for name, value in values.items():
        if np.isfinite(value) and (best is None or metric.better(value, values[best])):
            best = name
    return best


def scores_of(table: pd.DataFrame | AnnData) -> pd.DataFrame:
    """Return a table of scores, or the one that :func:`evaluate` wrote into cells."""
    if not isinstance(table, AnnData):
        return table  # checked by check_scores
    found = metadata_of(table).get(_keys.SCORES)
    if found is None:
        raise OptionError(
            "the cells carry no scores yet",
            where=f"uns[{_keys.UNS!r}]",
            remedy="Run scores = tp.tl.evaluate(pred, truth) first, and give scores or the truth.",
        )
    return found


def check_scores(scores: pd.DataFrame, *, values: Sequence[str] = ("value",)) -> None:
    """Check that a table is one of scores, with one row a model, population and metric."""
    check_table(scores, name="scores")
    places = ["model", *_KEYS]
    absent = [column for column in (*places, *values) if column not in scores]
    if absent:
        raise UnknownNameError(
            "column",
            absent,
            map(str, scores.columns),
            where="the scores",
            remedy=f"Give the table that tl.evaluate returned; this one has {list_names(scores.columns)}.",
        )
    if not len(scores):
        raise OptionError("there are no scores", where="the scores", remedy="Give rows of what tl.evaluate returned.")
    twice = scores.loc[scores.duplicated(places), places]
    if len(twice):
        raise OptionError(
            f"{len(twice)} rows are of a model, population and metric that another row is of, "
            f"for example {' / '.join(map(str, twice.iloc[0]))}",
            where="the scores",
            remedy="Give the models of different tables different names, or call drop_duplicates() on rows that agree.",
        )


def score_table(scores: pd.DataFrame, *, value: str = "value") -> pd.DataFrame:
    """Arrange the mean scores as one row a model and one column a metric.

    Parameters
    ----------
    scores
        What :func:`evaluate` returned.
    value
        Column to show: ``"value"`` or ``"normalised"``.

    Returns
    -------
    Models x metrics.

    Raises
    ------
    transpert.errors.UnknownNameError
        If a column does not exist.
    transpert.errors.OptionError
        If there are no scores, or there are two of the same model, population and metric.

    Examples
    --------
    >>> import pandas as pd, transpert as tp
    >>> row = {"model": "a", "context": "mean", "perturbation": "mean", "metric": "mse", "value": 0.5}
    >>> tp.tl.score_table(pd.DataFrame([row])).loc["a", "mse"]
    np.float64(0.5)
    """
    check_arguments(locals())
    check_scores(scores, values=(value,))
    means = scores[scores["context"] == MEAN]
    table = means.pivot(index="model", columns="metric", values=value)
    return table.reindex(index=means["model"].unique(), columns=means["metric"].unique())
