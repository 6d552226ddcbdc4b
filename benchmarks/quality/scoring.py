"""Scores of one prediction, with the evaluator that a user has."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA

import transpert as tp
from transpert.tl._populations import populations

from .cells import PERTURBATION, design_of
from .configuration import Task

# what the evaluator is asked for in every task
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
N_COMPONENTS = 50
LARGEST_LOG1P = float(np.log1p(1e4))
CEILING, _PREDICTION = "ceiling", "prediction"
MMD = "mmd_pca"


def score(pred: AnnData, adata: AnnData, task: Task, *, reference: str = "real", seed: int = 0) -> pd.DataFrame:
    """Return one row a population and metric: ``context``, ``perturbation``, ``metric``, ``value``, ``reference``."""
    rows = _rows(pred, adata, task, reference, _PREDICTION, seed, ceiling=False)
    return pd.concat([rows, _distances(pred, adata, task, reference)], ignore_index=True) if MMD in task.extra else rows


def score_ceiling(pred: AnnData, adata: AnnData, task: Task, *, seed: int) -> pd.DataFrame:
    """Score a random half of the real cells against the other half, for the populations of ``pred``."""
    rows = _rows(pred, adata, task, "real", CEILING, seed, ceiling=True)
    if MMD not in task.extra:
        return rows
    first, second = _halves(pred, adata, task, seed)
    return pd.concat([rows, _distances(first, second, task, "real")], ignore_index=True)


def metrics_of(task: Task) -> set[str]:
    """Every metric that a result of a task has."""
    return {*METRICS, *task.extra}


def _halves(pred: AnnData, adata: AnnData, task: Task, seed: int) -> tuple[AnnData, AnnData]:
    """Half of the real cells of each wanted population as a prediction, and a truth with the other half."""
    rng = np.random.default_rng(seed)
    real, wanted = populations(adata.obs, design_of(task)), populations(pred.obs, design_of(task), need_controls=False)
    taken = [rng.permutation(real.cells[key])[: len(real.cells[key]) // 2] for key in wanted]
    chosen = np.zeros(adata.n_obs, dtype=bool)
    chosen[np.concatenate(taken)] = True
    return adata[chosen].copy(), adata[~chosen].copy()


def _distances(pred: AnnData, adata: AnnData, task: Task, reference: str) -> pd.DataFrame:
    """Maximum mean discrepancy on principal components of all real cells."""
    design = design_of(task)
    real, own = populations(adata.obs, design), populations(pred.obs, design, need_controls=False)
    pca = PCA(N_COMPONENTS, random_state=0).fit(adata.X.toarray())
    rows: list[dict[str, object]] = []
    for context, label in own:
        cells, truth = pred[own.cells[context, label]].X, adata[real.cells[context, label]].X
        spaces = [pca.transform(_dense(values)) for values in (cells, truth)]
        low = np.minimum(spaces[0].min(axis=0), spaces[1].min(axis=0))  # distances do not see a common shift
        value = tp.metrics.maximum_mean_discrepancy(spaces[0] - low, spaces[1] - low)
        rows.append({"context": context, "perturbation": label, "metric": MMD, "value": value, "reference": reference})
    return pd.DataFrame(rows)


def _dense(values: np.ndarray | sparse.spmatrix) -> np.ndarray:
    return values.toarray() if sparse.issparse(values) else np.asarray(values)


def _rows(
    pred: AnnData, adata: AnnData, task: Task, reference: str, model: str, seed: int, *, ceiling: bool
) -> pd.DataFrame:
    scores = tp.tl.evaluate(
        {_PREDICTION: pred},
        adata,
        design=tp.Design(PERTURBATION, task.control, task.context_keys),
        metrics=[*METRICS, *(name for name in task.extra if name != MMD)],
        options=tp.tl.EvaluationOptions(reference=reference),
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
