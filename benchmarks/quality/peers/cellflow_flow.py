"""CellFlow: flow matching in principal components, conditioned on the perturbation and on the context.

A context is described by the mean principal components of its controls, so that an unseen one has a description;
a perturbation by its embedding where the task has some, else one-hot. Contexts with controls only are left out of
training (CellFlow refuses them). Combinations are two perturbation columns; a dose is a number beside its
perturbation, on a log scale.
"""

from __future__ import annotations

import time
from importlib.metadata import version

import anndata
import numpy as np
import optax
import pandas as pd
from cellflow.model import CellFlow
from exchange import CONTEXT, PERTURBATION, Job, dense, read_job, write_predictions
from sklearn.decomposition import PCA

NOTHING = "nothing"
DOSE = "log_dose"


def main() -> None:
    """Train, predict, write."""
    job = read_job()
    values = dense(job.cells)
    pca = PCA(job.config["n_components"], random_state=job.seed).fit(values)
    job.cells.obsm["X_pca"] = pca.transform(values).astype(np.float32)
    labels = sorted({*job.cells.obs[PERTURBATION], *(row["perturbation"] for row in job.wanted)} - {job.control})
    n_parts = max(len(label.split("+")) for label in labels)
    columns = [f"part_{number}" for number in range(n_parts)]
    _describe(job, labels, columns)
    covariates = {"perturbation": tuple(columns)}
    if job.dose_key:
        if n_parts > 1:
            raise ValueError("doses of combinations are not configured")
        job.cells.obs[DOSE] = _log_doses(job.cells.obs[job.dose_key], job)
        covariates["dose"] = (DOSE,)
    obs = job.cells.obs
    treated = set(obs[CONTEXT][~obs["is_control"]])
    flow = CellFlow(job.cells[obs[CONTEXT].isin(treated).to_numpy()].copy(), solver="otfm")
    flow.prepare_data(
        sample_rep="X_pca",
        control_key="is_control",
        perturbation_covariates=covariates,
        perturbation_covariate_reps={"perturbation": "perturbation_reps"},
        sample_covariates=[CONTEXT],
        sample_covariate_reps={CONTEXT: "context_reps"},
        split_covariates=[CONTEXT],
    )
    model = dict(job.config["model"])
    flow.prepare_model(optimizer=optax.adam(job.config["learning_rate"]), seed=job.seed, **model)
    start = time.perf_counter()
    flow.train(**job.config["train"], valid_freq=10**9)
    trained = time.perf_counter()
    blocks = [(row, _moved(flow, job, row, columns, pca)) for row in job.wanted]
    write_predictions(
        job,
        blocks,
        {
            "training_seconds": trained - start,
            "prediction_seconds": time.perf_counter() - trained,
            "version": f"cellflow-tools {version('cellflow-tools')}",
        },
    )


def _describe(job: Job, labels: list[str], columns: list[str]) -> None:
    """Write the columns and vectors that CellFlow reads."""
    obs = job.cells.obs
    obs["is_control"] = (obs[PERTURBATION] == job.control).to_numpy()
    for number, column in enumerate(columns):
        obs[column] = pd.Categorical([_parts(label, job.control, len(columns))[number] for label in obs[PERTURBATION]])
    parts = sorted({part for label in labels for part in label.split("+")})
    if job.embeddings is None:
        vectors = dict(zip(parts, np.eye(len(parts), dtype=np.float32), strict=True))
    else:
        vectors = {part: job.embeddings.loc[part].to_numpy(dtype=np.float32) for part in parts}
    vectors[NOTHING] = np.zeros_like(next(iter(vectors.values())))
    job.cells.uns["perturbation_reps"] = vectors
    profiles = {}
    for context in sorted(set(obs[CONTEXT])):
        rows = ((obs[CONTEXT] == context) & obs["is_control"]).to_numpy()
        profiles[context] = job.cells.obsm["X_pca"][rows].mean(axis=0)
    spread = np.std(list(profiles.values()), axis=0) + 1e-3
    job.cells.uns["context_reps"] = {name: (vector / spread).astype(np.float32) for name, vector in profiles.items()}
    obs[CONTEXT] = pd.Categorical(obs[CONTEXT])


def _log_doses(doses: pd.Series, job: Job) -> np.ndarray:
    """Return the decimal logarithm of the doses, 1 at the lowest that was trained on; 0 is none, as in the padding."""
    known = job.cells.obs[job.dose_key].astype(float).to_numpy()
    lowest = known[known > 0].min()
    amounts = doses.astype(float).to_numpy()
    given = amounts > 0  # not so for controls, whose dose is 0 or missing
    return np.where(given, 1 + np.log10(np.where(given, amounts, lowest) / lowest), 0.0)


def _parts(label: str, control: str, n: int) -> list[str]:
    parts = [] if label == control else label.split("+")
    return [*parts, *[NOTHING] * (n - len(parts))]


def _moved(flow: CellFlow, job: Job, row: dict, columns: list[str], pca: PCA) -> np.ndarray:
    controls: anndata.AnnData = job.controls(row["context"])
    controls.uns |= {key: job.cells.uns[key] for key in ("perturbation_reps", "context_reps")}
    wish = controls.obs[[CONTEXT, "is_control"]].iloc[:1].copy()
    wish["is_control"] = False
    for column, part in zip(columns, _parts(row["perturbation"], job.control, len(columns)), strict=True):
        wish[column] = part
    if job.dose_key:
        wish[DOSE] = _log_doses(pd.Series([row["dose"]]), job)
    wish["id"] = "wanted"
    out = flow.predict(controls, covariate_data=wish, condition_id_key="id", **job.config.get("predict", {}))
    found = next(iter(out.values()))
    found = next(iter(found.values())) if isinstance(found, dict) else found
    return pca.inverse_transform(np.asarray(found))


if __name__ == "__main__":
    main()
