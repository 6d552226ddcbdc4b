"""Predictions scored against the truth, between a floor and a ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from anndata import AnnData
from mudata import MuData
from rich.progress import Progress

from transpert import _keys
from transpert._anndata import check_writable, metadata_of, modality_to_write
from transpert._arguments import check_arguments, named_options
from transpert.errors import OptionError, check_known
from transpert.groups import Design
from transpert.metrics import Metric

from ._evaluation.blocks import CEILING, Scored, count_threads, run_blocks
from ._evaluation.cell_reader import CellReader, Data, check_readable, open_cells
from ._evaluation.options import EvaluationOptions, checked_options
from ._evaluation.plan import (
    Plan,
    align,
    check_not_swapped,
    find_populations,
    not_predicted,
    wanted_populations,
    without_counts,
)
from ._evaluation.predictions import GivenPrediction, Prediction, baseline_names, fit_baselines, whole_in_memory
from ._evaluation.scales import check_form, check_one_scale, check_scale_of_truth, library_column
from ._populations import design_of_metadata, populations
from .score_summary import tabulate

_UNNAMED = "prediction"  # the name of a prediction that brings none, or that of a baseline it is compared with


@named_options()
def evaluate(
    pred: Data | Mapping[str, Data],
    truth: Data,
    *,
    design: Design | None = None,
    context_keys: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] = "default",
    baselines: str | Sequence[str] | None = None,
    ceiling: bool = True,
    counts_layer: str | None = _keys.COUNTS_LAYER,
    library_size_key: str | None = None,
    layer: str | None = None,
    n_bootstrap: int = 1_000,
    options: EvaluationOptions | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Score predicted populations against the real ones.

    Populations are read and scored one after the other, so that memory does not grow with their number. Objects that
    are backed, lazy (:func:`anndata.experimental.read_lazy`) or named by their path are never read whole.

    Parameters
    ----------
    pred
        A prediction, or several by name: cells with log1p counts per 10k in ``X``, labelled like the truth. Each is an
        AnnData, a MuData, or the path of an ``.h5ad`` file or zarr folder.
    truth
        The real cells, with controls; the same kinds.
    design
        The columns of ``obs`` that say what was done to a cell and where it came from (:class:`transpert.Design`), in
        all objects; by default what a prediction of this package says, else ``"perturbation"`` and ``"control"`` in
        one context. Cells of one perturbation are one population, unless it names columns of doses, times or
        directions. Its split says what baselines are trained on.
    context_keys
        Columns that make a context, where they are others than the design says.
    metrics
        Name of a panel (``"default"``, ``"cell-eval"``, ``"vcc2026"``, ``"calibrated"``, ``"all"``), or names of
        metrics (``transpert.metrics.METRICS``).
    baselines
        Names of baselines, or ``"all"``: they are trained on the training cells of ``truth``, which are
        read into memory for it, predict as many cells as the first prediction has, and are scored alongside. The best
        of them on a metric is its floor.
    ceiling
        Score a random half of the real cells of each population against the other half.
    counts_layer
        Layer with raw counts, for the baselines and for metrics that are computed from counts. Where there is none, a
        warning says once which of them are left out; to name one of them is an error then.
    library_size_key
        Column of ``truth`` with library sizes, for the baselines. By default the column that the model of a prediction
        was trained with, else ``"library_size"``, and where that is missing the sum over the genes at hand.
    layer
        Layer with log1p counts per 10k, in place of ``X``, in all objects.
    n_bootstrap
        Resamples of the perturbations for the intervals; 0 for none.
    options
        What is seldom changed: whose controls are the reference, the column of the split, how many genes may be
        missing, how many controls are used, the modality of MuData, and a dask client
        (:class:`transpert.tl.EvaluationOptions`).
    seed
        Seed of everything random.
    progress
        Show a progress bar.

    Returns
    -------
    One row a model, context, perturbation and metric, with ``value``, ``baseline``, ``ceiling`` and ``normalised`` (0
    as good as the best baseline, 1 as good as a replicate; NaN if ceiling and baseline are less than 5 % apart:
    :func:`transpert.metrics.normalise`). Metrics with one
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
    check_arguments(locals())
    options = checked_options(options)
    slots = {"layer": layer, "counts_layer": counts_layer, "modality": options.modality}
    real = open_cells(truth, name="the truth", **slots)
    if isinstance(truth, AnnData | MuData):
        check_writable(modality_to_write(truth, options.modality), _keys.SCORES)
    given = _open_predictions(pred, baseline_names(baselines), slots)
    check_not_swapped(real, given)
    if counts_layer not in (None, _keys.COUNTS_LAYER):
        check_known("layer", [counts_layer], real.layers, where="counts_layer, the truth")
    chosen, names = without_counts(metrics, baselines, real, given, counts_layer)
    first = next(iter(given.values()))
    split_key = options.split_column(design, first.metadata, real.obs)
    design = design_of_metadata(first.metadata, first.obs.columns, design=design, context_keys=context_keys)
    observed = populations(real.obs, design, name="the truth")
    found = find_populations(given, design, need_controls=options.reference == "predicted")
    wanted = wanted_populations(found, observed, design)
    only_real = not_predicted(real.obs, observed, wanted, split_key)
    genes, reports = align(real, given, options.max_missing_genes)
    check_form(real, given.values())
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
            whole_in_memory(truth, options.modality),
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
        options.reference,
        options.max_controls,
        ceiling,
        any(metric.counts for metric in chosen),
        seed,
    )
    scored = score_plan(plan, chosen, client=options.client, progress=progress)
    models = [*predictions, *([CEILING] if ceiling else [])]
    table = tabulate(scored, chosen, models, names, n_bootstrap=n_bootstrap, seed=seed)
    table.attrs["genes"] = {name: str(report) for name, report in reports.items()}
    table.attrs["not_predicted"] = only_real
    _store_table(truth, table, options.modality)
    return table


def _open_predictions(
    pred: Data | Mapping[str, Data], baselines: Sequence[str], slots: dict[str, str | None]
) -> dict[str, CellReader]:
    """Open the predictions, by the name of their model if one has no name."""
    if isinstance(pred, Mapping):
        readers = {str(name): open_cells(data, name=f"prediction {name!r}", **slots) for name, data in pred.items()}
    else:
        check_readable(pred, name="the prediction", several=True)
        reader = open_cells(pred, name="the prediction", **slots)
        name = str(reader.metadata.get("model", _UNNAMED))
        readers = {_UNNAMED if name in (CEILING, *baselines) else name: reader}
    if not readers:
        raise OptionError("there is no prediction to evaluate", remedy="Give at least one prediction.")
    taken = [name for name in readers if name in (CEILING, *baselines)] if isinstance(pred, Mapping) else []
    if taken:
        raise OptionError(f"a prediction is called {taken[0]!r}, as a baseline or the ceiling is", remedy="Rename it.")
    return readers


def score_plan(
    plan: Plan, metrics: Sequence[Metric], *, client: Any | None, progress: bool, title: str = "Scoring populations"
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
    order = {(context, label): number for number, (context, label) in enumerate(plan.wanted)}
    return sorted(scored, key=lambda score: order[score.context, score.label])


def _store_table(truth: Data, table: pd.DataFrame, modality: str | None) -> None:
    if isinstance(truth, AnnData | MuData):
        adata = modality_to_write(truth, modality)
        adata.uns[_keys.UNS] = {**dict(metadata_of(adata)), _keys.SCORES: table.copy()}
