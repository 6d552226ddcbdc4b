from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import transpert as tp
from transpert import errors


@pytest.fixture
def cells():
    obs = pd.DataFrame({"total": [10, 8]}, index=["a", "b"])
    return anndata.AnnData(sparse.csr_matrix(np.array([[1.0, 0.0], [2.0, 2.0]])), obs=obs)


def test_library_sizes_are_totals_over_all_genes_where_they_are_named(cells) -> None:
    tp.pp.normalize(cells, library_size_key="total")
    np.testing.assert_allclose(cells.X.toarray(), np.log1p([[1e3, 0], [2.5e3, 2.5e3]]), rtol=1e-6)
    assert cells.layers["counts"].toarray().tolist() == [[1, 0], [2, 2]]


def test_counts_of_a_layer_stay_there(cells) -> None:
    cells.layers["counts"], cells.X = cells.X.copy(), None
    tp.pp.normalize(cells, layer="counts")
    np.testing.assert_allclose(cells.X.toarray(), np.log1p([[1e4, 0], [5e3, 5e3]]), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"layer": "raw"}, errors.UnknownNameError, "unknown layer: 'raw'"),
        ({"library_size_key": "totl"}, errors.UnknownNameError, "Did you mean 'total'"),
        ({"library_size_key": "few"}, errors.CountsError, "fewer counts in all"),
        ({"library_size_key": "words"}, errors.CountsError, "not numbers"),
    ],
)
def test_failure_leaves_the_object_as_it_was(cells, arguments, error, words) -> None:
    cells.obs["few"], cells.obs["words"] = [1, 1], ["x", "y"]
    with pytest.raises(error, match=words):
        tp.pp.normalize(cells, **arguments)
    assert cells.X.toarray().tolist() == [[1, 0], [2, 2]] and not cells.layers


def test_values_are_not_normalised_twice(cells) -> None:
    tp.pp.normalize(cells)
    with pytest.raises(errors.OptionError, match="layer='counts'"):
        tp.pp.normalize(cells)
    del cells.layers["counts"]
    with pytest.raises(errors.CountsError, match="look like log1p"):
        tp.pp.normalize(cells)
