"""Is one model better than another? Paired differences over perturbations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from transpert._arguments import check_arguments, check_text, name_list
from transpert._seeds import check_seed
from transpert.errors import OptionError, check_known
from transpert.metrics import METRICS, Metric, bootstrap_interval

from .score_summary import ALL, MEAN, best_of, check_scores

_KEYS = ["context", "perturbation"]
_SMALLEST = 1e-9  # a ratio of 0 is as bad as this one


def compare(
    scores: pd.DataFrame,
    model: str,
    against: str | Sequence[str],
    *,
    metrics: str | Sequence[str] | None = None,
    n_bootstrap: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare a model with the best of some others, perturbation by perturbation.

    Perturbations differ in difficulty far more than models do, so that the intervals of two means overlap even where
    one model is better on every perturbation. The interval of the differences does not suffer from that.

    Parameters
    ----------
    scores
        What :func:`evaluate` returned, with the values of every model.
    model
        The model that is compared.
    against
        The model, or models (for example all baselines), it is compared with; of several, the one with the best mean
        on a metric, which is the hardest to beat.
    metrics
        Names of metrics, or one; all that have a direction, and one value a perturbation, by default.
    n_bootstrap
        Resamples of the perturbations.
    level
        Coverage of the interval.
    seed
        Seed of the resamples.

    Returns
    -------
    One row a metric: ``model``, ``against``, the mean ``gain`` (in units of the metric, positive where ``model`` is
    better; for metrics that are best at 1, the decrease of ``|log(value)|``), ``ci_low``, ``ci_high``, ``n``
    perturbations on which both are defined, ``share_better`` of them on which ``model`` is better, and ``verdict``:
    ``"better"`` or ``"worse"`` where the interval excludes 0, else ``"undecided"``.

    Raises
    ------
    transpert.errors.UnknownNameError
        If a model, metric or column is not in the scores.
    transpert.errors.OptionError
        If the model is compared with itself, an option is out of range, there are no scores, or there are
        two of the same model, population and metric.

    Notes
    -----
    Percentile intervals of a paired bootstrap. With fewer than about ten perturbations they are too narrow.

    Examples
    --------
    >>> import pandas as pd, transpert as tp
    >>> rows = [("a", p, 0.5 + p / 10) for p in range(5)] + [("b", p, 0.4 + p / 10) for p in range(5)]
    >>> scores = pd.DataFrame(rows, columns=["model", "perturbation", "value"])
    >>> scores = scores.assign(metric="overlap_at_n", context="x")
    >>> tp.tl.compare(scores, "a", "b")["verdict"].item()
    'better'
    """
    check_arguments(locals())
    check_text(model, name="model")
    check_seed(seed)
    if not 0 < level < 1 or n_bootstrap < 1:
        raise OptionError(f"level is {level} and n_bootstrap {n_bootstrap}", remedy="Give a share, and 1 or more.")
    check_scores(scores)
    others = name_list(against)
    known = list(scores["model"].unique())
    check_known("model", (model, *others), known, where="the scores")
    if model in others or not others:
        raise OptionError(f"{model!r} is compared with {others}", remedy="Name other models in against=.")
    each = scores[(scores["context"] != MEAN) & (scores["perturbation"] != ALL)]
    rows = []
    for metric in _chosen(each, metrics):
        table = each[each["metric"] == metric.name].pivot(index=_KEYS, columns="model", values="value")
        other = best_of(metric, {name: float(table[name].mean()) for name in others if name in table})
        if other is None or model not in table:
            continue
        gain = _gain(metric, table[model].to_numpy(dtype=float), table[other].to_numpy(dtype=float))
        gain = gain[np.isfinite(gain)]
        low, high = bootstrap_interval(gain, n_samples=n_bootstrap, level=level, seed=seed)
        rows.append(
            {
                "metric": metric.name,
                "model": model,
                "against": other,
                "gain": float(gain.mean()) if len(gain) else float("nan"),
                "ci_low": low,
                "ci_high": high,
                "n": len(gain),
                "share_better": float((gain > 0).mean()) if len(gain) else float("nan"),
                "verdict": "better" if low > 0 else "worse" if high < 0 else "undecided",
            }
        )
    columns = ["metric", "model", "against", "gain", "ci_low", "ci_high", "n", "share_better", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def _chosen(each: pd.DataFrame, metrics: str | Sequence[str] | None) -> list[Metric]:
    there = list(each["metric"].unique())
    if metrics is not None:
        check_known("metric", name_list(metrics), there, where="the scores")
        there = name_list(metrics)
    return [METRICS[name] for name in there if METRICS[name].direction != "none"]


def _gain(metric: Metric, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the gain of one score over another."""
    if metric.direction == "one":
        with np.errstate(divide="ignore"):
            return np.abs(np.log(np.maximum(theirs, _SMALLEST))) - np.abs(np.log(np.maximum(ours, _SMALLEST)))
    return ours - theirs if metric.direction == "higher" else theirs - ours
