"""How many cells are predicted, in which form, and what is said before they are too many."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from anndata import read_zarr
from scipy import sparse

import transpert as tp
from transpert.errors import AssumptionWarning
from transpert.model.prediction import sizes, to_store
from transpert.model.prediction.predictor import Predictor

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


@pytest.fixture(scope="module")
def model():
    adata = tp.datasets.simulate(
        n_contexts=2, n_perturbations=2, n_genes=400, n_cells=20, n_control_cells=60, library_size=300
    )
    tp.MeanFoldChange.setup_anndata(adata, **KEYS)
    made = tp.MeanFoldChange(adata)
    made.train()
    return made


def test_predictions_take_no_more_memory_than_their_counts(model) -> None:
    pred = model.predict(progress=False)
    counts = pred.layers["counts"]
    assert isinstance(pred.X, sparse.csr_matrix) and pred.X.nnz == counts.nnz
    expected = tp.pp.log1p_per_10k(counts, pred.obs["library_size"].to_numpy())
    assert (pred.X != expected).nnz == 0
    assert pred.X.indices is not counts.indices  # dropping zeros from one leaves the other whole


def test_without_n_cells_a_bounded_number_is_predicted_and_said(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sizes, "MOST_CELLS", 25)
    with pytest.warns(AssumptionWarning, match=r"n_cells is not given.*25 are moved.*context_0 \(60\)"):
        pred = model.predict(perturbations="P0", progress=False)
    assert (pred.obs["source"] == "predicted").sum() == 2 * 25
    assert (pred.obs["source"] == "control").sum() == 2 * 25
    with pytest.warns(AssumptionWarning, match="n_cells is not given"):
        stored = read_zarr(model.predict_to_store(tmp_path / "pred.zarr", perturbations="P0", progress=False))
    assert (stored.X != pred.X).nnz == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", AssumptionWarning)
        assert (model.predict(perturbations="P0", n_cells=60, progress=False).obs["source"] == "predicted").sum() == 120


def test_a_prediction_larger_than_memory_is_warned_of(model, monkeypatch) -> None:
    monkeypatch.setattr(sizes, "_memory", lambda: 1 << 20)
    with pytest.warns(AssumptionWarning, match=r"4 populations, 2,000 cells, take about .* GB.*predict_to_store\(\)"):
        model.predict(n_cells=500, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AssumptionWarning)
        model.predict(n_cells=2, progress=False)


def test_parts_of_a_store_are_smaller_where_there_are_more_genes(model, tmp_path, monkeypatch) -> None:
    held = []
    original = Predictor.assembled
    monkeypatch.setattr(to_store, "_VALUES_PER_PART", 400 * 30)
    monkeypatch.setattr(
        Predictor, "assembled", lambda self, made, **known: held.append(len(made)) or original(self, made, **known)
    )
    path = model.predict_to_store(tmp_path / "pred.zarr", n_cells=20, progress=False)
    assert held == [1] * 6  # four populations of 20 cells, and the controls of two contexts
    assert np.isfinite(read_zarr(path).X.data).all()
