"""Predictions judged against the truth, between a floor and a ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pandas as pd
from anndata import AnnData
from mudata import MuData
from rich.progress import Progress

from transpert import _keys
from transpert._anndata import modality_to_write
from transpert.conditions.labels import Controls
from transpert.errors import OptionError, UnknownNameError
from transpert.metrics import Metric

from ._evaluation.blocks import CEILING, Scored, count_threads, run_blocks
from ._evaluation.cell_reader import CellReader, Data, check_readable, open_cells
from ._evaluation.plan import (
    Plan,
    align,
    check_not_swapped,
    check_options,
    find_populations,
    not_predicted,
    wanted_populations,
    without_counts,
)
from ._evaluation.predictions import GivenPrediction, Prediction, baseline_names, fit_baselines, whole_in_memory
from ._evaluation.scales import check_one_scale, check_scale_of_truth, library_column
from ._populations import design_of_metadata, populations
from .score_summary import tabulate

if TYPE_CHECKING:
    from distributed import Client


_UNNAMED = "prediction"  # the name of a prediction that brings none, or that of a baseline it is compared with


def evaluate(
    pred: Data | Mapping[str, Data],
    truth: Data,
    *,
    perturbation_key: str | None = None,
    control: Controls | None = None,
    context_keys: str | Sequence[str] | None = None,
    dose_key: str | None = None,
    time_key: str | None = None,
    direction_key: str | None = None,
    combination_separator: str | None = None,
    metrics: str | Sequence[str] = "default",
    baselines: str | Sequence[str] | None = None,
    ceiling: bool = True,
    reference: Literal["real", "predicted"] = "real",
    split_key: str | None = _keys.SPLIT,
    counts_layer: str | None = _keys.COUNTS_LAYER,
    library_size_key: str | None = None,
    layer: str | None = None,
    max_missing_genes: float = 0.0,
    max_controls: int | None = None,
    modality: str | None = None,
    n_bootstrap: int = 1_000,
    client: Client | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Score predicted populations against the real ones.

    Populations are read, scored and forgotten one after the other. Objects that are backed, lazy
    (:func:`anndata.experimental.read_lazy`) or named by their path are never read whole.

    Parameters
    ----------
    pred
        A prediction, or several by name: cells with log1p counts per 10k in ``X``, labelled like the truth. Each is an
        AnnData, a MuData, or the path of an ``.h5ad`` file or zarr folder.
    truth
        The real cells, with controls; the same kinds.
    perturbation_key, control, context_keys, dose_key, time_key, direction_key, combination_separator
        Columns and label; by default what a prediction of this package says, else ``"perturbation"`` and
        ``"control"`` in one context. Cells of one perturbation are one population, unless the columns of doses, times
        or directions are known: for the predictions of other packages they have to be named.
    metrics
        Name of a panel (``"default"``, ``"cell-eval"``, ``"vcc2026"``, ``"calibrated"``, ``"all"``), or names of
        metrics (:data:`transpert.metrics.METRICS`).
    baselines
        Names of baselines, or ``"all"``: they are trained on the training cells of ``truth`` (``split_key``), which are
        read into memory for it, predict as many cells as the first prediction has, and are scored alongside. The best
        of them on a metric is its floor.
    ceiling
        Score a random half of the real cells of each population against the other half.
    reference
        Controls of the prediction: the ``"real"`` ones, or the ``"predicted"`` object's own, as cell-eval takes them.
    split_key
        Column with the split; without it, baselines are trained on all that is not predicted. A warning says where it
        lets them see a population that is scored.
    counts_layer
        Layer with raw counts, for the baselines and for metrics that are computed from counts. Where there is none, a
        warning says once which of them are left out; to name one of them is an error then.
    library_size_key
        Column of ``truth`` with library sizes, for the baselines. By default the column that the model of a prediction
        was trained with, else ``"library_size"``, and where that is missing the sum over the genes at hand.
    layer
        Layer with log1p counts per 10k, in place of ``X``, in all objects.
    max_missing_genes
        Share of the genes of ``truth`` that a prediction may lack; all are then scored on the genes they share.
    max_controls
        Number of control cells of a context that are used, drawn at random; all by default.
    modality
        Modality of MuData objects.
    n_bootstrap
        Resamples of the perturbations for the intervals; 0 for none.
    client
        A :class:`distributed.Client`, on whose workers populations are scored; needs the extra ``dask``. They open
        files by the paths given here. The scores are the same as without.
    seed
        Seed of everything random.
    progress
        Show a progress bar.

    Returns
    -------
    One row a model, context, perturbation and metric, with ``value``, ``baseline``, ``ceiling`` and ``normalised`` (0
    as good as the best baseline, 1 as good as a replicate; NaN where the replicate is not better than the baseline by a
    twentieth, so that there is nothing to be placed between: :func:`transpert.metrics.normalise`). Metrics with one
    value a context have ``"all"`` for the perturbation. Rows with ``"mean"`` for context and perturbation hold the
    means over the values that are defined, with ``ci_low`` and ``ci_high`` (95 %, bootstrap over perturbations), ``n``
    values and ``n_undefined`` of them. What genes were missing, dropped or reordered is in ``attrs["genes"]``,
    and populations of the truth that nobody predicted are in ``attrs["not_predicted"]``.

    The table is also written to ``truth.uns["transpert"]["scores"]``, unless the truth is a path. No value depends on
    which other metrics are computed or, but for metrics that compare perturbations, on which other populations are
    predicted; baselines without a split see what is not predicted.

    Raises
    ------
    transpert.errors.MetricInputError
        If a prediction has a population that the truth lacks, or two predictions are of different populations; if an
        object is empty; if a metric needs raw counts and there are none.
    transpert.errors.CountsError
        If the values are not log1p counts per 10k: NaN, infinite, negative, or counts; the message says where and how
        many. If truth and prediction, or the values and the counts of the truth, were made with other library sizes.
    transpert.errors.GeneError
        If genes are missing.
    transpert.errors.ControlError
        If a context has no controls.
    transpert.errors.ConditionError
        If a perturbation or context is missing in some cells, or a dose, time or direction cannot be read.
    transpert.errors.UnknownNameError
        If a metric, baseline, layer or column does not exist.
    transpert.errors.SplitError
        If every population is predicted, and no split says what baselines may see.
    transpert.errors.StoreError
        If a file is no AnnData, or stored by column.
    transpert.errors.OptionError
        If cells come as something else, such as a list of AnnData, an option is out of range, or prediction and truth
        are swapped.
    transpert.errors.DependencyError
        If a client is given but dask is not installed.

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
    check_options(
        reference=reference,
        max_missing_genes=max_missing_genes,
        max_controls=max_controls,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    slots = {"layer": layer, "counts_layer": counts_layer, "modality": modality}
    real = open_cells(truth, name="the truth", **slots)
    given = _open_predictions(pred, baseline_names(baselines), slots)
    check_not_swapped(real, given)
    if counts_layer is not None and counts_layer not in (_keys.COUNTS_LAYER, *real.layers):
        raise UnknownNameError("layer", [counts_layer], real.layers, where="counts_layer, the truth")
    chosen, names = without_counts(metrics, baselines, real, given, counts_layer)
    first = next(iter(given.values()))
    design = design_of_metadata(
        first.metadata,
        first.obs.columns,
        perturbation_key=perturbation_key,
        control=control,
        context_keys=context_keys,
        dose_key=dose_key,
        time_key=time_key,
        direction_key=direction_key,
        combination_separator=combination_separator,
    )
    observed = populations(real.obs, design, name="the truth")
    found = find_populations(given, design, need_controls=reference == "predicted")
    wanted = wanted_populations(found, observed, design)
    only_real = not_predicted(real.obs, observed, wanted, split_key)
    genes, reports = align(real, given, max_missing_genes)
    check_one_scale(real, observed, given, found, genes, wanted)
    library_size_key = library_column(library_size_key, given.values(), real)
    if names:
        check_scale_of_truth(real, design, library_size_key)
    predictions: dict[str, Prediction] = {
        name: GivenPrediction(reader.with_genes(genes), found[name]) for name, reader in given.items()
    }
    if names:
        predictions |= fit_baselines(
            names,
            whole_in_memory(truth, modality),
            design,
            {key: len(next(iter(found.values())).cells[key]) for key in wanted},
            genes,
            split_key=split_key,
            counts_layer=counts_layer,
            library_size_key=library_size_key,
            seed=seed,
        )
    plan = Plan(
        real.with_genes(genes),
        observed,
        wanted,
        predictions,
        reference,
        max_controls,
        ceiling,
        any(metric.counts for metric in chosen),
        seed,
    )
    scored = score_plan(plan, chosen, client=client, progress=progress)
    models = [*predictions, *([CEILING] if ceiling else [])]
    table = tabulate(scored, chosen, models, names, n_bootstrap=n_bootstrap, seed=seed)
    table.attrs["genes"] = {name: str(report) for name, report in reports.items()}
    table.attrs["not_predicted"] = only_real
    _keep(truth, table, modality)
    return table


def _open_predictions(
    pred: Data | Mapping[str, Data], baselines: Sequence[str], slots: dict[str, str | None]
) -> dict[str, CellReader]:
    if isinstance(pred, Mapping):
        readers = {str(name): open_cells(data, name=f"prediction {name!r}", **slots) for name, data in pred.items()}
    else:
        check_readable(pred, name="the prediction", several=True)
        reader = open_cells(pred, name="the prediction", **slots)
        name = str(reader.metadata.get("model", _UNNAMED))
        readers = {_UNNAMED if name in (CEILING, *baselines) else name: reader}
    if not readers:
        raise OptionError("there is no prediction to evaluate")
    taken = [name for name in readers if name in (CEILING, *baselines)] if isinstance(pred, Mapping) else []
    if taken:
        raise OptionError(f"a prediction is called {taken[0]!r}, as a baseline or the ceiling is", remedy="Rename it.")
    return readers


def score_plan(
    plan: Plan, metrics: Sequence[Metric], *, client: Client | None, progress: bool, title: str = "Scoring populations"
) -> list[Scored]:
    """Score a plan block by block, and return the scores in the order of its populations."""
    scored: list[Scored] = []
    with Progress(disable=not progress, transient=True) as bar:
        task = bar.add_task(title, total=len(plan.wanted))
        models = len(plan.predictions) + int(plan.ceiling)
        plan = replace(plan, n_threads=count_threads(client))
        for some in run_blocks(plan.blocks(), [metric.name for metric in metrics], client):
            scored += some
            bar.advance(task, len(some) / models)
    order = {(context, plan.real.display(label)): number for number, (context, label) in enumerate(plan.wanted)}
    return sorted(scored, key=lambda score: order[score.context, score.label])


def _keep(truth: Data, table: pd.DataFrame, modality: str | None) -> None:
    if isinstance(truth, AnnData | MuData):
        adata = modality_to_write(truth, modality)
        adata.uns[_keys.UNS] = {**dict(adata.uns.get(_keys.UNS, {})), _keys.SCORES: table.copy()}
