"""What is measured: each verb gets a screen, makes what it needs, and returns what is timed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np

import transpert as tp

from .designs import CONTROL, Screen, design_keys

N_CELLS = 200  # cells of a predicted population
N_POPULATIONS = 30  # populations that are evaluated
N_TESTED = 12  # populations whose genes are tested

type Verb = Callable[[Screen, ad.AnnData, Path], Callable[[], Any]]


def trained(screen: Screen, adata: ad.AnnData, model: Any = tp.KernelTransport, **options: Any) -> Any:
    """Return a model that is trained on the screen."""
    model.setup_anndata(adata, library_size_key="library_size", **design_keys(screen))
    made = model(adata, **options)
    made.train()
    return made


def wanted(screen: Screen, n: int | None = None) -> dict[str, Any]:
    """Return the arguments that ask for the populations that are held out, or for the first of all."""
    contexts = [f"line_{i}" for i in range(screen.contexts - max(screen.held_out, 1), screen.contexts)]
    asked: dict[str, Any] = {"contexts": {"context": contexts if n is None else contexts[-1:]}}
    if n is not None:
        asked["perturbations"] = [f"P{i}" for i in range(min(n, screen.perturbations))]
    if n is not None and screen.doses:
        asked["doses"] = 1.0
    return asked


def predicted(screen: Screen, adata: ad.AnnData, n: int) -> ad.AnnData:
    """Return predictions of some populations."""
    return trained(screen, adata).predict(**wanted(screen, n), n_cells=N_CELLS, progress=False)


def set_up(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Check and register the cells."""
    return lambda: tp.KernelTransport.setup_anndata(adata, library_size_key="library_size", **design_keys(screen))


def split(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Hold perturbations out."""
    keys = {key: value for key, value in design_keys(screen).items() if key not in ("split_key",)}
    return lambda: tp.pp.split(adata, holdout={"perturbation": ["P0", "P1"]}, **keys)


def train(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Train the anchor."""
    return lambda: trained(screen, adata)


def train_scale(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Train SCALE with its defaults."""
    return lambda: trained(screen, adata, tp.SCALE)


def predict(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Predict everything that is held out."""
    model = trained(screen, adata)
    return lambda: model.predict(**wanted(screen), n_cells=N_CELLS, progress=False)


def predict_default(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Predict two perturbations with the default number of cells."""
    model = trained(screen, adata)
    return lambda: model.predict(**wanted(screen, 2), progress=False)


def predict_to_store(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Predict everything that is held out into a store."""
    model = trained(screen, adata)
    shutil.rmtree(folder / "pred.zarr", ignore_errors=True)
    return lambda: model.predict_to_store(folder / "pred.zarr", **wanted(screen), n_cells=N_CELLS, progress=False)


def intervals(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Say how sure the predictions are."""
    model = trained(screen, adata)
    return lambda: model.get_uncertainty(**wanted(screen, N_POPULATIONS))


def _evaluate(n: int, **options: Any) -> Verb:
    def prepare(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
        pred = predicted(screen, adata, n)
        keys = {key: value for key, value in design_keys(screen).items() if key in ("perturbation_key", "control")}
        truth = _log1p(adata)
        known: dict[str, Any] = {"context_keys": ["context"], **keys} | ({"dose_key": "dose"} if screen.doses else {})
        if "design" in tp.tl.evaluate.__annotations__:
            known = {"design": tp.groups.Design(**{**known, "context_keys": ("context",)})}
        else:
            known["library_size_key"] = "library_size"
        return lambda: tp.tl.evaluate(pred, truth, progress=False, n_bootstrap=0, **known, **options)

    return prepare


def _log1p(adata: ad.AnnData) -> ad.AnnData:
    """The same cells with log1p counts per 10k in ``X`` and the counts in a layer."""
    counts = adata.X
    values = counts.copy()
    values.data = np.log1p(values.data * np.repeat(1e4 / adata.obs["library_size"].to_numpy(), np.diff(counts.indptr)))
    values.data = values.data.astype(np.float32)
    return ad.AnnData(values, obs=adata.obs.copy(), var=adata.var.copy(), layers={"counts": counts})


def rank_genes_groups(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Test the genes of predicted populations."""
    pred = predicted(screen, adata, N_TESTED)
    return lambda: tp.tl.rank_genes_groups(pred)


def rank_sums(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Test the genes of real populations beside their controls."""
    populations, controls = tested(screen, adata)
    return lambda: tp.metrics.rank_sums(populations, controls)


def tested(screen: Screen, adata: ad.AnnData) -> tuple[list[Any], Any]:
    """Return the values of some populations and of their controls."""
    values = _log1p(adata[(adata.obs["context"] == "line_0").to_numpy()].copy())
    label = values.obs["perturbation"].to_numpy()
    return [values.X[label == f"P{i}"] for i in range(N_TESTED)], values.X[label == CONTROL]


def statistics(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Compute the effects of all groups."""
    model = tp.KernelTransport
    model.setup_anndata(adata, library_size_key="library_size", **design_keys(screen))
    made = model(adata)
    return lambda: made._training_effects(*made._training_groups())


def read_bytes(screen: Screen, adata: ad.AnnData, folder: Path) -> Callable[[], Any]:
    """Read every count once."""
    return lambda: float(adata.X.data.sum()) + int(adata.X.indices.sum())


VERBS: dict[str, Verb] = {
    "setup": set_up,
    "split": split,
    "read bytes": read_bytes,
    "statistics": statistics,
    "train": train,
    "predict": predict,
    "predict, default cells": predict_default,
    "predict_to_store": predict_to_store,
    "intervals": intervals,
    "rank tests": rank_sums,
    "rank_genes_groups": rank_genes_groups,
    "evaluate": _evaluate(N_POPULATIONS),
    "evaluate, all baselines": _evaluate(N_POPULATIONS, baselines="all"),
    "evaluate, cell-eval": _evaluate(10, metrics="cell-eval"),
    "evaluate, vcc2026": _evaluate(N_POPULATIONS, metrics="vcc2026"),
    "train SCALE": train_scale,
}
