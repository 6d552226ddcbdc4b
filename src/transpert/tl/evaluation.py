"""Predictions judged against the truth, between a floor and a ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from rich.progress import Progress

from transpert import _keys, pp
from transpert.errors import MetricInputError, OptionError, UnknownNameError, list_names
from transpert.groups import Design
from transpert.metrics import Comparison, Metric, bootstrap_interval, normalise, resolve_metrics
from transpert.model import BASELINES

from ._populations import Populations, design_of, log_values, populations, select_modality

__all__ = ["MEAN", "evaluate", "score_table"]

MEAN = "mean"  # in the columns context and perturbation: the mean over all populations
_CEILING = "ceiling"


def evaluate(
    pred: AnnData | MuData | Mapping[str, AnnData | MuData],
    truth: AnnData | MuData,
    *,
    perturbation_key: str | None = None,
    control: str | None = None,
    context_keys: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] = "default",
    baselines: str | Sequence[str] | None = None,
    ceiling: bool = True,
    reference: str = "real",
    split_key: str | None = _keys.SPLIT,
    counts_layer: str | None = _keys.COUNTS_LAYER,
    library_size_key: str | None = None,
    layer: str | None = None,
    max_missing_genes: float = 0.0,
    modality: str | None = None,
    n_bootstrap: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Score predicted populations against the real ones.

    Parameters
    ----------
    pred
        A prediction, or several by name: cells with log1p counts per 10k in ``X``, labelled like the truth.
    truth
        The real cells, with controls; log1p counts per 10k in ``X``.
    perturbation_key, control, context_keys
        Columns and label; by default what a prediction of this package says, else ``"perturbation"`` and
        ``"control"`` in one context.
    metrics
        Name of a panel (``"default"``, ``"all"``), or names of metrics.
    baselines
        Names of baselines, or ``"all"``: they are trained on the training cells of ``truth`` (``split_key``) and
        scored alongside. The best of them on a metric is its floor.
    ceiling
        Score a random half of the real cells of each population against the other half.
    reference
        Controls of the prediction: the ``"real"`` ones, or the ``"predicted"`` object's own.
    split_key
        Column with the split; without it, baselines are trained on all that is not predicted.
    counts_layer
        Layer of ``truth`` with raw counts, for the baselines.
    library_size_key
        Column of ``truth`` with library sizes, for the baselines.
    layer
        Layer with log1p counts per 10k, in place of ``X``, in all objects.
    max_missing_genes
        Share of the genes of ``truth`` that a prediction may lack; it is then scored on those it has.
    modality
        Modality of MuData objects.
    n_bootstrap
        Resamples of the perturbations for the intervals.
    seed
        Seed of everything random.
    progress
        Show a progress bar.

    Returns
    -------
    One row a model, context, perturbation and metric, with ``value``, ``baseline``, ``ceiling``, ``normalised``
    (0 as good as the best baseline, 1 as good as a replicate), and rows with ``"mean"`` for context and perturbation
    with ``ci_low``, ``ci_high`` (bootstrap over populations), ``n`` and ``n_undefined``. Also written to
    ``truth.uns["transpert"]["scores"]``.

    Raises
    ------
    transpert.errors.MetricInputError
        If a prediction has a population that the truth lacks, or the reverse for every population.
    transpert.errors.CountsError
        If the values are not log1p counts per 10k.
    transpert.errors.GeneError
        If genes are missing.
    transpert.errors.UnknownNameError
        If a metric, baseline or column does not exist.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=4, n_perturbations=2, n_genes=60, n_cells=60)
    >>> tp.pp.split(adata, holdout={"context": "context_0"})
    >>> tp.RidgeTransport.setup_anndata(
    ...     adata, perturbation_key="perturbation", context_keys="context", split_key="split", layer="counts"
    ... )
    >>> model = tp.RidgeTransport(adata)
    >>> model.train()
    >>> pred = model.predict(contexts={"context": "context_0"}, progress=False)
    >>> scores = tp.tl.evaluate(pred, adata, baselines=["NoChange", "MeanShift"], progress=False)
    >>> sorted(scores["model"].unique())
    ['MeanShift', 'NoChange', 'RidgeTransport', 'ceiling']
    """
    if reference not in ("real", "predicted"):
        raise OptionError(f"reference is {reference!r}", remedy="Choose 'real' or 'predicted'.")
    chosen = [metric for metric in resolve_metrics(metrics) if metric.level == "population" and not metric.counts]
    named = _named(pred, modality)
    real = select_modality(truth, modality)
    first = next(iter(named.values()))
    design = design_of(first, perturbation_key=perturbation_key, control=control, context_keys=context_keys)
    truth_populations = populations(real.obs, design)
    wanted = _wanted(named, design, truth_populations)
    names = _baseline_names(baselines)
    rows: list[dict[str, object]] = []
    with Progress(disable=not progress, transient=True) as bar:
        task = bar.add_task("Scoring", total=(len(named) + len(names) + int(ceiling)) * len(wanted))
        for name in names:
            bar.update(task, description=f"Scoring {name}")
            named[name] = _baseline(
                name, real, design, wanted, split_key, counts_layer, library_size_key, modality=None, seed=seed
            )
        for name, prediction in named.items():
            bar.update(task, description=f"Scoring {name}")
            for row in _score(
                prediction, real, design, truth_populations, wanted, chosen, reference, layer, max_missing_genes
            ):
                rows.append({"model": name, **row})
                bar.advance(task, 1 / len(chosen))
        if ceiling:
            bar.update(task, description="Scoring the ceiling")
            for row in _ceiling_rows(real, truth_populations, wanted, chosen, layer, seed):
                rows.append({"model": _CEILING, **row})
                bar.advance(task, 1 / len(chosen))
    table = _with_bounds(pd.DataFrame(rows), chosen, names, n_bootstrap, seed)
    real.uns[_keys.UNS] = {**dict(real.uns.get(_keys.UNS, {})), _keys.SCORES: table}
    return table


def _named(pred: AnnData | MuData | Mapping[str, AnnData | MuData], modality: str | None) -> dict[str, AnnData]:
    if isinstance(pred, Mapping):
        if not pred:
            raise OptionError("there is no prediction to evaluate")
        return {name: select_modality(value, modality) for name, value in pred.items()}
    adata = select_modality(pred, modality)
    return {str(adata.uns.get(_keys.UNS, {}).get("model", "prediction")): adata}


def _wanted(named: Mapping[str, AnnData], design: Design, truth: Populations) -> list[tuple[str, str]]:
    """The populations that are predicted and real; all predictions must have the same."""
    found: list[tuple[str, str]] | None = None
    for name, adata in named.items():
        here = list(populations(adata.obs, design, need_controls=False))
        unknown = [" / ".join(key) for key in here if key not in truth.cells]
        if unknown:
            raise MetricInputError(
                f"{len(unknown)} predicted populations are not in the truth: {list_names(unknown)}", where=name
            )
        if found is not None and set(here) != set(found):
            other = [" / ".join(key) for key in set(here) ^ set(found)]
            raise MetricInputError(
                f"the predictions are of different populations: {list_names(other)}",
                where=name,
                remedy="Predict the same contexts and perturbations with every model.",
            )
        found = here
    if not found:
        raise MetricInputError(
            "there is no perturbed population in the prediction", where=f"obs[{design.perturbation_key!r}]"
        )
    return found


def _baseline_names(baselines: str | Sequence[str] | None) -> list[str]:
    if baselines is None:
        return []
    names = list(BASELINES) if baselines == "all" else [baselines] if isinstance(baselines, str) else list(baselines)
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise UnknownNameError("baseline", unknown, BASELINES)
    return names


def _baseline(
    name: str,
    truth: AnnData,
    design: Design,
    wanted: Sequence[tuple[str, str]],
    split_key: str | None,
    counts_layer: str | None,
    library_size_key: str | None,
    *,
    modality: str | None,
    seed: int,
) -> AnnData:
    """Train a baseline on what is not predicted, and predict the wanted populations."""
    adata = truth
    if split_key is None or split_key not in truth.obs:
        # nothing says what may be seen: hide just what is to be predicted
        held = populations(truth.obs, design)
        adata, split_key = truth.copy(), "_transpert_split"
        values = np.full(adata.n_obs, _keys.TRAIN, dtype=object)
        for key in wanted:
            values[held.cells[key]] = _keys.TEST
        adata.obs[split_key] = pd.Categorical(values)
    cls = BASELINES[name]
    cls.setup_anndata(
        adata,
        perturbation_key=design.perturbation_key,
        control=design.control,
        context_keys=list(design.context_keys),
        dose_key=design.dose_key,
        time_key=design.time_key,
        split_key=split_key,
        layer=counts_layer if counts_layer in adata.layers else None,
        library_size_key=library_size_key,
    )
    model = cls(adata)
    model.train()
    return model.predict_populations(wanted, seed=seed)


def _score(
    pred: AnnData,
    truth: AnnData,
    design: Design,
    real: Populations,
    wanted: Sequence[tuple[str, str]],
    metrics: Sequence[Metric],
    reference: str,
    layer: str | None,
    max_missing: float,
):
    """Yield a row for each population and metric."""
    genes = truth.var_names
    shared = genes[genes.isin(pred.var_names)] if max_missing else genes
    pred, _ = pp.align_genes(pred, list(shared))
    if len(shared) < (1 - max_missing) * len(genes):
        pp.align_genes(pred, list(genes), max_missing=max_missing)
    columns = genes.get_indexer(shared)
    own = populations(pred.obs, design, need_controls=reference == "predicted")
    predicted, observed = log_values(pred, layer, where="the prediction"), log_values(truth, layer, where="the truth")
    for context, label in wanted:
        comparison = Comparison(
            predicted[own.cells[context, label]],
            observed[real.cells[context, label]][:, columns],
            observed[real.controls[context]][:, columns],
            predicted[own.controls[context]] if reference == "predicted" else None,
        )
        for metric in metrics:
            yield {
                "context": context,
                "perturbation": label,
                "metric": metric.name,
                "value": metric.function(comparison),
            }


def _ceiling_rows(
    truth: AnnData,
    real: Populations,
    wanted: Sequence[tuple[str, str]],
    metrics: Sequence[Metric],
    layer: str | None,
    seed: int,
):
    """Yield a row for each population and metric: one half of the real cells as a prediction of the other."""
    observed = log_values(truth, layer, where="the truth")
    rng = np.random.default_rng(seed)
    for context, label in wanted:
        cells = rng.permutation(real.cells[context, label])
        if len(cells) < 4:
            values = {metric.name: float("nan") for metric in metrics}
        else:
            half = len(cells) // 2
            comparison = Comparison(observed[cells[:half]], observed[cells[half:]], observed[real.controls[context]])
            values = {metric.name: metric.function(comparison) for metric in metrics}
        for name, value in values.items():
            yield {"context": context, "perturbation": label, "metric": name, "value": value}


def _with_bounds(
    table: pd.DataFrame, metrics: Sequence[Metric], baselines: Sequence[str], n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """Add means, floors, ceilings, normalised values and intervals."""
    by_name = {metric.name: metric for metric in metrics}
    summary = []
    for (model, name), part in table.groupby(["model", "metric"], sort=False):
        low, high = bootstrap_interval(part["value"].to_numpy(), n_samples=n_bootstrap, seed=seed)
        summary.append(
            {
                "model": model,
                "context": MEAN,
                "perturbation": MEAN,
                "metric": name,
                "value": part["value"].mean(),
                "ci_low": low,
                "ci_high": high,
                "n": len(part),
                "n_undefined": int(part["value"].isna().sum()),
            }
        )
    full = pd.concat([table, pd.DataFrame(summary)], ignore_index=True)
    keys = ["context", "perturbation", "metric"]
    full["baseline"] = np.nan
    means = full[full["context"] == MEAN].set_index(["model", "metric"])["value"]
    for name, metric in by_name.items():
        best = _best(metric, {b: means.get((b, name), np.nan) for b in baselines})
        if best is not None:
            floor = full[(full["model"] == best) & (full["metric"] == name)].set_index(keys)["value"]
            rows = full["metric"] == name
            full.loc[rows, "baseline"] = floor.reindex(pd.MultiIndex.from_frame(full.loc[rows, keys])).to_numpy()
    ceiling = full[full["model"] == _CEILING].set_index(keys)["value"]
    full["ceiling"] = ceiling.reindex(pd.MultiIndex.from_frame(full[keys])).to_numpy()
    ordered = full["metric"].map(lambda name: by_name[name].direction in ("higher", "lower"))
    full["normalised"] = np.where(
        ordered, normalise(full["value"].to_numpy(), full["baseline"].to_numpy(), full["ceiling"].to_numpy()), np.nan
    )
    columns = ["model", *keys, "value", "baseline", "ceiling", "normalised", "ci_low", "ci_high", "n", "n_undefined"]
    return full[columns]


def _best(metric: Metric, values: Mapping[str, float]) -> str | None:
    best: str | None = None
    for name, value in values.items():
        if np.isfinite(value) and (best is None or metric.better(value, values[best])):
            best = name
    return best


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
    """
    means = scores[scores["context"] == MEAN]
    table = means.pivot(index="model", columns="metric", values=value)
    return table.reindex(index=means["model"].unique(), columns=means["metric"].unique())
