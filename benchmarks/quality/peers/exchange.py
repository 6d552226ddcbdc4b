"""What every runner shares: reading what the benchmark wrote, writing what it reads. Needs anndata and pandas only."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

PERTURBATION, CONTEXT = "perturbation", "context"


@dataclass
class Job:
    """One run of a peer.

    ``cells`` has the training cells and all controls (log1p counts per 10k in ``X``, counts in ``layers``); ``wanted``
    lists the populations to predict, with their dose where ``dose_key`` names a column; ``embeddings`` has a row a
    perturbation, where the task has some.
    """

    place: Path
    cells: anndata.AnnData
    wanted: list[dict[str, Any]]
    seed: int
    control: str
    dose_key: str | None
    config: dict[str, Any]
    embeddings: pd.DataFrame | None

    def controls(self, context: str) -> anndata.AnnData:
        """The control cells of a context."""
        obs = self.cells.obs
        return self.cells[((obs[CONTEXT] == context) & (obs[PERTURBATION] == self.control)).to_numpy()].copy()

    def contexts(self) -> list[str]:
        """The contexts in which something is wanted."""
        return sorted({row["context"] for row in self.wanted})


def read_job() -> Job:
    """Read the folder that is the only argument of a runner."""
    place = Path(sys.argv[1])
    told = json.loads((place / "config.json").read_text())
    cells = anndata.read_h5ad(place / "cells.h5ad")
    for column in (PERTURBATION, CONTEXT):
        cells.obs[column] = cells.obs[column].astype(str).astype(object)
    table = place / "embeddings.csv"
    embeddings = pd.read_csv(table, index_col=0) if table.exists() else None
    wanted = json.loads((place / "wanted.json").read_text())
    return Job(place, cells, wanted, told["seed"], told["control"], told["dose_key"], told["config"], embeddings)


def dense(cells: anndata.AnnData) -> np.ndarray:
    """Return ``X`` as a dense float32 array."""
    values = cells.X.toarray() if sparse.issparse(cells.X) else np.asarray(cells.X)
    return values.astype(np.float32)


def write_predictions(job: Job, blocks: list[tuple[dict[str, Any] | str, np.ndarray]], report: dict[str, Any]) -> None:
    """Write predicted cells; a block belongs to a wanted population, or to the controls of a context (its name)."""
    values_of = {row["context"]: row["values"] for row in job.wanted}
    rows: list[dict[str, str]] = []
    for what, values in blocks:
        context = what if isinstance(what, str) else what["context"]
        label = job.control if isinstance(what, str) else what["perturbation"]
        row = {PERTURBATION: label, **values_of[context]}
        if job.dose_key:
            row[job.dose_key] = "0" if isinstance(what, str) else what["dose"]
        rows += [row] * len(values)
    obs = pd.DataFrame(rows).astype("category")
    obs.index = obs.index.astype(str)
    matrix = np.concatenate([values for _, values in blocks]).astype(np.float32)
    pred = anndata.AnnData(matrix, obs=obs, var=job.cells.var[[]].copy())
    pred.write_h5ad(job.place / "predicted.h5ad")
    (job.place / "report.json").write_text(json.dumps(report))
