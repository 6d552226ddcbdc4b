"""Scaling studies: what more cells, perturbations, contexts, steps or parameters add."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from joblib import Parallel, delayed
from rich.progress import Progress, TimeRemainingColumn

from transpert import _keys
from transpert._anndata import check_kind, frame
from transpert._arguments import check_path
from transpert._folders import file_written, used_alone
from transpert._matrices import check_there
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert.errors import OURS, AssumptionWarning, OptionError, StoreError, UnknownNameError, list_names
from transpert.groups import Design
from transpert.metrics import METRICS, normalise, resolve_metrics
from transpert.model import BASELINES, SCALE, NoChange

from ._populations import populations
from ._scaling.choices import Cells, Choice, Size, check_axes, check_schemes, choose, diversity
from ._scaling.runs import (
    GO_ON,
    Builder,
    Task,
    digest,
    digest_of_cells,
    read_result,
    run,
    spread_axes,
    with_library_sizes,
)
from ._scaling.study import CEILING, FLOOR, ScalingStudy, StudyOptions
from .evaluation import evaluate

_COMPONENTS = 20  # principal components, for sketches and diversity
type Models = str | Sequence[str] | Mapping[str, Builder | tuple[type, Mapping[str, Any]]]


@as_annotated()
def scaling_study(
    adata: AnnData,
    design: Design,
    *,
    models: Models = ("MeanShift", "KernelTransport"),
    axes: str | Sequence[str] | Mapping[str, Sequence[Size]] = "cells",
    schemes: str | Sequence[str] = "random",
    seeds: int | Sequence[int] = 3,
    metrics: str | Sequence[str] = ("pearson_delta", "overlap_at_n"),
    out: str | Path = "study",
    budget: float | None = None,
    n_jobs: int = 1,
    progress: bool = True,
    **options: Any,
) -> ScalingStudy:
    """Train models on nested subsets of the training cells and score them on one test set that is fixed beforehand.

    Every run is kept in ``out`` under a digest of all that it depends on, so that a study that was killed goes on where
    it was, and one that is made larger repeats nothing. Controls are always there: what is scaled is what was
    perturbed. Of a (context, batch, condition) with a single cell nothing is trained on.

    Parameters
    ----------
    adata
        Cells with raw counts in ``layer`` and log1p counts per 10k in ``X``, split by :func:`transpert.pp.split`.
    design
        Its columns; ``split_key`` says what is trained on and what is the test set.
    models
        Names of model classes of this package; or by name a class with its five verbs, a class and its arguments, or a
        function that makes an untrained model of an AnnData.
    axes
        ``"cells"``, ``"perturbations"``, ``"contexts"``, ``"cells_per_condition"`` (most cells of a perturbation in a
        context), ``"steps"`` (of training) or ``"parameters"`` (presets of SCALE); or a grid for one or two of them: a
        float up to 1 is a share, an integer a number. The floor, size 0, is always there.
    schemes
        How cells are drawn: ``"random"``; ``"reweighted"`` (equally many of each type, of rare types all);
        ``"sketch"`` (geometric sketching of principal components); ``"stratified"`` (equally many of each perturbation
        and context); ``"spike_in_10"`` and ``"spike_in_50"`` (so many percent replaced by cells of ``spike``).
    seeds
        How many draws, or their seeds.
    metrics
        Names of metrics or of a panel.
    out
        Folder of the study.
    budget
        Seconds after which no further run is started; those that are left are counted.
    n_jobs
        Processes. Inside ``joblib.parallel_config("ray")`` the runs go to Ray.
    progress
        Show a progress bar with the time left.
    **options
        Rarely needed.

        spike
            Another data set with the same columns and genes, for spike-ins.
        layer
            Layer with raw counts.
        library_size_key
            Column with the library sizes; ``"library_size"`` by default, and where that is missing the sum over the
            genes.
        type_key
            Column with the types for re-weighting and diversity; the context by default.
        n_cells
            Number of cells that are predicted for each population.

    Returns
    -------
    The study. Curves, saturation points and expected gains are its methods.

    Warns
    -----
    transpert.errors.AssumptionWarning
        If runs failed, for example because a model needs more contexts; they count as the floor.

    Raises
    ------
    transpert.errors.SplitError
        If there is no perturbed test or training cell.
    transpert.errors.UnknownNameError
        If a model, axis, scheme, metric or column does not exist.
    transpert.errors.OptionError
        If an argument is out of range.
    transpert.errors.StoreError
        If another process works on the study, or nothing can be written there.

    Notes
    -----
    Axes and schemes: DenAdel et al. (2026), Nature Methods, 10.1038/s41592-026-03120-y.

    Examples
    --------
    >>> import tempfile, transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=4, n_perturbations=3, n_genes=40, n_cells=30)
    >>> tp.pp.split(adata, holdout={"context": "context_0"})
    >>> design = tp.groups.Design("perturbation", "control", ("context",), split_key="split")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     study = tp.tl.scaling_study(
    ...         adata, design, models="MeanShift", axes={"cells": [0.1, 0.3, 0.6, 1.0]}, seeds=1,
    ...         metrics="pearson_delta", out=folder, progress=False,
    ...     )
    >>> sorted(study.table["n_cells"].unique().tolist())
    [0, 26, 81, 162, 270]
    """
    check_kind(adata, name="the cells")
    chosen = StudyOptions(**options)
    grid, names = check_axes(axes), check_schemes(schemes, spike=chosen.spike is not None)
    builders = _builders(models)
    wanted_metrics = resolve_metrics(metrics if isinstance(metrics, str) else list(metrics))
    chosen_metrics = tuple(metric.name for metric in wanted_metrics)
    draws = range(seeds) if isinstance(seeds, int | np.integer) else [check_seed(seed) for seed in seeds]
    if design.split_key is None:
        raise OptionError("the design has no split_key", where="design", remedy="Name the column of pp.split.")
    design.check(frame(adata.obs))
    adata = with_library_sizes(adata, chosen.library_size_key)
    data, spiked = _with_spike(adata, chosen.spike, design)
    cells = Cells.of(data, design, spiked=spiked, points=_points(data), type_key=chosen.type_key)
    choices = choose(cells, grid, names, list(draws))
    keep = np.union1d(cells.test, np.flatnonzero(cells.control))
    judged = cells.control & np.isin(cells.contexts, cells.contexts[cells.test])
    judged[cells.test] = True
    truth = data[judged].copy()
    wanted = tuple(populations(frame(truth.obs), design))
    nothing = np.array([], dtype=np.int64)
    base = Task("", NoChange, {}, nothing, keep, wanted, design, chosen.layer, chosen_metrics, chosen.n_cells, 0)
    kept = data.obs_names[keep].to_numpy(dtype=str)
    content = digest(digest_of_cells(data, design, chosen.layer), kept, list(chosen_metrics), chosen.n_cells)
    planned = [
        (choice, name, _task(base, content, data, choice, *builder))
        for choice in choices
        for name, builder in builders.items()
    ]
    place = check_path(out, name="out")
    with used_alone(place / "runs", "study", StoreError, GO_ON):
        _save_subsets(place / "subsets.npz", choices, data)
        results, unfinished = _do(data, [task for _, _, task in planned], place / "runs", budget, n_jobs, progress)
    rows = _rows_of_runs(planned, results, cells)
    table = _between(rows, _bounds(data, truth, base))
    subsets = [{**_said(choice), **_sizes(cells, choice.rows), **diversity(cells, choice)} for choice in choices]
    return ScalingStudy(table, pd.DataFrame(subsets), tuple(grid), unfinished)


def _builders(models: Models) -> dict[str, tuple[Builder, Mapping[str, Any]]]:
    """Return the class or function of every model, and its arguments."""
    known: dict[str, Builder] = {"SCALE": SCALE, **BASELINES}
    if isinstance(models, Mapping):
        pairs: dict[str, Any] = {
            name: value if isinstance(value, tuple) else (value, {}) for name, value in models.items()
        }
        return {str(name): (builder, dict(options)) for name, (builder, options) in pairs.items()}
    names = [models] if isinstance(models, str) else list(models)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UnknownNameError("model", unknown, known, where="models")
    return {str(name): (known[name], {}) for name in names}


def _with_spike(adata: AnnData, spike: AnnData | None, design: Design) -> tuple[AnnData, np.ndarray]:
    """Put the cells of another data set, all to train on, below those of the study."""
    if spike is None:
        return adata, np.zeros(adata.n_obs, dtype=bool)
    columns = [name for name in design.columns if name != design.split_key]
    absent = [name for name in columns if name not in spike.obs]
    if absent:
        raise UnknownNameError("column", absent, spike.obs.columns, where="obs of the spike")
    other = spike.copy()
    other.obs[design.split_key] = _keys.TRAIN
    both = anndata.concat({"own": adata, "spike": other}, index_unique="-", join="inner", label="_study")
    if both.n_vars < adata.n_vars:
        raise OptionError(
            f"the spike lacks {adata.n_vars - both.n_vars} of {adata.n_vars} genes",
            where="spike",
            remedy="Align it with pp.align_genes, or leave these genes out of both.",
        )
    return both, (both.obs["_study"] == "spike").to_numpy()


def _points(adata: AnnData) -> np.ndarray:
    """Principal components of the cells, those that are there or new ones."""
    from sklearn.decomposition import TruncatedSVD

    if _keys.PCA in adata.obsm:
        return np.asarray(adata.obsm[_keys.PCA])[:, :_COMPONENTS]
    check_there(adata.X, where="X")
    n = max(1, min(_COMPONENTS, adata.n_vars - 1))
    return TruncatedSVD(n, random_state=0).fit_transform(adata.X)


def _task(
    base: Task, content: str, data: AnnData, choice: Choice, builder: Builder, options: Mapping[str, Any]
) -> Task:
    """Name a run by all that its result depends on, so that two schemes that draw the same cells share it."""
    made = spread_axes(options, choice.sizes)
    names = data.obs_names[choice.rows].to_numpy(dtype=str)
    kind = f"{getattr(builder, '__module__', '')}.{getattr(builder, '__qualname__', repr(builder))}"
    key = digest(content, kind, {name: repr(value) for name, value in made.items()}, names, choice.seed)
    return replace(base, key=key, model=builder, options=made, rows=choice.rows, seed=choice.seed)


def _save_subsets(path: Path, choices: Sequence[Choice], data: AnnData) -> None:
    """Write the names of the cells of every draw."""
    names = data.obs_names.to_numpy(dtype=str)
    arrays = {}
    for choice in choices:
        sizes = ", ".join(f"{axis} {size}" for axis, size in choice.sizes.items())
        arrays[f"{choice.scheme}, seed {choice.seed}, {sizes}"] = names[choice.rows]
    with file_written(path, StoreError, GO_ON) as new:
        np.savez_compressed(new, **arrays)  # type: ignore[arg-type]


def _do(
    data: AnnData, tasks: Sequence[Task], folder: Path, budget: float | None, n_jobs: int, progress: bool
) -> tuple[dict[str, dict[str, Any]], int]:
    """Do the runs that were not done before; say how many the budget left."""
    results = {task.key: found for task in tasks if (found := read_result(folder, task.key)) is not None}
    left = list({task.key: task for task in tasks if task.key not in results}.values())
    end = np.inf if budget is None else monotonic() + budget

    def in_time() -> Any:
        for task in left:
            if monotonic() > end:
                return
            yield delayed(run)(data, task, folder)

    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, disable=not progress, transient=True) as bar:
        shown = bar.add_task("Runs of the study", total=len(left))
        # one task ahead of the workers: what was handed out is done, whatever the budget
        parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
        for key, result in parallel(in_time()):
            results[key] = result
            bar.advance(shown)
    return results, len({task.key for task in tasks} - set(results))


def _said(choice: Choice) -> dict[str, Any]:
    """How the cells of a run were drawn."""
    return {"scheme": choice.scheme, "seed": choice.seed, **choice.sizes}


def _sizes(cells: Cells, rows: np.ndarray) -> dict[str, int]:
    """What the sizes of a run came to."""
    pairs = pd.Series(list(zip(cells.contexts[rows], cells.perturbations[rows], strict=True)), dtype=object)
    return {
        "n_cells": len(rows),
        "n_perturbations": len(np.unique(cells.perturbations[rows])),
        "n_contexts": len(np.unique(cells.contexts[rows])),
        "n_cells_per_condition": int(pairs.value_counts().max()) if len(rows) else 0,
    }


def _rows_of_runs(
    planned: Sequence[tuple[Choice, str, Task]], results: Mapping[str, Mapping[str, Any]], cells: Cells
) -> pd.DataFrame:
    """One row a run, population and metric; a run that failed has no values."""
    rows: list[dict[str, Any]] = []
    failed: dict[str, list[str]] = {}
    for choice, name, task in planned:
        result = results.get(task.key)
        if result is None:
            continue
        said = {"model": name, **_said(choice), **_sizes(cells, choice.rows), "seconds": result["seconds"]}
        if "steps" in choice.sizes:
            said["n_steps"] = choice.sizes["steps"]
        if result["error"] is not None:
            failed.setdefault(name, []).append(result["error"])
        scores = result["scores"] or [
            {"context": context, "perturbation": label, "metric": metric, "value": None}
            for context, label in task.wanted
            for metric in task.metrics
        ]
        rows += [{**said, **score} for score in scores]
    for name, errors in failed.items():
        warnings.warn(
            f"{len(errors)} runs of {name} failed and count as the floor: {list_names(sorted(set(errors)), limit=2)}",
            AssumptionWarning,
            skip_file_prefixes=OURS,
        )
    return pd.DataFrame(rows)


def _bounds(data: AnnData, truth: AnnData, base: Task) -> pd.DataFrame:
    """Floor and ceiling of every population and metric."""
    rows = data[base.keep].copy()
    split = frame(rows.obs)[base.design.split_key].astype(str).to_numpy(dtype=object)
    rows.obs[base.design.split_key] = np.where(split == _keys.TEST, _keys.TRAIN, split)  # it learns nothing
    design = base.design
    NoChange.setup_anndata(
        rows,
        perturbation_key=design.perturbation_key,
        control=design.controls,
        combination_separator=design.combination_separator,
        context_keys=list(design.context_keys),
        layer=base.layer,
        **{
            name: getattr(design, name)
            for name in ("dose_key", "time_key", "direction_key")
            if getattr(design, name) is not None
        },
    )
    model = NoChange(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train()
        pred = model.predict_populations(list(base.wanted), n_cells=base.n_cells)
        scores = evaluate({FLOOR: pred}, truth, metrics=list(base.metrics), n_bootstrap=0, progress=False)
    scores = scores[scores["context"] != "mean"]
    keys = ["context", "perturbation", "metric"]
    wide = scores.pivot_table(index=keys, columns="model", values="value", dropna=False)
    # a prediction that moves nothing has no correlation with the truth
    wide[FLOOR] = wide[FLOOR].fillna(0.0)
    return wide[[FLOOR, CEILING]].reset_index()


def _between(rows: pd.DataFrame, bounds: pd.DataFrame) -> pd.DataFrame:
    """Put every score between floor and ceiling, and add the floor as size 0 of all models."""
    if rows.empty:
        return rows
    table = rows.merge(bounds, on=["context", "perturbation", "metric"], how="left")
    nothing = table.drop_duplicates(["model", "scheme", "seed", "context", "perturbation", "metric"]).copy()
    sizes = [str(name) for name in table if str(name).startswith("n_")]
    nothing[sizes], nothing["seconds"], nothing["value"] = 0, 0.0, nothing[FLOOR]
    for axis in set(table) & {"cells", "perturbations", "contexts", "cells_per_condition", "steps"}:
        nothing[axis] = 0
    table = pd.concat([nothing, table], ignore_index=True)
    table["value"] = table["value"].astype(float).fillna(table[FLOOR])
    columns = ["value", FLOOR, CEILING]
    parts = [
        part.assign(
            normalised=normalise(*part[columns].to_numpy(dtype=float).T, direction=METRICS[str(name)].direction)
        )
        for name, part in table.groupby("metric", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)
