"""One run of a study: train on some cells, predict the test set, score it, and keep the scores by content."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import anndata
import numpy as np
from anndata import AnnData

from transpert import _keys
from transpert._anndata import frame
from transpert._files import write_json, writing
from transpert._schema import checked, read_json
from transpert.errors import OptionError, SplitError, StoreError, TranspertError, check_known
from transpert.groups import Design
from transpert.groups.table import context_labels

from ..evaluation import evaluate
from .latents import latent_of
from .sources import Source
from .tasks import task_scores, types_of

type Builder = Callable[..., Any]

GO_ON = "call scaling_study again: runs that have ended are kept"


class _Result(TypedDict):
    """What is kept of a run."""

    scores: list[dict[str, str | float | None]]
    error: str | None
    seconds: float
    n_parameters: int


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """All that a run needs, and the name of its result.

    Parameters
    ----------
    key
        Digest of everything that the result depends on.
    model
        Class with the verbs of the package, a function that makes an untrained model of data, or the name of a
        representation.
    options
        Arguments of the class.
    rows, keep
        Positions of the perturbed training cells; and of the test cells and all controls.
    wanted
        Context and label of every test population.
    seed
        Seed of the model, where it takes one, and of its predictions.
    kind
        The task that is scored.
    type_key
        Column with the cell types; the contexts by default.
    """

    key: str
    model: Builder | str
    options: Mapping[str, Any]
    rows: np.ndarray
    keep: np.ndarray
    wanted: tuple[tuple[str, str], ...]
    design: Design
    layer: str | None
    metrics: tuple[str, ...]
    n_cells: int | None
    seed: int
    kind: str = "perturbation"
    type_key: str | None = None


def with_library_sizes(adata: AnnData, key: str | None) -> AnnData:
    """Return the same cells with their library sizes where every step of a study looks for them."""
    obs = frame(adata.obs)
    if key is None or key == _keys.LIBRARY_SIZE:
        return adata
    check_known("column", [key], obs, where="obs")
    named = obs.assign(**{_keys.LIBRARY_SIZE: obs[key]})
    slots: dict[str, Any] = {"obsm": adata.obsm, "layers": adata.layers, "uns": adata.uns}
    return AnnData(adata.X, obs=named, var=frame(adata.var), **slots)


def read_result(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the result of a finished run; nothing if there is none, or it is damaged, so that it is done again."""
    path = folder / f"{key}.json"
    if not path.exists():
        return None
    try:
        return dict(checked(read_json(path, StoreError, GO_ON), _Result, StoreError, str(path), GO_ON))
    except StoreError:
        return None


def run(cells: Source, task: Task, folder: Path) -> tuple[str, dict[str, Any]]:
    """Do one run and write its result, all or nothing."""
    start = time.perf_counter()
    try:
        scores, n_parameters, error = *_score(cells, task), None
    except TranspertError as problem:  # a model that cannot do with so few cells is a result
        scores, n_parameters, error = [], 0, f"{type(problem).__name__}: {problem}"
    seconds = time.perf_counter() - start
    result = {"scores": scores, "error": error, "seconds": seconds, "n_parameters": n_parameters}
    path = folder / f"{task.key}.json"
    with writing(StoreError, path, GO_ON):
        write_json(path, result)
    return task.key, result


def _score(source: Source, task: Task) -> tuple[list[dict[str, Any]], int]:
    """Train, predict and evaluate; one row a population and metric, and the number of parameters."""
    if not len(task.rows):
        raise SplitError("no cell is left to train on", remedy="Choose larger sizes.")
    rows = np.union1d(task.rows, task.keep)
    cells = source.take(rows)
    if task.kind != "perturbation":
        return _score_latent(cells, np.isin(rows, task.rows), np.isin(rows, task.keep), task), 0
    truth = cells[np.isin(rows, task.keep)].copy()
    pred, n_parameters = _predict(cells, task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = evaluate(pred, truth, metrics=list(task.metrics), ceiling=False, n_bootstrap=0, progress=False)
    rows_of_mean = table["context"] == "mean"
    scores = [
        {
            "context": str(row["context"]),
            "perturbation": str(row["perturbation"]),
            "metric": str(row["metric"]),
            "value": None if not np.isfinite(row["value"]) else float(row["value"]),
        }
        for row in table[~rows_of_mean].to_dict("records")
    ]
    return scores, n_parameters


def _score_latent(cells: AnnData, own: np.ndarray, kept: np.ndarray, task: Task) -> list[dict[str, Any]]:
    """Learn a representation of the chosen cells, and score it on those that are kept apart."""
    contexts = context_labels(frame(cells.obs), task.design).astype(str)
    if isinstance(task.model, str):
        latent = latent_of(cells, task.model, own, layer=task.layer, seed=task.seed, **task.options)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _make_model(cells, task)
            model.train(**({"enable_progress_bar": False} if _trains_with_bar(model) else {}))
            latent = np.asarray(model.get_latent_representation(cells))
    return task_scores(task.kind, latent[kept], types_of(frame(cells.obs), task.type_key, contexts)[kept])


def _predict(cells: AnnData, task: Task) -> tuple[AnnData, int]:
    """Train a model on the chosen cells and predict the test populations; say how many parameters it has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _make_model(cells, task)
        model.train(**({"enable_progress_bar": False} if _trains_with_bar(model) else {}))
        n_parameters = int(getattr(model, "n_parameters", 0))
        if hasattr(model, "predict_populations"):
            return model.predict_populations(list(task.wanted), n_cells=task.n_cells, seed=task.seed), n_parameters
        return _by_context(model, task), n_parameters


def _make_model(cells: AnnData, task: Task) -> Any:
    """Set data up for a model class and make it; a function is only called."""
    assert not isinstance(task.model, str)
    if not hasattr(task.model, "setup_anndata"):
        return task.model(cells)
    task.model.setup_anndata(cells, **task.design.setup_arguments(layer=task.layer))  # type: ignore[attr-defined]
    drawn = {"seed": task.seed} if "seed" in inspect.signature(task.model).parameters else {}
    return task.model(cells, **{**drawn, **task.options})


def _trains_with_bar(model: Any) -> bool:
    """Whether a model is trained by Lightning, whose progress bar has no place in a study."""
    return "accelerator" in getattr(type(model).train, "__annotations__", {})


def _by_context(model: Any, task: Task) -> AnnData:
    """Ask a model of somebody else, which has no other way, for the populations of one context after the other."""
    keys = task.design.context_keys
    parts = []
    for context in dict.fromkeys(context for context, _ in task.wanted):
        if len(keys) > 1:
            raise OptionError(
                "a model without predict_populations is asked for one context column",
                where="models",
                remedy="Give the model that method, or join the columns of the context into one.",
            )
        names = [label for other, label in task.wanted if other == context]
        parts.append(model.predict({keys[0]: context} if keys else None, names))
    return anndata.concat(parts, uns_merge="same") if len(parts) > 1 else parts[0]


def spread_axes(options: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a model with so many training steps, or of a preset of so many parameters."""
    from transpert.model import TrainingOptions

    made = dict(options)
    if "parameters" in sizes:
        made["preset"] = sizes["parameters"]
    if "steps" in sizes:
        steps = int(sizes["steps"])
        made["training"] = TrainingOptions(steps=steps, steps_per_epoch=min(steps, 50))
    return made
