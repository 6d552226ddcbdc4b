"""SCALE in an embedding of the cells, and back to counts."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
import scvi

import transpert as tp
from transpert.model import JoiningOptions, TrainingOptions


def with_pca(adata) -> str:
    sc.pp.pca(adata, n_comps=10)
    return "X_pca"


def with_scvi(adata) -> str:
    scvi.model.SCVI.setup_anndata(adata, layer="counts", batch_key="batch")
    vae = scvi.model.SCVI(adata, n_hidden=32, n_latent=8)
    vae.train(max_epochs=4, accelerator="cpu", enable_progress_bar=False, logger=False)
    adata.obsm["X_scvi"] = vae.get_latent_representation()
    return "X_scvi"


@pytest.mark.parametrize("embed", [with_pca, with_scvi])
def test_scale_runs_in_an_embedding_and_puts_out_counts(embed, screen) -> None:
    key = embed(screen)
    tp.SCALE.setup_anndata(
        screen, perturbation_key="perturbation", context_keys=["context"], layer="counts", embedding_key=key
    )
    # the network alone, so that nothing but the embedding carries the prediction
    model = tp.SCALE(
        screen,
        preset="tiny",
        anchor=None,
        joining=JoiningOptions(folds=1, gate=1.0),
        training=TrainingOptions(steps=60, steps_per_epoch=30, set_size=16, sets_per_batch=8),
    )
    model.train(enable_progress_bar=False, accelerator="cpu")
    pred = model.predict({"context": "context_1"}, ["P0"], progress=False)
    tp.pp.check_counts(pred.layers["counts"], where="counts")
    assert pred.layers["counts"].shape == pred.shape == (240, screen.n_vars)
    found = model.get_effects({"context": "context_1"}, ["P0"])["context_1: P0"]
    assert np.corrcoef(found, screen.varm["true_effects"]["context_1: P0"])[0, 1] > 0.4
    # another embedding of the control cells ends in another prediction
    screen.obsm[key] = screen.obsm[key][::-1].copy()
    moved = model.get_effects({"context": "context_1"}, ["P0"], adata=screen)["context_1: P0"]
    assert not np.allclose(moved, found, atol=1e-3)


def test_cells_of_other_doses_and_batches_do_not_share_a_set() -> None:
    adata = tp.datasets.simulate(
        n_contexts=2, n_perturbations=1, n_genes=20, n_cells=40, doses=(0.1, 10.0), n_batches=2, seed=0
    )
    tp.SCALE.setup_anndata(
        adata, perturbation_key="perturbation", context_keys="context", dose_key="dose", batch_key="batch",
        layer="counts",
    )  # fmt: skip
    model = tp.SCALE(adata, preset="tiny", joining="always")
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    kept = ((adata.obs["dose"] != 10.0) & (adata.obs["batch"] == adata.obs["batch"].iloc[0])).to_numpy()
    alone = model.get_latent_representation(adata[kept].copy())
    np.testing.assert_allclose(model.get_latent_representation()[kept], alone, atol=1e-6)


def test_other_cells_need_no_split(tmp_path) -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=20, seed=0)
    other = adata.copy()
    tp.pp.split(adata, holdout={"context": "context_0"})
    tp.SCALE.setup_anndata(
        adata, perturbation_key="perturbation", context_keys="context", layer="counts", split_key="split"
    )
    model = tp.SCALE(adata, preset="tiny", joining="always")
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    np.testing.assert_array_equal(model.get_latent_representation(other), model.get_latent_representation())
    asked = {"contexts": {"context": "context_0"}, "perturbations": "P0", "adata": other}
    assert model.predict(**asked, interval=0.9, progress=False).n_obs == 40
    model.predict_to_store(tmp_path / "pred.zarr", **asked, progress=False)
    assert model.get_effects(**asked).shape == model.get_uncertainty(**asked).effects.shape == (20, 1)
    tp.tl.predict(other, model, perturbation="P0")
    assert other.obsm["X_P0"].shape == model.get_latent_representation().shape
