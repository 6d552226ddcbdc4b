"""Contexts whose controls are copies of one pool of cells, as some screens are distributed."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
from anndata import AnnData

import transpert as tp
from transpert.model import TrainingOptions

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


@pytest.fixture(scope="module")
def adata() -> AnnData:
    cells = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=30, n_cells=30, seed=0)
    is_control = (cells.obs["perturbation"] == "control").to_numpy()
    pool = cells[is_control & (cells.obs["context"] == "context_0").to_numpy()].copy()
    parts = [cells[~is_control].copy()]
    for context in cells.obs["context"].cat.categories:
        copied = pool.copy()
        copied.obs["context"] = context
        copied.obs_names = [f"{context} {name}" for name in pool.obs_names]
        parts.append(copied)
    return anndata.concat(parts)


@pytest.mark.parametrize("name", ["KernelTransport", "RidgeTransport", "SCALE"])
def test_a_model_learns_from_contexts_that_share_their_controls(adata, name) -> None:
    cells = adata.copy()
    cls = getattr(tp, name)
    cls.setup_anndata(cells, **KEYS)
    if name == "SCALE":
        model = cls(cells, preset="tiny", training=TrainingOptions(steps=10, steps_per_epoch=5))
        model.train(enable_progress_bar=False, accelerator="cpu")
    else:
        model = cls(cells)
        model.train()
    pred = model.predict({"context": "context_3"}, interval=None if name == "RidgeTransport" else 0.9, progress=False)
    assert np.isfinite(pred.to_df().to_numpy()).all()
    shifts = model.get_effects({"context": "context_3"})
    real = tp.tl.effects(cells, context_keys="context")
    for label in ("P0", "P1"):
        assert np.corrcoef(shifts[f"context_3: {label}"], real[f"context_3: {label}"])[0, 1] > 0.8
