"""The same counts in another form give the same predictions, to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import transpert as tp
from transpert.errors import BackedDataError, CountsError

COLUMNS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


def in_two_entries(counts: sparse.csr_matrix, kind: type = sparse.csr_matrix) -> sparse.csr_matrix:
    """Every count of 2 or more in two entries, which add up."""
    whole = kind(counts)
    first = np.floor(whole.data / 2)
    indptr = 2 * whole.indptr
    data = np.stack([first, whole.data - first], axis=1).ravel().astype(np.float32)
    return kind((data, np.repeat(whole.indices, 2), indptr), shape=counts.shape)


@pytest.fixture
def cells():
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=25, n_cells=20)
    adata.layers["counts"].data = np.minimum(adata.layers["counts"].data, 2_000)  # which half precision holds exactly
    return adata


def predicted(adata, other=None):
    tp.KernelTransport.setup_anndata(adata, **COLUMNS)
    model = tp.KernelTransport(adata)
    model.train()
    pred = model.predict(adata=other, progress=False)
    return tp.pp.library_sizes(pred.layers["counts"]), pred


FORMS = {
    "entries that add up": in_two_entries,
    "entries that add up, by gene": lambda counts: in_two_entries(counts, sparse.csc_matrix),
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "dense": lambda counts: counts.toarray(),
    "dense float16": lambda counts: counts.toarray().astype(np.float16),
    "uint16": lambda counts: counts.astype(np.uint16),
    "float64": lambda counts: counts.astype(np.float64),
}


@pytest.mark.parametrize("form", FORMS)
def test_predictions_are_the_same_for_every_form_of_the_same_counts(cells, form: str) -> None:
    expected, reference = predicted(cells.copy())
    given = cells.copy()
    given.layers["counts"] = FORMS[form](cells.layers["counts"])
    found, pred = predicted(given)
    np.testing.assert_array_equal(found, expected)
    assert abs(pred.layers["counts"] - reference.layers["counts"]).sum() == 0
    assert type(given.layers["counts"]) is type(FORMS[form](cells.layers["counts"]))
    assert abs(given.layers["counts"] - FORMS[form](cells.layers["counts"])).sum() == 0


@pytest.mark.parametrize("form", ["entries that add up", "csc_array"])
def test_other_cells_are_predicted_for_whatever_form_their_counts_have(cells, form: str) -> None:
    other = cells[:, ::-1].copy()
    expected, _ = predicted(cells.copy(), other)
    given = other.copy()
    given.layers["counts"] = FORMS[form](other.layers["counts"])
    np.testing.assert_array_equal(predicted(cells.copy(), given)[0], expected)


def test_scores_are_the_same_for_truth_and_prediction_with_entries_that_add_up(cells) -> None:
    _, pred = predicted(cells.copy())
    scores = []
    for form in (sparse.csr_matrix, in_two_entries):
        truth, given = cells.copy(), pred.copy()
        truth.X, given.X = form(sparse.csr_matrix(cells.X)), form(sparse.csr_matrix(pred.X))
        truth.layers["counts"] = form(cells.layers["counts"])
        asked = given[given.obs["perturbation"] != "P1"].copy()
        table = tp.tl.evaluate(asked, truth, baselines="MeanShift", n_bootstrap=0, progress=False)
        scores.append(table["value"].to_numpy(dtype=float))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5, atol=1e-6, equal_nan=True)


def test_a_damaged_matrix_ends_with_an_error_and_not_with_the_process(cells) -> None:
    cells.layers["counts"].indices[3] = -1
    with pytest.raises(CountsError, match="outside its 25 genes"):
        predicted(cells)


def test_lazy_cells_are_refused_with_the_remedy(cells, tmp_path) -> None:
    import anndata

    cells.write_zarr(tmp_path / "cells.zarr")
    lazy = anndata.experimental.read_lazy(tmp_path / "cells.zarr")
    with pytest.raises(BackedDataError, match="to_memory"):
        tp.MeanShift.setup_anndata(lazy, **COLUMNS)
    with pytest.raises(BackedDataError, match="to_memory"):
        tp.data.build_store(lazy, tmp_path / "store.zarr", tp.groups.Design("perturbation", "control"), layer="counts")
