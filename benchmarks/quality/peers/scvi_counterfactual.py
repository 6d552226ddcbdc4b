"""scvi-tools' own answer: decode the controls of a context under the label of another perturbation.

``SCVI`` is trained with the perturbation as its batch; ``get_normalized_expression(transform_batch=...)`` then says
what the rates of a control cell would be under it. A perturbation that no training cell has cannot be predicted.
"""

from __future__ import annotations

import time
from importlib.metadata import version

import numpy as np
import scvi
from exchange import PERTURBATION, read_job, write_predictions


def main() -> None:
    """Train, predict, write."""
    job = read_job()
    scvi.settings.seed = job.seed
    scvi.model.SCVI.setup_anndata(job.cells, layer="counts", batch_key=PERTURBATION)
    model = scvi.model.SCVI(job.cells, **job.config["model"])
    start = time.perf_counter()
    model.train(**job.config["train"], accelerator="cpu", logger=False, enable_progress_bar=False)
    trained = time.perf_counter()
    # scVI gives shares of the counts of the genes at hand; what these are of all counts is known for every control cell
    held = np.asarray(job.cells.layers["counts"].sum(axis=1)).ravel() / job.cells.obs["library_size"].to_numpy()
    held_of = dict(zip(job.cells.obs_names, held, strict=True))

    def decoded(context: str, label: str) -> np.ndarray:
        controls = job.controls(context)
        shares = model.get_normalized_expression(controls, transform_batch=label, library_size=1.0, return_numpy=True)
        own = np.array([held_of[name] for name in controls.obs_names])
        return np.log1p(shares * 1e4 * own[:, None])

    blocks = [(row, decoded(row["context"], row["perturbation"])) for row in job.wanted]
    blocks += [(context, decoded(context, job.control)) for context in job.contexts()]
    write_predictions(
        job,
        blocks,
        {
            "training_seconds": trained - start,
            "prediction_seconds": time.perf_counter() - trained,
            "version": f"scvi-tools {version('scvi-tools')}",
        },
    )


if __name__ == "__main__":
    main()
