"""Every metric by name.

There are two levels.

A metric of level ``"population"`` looks at one (context, perturbation): ``metric.function(comparison) -> float`` of a
:class:`~transpert.metrics.Comparison` (predicted cells, real cells, controls).

A metric of level ``"prediction"`` compares perturbations: ``metric.function(summaries) -> array`` of
:class:`~transpert.metrics.Summaries`, which hold what is kept of all populations of a prediction, and no cells.
``metric.per`` says what its values belong to: each ``"population"``, in the order of the summaries, or each
``"context"``, in the order of ``summaries.contexts``. Perturbations are compared within a context.

A prediction is scored in a stream, population by population::

    chosen = resolve_metrics("all")
    needs = summary_needs(chosen)
    for comparison in comparisons:  # or in blocks, after ``prepare(block, chosen)``: the tests of a block share a sort
        values = {m.name: m.function(comparison) for m in chosen if m.level == "population"}
        kept.append(summarise(comparison, needs))
    summaries = Summaries.gather(kept)
    values = {m.name: m.function(summaries) for m in chosen if m.level == "prediction"}

which is what :func:`score_prediction` does. ``metric.counts`` says that populations need raw counts
(``Population(cells, counts=...)``), ``metric.direction`` which values are better. A value never depends on which other
metrics are computed; where a metric is not defined it is NaN.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import batched

import numpy as np

from transpert._arguments import check_names, check_whole
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError, UnknownNameError

from .comparison import Comparison
from .metric import Metric
from .population import rank_sums_together
from .summaries import Summaries, Summary, summarise


def _find_entries() -> list[Metric]:
    """Return the entries that the files of this folder list as ``ENTRIES``, file by file."""
    package = str(__package__)
    names = [found.name for found in pkgutil.iter_modules([os.path.dirname(__file__)])]
    files = [import_module(f"{package}.{name}") for name in names if f"{package}.{name}" != __name__]
    return [metric for file in files for metric in getattr(file, "ENTRIES", ())]


METRICS: dict[str, Metric] = {metric.name: metric for metric in _find_entries()}

PANELS: dict[str, tuple[str, ...]] = {
    "default": (
        "pearson_delta",
        "overlap_at_n",
        "n_sig_ratio",
        "direction_match",
        "mse_delta",
        "energy_distance",
        "variance_ratio",
        "zero_fraction_gap",
    ),
    **{
        name: tuple(metric.name for metric in METRICS.values() if name in metric.panels)
        for name in ("cell-eval", "vcc2026", "calibrated")
    },
    "all": tuple(METRICS),
}


@as_annotated(error=MetricInputError)
def resolve_metrics(metrics: str | Sequence[str]) -> list[Metric]:
    """Return metrics by the name of a panel or by their own names.

    Parameters
    ----------
    metrics
        ``"default"``, ``"cell-eval"``, ``"vcc2026"``, ``"calibrated"``, ``"all"``, or names of metrics.

    Returns
    -------
    The metrics, in that order.

    Raises
    ------
    transpert.errors.UnknownNameError
        If there is no such panel or metric; the nearest name is offered.

    Examples
    --------
    >>> from transpert.metrics import resolve_metrics
    >>> [metric.name for metric in resolve_metrics(["mse", "pearson_delta"])]
    ['mse', 'pearson_delta']
    """
    if isinstance(metrics, str):
        names: Sequence[str] = PANELS.get(metrics, (metrics,))
    else:
        names = check_names(metrics, name="metrics")
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        raise UnknownNameError("metric", unknown or ["none"], [*METRICS, *PANELS])
    return [METRICS[name] for name in names]


@as_annotated(error=MetricInputError)
def summary_needs(metrics: Iterable[Metric]) -> tuple[str, ...]:
    """Return what has to be kept of each population for the metrics that compare perturbations.

    Parameters
    ----------
    metrics
        Metrics of any level.

    Returns
    -------
    Names of attributes of :class:`~transpert.metrics.Comparison`, for :func:`~transpert.metrics.summarise`.

    Examples
    --------
    >>> from transpert.metrics import summary_needs, resolve_metrics
    >>> summary_needs(resolve_metrics(["mse", "pearson_edistance"]))
    ('energy_predicted', 'energy_real')
    """
    return tuple(
        sorted({name for metric in _as_metrics(list(metrics)) if metric.level == "prediction" for name in metric.needs})
    )


@as_annotated(error=MetricInputError)
def prepare(comparisons: Sequence[Comparison], metrics: Iterable[Metric]) -> None:
    """Run the rank-sum tests of several comparisons together, several times faster than one by one.

    Parameters
    ----------
    comparisons
        A block of comparisons; those that share their controls as one object are tested together.
    metrics
        The metrics that will be computed; where none needs a test, nothing is done.

    Returns
    -------
    Nothing; the tests are kept with the populations of the comparisons.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import Comparison, Population, prepare, resolve_metrics
    >>> rng = np.random.default_rng(0)
    >>> controls = Population(rng.random((20, 5)))
    >>> pairs = [Comparison(*rng.random((2, 20, 5)), controls, perturbation=name) for name in "ab"]
    >>> chosen = resolve_metrics(["n_sig_ratio"])
    >>> prepare(pairs, chosen)  # both are tested now
    >>> pairs[0].de_real.n_significant
    0
    """
    kinds = sorted({metric.counts for metric in metrics if _TESTED & set(metric.needs)})
    for from_counts in kinds:
        groups: dict[int, list] = {}
        for comparison in comparisons:
            reference = comparison.controls if from_counts else comparison.reference
            for population, controls in ((comparison.real, comparison.controls), (comparison.predicted, reference)):
                groups.setdefault(id(controls), [controls]).append(population)
        for controls, *populations in groups.values():
            rank_sums_together(populations, controls, from_counts=from_counts)


# what of a comparison is computed from rank-sum tests
_TESTED = frozenset(
    {"tables", "de_real", "de_predicted", "n_significant_real", "n_significant_predicted", "significant_real", "z_real"}
)


@as_annotated(error=MetricInputError)
def score_prediction(
    comparisons: Iterable[Comparison], metrics: str | Sequence[str] | Sequence[Metric] = "default", *, block: int = 32
) -> dict[str, np.ndarray]:
    """Score all populations of one prediction.

    Parameters
    ----------
    comparisons
        One a population; a generator is read block by block, and cells are forgotten after their block.
    metrics
        Name of a panel of metrics, names of metrics, or metrics.
    block
        Number of populations tested together.

    Returns
    -------
    An array a metric: one value a population, or one a context where ``metric.per`` says so.

    Raises
    ------
    transpert.errors.MetricInputError
        If there is nothing to score, or the populations do not fit.
    transpert.errors.UnknownNameError
        If there is no such metric.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import Comparison, Population, score_prediction
    >>> rng = np.random.default_rng(0)
    >>> controls = Population(rng.random((20, 5)))
    >>> pairs = [Comparison(*rng.random((2, 20, 5)), controls, perturbation=name) for name in "abc"]
    >>> {name: values.shape for name, values in score_prediction(pairs, ["mse", "pearson_edistance"]).items()}
    {'mse': (3,), 'pearson_edistance': (1,)}
    """
    chosen = _as_metrics(metrics)
    check_whole(block, name="block", least=1, most=10**6)
    needs = summary_needs(chosen)
    alone = [metric for metric in chosen if metric.level == "population"]
    values: dict[str, list[float]] = {metric.name: [] for metric in alone}
    kept: list[Summary] = []
    for some in batched(comparisons, block):
        prepare(some, chosen)
        for comparison in some:
            for metric in alone:
                values[metric.name].append(metric.function(comparison))
            kept.append(summarise(comparison, needs))
    summaries = Summaries.gather(kept)
    return {
        metric.name: np.array(values[metric.name], dtype=float)
        if metric.level == "population"
        else metric.function(summaries)
        for metric in chosen
    }


def _as_metrics(metrics: str | Sequence[str] | Sequence[Metric]) -> list[Metric]:
    if isinstance(metrics, str):
        return resolve_metrics(metrics)
    return [metric if isinstance(metric, Metric) else resolve_metrics([metric])[0] for metric in metrics]
