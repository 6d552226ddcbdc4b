"""Scaling studies: what more cells, perturbations, contexts, steps or parameters add."""

from __future__ import annotations

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
from joblib.parallel import get_active_backend
from rich.progress import Progress, TimeRemainingColumn

from transpert import _keys
from transpert._anndata import check_kind, frame, in_memory
from transpert._arguments import check_path, name_list
from transpert._folders import file_written, used_alone
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert.data import Store
from transpert.errors import OptionError, StoreError, UnknownNameError, check_known
from transpert.groups import Design
from transpert.metrics import resolve_metrics
from transpert.model import BASELINES, SCALE, NoChange

from ._populations import populations
from ._scaling.choices import Cells, Choice, Size, check_axes, check_schemes, choose, diversity
from ._scaling.digests import digest
from ._scaling.latents import LatentModel, is_latent, parse_latent
from ._scaling.runs import GO_ON, Builder, Task, read_result, run, spread_axes, with_library_sizes
from ._scaling.sources import InMemory, InStore, Source
from ._scaling.study import ScalingStudy, StudyOptions
from ._scaling.tables import between, bounds_of, rows_of_runs, said_of, sizes_of
from ._scaling.tasks import TASKS

type Model = Builder | str
type Models = str | Sequence[str] | Mapping[str, Model | tuple[Model, Mapping[str, Any]]]

_METRICS = ("pearson_delta", "overlap_at_n")


@as_annotated()
def scaling_study(
    adata: AnnData | Store,
    design: Design,
    *,
    models: Models = ("MeanShift", "KernelTransport"),
    axes: str | Sequence[str] | Mapping[str, Sequence[Size]] = "cells",
    schemes: str | Sequence[str] = "random",
    seeds: int | Sequence[int] = 3,
    metrics: str | Sequence[str] | None = None,
    out: str | Path = "study",
    budget: float | None = None,
    n_jobs: int = 1,
    progress: bool = True,
    **options: Any,
) -> ScalingStudy:
    """Train models on nested subsets of the training cells and score them on one test set that is fixed beforehand.

    Every run is kept in ``out`` under a digest of all that it depends on, so that a study that was interrupted goes on
    where it was, and one that is made larger repeats nothing. All control cells are always used: only the perturbed
    ones are drawn. Groups of a single cell are left out of the training.

    Parameters
    ----------
    adata
        Cells with raw counts in ``layer`` and log1p counts per 10k in ``X``, split by :func:`transpert.pp.split`; or a
        store, of which every run reads its own cells, whose ``annotation`` was split.
    design
        Its columns; ``split_key`` says what is trained on and what is the test set.
    models
        Names of model classes of this package; ``"PCA + ridge"``, a regression of the shifts on a representation
        (``"genes"``, ``"PCA"``, ``"scVI"`` or a key of ``obsm`` that begins with ``"X_"``; ``"linear"``, ``"ridge"``,
        or ``"mlp"``, a small network for each perturbation); or by name one of these, a class with its five verbs or a
        function that makes an untrained model of an AnnData, alone or with a dict of arguments.
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
        Names of metrics or of a panel; ``"pearson_delta"`` and ``"overlap_at_n"`` by default.
    out
        Folder of the study.
    budget
        Seconds after which no further run is started; those that are left are counted.
    n_jobs
        Processes. Inside ``joblib.parallel_config("ray")`` or ``("dask")`` the runs go there, with ``n_jobs=-1`` to all
        that it has.
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
        task
            ``"perturbation"`` (default); or, for representations and models that have one, how well a logistic
            regression predicts the types of ``type_key`` (``"classification"``: accuracy, micro and macro F1), or how
            well clusters of k-means are types (``"integration"``: NMI, ARI and ASW as scib-metrics defines them, and
            their mean, AvgBIO). Both are scored on controls and test cells, half of which the regression has seen.

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
    Axes, schemes and tasks: DenAdel et al. (2026), Nature Methods, 10.1038/s41592-026-03120-y. Their average baseline
    is the mean of the cells that it is scored on; here no model sees these.

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
    chosen = StudyOptions(**options)
    grid, names = check_axes(axes), check_schemes(schemes, spike=chosen.spike is not None)
    builders = _builders(models, chosen.task)
    chosen_metrics = _metrics(metrics, chosen.task)
    draws = range(seeds) if isinstance(seeds, int | np.integer) else [check_seed(seed) for seed in seeds]
    if design.split_key is None:
        raise OptionError("the design has no split_key", where="design", remedy="Name the column of pp.split.")
    source, spiked = _source(adata, design, chosen)
    cells = Cells.of(source.obs, design, spiked=spiked, points=source.points(), type_key=chosen.type_key)
    choices = choose(cells, grid, names, list(draws))
    keep = np.union1d(cells.test, np.flatnonzero(cells.control))
    tested = cells.control & np.isin(cells.contexts, cells.contexts[cells.test])
    tested[cells.test] = True
    truth = source.take(np.flatnonzero(tested))
    wanted = tuple(populations(frame(truth.obs), design)) if chosen.task == "perturbation" else (("all", "all"),)
    base = Task(
        key="",
        model=NoChange,
        options={},
        rows=np.array([], dtype=np.int64),
        keep=keep,
        wanted=wanted,
        design=design,
        layer=chosen.layer,
        metrics=chosen_metrics,
        n_cells=chosen.n_cells,
        seed=0,
        kind=chosen.task,
        type_key=chosen.type_key,
    )
    kept = source.names[keep]
    content = digest(
        *(source.digest(design, chosen.layer), kept, list(chosen_metrics), chosen.n_cells, chosen.task),
        cells.types if chosen.task != "perturbation" else "",
    )
    planned = [
        (choice, name, _task(base, content, source, choice, *builder))
        for choice in choices
        for name, builder in builders.items()
    ]
    place = check_path(out, name="out")
    with used_alone(place / "runs", "study", StoreError, GO_ON):
        _save_subsets(place / "subsets.npz", choices, source.names)
        results, unfinished = _do(source, [task for _, _, task in planned], place / "runs", budget, n_jobs, progress)
    rows = rows_of_runs(planned, results, cells)
    table = between(rows, bounds_of(source, truth, base))
    subsets = [{**said_of(choice), **sizes_of(cells, choice.rows), **diversity(cells, choice)} for choice in choices]
    return ScalingStudy(table, pd.DataFrame(subsets), tuple(grid), unfinished)


def _metrics(metrics: str | Sequence[str] | None, task: str) -> tuple[str, ...]:
    """Return the names of the metrics of a task."""
    if task != "perturbation":
        if metrics is not None:
            raise OptionError(f"a {task} has metrics of its own", where="metrics", remedy="Leave metrics= out.")
        return TASKS[task]
    wanted = list(_METRICS) if metrics is None else metrics if isinstance(metrics, str) else list(metrics)
    return tuple(metric.name for metric in resolve_metrics(wanted))


def _source(adata: AnnData | Store, design: Design, options: StudyOptions) -> tuple[Source, np.ndarray]:
    """Return where the cells come from, and which of them are of another data set."""
    if isinstance(adata, Store):
        if options.spike is not None:
            raise OptionError("cells of a store cannot be replaced", where="spike", remedy="Give an AnnData.")
        stored = InStore.of(adata, options.layer)
        design.check(stored.obs)
        return stored, np.zeros(adata.n_obs, dtype=bool)
    check_kind(adata, name="the cells")
    design.check(frame(adata.obs))
    data, spiked = _with_spike(with_library_sizes(in_memory(adata), options.library_size_key), options.spike, design)
    return InMemory(data), spiked


def _builders(models: Models, task: str) -> dict[str, tuple[Model, Mapping[str, Any]]]:
    """Return the class or function of every model, and its arguments; of a representation its name."""
    given: Mapping[str, Any] = models if isinstance(models, Mapping) else {}
    if not isinstance(models, Mapping):
        given = {name: name for name in name_list(models)}
    return {str(name): _builder(value, task) for name, value in given.items()}


def _builder(value: Any, task: str) -> tuple[Model, Mapping[str, Any]]:
    """Return the class or function of one model, and its arguments."""
    known: dict[str, Builder] = {"SCALE": SCALE, **BASELINES}
    model, options = value if isinstance(value, tuple) else (value, {})
    if not isinstance(model, str):
        return model, dict(options)
    if model in known:
        return known[model], dict(options)
    if task != "perturbation" and is_latent(model):
        return model, dict(options)
    latent = parse_latent(model)
    if latent is None or task != "perturbation":
        raise UnknownNameError("model", [model], known, where="models")
    return LatentModel, {**latent, **options}


def _with_spike(adata: AnnData, spike: AnnData | None, design: Design) -> tuple[AnnData, np.ndarray]:
    """Put the cells of another data set, all to train on, below those of the study."""
    if spike is None:
        return adata, np.zeros(adata.n_obs, dtype=bool)
    columns = [name for name in design.columns if name != design.split_key]
    check_known("column", columns, spike.obs, where="obs of the spike")
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


def _task(base: Task, content: str, source: Source, choice: Choice, builder: Model, options: Mapping[str, Any]) -> Task:
    """Name a run by all that its result depends on, so that two schemes that draw the same cells share it."""
    made = spread_axes(options, choice.sizes)
    names = source.names[choice.rows]
    kind = f"{getattr(builder, '__module__', '')}.{getattr(builder, '__qualname__', repr(builder))}"
    latent = source.digest_of_latent(str(made.get("latent", builder)))
    key = digest(content, kind, latent, {name: repr(value) for name, value in made.items()}, names, choice.seed)
    return replace(base, key=key, model=builder, options=made, rows=choice.rows, seed=choice.seed)


def _save_subsets(path: Path, choices: Sequence[Choice], names: np.ndarray) -> None:
    """Write the names of the cells of every draw."""
    arrays = {}
    for choice in choices:
        sizes = ", ".join(f"{axis} {size}" for axis, size in choice.sizes.items())
        arrays[f"{choice.scheme}, seed {choice.seed}, {sizes}"] = names[choice.rows]
    with file_written(path, StoreError, GO_ON) as new:
        np.savez_compressed(new, **arrays)  # type: ignore[arg-type]


def _do(
    source: Source, tasks: Sequence[Task], folder: Path, budget: float | None, n_jobs: int, progress: bool
) -> tuple[dict[str, dict[str, Any]], int]:
    """Do the missing runs, and return how many the budget left."""
    results = {task.key: found for task in tasks if (found := read_result(folder, task.key)) is not None}
    left = list({task.key: task for task in tasks if task.key not in results}.values())
    end = np.inf if budget is None else monotonic() + budget

    def in_time() -> Any:
        for task in left:
            if monotonic() > end:
                return
            yield delayed(run)(source, task, folder)

    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, disable=not progress, transient=True) as bar:
        shown = bar.add_task("Runs of the study", total=len(left))
        # those of Ray and of multiprocessing return all results at the end
        gradual = get_active_backend()[0].supports_return_generator
        returned = "generator_unordered" if gradual else "list"
        # one task ahead of the workers: what was handed out is done, whatever the budget
        parallel = Parallel(n_jobs=n_jobs, return_as=returned, pre_dispatch="n_jobs", batch_size=1)
        for key, result in parallel(in_time()):
            results[key] = result
            bar.advance(shown)
    return results, len({task.key for task in tasks} - set(results))
