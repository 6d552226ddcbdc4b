"""scGen of pertpy: a variational autoencoder and one vector per perturbation in its latent space.

The mean latent difference of a perturbation, over balanced cell types, is added to the encoded controls of the wanted
context. A perturbation that no training cell has cannot be predicted.
"""

from __future__ import annotations

import time
from importlib.metadata import version

from exchange import CONTEXT, PERTURBATION, dense, read_job, write_predictions
from pertpy.tools import Scgen


def main() -> None:
    """Train, predict, write."""
    job = read_job()
    cells = job.cells
    cells.X = dense(cells)
    Scgen.setup_anndata(cells, batch_key=PERTURBATION, labels_key=CONTEXT)
    model = Scgen(cells, **job.config["model"])
    start = time.perf_counter()
    model.train(**job.config["train"], seed=job.seed)
    trained = time.perf_counter()
    blocks = []
    for row in job.wanted:
        moved, _ = model.predict(
            ctrl_key=job.control, stim_key=row["perturbation"], adata_to_predict=job.controls(row["context"])
        )
        blocks.append((row, dense(moved)))
    for context in job.contexts():
        blocks.append((context, model.get_decoded_expression(job.controls(context))))
    write_predictions(
        job,
        blocks,
        {
            "training_seconds": trained - start,
            "prediction_seconds": time.perf_counter() - trained,
            "version": f"pertpy {version('pertpy')}",
        },
    )


if __name__ == "__main__":
    main()
