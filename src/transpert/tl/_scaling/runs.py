"""One run of a study: train on some cells, predict the test set, score it, and keep the scores by content."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import anndata
import numpy as np
from anndata import AnnData
from scipy import sparse

from transpert import __version__, _keys
from transpert._anndata import frame, layer_names
from transpert._files import write_json, writing
from transpert._schema import checked, read_json
from transpert.errors import OptionError, StoreError, TranspertError, UnknownNameError
from transpert.groups import Design

from ..evaluation import evaluate

type Builder = Callable[..., Any]

GO_ON = "call scaling_study again: runs that have ended are kept"


class _Result(TypedDict):
    """What is kept of a run."""

    scores: list[dict[str, str | float | None]]
    error: str | None
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """All that a run needs, and the name of its result.

    Parameters
    ----------
    key
        Digest of everything that the result depends on.
    model
        Class with the verbs of the package, or a function that makes an untrained model of data.
    options
        Arguments of the class.
    rows, keep
        Positions of the perturbed training cells; and of the test cells and all controls.
    wanted
        Context and label of every test population.
    seed
        Seed of the model, where it takes one, and of its predictions.
    """

    key: str
    model: Builder
    options: Mapping[str, Any]
    rows: np.ndarray
    keep: np.ndarray
    wanted: tuple[tuple[str, str], ...]
    design: Design
    layer: str | None
    metrics: tuple[str, ...]
    n_cells: int | None
    seed: int


def digest(*parts: object) -> str:
    """Return a short digest of plain data and arrays."""
    found = hashlib.sha256(__version__.encode())
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(str(part.dtype).encode() + str(part.shape).encode())
            found.update(np.ascontiguousarray(part).tobytes() if part.dtype != object else "\n".join(part).encode())
        else:
            found.update(json.dumps(part, sort_keys=True, default=repr).encode())
    return found.hexdigest()[:24]


def with_library_sizes(adata: AnnData, key: str | None) -> AnnData:
    """Return the same cells with their library sizes where every step of a study looks for them."""
    obs = frame(adata.obs)
    if key is None or key == _keys.LIBRARY_SIZE:
        return adata
    if key not in obs:
        raise UnknownNameError("column", [key], map(str, obs.columns), where="obs")
    named = obs.assign(**{_keys.LIBRARY_SIZE: obs[key]})
    slots: dict[str, Any] = {"obsm": adata.obsm, "layers": adata.layers, "uns": adata.uns}
    return AnnData(adata.X, obs=named, var=frame(adata.var), **slots)


def digest_of_cells(adata: AnnData, design: Design, layer: str | None) -> str:
    """Return a digest of the counts, genes and labels of cells."""
    if layer is not None and layer not in adata.layers:
        raise UnknownNameError("layer", [layer], layer_names(adata), where="adata.layers")
    matrix = adata.X if layer is None else adata.layers[layer]
    counts = sparse.csr_matrix(matrix)
    obs = frame(adata.obs)
    used = [*design.columns, *(name for name in (_keys.LIBRARY_SIZE,) if name in obs)]
    columns = [obs[name].astype(str).to_numpy(dtype=object) for name in used]
    names = adata.var_names.to_numpy(dtype=object).astype(str)
    return digest(counts.data, counts.indices, counts.indptr, names, *[column.astype(str) for column in columns])


def read_result(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the result of a finished run; nothing if there is none, or it is damaged, so that it is done again."""
    path = folder / f"{key}.json"
    if not path.exists():
        return None
    try:
        return dict(checked(read_json(path, StoreError, GO_ON), _Result, StoreError, str(path), GO_ON))
    except StoreError:
        return None


def run(adata: AnnData, task: Task, folder: Path) -> tuple[str, dict[str, Any]]:
    """Do one run and write its result, all or nothing."""
    start = time.perf_counter()
    try:
        scores, error = _score(adata, task), None
    except TranspertError as problem:  # a model that cannot do with so few cells is a result
        scores, error = [], f"{type(problem).__name__}: {problem}"
    result = {"scores": scores, "error": error, "seconds": time.perf_counter() - start}
    path = folder / f"{task.key}.json"
    with writing(StoreError, path, GO_ON):
        write_json(path, result)
    return task.key, result


def _score(adata: AnnData, task: Task) -> list[dict[str, Any]]:
    """Train, predict and evaluate; one row a population and metric."""
    pred = _predict(adata, task)
    truth = adata[task.keep].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = evaluate(pred, truth, metrics=list(task.metrics), ceiling=False, n_bootstrap=0, progress=False)
    rows = table[table["context"] != "mean"]
    return [
        {
            "context": str(row["context"]),
            "perturbation": str(row["perturbation"]),
            "metric": str(row["metric"]),
            "value": None if not np.isfinite(row["value"]) else float(row["value"]),
        }
        for row in rows.to_dict("records")
    ]


def _predict(adata: AnnData, task: Task) -> AnnData:
    """Train a model on the chosen cells and predict the test populations."""
    cells = adata[np.union1d(task.rows, task.keep)].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _make_model(cells, task)
        model.train(**({"enable_progress_bar": False} if _trains_with_bar(model) else {}))
        if hasattr(model, "predict_populations"):
            return model.predict_populations(list(task.wanted), n_cells=task.n_cells, seed=task.seed)
        return _by_context(model, task)


def _make_model(cells: AnnData, task: Task) -> Any:
    """Set data up for a model class and make it; a function is only called."""
    if not hasattr(task.model, "setup_anndata"):
        return task.model(cells)
    design = task.design
    keys = {name: getattr(design, name) for name in ("batch_key", "dose_key", "time_key", "direction_key")}
    task.model.setup_anndata(  # type: ignore[attr-defined]
        cells,
        perturbation_key=design.perturbation_key,
        control=design.controls,
        combination_separator=design.combination_separator,
        context_keys=list(design.context_keys),
        split_key=design.split_key,
        layer=task.layer,
        **{name: value for name, value in keys.items() if value is not None},
    )
    return task.model(cells, **task.options)


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
