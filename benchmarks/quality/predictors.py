"""Predictions of our own models."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pandas as pd
from anndata import AnnData

import transpert as tp
from transpert.errors import UnknownNameError

from .cells import setup_arguments
from .configuration import Method, Task

Wanted = list[tuple[str, str]]


def predict_baseline(
    adata: AnnData, task: Task, method: Method, wanted: Wanted, seed: int, embeddings: pd.DataFrame | None
) -> tuple[AnnData, dict[str, Any]]:
    """Fit a baseline and predict what was held out."""
    options = dict(method.options)
    cls = getattr(tp, options.pop("cls"))
    known = _embeddings(options, embeddings, default="none")
    cls.setup_anndata(adata, **setup_arguments(task))
    model = cls(adata, **options, **known)
    model.deregister_manager(adata)  # else scvi-tools keeps the cells of every run of this process
    start = time.perf_counter()
    model.train()
    trained = time.perf_counter()
    pred = model.predict_populations(wanted, unseen="mean", seed=seed)
    return pred, {"training_seconds": trained - start, "prediction_seconds": time.perf_counter() - trained}


def predict_scale(
    adata: AnnData, task: Task, method: Method, wanted: Wanted, seed: int, embeddings: pd.DataFrame | None
) -> tuple[AnnData, dict[str, Any]]:
    """Train SCALE with the options of a method and predict what was held out."""
    options = dict(method.options)
    known = _embeddings(options, embeddings, default="task")
    tp.SCALE.setup_anndata(adata, **setup_arguments(task))
    model = tp.SCALE(adata, **scale_arguments(adata, options), **known, seed=seed)
    model.deregister_manager(adata)
    start = time.perf_counter()
    model.train(enable_progress_bar=False, enable_model_summary=False, logger=False)
    trained = time.perf_counter()
    pred = model.predict_populations(wanted, unseen="mean", seed=seed)
    return pred, {
        "training_seconds": trained - start,
        "prediction_seconds": time.perf_counter() - trained,
        "gate": float(model.gate),
        "left_out_level": model.left_out_level,
        "parameters": model.n_parameters,
        "steps": model.options.training.steps,
        "options": model.options.to_dict(),
    }


def _embeddings(options: dict[str, Any], table: pd.DataFrame | None, *, default: str) -> dict[str, Any]:
    """The argument ``embeddings``: those of the task, none, or ``"coexpression"`` of the control cells."""
    chosen = options.pop("embeddings", default)
    if chosen == "task":
        return {} if table is None else {"embeddings": table}
    return {} if chosen == "none" else {"embeddings": chosen}


def scale_arguments(adata: AnnData, options: dict[str, Any]) -> dict[str, Any]:
    """Turn a table of options into the arguments of SCALE; what is not said stays as SCALE has it."""
    changes = dict(options)
    chosen: dict[str, Any] = {"preset": changes.pop("preset")} if "preset" in changes else {}
    if not changes:
        return chosen
    start = tp.SCALE(adata, **chosen).options
    parts = {
        **{name: getattr(start.network, name) for name in ("encoder", "sets", "conditions", "flow", "losses")},
        **{name: getattr(start, name) for name in ("anchor", "readout", "joining", "training")},
    }
    unknown = [name for name in changes if name not in parts]
    if unknown:
        raise UnknownNameError("option", unknown, parts, where="methods")
    for name, values in changes.items():
        chosen[name] = None if values == "none" else dataclasses.replace(parts[name], **values)
    return chosen
