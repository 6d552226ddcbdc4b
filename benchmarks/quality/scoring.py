"""Scores of one prediction, with the evaluator that a user has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

import transpert as tp

from .cells import PERTURBATION, design_of
from .configuration import Task

# what is scored; the first four stand in the tables with intervals
METRICS = (
    "pearson_delta",
    "overlap_at_n",
    "energy_distance",
    "n_sig_ratio",
    "mse_delta",
    "direction_match",
    "variance_ratio",
    "zero_fraction_gap",
)
LARGEST_LOG1P = float(np.log1p(1e4))
CEILING = "ceiling"


def score(pred: AnnData, adata: AnnData, task: Task, *, reference: str = "real", seed: int = 0) -> pd.DataFrame:
    """Return one row a population and metric: ``context``, ``perturbation``, ``metric``, ``value``, ``reference``."""
    return _rows({"prediction": pred}, adata, task, reference, "prediction", seed, ceiling=False)


def score_ceiling(pred: AnnData, adata: AnnData, task: Task, *, seed: int) -> pd.DataFrame:
    """Score a random half of the real cells against the other half, for the populations of ``pred``."""
    return _rows({"prediction": pred}, adata, task, "real", CEILING, seed, ceiling=True)


def _rows(
    preds: dict[str, AnnData], adata: AnnData, task: Task, reference: str, model: str, seed: int, *, ceiling: bool
) -> pd.DataFrame:
    scores = tp.tl.evaluate(
        preds,
        adata,
        perturbation_key=PERTURBATION,
        control=task.control,
        context_keys=list(task.context_keys),
        metrics=list(METRICS),
        reference=reference,
        ceiling=ceiling,
        n_bootstrap=1,
        seed=seed,
        progress=False,
    )
    rows = scores[(scores["model"] == model) & (scores["context"] != "mean")]
    return rows[["context", "perturbation", "metric", "value"]].assign(reference=reference).reset_index(drop=True)


def cells_of_peer(path_values: AnnData, task: Task) -> tuple[AnnData, float]:
    """Bring the cells of a peer into the range that log1p counts per 10k can have, and say how many values that took.

    Our models need no such thing; a peer whose output leaves the range would otherwise not be scored at all.
    """
    values = path_values.X.toarray() if sparse.issparse(path_values.X) else np.asarray(path_values.X)
    outside = float(np.mean((values < 0) | (values > LARGEST_LOG1P)))
    pred = path_values.copy()
    pred.X = sparse.csr_matrix(np.clip(values, 0, LARGEST_LOG1P).astype(np.float32))
    pred.uns["transpert"] = {
        "design": {
            "perturbation_key": PERTURBATION,
            "control": task.control,
            "context_keys": list(task.context_keys),
            **({"dose_key": task.dose_key} if task.dose_key else {}),
        }
    }
    return pred, outside


def has_controls(pred: AnnData, task: Task) -> bool:
    """Whether a prediction has controls of its own, which differ from the real ones."""
    return bool((pred.obs[design_of(task).perturbation_key].astype(str) == task.control).any())


def means(values: Sequence[float]) -> float:
    """Mean of what is defined; NaN if nothing is."""
    array = np.asarray(values, dtype=float)
    return float(array[np.isfinite(array)].mean()) if np.isfinite(array).any() else float("nan")
