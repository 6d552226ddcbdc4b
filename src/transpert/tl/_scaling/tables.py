"""The table of a study: what the runs came to, between floor and ceiling."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from transpert import _keys
from transpert._anndata import frame
from transpert.errors import list_names, warn_user
from transpert.groups.table import context_labels
from transpert.metrics import METRICS, normalise
from transpert.model import NoChange

from ..evaluation import evaluate
from .choices import AXES, Cells, Choice
from .runs import Task
from .sources import Source
from .study import CEILING, FLOOR
from .tasks import floors, types_of

_KEYS = ["context", "perturbation", "metric"]


def said_of(choice: Choice) -> dict[str, Any]:
    """Return how the cells of a run were drawn."""
    return {"scheme": choice.scheme, "seed": choice.seed, **choice.sizes}


def sizes_of(cells: Cells, rows: np.ndarray) -> dict[str, int]:
    """Return the sizes of a run."""
    pairs = pd.Series(list(zip(cells.contexts[rows], cells.perturbations[rows], strict=True)), dtype=object)
    return {
        "n_cells": len(rows),
        "n_perturbations": len(np.unique(cells.perturbations[rows])),
        "n_contexts": len(np.unique(cells.contexts[rows])),
        "n_cells_per_condition": int(pairs.value_counts().max()) if len(rows) else 0,
    }


def rows_of_runs(
    planned: Sequence[tuple[Choice, str, Task]], results: Mapping[str, Mapping[str, Any]], cells: Cells
) -> pd.DataFrame:
    """One row a run, population and metric; a run that failed has no values."""
    rows: list[dict[str, Any]] = []
    failed: dict[str, list[str]] = {}
    for choice, name, task in planned:
        result = results.get(task.key)
        if result is None:
            continue
        said = {"model": name, **said_of(choice), **sizes_of(cells, choice.rows), "seconds": result["seconds"]}
        if "steps" in choice.sizes:
            said["n_steps"] = choice.sizes["steps"]
        if "parameters" in choice.sizes:
            said["n_parameters"] = result["n_parameters"]
        if result["error"] is not None:
            failed.setdefault(name, []).append(result["error"])
        scores = result["scores"] or [
            {"context": context, "perturbation": label, "metric": metric, "value": None}
            for context, label in task.wanted
            for metric in task.metrics
        ]
        rows += [{**said, **score} for score in scores]
    for name, errors in failed.items():
        warn_user(
            f"{len(errors)} runs of {name} failed and count as the floor: {list_names(sorted(set(errors)), limit=2)}"
        )
    return pd.DataFrame(rows)


def bounds_of(source: Source, truth: AnnData, base: Task) -> pd.DataFrame:
    """Floor and ceiling of every population and metric."""
    if base.kind != "perturbation":
        return _bounds_of_task(source, base)
    rows = source.take(base.keep)
    split = frame(rows.obs)[base.design.split_key].astype(str).to_numpy(dtype=object)
    rows.obs[base.design.split_key] = np.where(split == _keys.TEST, _keys.TRAIN, split)  # it learns nothing
    NoChange.setup_anndata(rows, **base.design.setup_arguments(layer=base.layer, batch_key=None, split_key=None))
    model = NoChange(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train()
        pred = model.predict_populations(list(base.wanted), n_cells=base.n_cells)
        scores = evaluate({FLOOR: pred}, truth, metrics=list(base.metrics), n_bootstrap=0, progress=False)
    scores = scores[scores["context"] != "mean"]
    wide = scores.pivot_table(index=_KEYS, columns="model", values="value", dropna=False)
    # a prediction that moves nothing has no correlation with the truth
    wide[FLOOR] = wide[FLOOR].fillna(0.0)
    return wide[[FLOOR, CEILING]].reset_index()


def _bounds_of_task(source: Source, base: Task) -> pd.DataFrame:
    """Floor and ceiling of the scores of a representation."""
    cells = source.take(base.keep)
    types = types_of(frame(cells.obs), base.type_key, context_labels(frame(cells.obs), base.design).astype(str))
    found = floors(base.kind, types)
    rows = [["all", "all", name, value, 1.0] for name, value in found.items()]
    return pd.DataFrame(rows, columns=[*_KEYS, FLOOR, CEILING])


def _direction(metric: str) -> Any:
    """Which values of a metric are better; of a task that is none of ours, the higher."""
    return METRICS[metric].direction if metric in METRICS else "higher"


def between(rows: pd.DataFrame, bounds: pd.DataFrame) -> pd.DataFrame:
    """Put every score between floor and ceiling, and add the floor as size 0 of all models."""
    if rows.empty:
        return rows
    table = rows.merge(bounds, on=_KEYS, how="left")
    nothing = table.drop_duplicates(["model", "scheme", "seed", *_KEYS]).copy()
    sizes = [str(name) for name in table if str(name).startswith("n_")]
    nothing[sizes], nothing["seconds"], nothing["value"] = 0, 0.0, nothing[FLOOR]
    for axis in set(table) & set(AXES):
        nothing[axis] = "none" if axis == "parameters" else 0
    table = pd.concat([nothing, table], ignore_index=True)
    table["value"] = table["value"].astype(float).fillna(table[FLOOR])
    columns = ["value", FLOOR, CEILING]
    parts = [
        part.assign(normalised=normalise(*part[columns].to_numpy(dtype=float).T, direction=_direction(str(name))))
        for name, part in table.groupby("metric", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)
