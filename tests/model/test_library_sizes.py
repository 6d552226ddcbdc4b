"""Library sizes of other cells are what they were in the training data, or it is said that they are not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from anndata import AnnData

import transpert as tp
from transpert.errors import AssumptionWarning, CountsError

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Cells with 50 genes and no column of library sizes."""
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=50, n_cells=20)
    del adata.obs["library_size"]
    adata.X = adata.layers["counts"].copy()  # values would have library sizes of their own
    return adata


def trained(adata: AnnData, **keys) -> tp.RidgeTransport:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        tp.RidgeTransport.setup_anndata(adata, **KEYS, **keys)
        model = tp.RidgeTransport(adata)
    model.train()
    return model


def summed(adata: AnnData) -> np.ndarray:
    return np.asarray(adata.layers["counts"].sum(axis=1)).ravel()


def with_column(adata: AnnData) -> AnnData:
    other = adata.copy()
    other.obs["library_size"] = summed(adata) + 500.0
    return other


def library_of(model, adata: AnnData, tmp_path) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the controls and the library sizes that they are given, by the model and by what is saved of it."""
    model.save(tmp_path / "model")
    pred, again = (m.predict(adata=adata, progress=False) for m in (model, type(model).load(tmp_path / "model")))
    np.testing.assert_array_equal(pred.to_df(), again.to_df())
    controls = pred[pred.obs["source"] == "control"]
    return adata.obs_names.get_indexer(controls.obs["control_id"]), controls.obs["library_size"].to_numpy()


def test_totals_are_not_replaced_by_sums_over_the_genes_of_the_model(cells, tmp_path) -> None:
    model = trained(with_column(cells)[:, :20].copy())
    with pytest.warns(AssumptionWarning, match=r"from a column of obs, which these cells lack.* 50 genes") as caught:
        rows, library = library_of(model, cells, tmp_path)
    assert len([w for w in caught if w.category is AssumptionWarning]) == 2  # one for each prediction
    np.testing.assert_array_equal(library, summed(cells)[rows])


def test_sums_over_the_genes_of_the_model_are_made_of_other_cells_too(cells, tmp_path) -> None:
    part = cells[:, :20].copy()
    model = trained(part)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AssumptionWarning)
        rows, library = library_of(model, cells, tmp_path)
    np.testing.assert_array_equal(library, summed(part)[rows])


def test_a_column_where_training_had_none_is_reported(cells, tmp_path) -> None:
    other = with_column(cells)
    with pytest.warns(AssumptionWarning, match=r"trained on sums over its genes.*obs\['library_size'\]"):
        rows, library = library_of(trained(cells.copy()), other, tmp_path)
    np.testing.assert_array_equal(library, other.obs["library_size"].to_numpy()[rows])


def test_a_model_remembers_the_cells_it_was_trained_on_and_not_those_it_was_loaded_with(cells, tmp_path) -> None:
    trained(with_column(cells)).save(tmp_path / "model")
    with pytest.warns(AssumptionWarning, match="which these cells lack"):
        model = tp.RidgeTransport.load(tmp_path / "model", cells.copy())
    with pytest.warns(AssumptionWarning, match="which these cells lack"):
        model.predict(adata=cells, progress=False)


def test_library_sizes_that_are_no_numbers_are_named(cells) -> None:
    other = cells.copy()
    other.obs["total"] = "many"
    with pytest.raises(CountsError, match=r"library sizes are not numbers .in obs\['total'\]"):
        trained(other, library_size_key="total")


# ----------------------------------------------------------------------------------- predictions are cells themselves
@pytest.fixture(scope="module")
def pred() -> AnnData:
    """A prediction with cells that have more counts than their control had in all."""
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=30, n_cells=40)
    pred = trained(adata).predict(progress=False)
    assert (summed(pred) > pred.obs["library_size"] + 0.5).any()
    return pred


def test_the_library_size_of_a_prediction_is_what_its_values_are_normalised_by(pred) -> None:
    again = tp.pp.log1p_per_10k(pred.layers["counts"], pred.obs["library_size"].to_numpy())
    np.testing.assert_array_equal(again.toarray(), pred.to_df())


@pytest.mark.parametrize("key", [None, "library_size"])
def test_a_prediction_can_be_set_up_and_moved(pred, key) -> None:
    model = trained(pred, library_size_key=key)
    np.testing.assert_array_equal(model.cells.library_size, pred.obs["library_size"])
    np.testing.assert_array_equal(model.cells.log1p(), pred.to_df())
    assert model.predict(adata=pred, n_cells=5, progress=False).n_vars == pred.n_vars


def test_only_what_was_predicted_may_have_more_counts_than_its_library_size(pred) -> None:
    shrunk = pred.copy()
    is_control = (pred.obs["source"] == "control").to_numpy()
    shrunk.obs["library_size"] = np.where(is_control, 10.0, pred.obs["library_size"])
    with pytest.raises(CountsError, match=f"{is_control.sum()} cells have fewer counts in all"):
        trained(shrunk)
    other = pred.copy()
    other.obs["total"] = other.obs["library_size"]
    for change in (lambda a: a.obs.drop(columns="control_id", inplace=True), lambda a: None):
        with pytest.raises(CountsError, match="cells have fewer counts in all"):
            trained(other, library_size_key="total")
        change(other)
    with pytest.raises(CountsError, match="cells have fewer counts in all"):
        trained(other)  # without the columns of a prediction it is none
