"""Predictions lie in the principal components that the training data is shown in."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from numpy.testing import assert_allclose

import transpert as tp
from transpert.errors import AssumptionWarning

KEYS = {"perturbation_key": "perturbation", "context_keys": "context"}


def screen(*, highly_variable: bool = True) -> AnnData:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=80, n_cells=40)
    if highly_variable:
        sc.pp.highly_variable_genes(adata, n_top_genes=50)
    sc.pp.pca(adata, n_comps=8)
    return adata


def trained(adata: AnnData) -> tp.RidgeTransport:
    tp.RidgeTransport.setup_anndata(adata, layer="counts", **KEYS)
    model = tp.RidgeTransport(adata)
    model.train()
    return model


@pytest.mark.parametrize("highly_variable", [True, False])
def test_controls_lie_where_they_lay_before(highly_variable: bool) -> None:
    adata = screen(highly_variable=highly_variable)
    pred = trained(adata).predict(n_cells=10, progress=False)
    controls = pred[pred.obs["source"] == "control"]
    assert_allclose(controls.obsm["X_pca"], adata[controls.obs["control_id"]].obsm["X_pca"], atol=1e-3)


def test_predicted_cells_are_centred_by_the_training_cells_and_not_by_themselves() -> None:
    adata = screen()
    pred = trained(adata).predict({"context": adata.obs["context"].iloc[0]}, "P0", include_controls=False)
    expected = (pred.to_df().to_numpy() - adata.X.toarray().mean(axis=0)) @ adata.varm["PCs"]
    assert_allclose(pred.obsm["X_pca"], expected, atol=1e-3)
    assert_allclose(pred.varm["PCs"], adata.varm["PCs"], atol=1e-6)


def test_a_loaded_model_keeps_the_components_of_its_training(tmp_path) -> None:
    adata = screen()
    model = trained(adata)
    model.save(tmp_path / "model")
    other = adata[:, ::-1].copy()
    del other.obsm["X_pca"], other.varm["PCs"]
    loaded = tp.RidgeTransport.load(tmp_path / "model", other)
    before, after = (each.predict(n_cells=10, progress=False) for each in (model, loaded))
    assert_allclose(after.obsm["X_pca"], before.obsm["X_pca"])


def test_a_prediction_on_disk_has_the_same_components(tmp_path) -> None:
    model = trained(screen())
    path = model.predict_to_store(tmp_path / "pred.zarr", n_cells=10, cells_per_part=30, progress=False)
    stored, kept = anndata.read_zarr(path), model.predict(n_cells=10, progress=False)
    assert_allclose(stored.obsm["X_pca"], kept.obsm["X_pca"], atol=1e-4)
    assert_allclose(stored.varm["PCs"], kept.varm["PCs"])


def test_components_of_scaled_values_are_left_out_and_that_is_said() -> None:
    adata = screen()
    sc.pp.scale(adata)
    sc.pp.pca(adata, n_comps=8)
    with pytest.warns(AssumptionWarning, match="not those of log1p counts per 10k"):
        model = trained(adata)
    assert "X_pca" not in model.predict(n_cells=10, progress=False).obsm


def test_network_predictions_are_projected_too() -> None:
    adata = screen()
    tp.SCALE.setup_anndata(adata, layer="counts", **KEYS)
    model = tp.SCALE(adata, preset="small", training=tp.model.TrainingOptions(steps=2, steps_per_epoch=2))
    model.train(accelerator="cpu", enable_progress_bar=False)
    pred = model.predict(n_cells=5, progress=False)
    assert pred.obsm["X_pca"].shape == (pred.n_obs, 8)
    assert np.isfinite(pred.obsm["X_pca"]).all()


def test_nothing_is_made_up_without_components() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=30, n_cells=20)
    assert not trained(adata).predict(n_cells=10, progress=False).obsm
